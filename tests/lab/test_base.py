"""Base and boot on hosts: from bare, again, after drift, after a kill, and when a host stays away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from runs import FINGERPRINT, REPOSITORY, Run, out, pyinfra

from piclusterops.lab.fleet import Lab, Node

pytestmark = pytest.mark.lab

NODES = ("pi-master", "pi-worker-1", "pi-worker-2")
DEPLOY = """
from pyinfra import inventory

from piclusterops.deploys.base import base
from piclusterops.deploys.boot import boot
from piclusterops.deploys.stop import stop_at_first_failure
from piclusterops.validation import cluster_from_inventory

stop_at_first_failure()
cluster = cluster_from_inventory(inventory)
base(cluster=cluster)
boot(cluster=cluster)
"""


@pytest.fixture(scope="module")
def base_lab() -> Iterator[Lab]:
    """Bare hosts of their own: they are broken on purpose. The last one boots from the old place."""
    lab = Lab("test-base")
    lab.up([Node("pi-master", "master"), Node("pi-worker-1", "worker"), Node("pi-worker-2", "data_node", boot="/boot")])
    yield lab
    lab.down()


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deploy of these two parts alone."""
    file = tmp_path_factory.mktemp("deploy") / "basics.py"
    file.write_text(DEPLOY)
    return file


def boot_id(lab: Lab, host: str) -> str:
    return out(lab, host, "cat /proc/sys/kernel/random/boot_id")


def run(lab: Lab, deploy: Path, *args: str) -> Run:
    return pyinfra(*args, lab=lab.name, deploy=str(deploy))


def boots(lab: Lab, host: str) -> list[tuple[int, int]]:
    """First and last entry of each boot in the journal, in microseconds."""
    rows = json.loads(out(lab, host, "journalctl --list-boots -o json"))
    return [(row["first_entry"], row["last_entry"]) for row in sorted(rows, key=lambda row: row["index"])]


def test_a_dry_run_on_bare_hosts_names_the_changes_and_makes_none(base_lab: Lab, deploy: Path) -> None:
    before = {node: out(base_lab, node, FINGERPRINT) for node in NODES}
    dry = run(base_lab, deploy, "--dry", "--json")
    assert dry.returncode == 0, dry.output
    assert set(dry.plan["Base | Install packages"]) == set(NODES)
    assert dry.plan["Boot | Reboot pi-worker-1 if its running state differs"] == ["pi-worker-1"]
    assert {node: out(base_lab, node, FINGERPRINT) for node in NODES} == before


def test_the_first_run_reboots_the_nodes_one_after_the_other(base_lab: Lab, deploy: Path) -> None:
    before = {node: boot_id(base_lab, node) for node in NODES}
    first = run(base_lab, deploy, "-y", "--json")
    assert first.returncode == 0, first.output
    for node in NODES:
        assert boot_id(base_lab, node) != before[node]
        assert "memory" in out(base_lab, node, "cat /sys/fs/cgroup/cgroup.controllers").split()
        assert out(base_lab, node, "uname -n; cat /etc/hostname").split() == [node, node]
        assert out(base_lab, node, "getent hosts pi-worker-1").split()[0] == base_lab.fleet.host("pi-worker-1").address
        assert out(base_lab, node, "visudo -c -q; stat -c %a /etc/sudoers.d/90-piclusterops") == "440"
        assert out(base_lab, node, "sysctl -n vm.overcommit_memory kernel.panic vm.max_map_count").split() == [
            "1",
            "10",
            "262144",
        ]
    for earlier, later in pairwise(NODES):
        came_back, went_down = boots(base_lab, earlier)[-1][0], boots(base_lab, later)[-2][1]
        assert came_back < went_down, f"{later} went down before {earlier} was back"


@pytest.mark.parametrize(("node", "folder"), [("pi-worker-1", "/boot/firmware"), ("pi-worker-2", "/boot")])
def test_cmdline_txt_is_one_line_and_its_original_is_kept(base_lab: Lab, node: str, folder: str) -> None:
    now, original = (out(base_lab, node, f"cat {folder}/cmdline.txt{end}") for end in ("", ".piclusterops.bak"))
    assert now == f"{original} cgroup_enable=memory"
    assert "cgroup_enable" not in original
    assert out(base_lab, node, f"ls {folder} | grep -c cmdline") == "2", "a temporary file was left"


def test_an_administrator_logs_in_and_the_deploy_user_keeps_its_access(base_lab: Lab) -> None:
    command = base_lab.ssh_command("pi-worker-1")
    operator = [word.replace("pi@", "operator@") if word.startswith("pi@") else word for word in command]
    for argv in (command, operator):
        done = subprocess.run([*argv, "sudo", "-n", "whoami"], capture_output=True, text=True, timeout=30)
        assert done.stdout == "root\n", done


def test_the_second_run_changes_nothing_in_one_ssh_execution_a_host(base_lab: Lab, deploy: Path) -> None:
    second = run(base_lab, deploy, "-y", "--json")
    assert second.returncode == 0, second.output
    assert second.changes == {}
    assert second.executions == dict.fromkeys(NODES, 1)
    assert run(base_lab, deploy, "--dry", "--json").plan == {}


def test_drift_is_repaired_on_that_host_alone_and_without_a_reboot(base_lab: Lab, deploy: Path) -> None:
    before = boot_id(base_lab, "pi-worker-1")
    out(
        base_lab,
        "pi-worker-1",
        "sysctl -q -w vm.overcommit_memory=0; hostname raspberrypi; chmod 600 /etc/systemd/journald.conf.d/90*; "
        "echo 'operator ALL=(ALL) ALL' >>/etc/sudoers.d/90-piclusterops; sed -i /pi-master/d /etc/hosts; "
        "echo 'ssh-ed25519 AAAA stranger' >>/home/operator/.ssh/authorized_keys",
    )
    repaired = run(base_lab, deploy, "-y", "--json")
    assert repaired.returncode == 0, repaired.output
    assert repaired.changes == {
        f"Base | {name}": ["pi-worker-1"]
        for name in (
            "Name the cluster's nodes in /etc/hosts",
            "Set the host name",
            "Keep the administrators' accounts",
            "Set the sudo policy",
            "Set kernel parameters",
            "Cap the journal",
        )
    }
    assert out(base_lab, "pi-worker-1", "sysctl -n vm.overcommit_memory; uname -n").split() == ["1", "pi-worker-1"]
    assert "stranger" not in out(base_lab, "pi-worker-1", "cat /home/operator/.ssh/authorized_keys")
    assert boot_id(base_lab, "pi-worker-1") == before
    assert run(base_lab, deploy, "-y", "--json").changes == {}


def test_a_run_that_was_killed_is_finished_by_the_next(base_lab: Lab, deploy: Path) -> None:
    base_lab.recreate("pi-worker-1")
    command = [sys.executable, "-m", "pyinfra", "-y", "--limit", "pi-worker-1", "inventories/lab.py", str(deploy)]
    environment = {**os.environ, "PICLUSTEROPS_LAB": base_lab.name}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) as killed:
        assert killed.stderr
        for line in killed.stderr:
            if "Base | Install packages" in line:
                break
        killed.kill()
    assert killed.returncode == -9
    again = run(base_lab, deploy, "-y", "--json")
    assert again.returncode == 0, again.output
    assert all(hosts == ["pi-worker-1"] for hosts in again.changes.values())
    assert run(base_lab, deploy, "-y", "--json").changes == {}


def test_a_node_that_stays_away_ends_the_run_before_the_next_reboots(base_lab: Lab, deploy: Path) -> None:
    for node, folder in (("pi-worker-1", "/boot/firmware"), ("pi-worker-2", "/boot")):
        out(base_lab, node, f"sed -i 's/ cgroup_enable=memory//' {folder}/cmdline.txt && sync")
        base_lab.power_cut(node)
        base_lab.power_on(node)
    base_lab.wait_ssh(["pi-worker-1", "pi-worker-2"])
    untouched = boot_id(base_lab, "pi-worker-2")
    container = base_lab.container("pi-worker-1")
    policy = container.attrs["HostConfig"]["RestartPolicy"]
    container.update(restart_policy={"Name": "no"})  # its reboot becomes a power-off
    failed = run(base_lab, deploy, "-y", "--data", "reboot_timeout_s=10")
    assert failed.returncode == 1
    assert "pi-worker-1: it was rebooted to enable the memory cgroup: no new boot within 10 s" in failed.output
    assert "Next: " in failed.output
    assert "Traceback" not in failed.output
    assert boot_id(base_lab, "pi-worker-2") == untouched

    container.update(restart_policy=policy)
    base_lab.power_on("pi-worker-1")
    base_lab.wait_ssh(["pi-worker-1"])
    resumed = run(base_lab, deploy, "-y", "--json")
    assert resumed.returncode == 0, resumed.output
    assert set(resumed.changes) == {"Boot | Reboot pi-worker-2 if its running state differs"}
    assert boot_id(base_lab, "pi-worker-2") != untouched
