"""The firewall on hosts: real connections meet what the matrix says, and nobody is locked out by a change of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from runs import REPOSITORY, Run, out, pyinfra

from piclusterops.facts.firewall import LISTING
from piclusterops.firewall import Destination, decide, firewall_of
from piclusterops.inventory import load_inventory
from piclusterops.lab.fleet import Lab, Node
from piclusterops.settings import Cluster
from piclusterops.validation import cluster_from_inventory

pytestmark = pytest.mark.lab

MASTER, WORKER = NODES = ("pi-master", "pi-worker-1")
FIREWALL = "deploys/firewall.py"
UNLISTED, NODE_PORT = 4444, 30080
LISTENING = (80, 443, 2379, 6443, 7946, 9100, 10250, UNLISTED)
PORTS = (22, *LISTENING, NODE_PORT)
BASE = """
from pyinfra import inventory

from piclusterops.deploys.base import base
from piclusterops.validation import cluster_from_inventory

base(cluster=cluster_from_inventory(inventory))
"""
#: A controller that hangs between applying a change and confirming it, and says when it does.
HANGING = """
import time
from dataclasses import replace
from pathlib import Path

from pyinfra import inventory

from piclusterops.deploys.firewall import firewall
from piclusterops.operations import firewall as operations
from piclusterops.validation import cluster_from_inventory

change = operations.change


def hang(connection):
    Path(__file__).with_suffix(".hangs").touch()
    time.sleep(600)


operations.change = lambda *args: replace(change(*args), confirm=(hang,), probe_s=600)
firewall(cluster=cluster_from_inventory(inventory))
"""
#: What stands for K3s: something listens on the node's ports, and a NodePort goes to a pod on cni0.
STANDIN = """\
ip link add cni0 type bridge && ip addr add 10.42.{number}.1/24 dev cni0 && ip link set cni0 up
ip netns add pod && ip link add veth0 type veth peer name eth0 netns pod && ip link set veth0 master cni0 up
ip link set veth0 type bridge_slave hairpin on
ip -n pod addr add 10.42.{number}.2/24 dev eth0 && ip -n pod link set eth0 up
ip -n pod route add default via 10.42.{number}.1
echo 1 >/proc/sys/net/ipv4/ip_forward
nft -f - <<END
table ip nat {{
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local tcp dport {port} dnat to 10.42.{number}.2:8080
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ct status dnat masquerade
    }}
}}
END
ip netns exec pod python3 /usr/local/lib/listen.py 8080 &
exec python3 /usr/local/lib/listen.py {listening}
"""
LISTEN = """\
import asyncio, sys
async def main():
    done = asyncio.Event()
    for port in sys.argv[1:]:
        await asyncio.start_server(lambda reader, writer: writer.close(), "0.0.0.0", int(port))
    await done.wait()
asyncio.run(main())
"""
STANDIN_UNIT = """\
[Unit]
After=network-online.target
[Service]
ExecStart=/bin/sh -e /usr/local/lib/standin.sh
[Install]
WantedBy=multi-user.target
"""
#: Prints which of the addresses and ports take a connection; all are tried at once.
CONNECT = """\
import asyncio, sys
async def attempt(target):
    host, port = target.rsplit(":", 1)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 3)
    except (OSError, asyncio.TimeoutError):
        return
    print(target)
    writer.close()
async def main():
    await asyncio.gather(*map(attempt, sys.argv[1:]))
asyncio.run(main())
"""
KUBE_PROXY = "nft -s list table ip nat"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts with the baseline, and what stands for K3s; no firewall yet."""
    it = Lab("test-firewall")
    try:
        it.up([Node(MASTER, "master"), Node(WORKER, "worker")])
        deploy = tmp_path_factory.mktemp("deploy") / "only_base.py"
        deploy.write_text(BASE)
        done = pyinfra("-y", lab=it.name, deploy=str(deploy))
        assert done.returncode == 0, done.output
        for number, node in enumerate(NODES):
            script = STANDIN.format(number=number, port=NODE_PORT, listening=" ".join(map(str, LISTENING)))
            write(it, node, "/usr/local/lib/standin.sh", script)
            write(it, node, "/usr/local/lib/listen.py", LISTEN)
            write(it, node, "/etc/systemd/system/standin.service", STANDIN_UNIT)
            out(it, node, "systemctl daemon-reload; systemctl enable -q --now standin")
            wait_for_standin(it, node)
        yield it
    finally:
        it.down()


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Cluster:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICLUSTEROPS_LAB", lab.name)
        return cluster_from_inventory(load_inventory(REPOSITORY / "inventories" / "lab.py"))


def write(lab: Lab, node: str, path: str, content: str) -> None:
    done = lab.exec(node, ["sh", "-c", f"cat >{path} <<'EOF'\n{content}EOF"])
    assert done.returncode == 0, done


def until(condition: Any, timeout_s: float = 40) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.3)


def wait_for_standin(lab: Lab, node: str) -> None:
    listening = f"ss -Hltn sport = :{UNLISTED}; ip netns exec pod ss -Hltn sport = :8080"
    until(lambda: out(lab, node, f"{{ {listening}; }} 2>&1 || :").count("LISTEN") == 2)


def data(**settings: object) -> list[str]:
    return [word for key, value in settings.items() for word in ("--data", f"{key}={json.dumps(value)}")]


def run(lab: Lab, **settings: object) -> Run:
    return pyinfra("-y", "--json", *data(**settings), lab=lab.name, deploy=FIREWALL)


def state(lab: Lab) -> dict[str, str]:
    """All that the firewall has on each host: in force, on disk, in systemd."""
    shell = (
        f"{LISTING}; {KUBE_PROXY}; cat /etc/piclusterops/* /etc/systemd/system/piclusterops-firewall.service; "
        "systemctl is-enabled nftables piclusterops-firewall; systemctl is-active piclusterops-firewall; "
        "cat /var/lib/piclusterops/stamps/firewall"
    )
    return {node: out(lab, node, f"{{ {shell}; }} 2>&1 || :") for node in NODES}


def kube_proxy(lab: Lab) -> dict[str, str]:
    return {node: out(lab, node, KUBE_PROXY) for node in NODES}


def sources(lab: Lab, target: str) -> dict[str, tuple[str, str, str]]:
    """For each row of the matrix: the host to connect from, what comes before the command, the target's address."""
    lan = lab.fleet.host(target).address
    block, octet = lab.fleet.block, lan.rsplit(".", 1)[1]
    other, group = (WORKER, "nodes") if target == MASTER else (MASTER, "servers")
    return {
        "management": ("operator", "", lan),
        "vpn": ("operator", "", f"10.{block}.8.{octet}"),
        "public": ("stranger", "", f"10.{block}.1.{octet}"),
        group: (other, "", lan),
        "pods": (target, "ip netns exec pod ", lan),
    }


def reached(lab: Lab, target: str, source: str) -> set[int]:
    """The ports of a node that really take a connection from there."""
    host, prefix, address = sources(lab, target)[source]
    targets = " ".join(f"{address}:{port}" for port in PORTS)
    printed = out(lab, host, f"{prefix}python3 - {targets} <<'EOF'\n{CONNECT}EOF")
    return {int(line.rsplit(":", 1)[1]) for line in printed.splitlines()}


def promised(cluster: Cluster, target: str, source: str) -> set[int]:
    """The ports of a node that the matrix says are open from there."""
    wall = firewall_of(cluster)
    role = cluster.node(target).role
    to = {port: Destination("nodeport" if port == NODE_PORT else "host", "tcp", port) for port in PORTS}
    return {port for port in PORTS if decide(wall, role, source, to[port]).verdict == "accept"}


def cells(lab: Lab) -> list[tuple[str, str]]:
    return [(target, source) for target in NODES for source in sources(lab, target)]


def all_reached(lab: Lab) -> dict[tuple[str, str], set[int]]:
    """What each cell really reaches, all at once."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(cells(lab), pool.map(lambda cell: reached(lab, *cell), cells(lab)), strict=True))


def picluster(lab: Lab, *args: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("picluster")), "firewall", args[0], "--env", "lab", *args[1:]]
    environment = {**os.environ, "PICLUSTEROPS_LAB": lab.name, "COLUMNS": "200"}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)


def cut_off(lab: Lab) -> dict[str, Any]:
    """A firewall in which management has the nodes, but not the machine that runs pyinfra."""
    return {"zones": {"management": {"sources": [f"10.{lab.fleet.block}.0.8/29"]}}}


def test_without_a_firewall_everything_can_be_reached(lab: Lab) -> None:
    """So that what is closed later is closed by the firewall."""
    assert all_reached(lab) == {cell: set(PORTS) for cell in cells(lab)}


def test_the_first_run_protects_one_host_after_the_other(lab: Lab) -> None:
    before = kube_proxy(lab)
    first = run(lab)
    assert first.returncode == 0, first.output
    loaded = [int(out(lab, node, "stat -c %Y /etc/piclusterops/firewall.nft")) for node in NODES]
    kept = [float(out(lab, node, "stat -c %.Y /var/lib/piclusterops/stamps/firewall")) for node in NODES]
    began = [float(out(lab, node, "stat -c %.Z /var/lib/piclusterops/armed/firewall/token")) for node in NODES]
    assert loaded[0] <= kept[0] < began[1] < kept[1], "the second was changed before the first was confirmed"
    for node in NODES:
        units = out(lab, node, "systemctl is-enabled nftables piclusterops-firewall || :").split()
        assert units == ["masked", "enabled"]
        assert out(lab, node, "stat -c '%a %U' /etc/piclusterops/firewall.nft") == "600 root"
    assert kube_proxy(lab) == before


def test_every_connection_meets_what_the_matrix_says(lab: Lab, cluster: Cluster) -> None:
    wanted = {(target, source): promised(cluster, target, source) for target, source in cells(lab)}
    assert all_reached(lab) == wanted
    assert wanted[MASTER, "public"] == set()
    assert wanted[MASTER, "management"] == {22, 80, 443, 6443, NODE_PORT}
    assert wanted[WORKER, "servers"] >= {7946, 9100, 10250}


def test_the_command_line_tells_the_same(lab: Lab) -> None:
    """From the machine that runs pyinfra, which is in management."""
    told = picluster(lab, "test", MASTER)
    assert told.returncode == 0 and told.stdout.count("as it says") > len(PORTS), told.stdout + told.stderr
    same = picluster(lab, "diff", WORKER)
    assert (same.returncode, same.stdout) == (0, f"{WORKER}: the firewall is as the inventory has it\n")
    out(lab, WORKER, "nft insert rule inet piclusterops prerouting tcp dport { 80, 443 } drop")
    assert picluster(lab, "test", WORKER).stdout.count("WRONG") == 2
    out(lab, WORKER, "nft -f /etc/piclusterops/firewall.nft")


def test_the_second_run_changes_nothing_in_one_ssh_execution_a_host(lab: Lab) -> None:
    before = state(lab)
    second = run(lab)
    assert (second.returncode, second.changes) == (0, {}), second.output
    assert second.executions == dict.fromkeys(NODES, 1)
    assert state(lab) == before


def test_a_reload_and_an_upgrade_of_nftables_leave_the_rules_of_kube_proxy(lab: Lab) -> None:
    before = state(lab)
    assert "dnat to" in before[MASTER]
    for shell in (
        "systemctl reload piclusterops-firewall",
        "systemctl restart piclusterops-firewall",
        "DEBIAN_FRONTEND=noninteractive apt-get install -qq --reinstall nftables",
    ):
        out(lab, MASTER, shell)
        assert state(lab) == before, shell
    out(lab, MASTER, "systemctl stop piclusterops-firewall")
    assert "piclusterops" not in out(lab, MASTER, "nft list tables")
    assert "dnat to" in out(lab, MASTER, KUBE_PROXY)


def test_what_others_removed_or_changed_is_put_right(lab: Lab) -> None:
    """The unit was stopped on the first host above; on the second somebody opens everything."""
    out(lab, WORKER, "nft insert rule inet piclusterops prerouting accept")
    noticed = picluster(lab, "diff", WORKER)
    assert noticed.returncode == 1 and "what is in force is not what was loaded" in noticed.stdout
    repaired = run(lab)
    assert repaired.returncode == 0, repaired.output
    assert len(repaired.changes) == 2
    for node in NODES:
        assert reached(lab, node, "public") == set()
    assert run(lab).changes == {}


def test_a_firewall_that_shuts_its_controller_out_is_refused_before_anything_happens(lab: Lab) -> None:
    before = state(lab)
    refused = run(lab, firewall={"controllers": [f"10.{lab.fleet.block}.0.1"], **cut_off(lab)})
    assert refused.returncode == 1
    assert "nothing was changed on any host" in refused.output
    assert f"controller 10.{lab.fleet.block}.0.1/32 is in zone public" in refused.output
    forgotten = run(lab, firewall={"rules": {"ssh": None}})
    assert "SSH (tcp 22) is accepted from no zone" in forgotten.output
    assert state(lab) == before


def test_a_firewall_that_cuts_us_off_is_undone_and_no_other_host_touched(lab: Lab) -> None:
    before = state(lab)
    failed = run(lab, firewall=cut_off(lab), armed_timeout_s=15)
    assert failed.returncode == 1
    text = " ".join(failed.output.split())
    assert f"{MASTER}: firewall: a new connection failed: " in text
    assert "The change was undone: the host is as before. Next: ssh" in text
    assert "Traceback" not in text
    assert state(lab) == before


def test_a_port_that_sshd_does_not_listen_on_is_refused(lab: Lab) -> None:
    before = state(lab)
    refused = run(lab, firewall={"ssh_port": 2222})
    assert refused.returncode == 1
    assert "it opens port 2222 for SSH, and sshd listens on 22. Next: set firewall = " in refused.output
    assert state(lab) == before


def test_a_firewall_that_k3s_does_not_bear_is_undone(lab: Lab) -> None:
    """K3s here is a program that fails when the firewall has a certain port."""
    write(lab, MASTER, "/usr/local/bin/k3s", "#!/bin/sh\n! nft list table inet piclusterops | grep -q 10050\n")
    write(lab, MASTER, "/run/systemd/system/k3s.service", "[Service]\nExecStart=/bin/sleep infinity\n")
    out(lab, MASTER, "chmod 755 /usr/local/bin/k3s; systemctl daemon-reload; systemctl start k3s")
    before = state(lab)
    failed = run(lab, firewall={"rules": {"agent": {"from": "management", "ports": 10050}}}, armed_timeout_s=15)
    out(lab, MASTER, "systemctl stop k3s; rm /usr/local/bin/k3s /run/systemd/system/k3s.service")
    assert failed.returncode == 1
    assert "firewall: k3s.service was healthy and no longer is. The change was undone" in " ".join(
        failed.output.split()
    )
    assert state(lab) == before


def test_a_controller_that_is_killed_leaves_the_old_state_after_the_timer(lab: Lab, tmp_path: Path) -> None:
    before = state(lab)
    kill_between_apply_and_confirmation(lab, tmp_path / "hanging.py", timer_s=15)
    until(lambda: state(lab) == before)
    assert lab.ssh(MASTER, ["true"]).returncode == 0


def test_a_power_cut_before_the_confirmation_brings_the_old_rules_back(
    lab: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    """And everything is there after a boot, what stands for kube-proxy included."""
    before = state(lab)
    kill_between_apply_and_confirmation(lab, tmp_path / "hanging.py", timer_s=600)
    lab.power_cut(MASTER)
    lab.power_on(MASTER)
    lab.wait_ssh([MASTER])
    wait_for_standin(lab, MASTER)
    assert state(lab) == before
    for source in ("public", "management", "pods"):
        assert reached(lab, MASTER, source) == promised(cluster, MASTER, source)
    again = run(lab)
    assert (again.returncode, again.changes) == (0, {}), again.output


def kill_between_apply_and_confirmation(lab: Lab, deploy: Path, timer_s: int) -> None:
    """Open a port, and end the controller with -9 when the change is in force and not confirmed."""
    deploy.write_text(HANGING)
    mark = deploy.with_suffix(".hangs")
    settings = data(firewall={"rules": {"agent": {"from": "management", "ports": 10050}}}, armed_timeout_s=timer_s)
    command = [sys.executable, "-m", "pyinfra", "-y", *settings, "inventories/lab.py", str(deploy)]
    environment = {**os.environ, "PICLUSTEROPS_LAB": lab.name}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL) as controller:
        deadline = time.monotonic() + 60
        while not mark.exists():
            assert controller.poll() is None and time.monotonic() < deadline, "it never came that far"
            time.sleep(0.05)
        controller.kill()
    assert "10050" in out(lab, MASTER, "nft list table inet piclusterops")
    assert "10050" not in out(lab, MASTER, "cat /etc/piclusterops/firewall.nft"), "kept before it was confirmed"


def test_a_cluster_without_firewall_gets_rid_of_it(lab: Lab) -> None:
    removed = run(lab, firewall=False)
    assert removed.returncode == 0, removed.output
    for node in NODES:
        assert "piclusterops" not in out(lab, node, "nft list tables; ls /etc/piclusterops")
        assert "dnat to" in out(lab, node, KUBE_PROXY)
    assert reached(lab, MASTER, "public") == set(PORTS)
    assert run(lab, firewall=False).changes == {}
