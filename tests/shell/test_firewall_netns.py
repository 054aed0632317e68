"""The firewall against real packets: namespaces for the node and its peers, fake kube-proxy rules, real connections.

Needs root and the packages nftables, iptables and iproute2; it installs nothing and leaves nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from doors import PEER, Door, Knock, doors, expected, settled, tried

from piclusterops.firewall import Family, Firewall, destinations, firewall_of
from piclusterops.ruleset import compile_ruleset, rollback_ruleset
from piclusterops.settings import Cluster, ClusterSettings, Node, NodeSettings, Role
from piclusterops.zones import FirewallSettings

GOLDEN = Path(__file__).parents[1] / "unit/golden/firewall"
PREFIX = f"pco{os.getpid()}-"


def _missing() -> str:
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    packages = {"nft": "nftables", "ip": "iproute2", "iptables": "iptables", "ip6tables": "iptables"}
    absent = sorted({package for program, package in packages.items() if not shutil.which(program)})
    if absent:
        return f"needs the packages {', '.join(absent)}"
    probe = subprocess.run(["ip", "netns", "add", f"{PREFIX}probe"], capture_output=True, text=True, check=False)
    if probe.returncode:
        return f"no network namespaces here: {probe.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"{PREFIX}probe"], check=True)
    return ""


@pytest.fixture(scope="module", autouse=True)
def able() -> None:
    if missing := _missing():
        pytest.skip(missing)


pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]


def run(*command: str, given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


# nft of bookworm and of trixie

Nft = Sequence[str]


def fetch_trixie_nft(cache: Path) -> Nft:
    """nft of trixie with its own libc, from the mirror that this machine uses; installed nowhere."""
    arch = run("dpkg", "--print-architecture").strip()
    root = cache / f"nft-trixie-{arch}"
    if not root.exists():
        uris = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
        mirror = next((uri for uri in uris if uri.rstrip("/").endswith("/debian")), None)
        if mirror is None:
            raise OSError("this machine has no Debian mirror")
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache) as scratch:
            _unpack_from(mirror, Path(scratch))
            # whole or not at all: another run may be doing the same
            with suppress(OSError):
                Path(scratch, "root").rename(root)
    loader = next(root.glob("usr/lib/*/ld-linux-*.so.*"))
    return (str(loader), "--library-path", str(loader.parent), str(root / "usr/sbin/nft"))


def _unpack_from(mirror: str, work: Path) -> None:
    for name in ("lists/partial", "cache/archives/partial", "debs", "root"):
        (work / name).mkdir(parents=True)
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (work / "sources.list").write_text(f"deb [signed-by={keys}] {mirror} trixie main\n")
    options = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": 10,
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    packages = (
        "nftables libnftables1 libnftnl11 libmnl0 libgmp10 libjansson4 libedit2 libxtables12 libtinfo6 libbsd0 libmd0"
    )
    for command in ([*apt, "update"], [*apt, "download", *packages.split(), "libc6"]):
        done = subprocess.run(command, cwd=work / "debs", capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise OSError(f"apt-get {command[-1]} failed")
    for deb in (work / "debs").glob("*.deb"):
        run("dpkg", "-x", str(deb), str(work / "root"))


@pytest.fixture(scope="session", params=["installed", "trixie"])
def nft(request: pytest.FixtureRequest) -> Nft:
    if request.param == "installed":
        return ("nft",)
    cache = Path(os.environ.get("PICLUSTEROPS_CACHE", "~/.cache/piclusterops")).expanduser()
    try:
        command = fetch_trixie_nft(cache)
    except (OSError, AssertionError, StopIteration, subprocess.SubprocessError) as error:
        pytest.skip(f"nft of trixie can't be had: {error}")
    assert "v1.1.3" in run(*command, "--version")
    return command


# The network

LAN4, LAN6 = "10.80.0.", "fd00:80::"
NODE = {4: f"{LAN4}10", 6: f"{LAN6}10"}
POD = {4: "10.42.0.5", 6: "fd00:42::5"}
VIP: dict[Family, str] = {4: f"{LAN4}200", 6: "fd00:80:ff::200"}
API_IP = {4: "10.43.0.1", 6: "fd00:43::1"}
BACKEND, FORWARDED = 8080, 7000

#: Peers on the node's LAN, and those with a link of their own: interface on the node, the node's addresses, the peer's.
LAN_PEERS = {
    "operator": "5",
    "guest": "6",
    "other": "11",
    "server": "12",
}
OWN_LINKS = {
    "stranger": ("eth1", ("203.0.113.1", "2001:db8::1"), ("203.0.113.9", "2001:db8::9")),
    "vpn": ("wg0", ("10.8.0.1", "fd00:8::1"), ("10.8.0.2", "fd00:8::2")),
    "pod": ("cni0", ("10.42.0.1", "fd00:42::1"), (POD[4], POD[6])),
    "farpod": ("flannel.1", ("10.42.1.1", "fd00:42:0:1::1"), ("10.42.1.5", "fd00:42:0:1::5")),
}
#: An address from outside that the LAN's router lets through to the node.
ROUTED = {4: "198.51.100.7", 6: "2001:db8:7::7"}
#: Who knocks for a source of the matrix.
KNOCKER = {
    "management": "operator",
    "public": "stranger",
    "vpn": "vpn",
    "nodes": "other",
    "servers": "server",
    "pods": "farpod",
}


def address_of(peer: str, family: int) -> str:
    if peer in LAN_PEERS:
        return {4: LAN4, 6: LAN6}[family] + LAN_PEERS[peer]
    return OWN_LINKS[peer][2][0 if family == 4 else 1]


@dataclass
class Network:
    """A node with its peers."""

    made: list[str] = field(default_factory=list)
    answering: list[subprocess.Popen[str]] = field(default_factory=list)

    def ip(self, *words: str, at: str = "") -> None:
        run("ip", *(("-n", PREFIX + at) if at else ()), *words)

    def inside(self, name: str, *command: str, given: str | None = None) -> str:
        return run("ip", "netns", "exec", PREFIX + name, *command, given=given)

    def namespace(self, name: str) -> None:
        self.ip("netns", "add", PREFIX + name)
        self.made.append(name)
        # A router asks for neighbours from its link-local address: not before that one's duplicate detection ended.
        self.inside(name, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        self.ip("link", "set", "lo", "up", at=name)

    def link(self, name: str, other: str, interface: str) -> None:
        """A cable: eth0 of `name` to `interface` of `other`."""
        ends = ("eth0", "netns", PREFIX + name, "type", "veth", "peer", "name", interface, "netns", PREFIX + other)
        self.ip("link", "add", *ends)
        self.ip("link", "set", "eth0", "up", at=name)
        self.ip("link", "set", interface, "up", at=other)

    def address(self, name: str, interface: str, addresses: Sequence[str]) -> None:
        for address in addresses:
            nodad = ("nodad",) if ":" in address else ()
            self.ip("addr", "add", f"{address}/{64 if nodad else 24}", "dev", interface, *nodad, at=name)

    def build(self) -> None:
        for name in ("node", "switch", *LAN_PEERS, *OWN_LINKS):
            self.namespace(name)
        self.ip("link", "add", "br0", "type", "bridge", at="switch")
        self.ip("link", "set", "br0", "up", at="switch")
        for name in ("node", *LAN_PEERS):
            self.link(name, "switch", f"port-{name}")
            self.ip("link", "set", f"port-{name}", "master", "br0", at="switch")
        self.address("node", "eth0", (NODE[4], NODE[6]))
        for name, last in LAN_PEERS.items():
            self.address(name, "eth0", (LAN4 + last, LAN6 + last))
            self.route(name, (NODE[4], NODE[6]))
            # in the place of MetalLB, which answers ARP for it
            self.ip("route", "add", VIP[4], "via", NODE[4], at=name)
        for name, (interface, ours, theirs) in OWN_LINKS.items():
            self.link(name, "node", interface)
            self.address("node", interface, ours)
            self.address(name, "eth0", theirs)
            self.route(name, ours)
        for value in (
            "ipv4.ip_forward=1",
            "ipv6.conf.all.forwarding=1",
            "ipv4.icmp_ratelimit=0",
            "ipv6.icmp.ratelimit=0",
        ):
            self.inside("node", "sysctl", "-qw", f"net.{value}")
        self.outsider()
        self.kube_proxy()

    def route(self, name: str, gateways: Sequence[str]) -> None:
        for gateway in gateways:
            self.ip("route", "add", "default", "via", gateway, at=name)

    def outsider(self) -> None:
        """The guest also has an address from outside, and sends forged ones of pods."""
        for family, address in ROUTED.items():
            bits = 32 if family == 4 else 128
            extra = ("nodad",) if family == 6 else ()
            self.ip("addr", "add", f"{address}/{bits}", "dev", "eth0", *extra, at="guest")
            self.ip("route", "add", f"{address}/{bits}", "via", address_of("guest", family), at="node")
        self.ip("addr", "add", "10.42.9.9/32", "dev", "eth0", at="guest")

    def kube_proxy(self) -> None:
        """DNAT as kube-proxy and CNI write it: a NodePort, a LoadBalancer address, the API's ClusterIP."""
        for program, family in (("iptables", 4), ("ip6tables", 6)):
            pod = f"{POD[family]}:{BACKEND}" if family == 4 else f"[{POD[family]}]:{BACKEND}"
            api = f"{NODE[family]}:6443" if family == 4 else f"[{NODE[family]}]:6443"
            nat = ("node", program, "-w", "-t", "nat")
            self.inside(*nat, "-N", "KUBE-SERVICES")
            self.inside(*nat, "-N", "KUBE-NODEPORTS")
            self.inside(*nat, "-A", "PREROUTING", "-m", "comment", "--comment", "kubernetes", "-j", "KUBE-SERVICES")
            for proto in ("tcp", "udp"):
                to_pod = ("-p", proto, "-j", "DNAT", "--to-destination", pod)
                self.inside(*nat, "-A", "KUBE-NODEPORTS", *to_pod, "--dport", "30000:32767")
                self.inside(*nat, "-A", "KUBE-SERVICES", *to_pod, "--dport", "443", "-d", VIP[family])
            to_api = ("-p", "tcp", "-d", API_IP[family], "--dport", "443", "-j", "DNAT", "--to-destination", api)
            self.inside(*nat, "-A", "KUBE-SERVICES", *to_api)
            local = ("-m", "addrtype", "--dst-type", "LOCAL", "-j", "KUBE-NODEPORTS")
            self.inside(*nat, "-A", "KUBE-SERVICES", *local)
            self.inside("node", program, "-w", "-N", "FLANNEL-FWD")
            self.inside("node", program, "-w", "-A", "FORWARD", "-j", "FLANNEL-FWD")

    def answer(self, name: str, wanted: Sequence[tuple[str, str, int]]) -> None:
        command = ("ip", "netns", "exec", PREFIX + name, sys.executable, str(PEER), "answer")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answering.append(process)
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(wanted) + "\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == "listening"

    def knock(self, doors: Mapping[str, Sequence[Knock]]) -> dict[str, list[str]]:
        """Every peer knocks at all its doors at once; all peers at the same time."""
        running = {}
        for name, wanted in doors.items():
            command = ("ip", "netns", "exec", PREFIX + name, sys.executable, str(PEER), "knock")
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running[name] = process
            assert process.stdin
            process.stdin.write(json.dumps(wanted))
            process.stdin.close()
            process.stdin = None
        return {name: json.loads(process.communicate(timeout=60)[0]) for name, process in running.items()}

    def tables(self) -> str:
        """All rules that are not ours, without counters."""
        return "\n".join(
            self.inside("node", program, "-S", "-t", table)
            for program in ("iptables-nft", "ip6tables-nft")
            for table in ("nat", "filter")
        )

    def remove(self) -> None:
        for process in self.answering:
            process.communicate(timeout=20)
        for name in self.made:
            subprocess.run(["ip", "netns", "del", PREFIX + name], check=False)


# Firewalls


def cluster() -> Cluster:
    """The node under test is pi-0, whatever its role: the ruleset differs only by role."""
    roles: tuple[Role, ...] = ("master", "worker", "master")
    addresses = (NODE[4], address_of("other", 4), address_of("server", 4))
    nodes = tuple(
        Node(name=f"pi-{place}", role=role, settings=NodeSettings.model_validate({"address": address}))
        for place, (role, address) in enumerate(zip(roles, addresses, strict=True))
    )
    given = {
        "lan_cidr": f"{LAN4}0/24",
        "vpn_cidr": "10.8.0.0/24",
        "metallb_pool": f"{LAN4}200-{LAN4}210",
        "datastore": "etcd",
    }
    return Cluster(settings=ClusterSettings.model_validate(given), nodes=nodes)


DUAL_STACK: dict[str, Any] = {
    "zones": {
        "management": {"sources": [f"{LAN4}0/24", f"{LAN6}/64"]},
        "vpn": {"interfaces": "wg0", "sources": ["10.8.0.0/24", "fd00:8::/64"]},
        "pods": {
            "interfaces": ["cni0", "flannel.1", "flannel-v6.1"],
            "sources": ["10.42.0.0/16", "fd00:42::/56"],
            "strict": True,
        },
    },
    "service_addresses": "fd00:80:ff::/112",
    "pod_networks": "fd00:42::/56",
    "service_networks": "fd00:43::/112",
    "node_addresses": {
        "pi-0": NODE[6],
        "pi-1": address_of("other", 6),
        "pi-2": address_of("server", 6),
    },
    "controllers": [address_of("operator", 4), address_of("operator", 6)],
}
#: Other verdicts in the same places: reject, one service address for all, NodePorts by port, a zone by interface.
ALTERED: dict[str, Any] = {
    **DUAL_STACK,
    "zones": {**DUAL_STACK["zones"], "public": {"interfaces": "eth1"}},
    "policies": {
        "public": {"host": "reject", "nodeport": "reject", "management": "reject"},
        "vpn": {"vip": "drop", "public": "accept", "pods": "accept"},
        "management": {"nodeport": "drop", "pods": "reject", "vpn": "accept", "vip": "reject"},
        "pods": {"management": "drop", "vip": "drop"},
    },
    "rules": {
        "shop": {"from": "public", "ports": 443, "to": "vip", "destinations": list(VIP.values())},
        "game": {"from": ["public", "management"], "proto": "udp", "ports": "30080-30085", "to": "nodeport"},
        "dns": {"from": "vpn", "proto": "tcp+udp", "ports": 53},
        "kubelet": None,
        "web": {"from": ["public", "nodes"], "ports": ["80-90", "85-443"]},
    },
}


def wall(given: dict[str, Any]) -> Firewall:
    return firewall_of(cluster(), FirewallSettings.model_validate(given))


WALLS = {"default": wall(DUAL_STACK), "altered": wall(ALTERED)}


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    network = Network()
    try:
        network.build()
        ports = {
            (row.proto, row.port)
            for each in WALLS.values()
            for role in ("master", "worker")
            for row in destinations(each, role)  # type: ignore[arg-type]
            if row.to == "host" and row.port
        }
        network.answer("node", [(proto, address, port) for proto, port in sorted(ports) for address in NODE.values()])
        network.answer("pod", [(proto, address, BACKEND) for proto in ("tcp", "udp") for address in POD.values()])
        for name in ("operator", "stranger", "vpn", "farpod"):
            network.answer(name, [("tcp", address_of(name, family), FORWARDED) for family in (4, 6)])
        yield network
    finally:
        network.remove()


@pytest.fixture
def load(network: Network, nft: Nft) -> Iterator[Callable[[str], None]]:
    """Load a ruleset into the node; its table is gone afterwards."""

    def into_node(text: str) -> None:
        network.inside("node", *nft, "-f", "-", given=text)

    yield into_node
    into_node(rollback_ruleset(None))


def aim(door: Door) -> Knock:
    """How a door is knocked at."""
    source = address_of(KNOCKER[door.source], door.family)
    targets = {"host": NODE, "nodeport": NODE, "vip": VIP, "pods": POD}
    if door.row.to in targets:
        return door.proto, source, targets[door.row.to][door.family], door.row.port or 0
    return door.proto, source, address_of(KNOCKER[door.row.to], door.family), FORWARDED


def knocked(network: Network, wanted: Sequence[Door]) -> dict[Door, str]:
    return tried(wanted, lambda door: KNOCKER[door.source], aim, network.knock)


# Tests


def test_without_a_firewall_everything_answers(network: Network) -> None:
    """Else a closed cell would prove nothing."""
    results = knocked(network, doors(WALLS["altered"], "master", VIP))
    assert {door: got for door, got in results.items() if got != "accept"} == {}


@pytest.mark.parametrize(("name", "role"), [("default", "master"), ("default", "worker"), ("altered", "master")])
def test_every_cell_is_as_the_matrix_says(network: Network, load: Callable[[str], None], name: str, role: Role) -> None:
    firewall = WALLS[name]
    load(compile_ruleset(firewall, role))
    promised = {door: expected(firewall, role, door, VIP) for door in doors(firewall, role, VIP)}
    results = settled(knocked(network, list(promised)), promised, lambda late: knocked(network, late))
    wrong = {door: got for door, got in results.items() if got != promised[door]}
    assert wrong == {}
    assert len(results) > 200
    assert set(results.values()) == {"accept", "drop", *(["reject"] if name == "altered" else [])}


@pytest.fixture
def listed(network: Network, nft: Nft) -> Callable[[], str]:
    """The own table as the same nft lists it: one of another version may not understand it."""
    return lambda: network.inside("node", *nft, "-s", "list", "table", "inet", "piclusterops")


def test_loading_again_changes_nothing_and_the_tables_of_others_stay(
    network: Network, load: Callable[[str], None], listed: Callable[[], str]
) -> None:
    others = network.tables()
    assert "--dport 30000:32767" in others
    assert "FLANNEL-FWD" in others
    text = compile_ruleset(WALLS["default"], "master")
    load(text)
    once = listed()
    load(text)
    assert listed() == once
    assert network.tables() == others
    load(compile_ruleset(WALLS["altered"], "master"))
    assert listed() != once
    load(rollback_ruleset(text))
    assert listed() == once, "a rollback brings the former table back"
    load(rollback_ruleset(None))
    assert network.tables() == others


def test_a_ruleset_with_a_fault_leaves_the_one_in_force(
    network: Network, nft: Nft, load: Callable[[str], None], listed: Callable[[], str]
) -> None:
    text = compile_ruleset(WALLS["default"], "master")
    load(text)
    before = listed()
    broken = text.replace("goto public_drop", "goto nowhere", 1)
    with pytest.raises(AssertionError):
        load(broken)
    assert listed() == before


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.nft")), ids=lambda path: path.stem)
def test_every_golden_ruleset_loads(nft: Nft, path: Path) -> None:
    """In a namespace without any of the interfaces that it names, as at boot."""
    name = f"{PREFIX}golden"
    run("ip", "netns", "add", name)
    try:
        inside = ("ip", "netns", "exec", name, *nft)
        run(*inside, "-c", "-f", str(path))
        for _ in range(2):
            run(*inside, "-f", str(path))
        assert run(*inside, "list", "tables").split() == ["table", "inet", "piclusterops"]
    finally:
        run("ip", "netns", "del", name)


def test_pods_reach_the_api_by_its_cluster_address(network: Network, load: Callable[[str], None]) -> None:
    load(compile_ruleset(WALLS["default"], "master"))
    wanted = [("tcp", None, API_IP[family], 443) for family in (4, 6)]
    assert network.knock({"pod": wanted, "farpod": wanted}) == {"pod": ["accept"] * 2, "farpod": ["accept"] * 2}
    own = [("tcp", None, NODE[family], port) for family in (4, 6) for port in (6443, 10250, 9100, 22)]
    assert network.knock({"pod": own})["pod"] == ["accept", "accept", "accept", "drop"] * 2


def test_who_comes_from_outside_through_the_router_is_public(network: Network, load: Callable[[str], None]) -> None:
    wanted = [
        (proto, ROUTED[family], address[family], port)
        for family in (4, 6)
        for proto, address, port in (
            ("tcp", NODE, 22),
            ("tcp", NODE, 80),
            ("tcp", NODE, 443),
            ("tcp", NODE, 30080),
            ("udp", NODE, 30080),
            ("tcp", VIP, 443),
        )
    ]
    assert network.knock({"guest": wanted})["guest"] == ["accept"] * len(wanted), "without a firewall"
    load(compile_ruleset(WALLS["default"], "master"))
    assert network.knock({"guest": wanted})["guest"] == ["drop"] * len(wanted)


def test_a_forged_pod_address_is_dropped_as_such(network: Network, load: Callable[[str], None], nft: Nft) -> None:
    load(compile_ruleset(WALLS["default"], "master"))
    forged = ("node", *nft, "list", "chain", "inet", "piclusterops", "forged")
    assert "packets 0 " in network.inside(*forged)
    assert network.knock({"guest": [("tcp", "10.42.9.9", NODE[4], 6443)]})["guest"] == ["drop"]
    assert "packets 0 " not in network.inside(*forged)


@pytest.mark.parametrize("family", [4, 6])
def test_ssh_is_limited_for_everybody_but_controllers(
    network: Network, load: Callable[[str], None], family: int
) -> None:
    load(compile_ruleset(WALLS["default"], "worker"))
    wanted = [("tcp", None, NODE[family], 22)] * 30
    answers = network.knock({"guest": wanted, "operator": wanted, "vpn": [("tcp", None, NODE[family], 22)]})
    # the burst, and what the rate adds while they knock
    assert 10 <= answers["guest"].count("accept") <= 13
    assert answers["operator"] == ["accept"] * 30
    assert answers["vpn"] == ["accept"], "one guest takes nothing from others"
