"""`picluster plan` on the command line, with what a cluster and its hosts answered."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pyinfra.api import Inventory

import piclusterops.plan_command as command
from piclusterops.cli import main
from piclusterops.helm_charts import Chart, archive_of
from piclusterops.helm_releases import DIGEST_LABEL, HelmRelease, HelmState
from piclusterops.inventory import load_inventory
from piclusterops.kube_nodes import KubeNode
from piclusterops.operations.helm_release import Wanted
from piclusterops.plan_command import Sight
from piclusterops.platform import Platform, platform_of
from piclusterops.platform_charts import chart_digests, chart_of
from piclusterops.preflight import HostFacts
from piclusterops.session import HostUnreachable
from piclusterops.validation import cluster_from_inventory

HOST = HostFacts("aarch64", 8062, 50_000, "debian", "12", "Debian", cpus=4, volumes_mb=60_000, volumes_free_mb=50_000)
NODE = KubeNode("pi-master", True, "v1.36.5+k3s1", memory_mib=7450, cpu_m=3800)
INVENTORY = """
{hosts}
cluster = (
    [name for group in ("master", "worker", "data_node") for name, _ in globals().get(group, [])],
    {{
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "{profile}",
        "secrets_provider": "environment",
    }},
)
"""
ONE = 'master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]'
FOUR = f"""{ONE}
worker = [("pi-worker-1", {{"ssh_hostname": "192.168.0.121"}})]
data_node = [("pi-worker-2", {{"ssh_hostname": "192.168.0.122"}}), ("pi-worker-3", {{"ssh_hostname": "192.168.0.123"}})]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def invoke(
    monkeypatch: pytest.MonkeyPatch, sight: Sight | Exception, *args: str, profile: str = "minimal", hosts: str = ONE
) -> Result:
    """Run the command with what was seen in the place of connections."""
    Path("one.py").write_text(INVENTORY.format(profile=profile, hosts=hosts))

    def look(inventory: Inventory, platform: Platform) -> Sight:
        assert [node.name for node in platform.cluster.nodes] == [host.name for host in inventory]
        if isinstance(sight, Exception):
            raise sight
        return sight

    monkeypatch.setattr(command, "look", look)
    return CliRunner().invoke(main, ["plan", "--env", "one.py", *args])


def installed(namespace: str, name: str, version: str) -> HelmState:
    """A cluster with one release of ours."""
    entry = HelmRelease(namespace, name, 1, "deployed", name, version, {DIGEST_LABEL: "ab"}, 1)
    return HelmState({entry.key: entry})


def as_json(done: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_before_there_is_a_cluster_everything_is_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, Sight(hosts={"pi-master": HOST}))
    assert done.exit_code == 0, done.output
    assert "There is no cluster yet: pi-master has no Kubernetes API." in done.stdout
    assert "what they have is estimated from their hosts" in done.stdout
    assert "metallb" in done.stdout and "to install" in done.stdout.splitlines()[-1]


def test_with_detailed_exit_codes_changes_end_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, Sight(hosts={"pi-master": HOST}), "--detailed-exitcode")
    assert done.exit_code == 2


def test_for_programs_it_prints_json_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sight = Sight(installed("metallb-system", "metallb", "0.15.0"), [NODE], {"pi-master": HOST})
    done = invoke(monkeypatch, sight, "--json")
    found = as_json(done)
    assert done.exit_code == 0 and done.stderr == ""
    steps = {step["release"]: step for step in found["releases"]}
    assert (steps["metallb"]["action"], steps["metallb"]["installed"]) == ("upgrade", "0.15.0")
    assert steps["cert-manager"]["action"] == "install"
    assert found["nodes"][0]["has"] == {"memory_mib": 7450, "cpu_m": 3800, "free_mib": 41_000, "is_estimate": False}


def test_what_a_deploy_left_is_unchanged_until_chart_or_values_change(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    Path("one.py").write_text(INVENTORY.format(profile="minimal", hosts=ONE))
    platform = platform_of(cluster_from_inventory(load_inventory(Path("one.py"))))
    planned = platform.planned("platform-base")
    chart = chart_of(planned, None)
    assert planned.release.namespace and chart.folder
    wanted = Wanted(planned.name, planned.release.namespace, chart, planned.values)
    labels = {DIGEST_LABEL: wanted.digest(archive_of(chart).digest)}
    there = HelmRelease(wanted.namespace, planned.name, 1, "deployed", chart.name, chart.version, labels, 1)
    sight = Sight(HelmState({there.key: there}), [NODE], {"pi-master": HOST})

    def action() -> str:
        found = as_json(invoke(monkeypatch, sight, "--json"))
        return str({step["release"]: step for step in found["releases"]}["platform-base"]["action"])

    assert action() == "unchanged"
    shutil.copytree(chart.folder, folder / chart.name)
    (folder / chart.name / "NEWS").write_text("more\n")
    changed = replace(chart, folder=folder / chart.name)
    monkeypatch.setattr(command, "charts_of", lambda platform: {planned.name: changed})
    assert action() == "upgrade"


def test_a_chart_that_cannot_be_had_blocks_its_release(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    missing = Chart("metallb", "0.16.1", mirror=str(folder))
    monkeypatch.setattr(command, "charts_of", lambda platform: {"metallb": missing})
    done = invoke(monkeypatch, Sight(hosts={"pi-master": HOST}), "--json")
    steps = {step["release"]: step for step in as_json(done)["releases"]}
    assert done.exit_code == 1 and steps["metallb"]["why"].startswith("by its chart: ")


def test_a_chart_that_the_server_fetches_is_known_by_what_it_has() -> None:
    chart = Chart("metallb", "0.16.1", repository="https://charts.example.org")
    assert chart_digests({"metallb": chart}, {}) == ({}, {})
    assert chart_digests({"metallb": chart}, {chart.path: "ab"}) == ({"metallb": "ab"}, {})


def test_what_does_not_fit_ends_with_1_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    small = HostFacts("aarch64", 1900, 50_000, "debian", "12", "Debian", cpus=4)
    done = invoke(monkeypatch, Sight(hosts={"pi-master": small}), "--detailed-exitcode")
    assert done.exit_code == 1 and "it would be refused" in done.stdout
    assert "MiB too little" in done.stdout


def test_an_unknown_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, Sight(hosts={"pi-master": None}))
    assert done.exit_code == 1 and "what it has is not known" in done.stdout


def test_hosts_that_are_off_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, Sight(HelmState(), [NODE], unreachable={"pi-worker-1": "timed out"}))
    assert done.exit_code == 0 and "pi-worker-1 can't be reached: timed out" in done.stdout


@pytest.mark.parametrize(
    "sight",
    [
        Sight(HelmState(fault="connection refused")),
        HostUnreachable("pi-master can't be reached: timed out\nTry: ssh pi-master true"),
    ],
)
def test_a_cluster_that_does_not_answer_is_an_error_with_the_next_command(
    monkeypatch: pytest.MonkeyPatch, sight: Sight | Exception
) -> None:
    done = invoke(monkeypatch, sight)
    assert done.exit_code == 1 and "Error: pi-master" in done.stderr and "Try: " in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_platform_there_is_nothing_to_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, AssertionError("nobody is asked"), "--detailed-exitcode", profile="none")
    assert done.exit_code == 0 and done.stdout.endswith(": nothing to plan.\n")
    assert as_json(invoke(monkeypatch, AssertionError(), "--json", profile="none"))["releases"] == []


def test_secrets_that_are_missing_block_their_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    sight = Sight(hosts=dict.fromkeys(("pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3"), HOST))
    done = invoke(monkeypatch, sight, "--json", profile="named", hosts=FOUR)
    steps = {step["release"]: step for step in as_json(done)["releases"]}
    assert done.exit_code == 1 and steps["trino"]["action"] == "blocked"
    assert "trino/internal-secret" in steps["trino"]["why"]
    assert steps["cert-manager"]["action"] == "install"


def test_a_first_server_that_is_off_is_an_error_that_says_how_to_reach_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    there = 'master = [("pi-master", {"ssh_hostname": "127.0.0.1", "ssh_port": 1, "address": "192.168.0.120"})]'
    Path("one.py").write_text(INVENTORY.format(profile="minimal", hosts=there))
    done = CliRunner().invoke(main, ["plan", "--env", "one.py"])
    assert done.exit_code == 1 and "pi-master can't be reached: " in done.stderr
    assert "Try: ssh -p 1 127.0.0.1 true" in done.stderr


def test_packages_of_hosts_are_in_the_plan_with_the_host_that_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    host = '"ssh_hostname": "192.168.0.120", "platform_releases": {"nfs-server": {"enabled": True}}'
    hosts = f'master = [("pi-master", {{{host}}})]'
    sight = Sight(hosts={"pi-master": HOST}, stamps={"pi-master": {"wireguard": "wg0 ab"}})
    done = invoke(monkeypatch, sight, profile="none", hosts=hosts)
    assert done.exit_code == 0, done.output
    assert re.search(r"hosts +│ nfs-server +│ +│ install on pi-master ", done.stdout), done.stdout
    assert re.search(r"wireguard +│ +│ disable on pi-master: its data and keys stay", done.stdout), done.stdout
    assert done.stdout.splitlines()[-1] == "1 to install, 1 to disable."
    assert invoke(monkeypatch, sight, "--detailed-exitcode", profile="none", hosts=hosts).exit_code == 2
