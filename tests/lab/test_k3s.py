"""K3s on hosts: what it keeps secret, what restarts and in which order, and what is said when it does not start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from processes import process_list
from runs import REPOSITORY, Run, pyinfra

from piclusterops.k3s_config import AGENT_K10_TOKEN, AGENT_TOKEN, SERVER_K10_TOKEN, TOKEN
from piclusterops.lab.fleet import Lab

pytestmark = pytest.mark.lab

NODES = ("pi-master", "pi-worker-1", "pi-worker-2")
AGENTS = NODES[1:]
UNITS = {"pi-master": "k3s", "pi-worker-1": "k3s-agent", "pi-worker-2": "k3s-agent"}
DEPLOY = """
from pyinfra import inventory

from piclusterops.deploys.k3s import k3s
from piclusterops.deploys.preflight import preflight
from piclusterops.deploys.stop import stop_at_first_failure
from piclusterops.deploys.verify import verify
from piclusterops.facts import cache
from piclusterops.validation import cluster_from_inventory

cluster = cluster_from_inventory(inventory)
cache.install()
stop_at_first_failure()
preflight(cluster)
k3s(cluster)
verify(cluster)
"""
# What the base and boot parts of the deployment do for K3s.
PREPARE = """
set -e
printf '%s\\n' vm.panic_on_oom=0 vm.overcommit_memory=1 kernel.panic=10 kernel.panic_on_oops=1 \
    kernel.keys.root_maxkeys=1000000 kernel.keys.root_maxbytes=25000000 >/etc/sysctl.d/90-test.conf
sed -i '1 s/$/ cgroup_enable=memory/' /boot/firmware/cmdline.txt
sync
"""


class Cluster:
    """The hosts, and how the deployment is run on them."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        (folder / "deploy.py").write_text(DEPLOY)

    def prepare(self, *hosts: str) -> None:
        for host in hosts:
            self.out(host, PREPARE)
            self.lab.power_cut(host)
            self.lab.power_on(host)
        self.lab.wait_ssh(hosts)

    def settings(self, group: str = "lab", **values: Any) -> list[str]:
        """Options for a run with other settings."""
        folder = self.folder / f"data-{time.monotonic_ns()}"
        folder.mkdir()
        (folder / f"{group}.py").write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
        return ["--group-data", str(folder)]

    def run(self, *args: str) -> Run:
        return pyinfra(*(args or ("-y", "--json")), lab=self.lab.name, deploy=str(self.folder / "deploy.py"))

    def converge(self, *args: str) -> Run:
        done = self.run("-y", "--json", *args)
        assert done.returncode == 0, done.output
        return done

    def out(self, host: str, shell: str) -> str:
        done = self.lab.exec(host, ["sh", "-c", shell])
        assert done.returncode == 0, done
        return done.stdout.strip()

    def started(self, host: str) -> tuple[int, int]:
        """When the unit's process began, and when systemd called it active; one clock for all hosts, microseconds."""
        shown = self.out(
            host, f"systemctl show -p ExecMainStartTimestampMonotonic -p ActiveEnterTimestampMonotonic {UNITS[host]}"
        )
        values = dict(line.split("=") for line in shown.splitlines())
        return int(values["ExecMainStartTimestampMonotonic"]), int(values["ActiveEnterTimestampMonotonic"])

    def starts(self) -> dict[str, int]:
        return {host: self.started(host)[0] for host in NODES}

    def secrets(self) -> set[str]:
        """The passwords in all tokens."""
        text = self.out("pi-master", f"cat {TOKEN} {AGENT_TOKEN} {SERVER_K10_TOKEN} {AGENT_K10_TOKEN}")
        return {line.rpartition(":")[2] for line in text.splitlines()}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    lab = Lab(f"{os.environ.get('PICLUSTEROPS_LAB', 'test')}-k3s")
    lab.up(nodes=len(NODES))
    cluster = Cluster(lab, tmp_path_factory.mktemp("k3s"))
    cluster.prepare(*NODES)
    yield cluster
    if not os.environ.get("PICLUSTEROPS_LAB_KEEP"):
        lab.down()


def test_the_first_run_shows_no_token_to_anyone(cluster: Cluster) -> None:
    with process_list() as processes:
        first = cluster.run("-y", "-vvv", "--debug", "--diff")
    assert first.returncode == 0, first.output
    secrets = cluster.secrets()
    assert len(secrets) == 2 and all(len(secret) == 64 for secret in secrets)
    assert any("k3s" in line and "kubectl" in line for line in processes), "the sampler saw nothing"
    for secret in secrets:
        assert secret not in first.output
        assert not [line for line in processes if secret in line]
        found = subprocess.run(["grep", "-rl", secret, str(cluster.lab.state)], capture_output=True, text=True)
        assert found.stdout == ""
        for host in NODES:
            journal = cluster.out(host, f"journalctl -q --no-pager -o cat | grep -c {secret} || true")
            assert journal == "0"
            readable = cluster.out(
                host, f"find /etc /var /home /tmp /run -xdev -type f -perm /077 -exec grep -l {secret} {{}} + || true"
            )
            assert readable == ""


def test_tokens_are_roots_alone_and_agents_never_get_the_servers(cluster: Cluster) -> None:
    assert cluster.out("pi-master", f"stat -c '%a %U' {TOKEN} {AGENT_TOKEN}").splitlines() == ["600 root"] * 2
    server = cluster.out("pi-master", f"cut -d: -f4 {SERVER_K10_TOKEN}")
    agent = cluster.out("pi-master", f"cat {AGENT_K10_TOKEN}")
    for host in AGENTS:
        assert cluster.out(host, f"stat -c '%a %U' {TOKEN}") == "600 root"
        assert cluster.out(host, f"cat {TOKEN}") == agent
        assert cluster.out(host, f"grep -rlF {server} /etc /var/lib/rancher /root || true") == ""


def test_the_second_run_changes_nothing_in_one_round_trip_a_host(cluster: Cluster) -> None:
    second = cluster.converge()
    assert second.changes == {}
    assert second.executions == {"pi-master": 2, "pi-worker-1": 1, "pi-worker-2": 1}


def test_labels_and_taints_come_and_go_without_a_restart(cluster: Cluster) -> None:
    def node(path: str) -> str:
        return cluster.out("pi-master", f"k3s kubectl get node pi-worker-1 -o jsonpath='{{{path}}}'")

    before = cluster.starts()
    cluster.out(
        "pi-master", "k3s kubectl label node pi-worker-1 foreign=1 && k3s kubectl taint node pi-worker-1 f:NoExecute"
    )
    wanted = cluster.settings("worker", node_labels={"disk": "nvme"}, node_taints=["a=b:NoSchedule"])
    changed = cluster.converge(*wanted)
    assert changed.changes == {
        "K3s | Run K3s on pi-worker-1": ["pi-worker-1"],
        "K3s | Label and taint the nodes": ["pi-master"],
    }
    assert (node(".metadata.labels.disk"), node(".metadata.labels.foreign")) == ("nvme", "1")
    assert set(node(".spec.taints[*].key").split()) == {"a", "f"}
    assert cluster.converge(*wanted).changes == {}

    cluster.converge()
    assert (node(".metadata.labels.disk"), node(".metadata.labels.foreign")) == ("", "1")
    assert node(".spec.taints[*].key") == "f"
    assert cluster.starts() == before
    cluster.out(
        "pi-master", "k3s kubectl label node pi-worker-1 foreign- && k3s kubectl taint node pi-worker-1 f:NoExecute-"
    )


def test_an_argument_restarts_one_node_after_the_other_even_after_a_kill(cluster: Cluster) -> None:
    before = cluster.starts()
    wanted = cluster.settings(kubelet_args=["max-pods=90"])
    command = [sys.executable, "-m", "pyinfra", "-y", *wanted, "inventories/lab.py", str(cluster.folder / "deploy.py")]
    environment = {**os.environ, "PICLUSTEROPS_LAB": cluster.lab.name}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) as killed:
        assert killed.stderr
        for line in killed.stderr:
            if "k3s-agent is starting" in line:
                break
        killed.kill()
    assert killed.returncode == -9
    assert cluster.starts()["pi-worker-2"] == before["pi-worker-2"]

    again = cluster.converge(*wanted)
    assert again.changes == {f"K3s | Run K3s on {host}": [host] for host in AGENTS}
    times = [cluster.started(host) for host in NODES]
    assert all(start > before[host] for host, (start, _) in zip(NODES, times, strict=True))
    for (_, active), (start, _) in pairwise(times):
        assert active < start, "a node was restarted before the one ahead of it was up"
    assert cluster.converge(*wanted).changes == {}


def test_what_keeps_a_server_from_starting_is_named_and_no_other_node_is_touched(cluster: Cluster) -> None:
    before = cluster.starts()
    failed = cluster.run("-y", *cluster.settings(kubelet_args=["no-such-flag=1"]))
    assert failed.returncode == 1
    for part in ("pi-master: K3s is not Ready", "unknown flag: --no-such-flag", "argument is not known", "next: "):
        assert part in failed.output, failed.output
    assert "Traceback" not in failed.output
    for host in AGENTS:
        assert "no-such-flag" not in cluster.out(host, "cat /etc/rancher/k3s/config.yaml")

    wrong = "f" * 64
    cluster.out("pi-master", f"cp -p {TOKEN} {TOKEN}.kept && echo {wrong} >{TOKEN}")
    failed = cluster.run("-y", "-vvv", *cluster.settings(kubelet_args=["max-pods=90"]))
    assert failed.returncode == 1
    for part in ("pi-master: K3s is not Ready", "bootstrap data already found", "put the cluster's own token back"):
        assert part in failed.output, failed.output
    assert wrong not in failed.output

    cluster.out("pi-master", f"mv {TOKEN}.kept {TOKEN}")
    repaired = cluster.converge(*cluster.settings(kubelet_args=["max-pods=90"]))
    assert repaired.changes == {"K3s | Run K3s on pi-master": ["pi-master"]}
    after = cluster.starts()
    assert {host for host in NODES if after[host] != before[host]} == {"pi-master"}


def test_a_reflashed_node_is_told_why_it_is_refused_and_how_to_join(cluster: Cluster) -> None:
    wanted = cluster.settings(kubelet_args=["max-pods=90"])
    cluster.lab.recreate("pi-worker-2")
    cluster.prepare("pi-worker-2")
    failed = cluster.run("-y", *wanted)
    assert failed.returncode == 1
    for part in ("pi-worker-2: K3s is not Ready", "Node password rejected", "the host was flashed anew"):
        assert part in failed.output, failed.output
    assert "delete secret pi-worker-2.node-password.k3s" in failed.output
    cluster.out("pi-master", "k3s kubectl delete node pi-worker-2")
    cluster.out(
        "pi-master", "k3s kubectl -n kube-system delete secret pi-worker-2.node-password.k3s --ignore-not-found"
    )
    joined = cluster.converge(*wanted)
    assert set(joined.changes) <= {
        "K3s | Run K3s on pi-worker-2",
        "K3s | Join new agents",
        "K3s | Label and taint the nodes",
    }
    assert cluster.converge(*wanted).changes == {}
