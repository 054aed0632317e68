"""The firewall on hosts: real connections meet what the matrix says, and nobody is locked out by a change of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from doors import PEER, Door, Knock, doors, expected, settled, tried
from runs import REPOSITORY, Run, data, kill_before_confirmation, out, pyinfra, until

from piclusterops.facts.firewall import LISTING
from piclusterops.firewall import Family, Firewall, destinations, firewall_of
from piclusterops.inventory import load_inventory
from piclusterops.lab.fleet import Lab
from piclusterops.lab.state import NETWORKS, address, address6
from piclusterops.settings import Cluster
from piclusterops.validation import cluster_from_inventory
from piclusterops.zones import KINDS

pytestmark = pytest.mark.lab

MASTER, WORKER = NODES = ("pi-master", "pi-worker-1")
DEPLOY = "deploys/firewall.py"
#: Number of the last service address, by node: the pods and the network of a node have it, too.
NUMBER = {MASTER: 0, WORKER: 1}
BACKEND = 8080
BASE = """
from pyinfra import inventory

from piclusterops.deploys.base import base
from piclusterops.validation import cluster_from_inventory

base(cluster=cluster_from_inventory(inventory))
"""
FIREWALL = """
from pyinfra import inventory

from piclusterops.deploys.firewall import firewall
from piclusterops.validation import cluster_from_inventory

firewall(cluster=cluster_from_inventory(inventory))
"""
#: What stands for K3s: something listens on the node's ports, and NodePorts and service addresses go to a pod on cni0.
#: The pod `client` is for knocking.
STANDIN = """\
sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link add cni0 type bridge
ip addr add 10.42.{number}.1/24 dev cni0
ip addr add fd00:42:0:{number}::1/64 dev cni0 nodad
ip link set cni0 up
for pod in pod:2 client:3; do
    name=${{pod%:*}} last=${{pod#*:}}
    ip netns add "$name"
    ip -n "$name" link set lo up
    ip link add "veth$last" type veth peer name eth0 netns "$name"
    ip link set "veth$last" master cni0 up
    ip link set "veth$last" type bridge_slave hairpin on
    ip -n "$name" addr add "10.42.{number}.$last/24" dev eth0
    ip -n "$name" addr add "fd00:42:0:{number}::$last/64" dev eth0 nodad
    ip -n "$name" link set eth0 up
    ip -n "$name" route add default via 10.42.{number}.1
    ip -n "$name" route add default via fd00:42:0:{number}::1
done
nft -f - <<END
table ip nat {{
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local meta l4proto {{ tcp, udp }} th dport 30000-32767 dnat to 10.42.{number}.2:{backend}
        ip daddr {{ {vips4} }} meta l4proto {{ tcp, udp }} th dport 443 dnat to 10.42.{number}.2:{backend}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ct status dnat masquerade
    }}
}}
table ip6 nat {{
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local meta l4proto {{ tcp, udp }} th dport 30000-32767 dnat to [fd00:42:0:{number}::2]:{backend}
        ip6 daddr {{ {vips6} }} meta l4proto {{ tcp, udp }} th dport 443 dnat to [fd00:42:0:{number}::2]:{backend}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ct status dnat masquerade
    }}
}}
END
answer() {{
    {{ cat "$1"; exec sleep infinity; }} | ${{2:-}} python3 /usr/local/lib/peer.py answer
}}
answer /usr/local/lib/pod.json "ip netns exec pod" &
answer /usr/local/lib/node.json >/run/standin.answers
"""
STANDIN_UNIT = """\
[Unit]
After=network-online.target
[Service]
ExecStart=/bin/sh -e /usr/local/lib/standin.sh
[Install]
WantedBy=multi-user.target
"""
KUBE_PROXY = "nft -s list table ip nat; nft -s list table ip6 nat"
#: Source of the matrix to what knocks for it, and the network in which it meets the node.
KNOCKERS = {
    "management": ("operator", "lan"),
    "vpn": ("operator", "vpn"),
    "public": ("stranger", "public"),
    "nodes": ("node", "lan"),
    "servers": ("node", "lan"),
    "pods": ("pod", "lan"),
}
#: Interface of a knocker in a network.
INTERFACE = {("operator", "lan"): "eth0", ("operator", "vpn"): "eth1", ("stranger", "public"): "eth0"}


@pytest.fixture(scope="module")
def cluster(pair: Lab) -> Cluster:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICLUSTEROPS_LAB", pair.name)
        return cluster_from_inventory(load_inventory(REPOSITORY / "inventories" / "lab.py"))


@pytest.fixture(scope="module")
def lab(pair: Lab, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Two hosts with the baseline, and what stands for K3s; no firewall yet."""
    deploy = tmp_path_factory.mktemp("deploy") / "only_base.py"
    deploy.write_text(BASE)
    done = pyinfra("-y", lab=pair.name, deploy=str(deploy))
    assert done.returncode == 0, done.output
    for node in NODES:
        vips = [vip(pair, node, network) for network in ("lan", "public", "vpn")]
        script = STANDIN.format(
            number=NUMBER[node],
            backend=BACKEND,
            vips4=", ".join(each[4] for each in vips),
            vips6=", ".join(each[6] for each in vips),
        )
        write(pair, node, "/usr/local/lib/standin.sh", script)
        write(pair, node, "/usr/local/lib/peer.py", PEER.read_text())
        write(pair, node, "/usr/local/lib/node.json", json.dumps(listening(pair, cluster, node)) + "\n")
        in_pod = [("tcp", address, BACKEND) for address in ("0.0.0.0", "::")] + [("udp", "::", BACKEND)]
        write(pair, node, "/usr/local/lib/pod.json", json.dumps(in_pod) + "\n")
        write(pair, node, "/etc/systemd/system/standin.service", STANDIN_UNIT)
        out(pair, node, "systemctl daemon-reload; systemctl enable -q --now standin")
        wait_for_standin(pair, node)
    return pair


def listening(lab: Lab, cluster: Cluster, node: str) -> list[tuple[str, str, int]]:
    """Where the node answers: on every port of the matrix but that of sshd.

    By UDP at each of its addresses: an answer must come from where it was asked.
    """
    block, octet = lab.fleet.block, lab.fleet.host(node).octet
    addresses = [of(block, network, octet) for network in NETWORKS for of in (address, address6)]
    rows = destinations(firewall_of(cluster), cluster.node(node).role)
    ports = [(row.proto, row.port) for row in rows if row.to == "host" and row.port not in (None, 22)]
    where = {"tcp": ["0.0.0.0", "::"], "udp": addresses}
    return [(proto, each, port or 0) for proto, port in ports for each in where[proto]]


def vip(lab: Lab, node: str, network: str) -> dict[Family, str]:
    """The service addresses of a node in a network."""
    block, third = lab.fleet.block, NETWORKS[network]
    return {4: f"10.{block}.{third}.{200 + NUMBER[node]}", 6: f"fd00:{block}:{third}::200:{NUMBER[node]}"}


def write(lab: Lab, node: str, path: str, content: str) -> None:
    done = lab.exec(node, ["sh", "-c", f"cat >{path}"], input=content)
    assert done.returncode == 0, done


def wait_for_standin(lab: Lab, node: str) -> None:
    backend = f"ip netns exec pod ss -Hltn sport = :{BACKEND}"
    until(lambda: out(lab, node, f"cat /run/standin.answers; {backend} || :").count("LISTEN") == 2)
    until(lambda: "listening" in out(lab, node, "cat /run/standin.answers"))


def run(lab: Lab, **settings: object) -> Run:
    return pyinfra("-y", "--json", *data(**settings), lab=lab.name, deploy=DEPLOY)


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


# Knocking


@dataclass(frozen=True)
class Target:
    """A node, and the doors of it that can be tried here."""

    lab: Lab
    cluster: Cluster
    name: str

    @property
    def group(self) -> str:
        """What the other node is to it."""
        return "nodes" if self.cluster.node(self.other).role != "master" else "servers"

    @property
    def other(self) -> str:
        return WORKER if self.name == MASTER else MASTER

    def promised(self, wall: Firewall | None = None) -> dict[Door, str]:
        """What the matrix says of each door. The machine's bridges carry no packets to addresses of pods."""
        wall, role = wall or firewall_of(self.cluster), self.cluster.node(self.name).role
        addresses = vip(self.lab, self.name, "lan")
        found = {door: expected(wall, role, door, addresses) for door in doors(wall, role, addresses)}
        return {
            door: verdict
            for door, verdict in found.items()
            if verdict
            and door.row.to in (KINDS if door.source == "pods" else ("host", "nodeport", "vip"))
            and door.source in {"management", "vpn", "public", "pods", self.group}
        }

    def aim(self, door: Door) -> Knock:
        """How a door is knocked at."""
        network = KNOCKERS[door.source][1]
        block, octet = self.lab.fleet.block, self.lab.fleet.host(self.name).octet
        node = {4: address(block, network, octet), 6: address6(block, network, octet)}
        pod = {4: f"10.42.{NUMBER[self.name]}.2", 6: f"fd00:42:0:{NUMBER[self.name]}::2"}
        where = {"host": node, "nodeport": node, "vip": vip(self.lab, self.name, network), "pods": pod}
        return door.proto, None, where[door.row.to][door.family], door.row.port or 0

    def knock(self, wanted: Mapping[str, Sequence[Knock]]) -> dict[str, list[str]]:
        with ThreadPoolExecutor() as pool:
            return dict(zip(wanted, pool.map(self._knock_from, wanted, wanted.values()), strict=True))

    def _knock_from(self, knocker: str, wanted: Sequence[Knock]) -> list[str]:
        hosts = {"node": self.other, "pod": self.name}
        prefix = ["ip", "netns", "exec", "client"] if knocker == "pod" else []
        command = [*prefix, "python3", "-c", PEER.read_text(), "knock"]
        done = self.lab.exec(hosts.get(knocker, knocker), command, input=json.dumps(wanted))
        assert done.returncode == 0, done
        answers: list[str] = json.loads(done.stdout)
        return answers

    def results(self, promised: Mapping[Door, str]) -> dict[Door, str]:
        """What really comes of each door."""
        self._announce()

        def attempt(wanted: Iterable[Door]) -> dict[Door, str]:
            return tried(wanted, lambda door: KNOCKERS[door.source][0], self.aim, self.knock)

        return settled(attempt(promised), promised, attempt)

    def _announce(self) -> None:
        """In the place of MetalLB: who wants the service addresses of the node learns its hardware address."""
        macs = out(
            self.lab,
            self.name,
            "cd /sys/class/net; cat eth0/address eth1/address eth2/address",
        )
        by_network = dict(zip(("lan", "public", "vpn"), macs.split(), strict=True))
        places = {**INTERFACE, (self.other, "lan"): "eth0"}
        for (host, network), interface in places.items():
            addresses = vip(self.lab, self.name, network).values()
            lines = [f"ip neigh replace {each} lladdr {by_network[network]} dev {interface}" for each in addresses]
            out(self.lab, host, " && ".join(lines))


def assert_as_promised(lab: Lab, cluster: Cluster, *names: str) -> dict[str, int]:
    """Knock at every door of the hosts at once; returns how many doors have which verdict."""
    targets = [Target(lab, cluster, name) for name in names]
    with ThreadPoolExecutor() as pool:
        found = [*pool.map(lambda target: target.results(target.promised()), targets)]
    wrong = {
        (target.name, str(door)): got
        for target, results in zip(targets, found, strict=True)
        for door, got in results.items()
        if got != target.promised()[door]
    }
    assert wrong == {}
    return Counter(got for results in found for got in results.values())


def picluster(lab: Lab, *args: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("picluster")), "firewall", args[0], "--env", "lab", *args[1:]]
    environment = {**os.environ, "PICLUSTEROPS_LAB": lab.name, "COLUMNS": "200"}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)


def cut_off(lab: Lab) -> dict[str, Any]:
    """A firewall in which management has the nodes, but not the machine that runs pyinfra."""
    return {"zones": {"management": {"sources": [f"10.{lab.fleet.block}.0.8/29"]}}}


def test_without_a_firewall_every_door_is_open(lab: Lab, cluster: Cluster) -> None:
    """So that what is closed later is closed by the firewall."""
    for node in NODES:
        target = Target(lab, cluster, node)
        everything = dict.fromkeys(target.promised(), "accept")
        assert {door: got for door, got in target.results(everything).items() if got != "accept"} == {}


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


def test_every_connection_meets_what_the_matrix_says(
    lab: Lab, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """From operator, stranger, VPN, other node and pod; IPv4 and IPv6, TCP and UDP, before and after DNAT."""
    before = kube_proxy(lab)
    count = assert_as_promised(lab, cluster, *NODES)
    with capsys.disabled():
        print(f"doors of the matrix that were tried: {dict(count)}")
    assert count["accept"] > 100 and count["drop"] > 100
    assert kube_proxy(lab) == before and "dnat to" in before[MASTER]


def test_the_command_line_tells_the_same(lab: Lab) -> None:
    """From the machine that runs pyinfra, which is in management."""
    told = picluster(lab, "test", MASTER)
    assert told.returncode == 0 and told.stdout.count("as it says") > 10, told.stdout + told.stderr
    same = picluster(lab, "diff", WORKER)
    assert (same.returncode, same.stdout) == (0, f"{WORKER}: the firewall is as the inventory has it\n")
    out(lab, WORKER, "nft insert rule inet piclusterops prerouting tcp dport { 80, 443 } drop")
    assert picluster(lab, "test", WORKER).stdout.count("WRONG") == 2
    out(lab, WORKER, "nft -f /etc/piclusterops/firewall.nft")


def test_the_second_run_changes_nothing_in_one_ssh_execution_a_host(lab: Lab, cluster: Cluster) -> None:
    before = state(lab)
    second = run(lab)
    assert (second.returncode, second.changes) == (0, {}), second.output
    assert second.executions == dict.fromkeys(NODES, 1)
    assert state(lab) == before
    assert_as_promised(lab, cluster, *NODES)


def test_a_reload_and_an_upgrade_of_nftables_leave_the_rules_of_kube_proxy(lab: Lab, cluster: Cluster) -> None:
    before = state(lab)
    assert "dnat to" in before[MASTER]
    for shell in (
        "systemctl reload piclusterops-firewall",
        "systemctl restart piclusterops-firewall",
        "DEBIAN_FRONTEND=noninteractive apt-get install -qq --reinstall nftables",
    ):
        out(lab, MASTER, shell)
        assert state(lab) == before, shell
        assert_as_promised(lab, cluster, MASTER)
    out(lab, MASTER, "systemctl stop piclusterops-firewall")
    assert "piclusterops" not in out(lab, MASTER, "nft list tables")
    assert "dnat to" in out(lab, MASTER, KUBE_PROXY)


def test_what_others_removed_or_changed_is_put_right(lab: Lab, cluster: Cluster) -> None:
    """The unit was stopped on the first host above; on the second somebody opens everything."""
    out(lab, WORKER, "nft insert rule inet piclusterops prerouting accept")
    noticed = picluster(lab, "diff", WORKER)
    assert noticed.returncode == 1 and "what is in force is not what was loaded" in noticed.stdout
    repaired = run(lab)
    assert repaired.returncode == 0, repaired.output
    assert len(repaired.changes) == 2
    assert_as_promised(lab, cluster, *NODES)
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


def test_a_firewall_that_shuts_another_way_in_is_undone(lab: Lab, cluster: Cluster) -> None:
    """The inventory's own address stays open, and the one in the VPN is closed."""
    before = state(lab)
    way_in = address(lab.fleet.block, "vpn", lab.fleet.host(MASTER).octet)
    wanted = cluster.settings.firewall.model_dump(mode="json", by_alias=True)
    wanted["login_addresses"] = {MASTER: [way_in]}
    closed = {**wanted, "rules": {"ssh": {"from": "management", "ports": 22}}}
    failed = run(lab, firewall=closed, armed_timeout_s=15)
    assert failed.returncode == 1
    text = " ".join(failed.output.split())
    assert f"{MASTER}: firewall: a new connection to {way_in} port 22 failed: " in text
    assert "The change was undone: the host is as before. Next: ssh" in text
    assert state(lab) == before
    # it is the closed way in, and nothing else, that made it fail
    nowhere = address(lab.fleet.block, "vpn", 99)
    opened = {**wanted, "rules": {"agent": {"from": "management", "ports": 10050}}}
    kept = run(lab, firewall={**opened, "login_addresses": {MASTER: [way_in], WORKER: [nowhere]}})
    assert kept.returncode == 0, kept.output
    said = f"{WORKER}: firewall: {nowhere} port 22 does not let us in as it is, and so this way in is not watched"
    assert said in " ".join(kept.output.split())
    assert run(lab).returncode == 0
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
    kill_unconfirmed(lab, tmp_path, timer_s=15)
    until(lambda: state(lab) == before)
    assert lab.ssh(MASTER, ["true"]).returncode == 0


def test_a_power_cut_before_the_confirmation_brings_the_old_rules_back(
    lab: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    """And everything is there after a boot, what stands for kube-proxy included."""
    before = state(lab)
    kill_unconfirmed(lab, tmp_path, timer_s=600)
    lab.power_cut(MASTER)
    lab.power_on(MASTER)
    lab.wait_ssh([MASTER])
    wait_for_standin(lab, MASTER)
    assert state(lab) == before
    assert_as_promised(lab, cluster, MASTER)
    again = run(lab)
    assert (again.returncode, again.changes) == (0, {}), again.output


def kill_unconfirmed(lab: Lab, folder: Path, timer_s: int) -> None:
    """Open a port, and kill the controller before it confirms that."""
    opened = {"rules": {"agent": {"from": "management", "ports": 10050}}}
    kill_before_confirmation(lab, "firewall", FIREWALL, folder, firewall=opened, armed_timeout_s=timer_s)
    assert "10050" in out(lab, MASTER, "nft list table inet piclusterops")
    assert "10050" not in out(lab, MASTER, "cat /etc/piclusterops/firewall.nft"), "kept before it was confirmed"


def test_a_cluster_without_firewall_gets_rid_of_it(lab: Lab, cluster: Cluster) -> None:
    removed = run(lab, firewall=False)
    assert removed.returncode == 0, removed.output
    for node in NODES:
        assert "piclusterops" not in out(lab, node, "nft list tables; ls /etc/piclusterops")
        assert "dnat to" in out(lab, node, KUBE_PROXY)
    target = Target(lab, cluster, MASTER)
    everything = dict.fromkeys(target.promised(), "accept")
    assert set(target.results(everything).values()) == {"accept"}
    assert run(lab, firewall=False).changes == {}
