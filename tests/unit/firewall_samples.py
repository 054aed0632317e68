"""Clusters and firewalls that the tests of the firewall share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st

from piclusterops.firewall import Firewall, FirewallError, firewall_of
from piclusterops.settings import ROLES, Cluster, ClusterSettings, Node, NodeSettings, Role
from piclusterops.zones import GROUPS, KINDS, FirewallSettings


def cluster(roles: Sequence[Role], **given: Any) -> Cluster:
    values = {"lan_cidr": "192.168.0.0/24", "metallb_pool": "192.168.0.200-192.168.0.250", **given}
    nodes = tuple(
        Node(
            name=f"pi-{place}", role=role, settings=NodeSettings.model_validate({"address": f"192.168.0.{120 + place}"})
        )
        for place, role in enumerate(roles)
    )
    return Cluster(settings=ClusterSettings.model_validate(values), nodes=nodes)


def build(roles: Sequence[Role], wall: dict[str, Any] | None = None, **given: Any) -> Firewall:
    return firewall_of(cluster(roles, **given), FirewallSettings.model_validate(wall or {}))


EVERYTHING: dict[str, Any] = {
    "zones": {
        "management": {"sources": ["192.168.0.0/24", "fd00:77::/64"]},
        "pods": {
            "interfaces": ["cni0", "flannel.1", "flannel-v6.1"],
            "sources": ["10.42.0.0/16", "fd00:42::/56"],
            "strict": True,
        },
        "dmz": {"interfaces": ["eth0.30"], "sources": ["192.168.0.64/28"]},
        "restricted": {"sources": ["192.168.40.0/24", "fd00:40::/64"]},
        "cameras": {"interfaces": ["eth0.41", "eth0.40"]},
        "public": {"interfaces": ["eth1"]},
    },
    "policies": {"restricted": {"host": "reject", "public": "reject"}, "management": {"dmz": "accept"}},
    "rules": {
        "shop": {"from": "public", "ports": [443], "to": "vip", "destinations": ["192.168.0.201", "fd00:77:ff::1"]},
        "dns": {"from": ["cameras", "dmz"], "proto": "tcp+udp", "ports": 53, "to": "vip", "rate": {"connections": 50}},
        "ping": {"from": "dmz", "proto": "icmp", "to": "pods"},
        "probe": {"from": ["nodes", "servers"], "ports": ["9000-9100", 80], "roles": ["worker", "master"]},
        "game": {"from": "dmz", "proto": "udp", "ports": "30100-30110", "to": "nodeport"},
    },
    "controllers": ["192.168.0.5", "fd00:77::5", "10.8.0.0/28"],
    "service_addresses": ["fd00:77:ff::/112"],
    "pod_networks": ["fd00:42::/56"],
    "service_networks": ["fd00:43::/112"],
    "node_addresses": {"pi-0": "fd00:77::120", "pi-1": "fd00:77::121"},
    "embedded_registry": True,
    "longhorn": True,
    "nfs_server": True,
}

CLUSTERS: dict[str, Firewall] = {
    "single": build(["master"]),
    "four": build(["master", "worker", "data_node", "data_node"], vpn_cidr="10.8.0.0/24"),
    "three-servers": build(["master"] * 3, datastore="etcd", flannel_backend="wireguard-native"),
    "everything": build(["master", "worker", "data_node"], EVERYTHING, vpn_cidr="10.8.0.0/24"),
}
RULESETS = [(name, role) for name in CLUSTERS for role in ROLES if name in ("four", "everything") or role == "master"]


NETS = [
    "192.168.0.64/26",
    "192.168.0.66/32",
    "10.9.0.0/16",
    "10.9.8.0/24",
    "172.16.0.0/12",
    "fd00:1::/48",
    "fd00:1:0:7::/64",
]
NAMES = ["services", "dmz", "internal", "restricted", "public", "cameras", "vpn"]
TARGETS = ["host", "nodeport", "vip", "management", "services", "vpn", "dmz", "internal", "public"]
HOST_PORTS = st.integers(1, 9).flatmap(lambda low: st.integers(low, 9).map(lambda high: f"{8000 + low}-{8000 + high}"))
NODE_PORT_RANGES = st.integers(0, 5).map(lambda low: f"{30000 + low}-{30003 + low}")


@st.composite
def rule(draw: st.DrawFn) -> dict[str, Any]:
    to = draw(st.sampled_from(KINDS))
    proto = draw(st.sampled_from(["tcp", "udp", "tcp+udp", *(["icmp"] if to in ("vip", "pods") else [])]))
    names = [*NAMES, "management", "pods", *GROUPS]
    origins = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    ports = draw(st.lists(NODE_PORT_RANGES if to == "nodeport" else HOST_PORTS, min_size=1, max_size=3))
    narrow = st.sampled_from([(), ("192.168.0.201/32",), ("192.168.0.200/29",), ("192.168.0.200/31", "fd00:9::1/128")])
    rate = draw(st.sampled_from([None, {"connections": 3}])) if proto != "icmp" else None
    return {
        "from": origins,
        "proto": proto,
        "to": to,
        "ports": () if proto == "icmp" else ports,
        "destinations": draw(narrow) if to == "vip" else (),
        "roles": draw(st.sampled_from([(), ("master",), ("worker", "data_node")])),
        "rate": rate,
        "comment": draw(st.sampled_from(["", "why not"])),
    }


@st.composite
def crowded(draw: st.DrawFn) -> dict[str, Any]:
    """Firewalls whose rules meet in few places, where one can cover another."""
    origins = st.lists(st.sampled_from(["management", "vpn", *GROUPS]), min_size=1, max_size=2, unique=True)
    nets = st.sampled_from([(), ("192.168.0.201/32",), ("192.168.0.200/29",)])
    to_host = st.fixed_dictionaries({"from": origins, "ports": HOST_PORTS})
    to_vip = st.fixed_dictionaries({"from": origins, "ports": HOST_PORTS, "to": st.just("vip"), "destinations": nets})
    rules = draw(st.lists(st.one_of(to_host, to_vip), min_size=3, max_size=6))
    policies = {zone: {"vip": "drop"} for zone in ("management", "vpn")}
    return {"rules": {f"r{place}": each for place, each in enumerate(rules)}, "policies": policies}


@st.composite
def firewalls(draw: st.DrawFn) -> dict[str, Any]:
    nets = draw(st.permutations(NETS))
    interfaces = draw(st.permutations([f"eth{place}" for place in range(8)]))
    zones: dict[str, Any] = {}
    for place, name in enumerate(NAMES):
        zones[name] = {
            "interfaces": interfaces[place : place + draw(st.integers(0, 1))],
            "sources": nets[place : place + draw(st.integers(0, 1))],
        }
    zones["dmz"]["strict"] = bool(zones["dmz"]["interfaces"]) and draw(st.booleans())
    row = st.dictionaries(st.sampled_from(TARGETS), st.sampled_from(["accept", "drop", "reject"]), max_size=4)
    names = st.sampled_from(["a", "b-c", "d", "web", "kubelet"])
    return {
        "zones": zones,
        "policies": draw(st.dictionaries(st.sampled_from([*NAMES, "management"]), row, max_size=4)),
        "rules": draw(st.dictionaries(names, rule(), max_size=5)),
        "controllers": draw(st.lists(st.sampled_from(["192.168.0.5/32", "192.168.0.6/32"]), unique=True)),
        "service_addresses": draw(st.lists(st.sampled_from(["fd00:9::/64", "172.20.0.0/24"]), unique=True)),
        "node_addresses": {"pi-0": draw(st.lists(st.sampled_from(["192.168.0.130"]), max_size=1))},
    }


def made(wall: dict[str, Any], roles: Sequence[Role] = ("master", "worker")) -> Firewall:
    try:
        return build(roles, wall)
    except FirewallError:
        assume(False)
        raise


#: PICLUSTEROPS_EXAMPLES=1000 looks further, at other firewalls each time.
_examples = os.environ.get("PICLUSTEROPS_EXAMPLES")
common = settings(
    max_examples=int(_examples or 30),
    derandomize=not _examples,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
