"""The firewall's model: defaults of a cluster, faults in plain words, and a matrix that has every cell."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args

import k3s_samples
import pytest
from pydantic import ValidationError
from rich import box
from rich.console import Console

from piclusterops.firewall import (
    FAMILIES,
    Destination,
    Firewall,
    FirewallError,
    decide,
    destinations,
    disjoint_sources,
    firewall_of,
    matrix,
    matrix_table,
    pool_networks,
    sources,
    zone_of,
)
from piclusterops.ruleset import compile_ruleset
from piclusterops.settings import ROLES, Cluster, ClusterSettings, Node, NodeSettings, Role
from piclusterops.zones import FirewallSettings, Rule, Zone

REPOSITORY = Path(__file__).resolve().parents[2]
SSH = Destination("host", "tcp", 22)
FOUR: tuple[Role, ...] = ("master", "worker", "data_node", "data_node")


def cluster(roles: Sequence[Role] = FOUR, **settings: Any) -> Cluster:
    """Nodes 192.168.0.120 and up in a LAN with a VPN and a MetalLB pool."""
    given = {
        "lan_cidr": "192.168.0.0/24",
        "vpn_cidr": "10.8.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        **settings,
    }
    nodes = tuple(
        Node(
            name=f"pi-{place}", role=role, settings=NodeSettings.model_validate({"address": f"192.168.0.{120 + place}"})
        )
        for place, role in enumerate(roles)
    )
    return Cluster(settings=ClusterSettings.model_validate(given), nodes=nodes)


def firewall(roles: Sequence[Role] = FOUR, *, given: dict[str, Any] | None = None, **settings: Any) -> Firewall:
    return firewall_of(cluster(roles, **settings), FirewallSettings.model_validate(given or {}))


def refused(given: dict[str, Any] | None = None, **settings: Any) -> str:
    with pytest.raises(FirewallError) as error:
        firewall(given=given, **settings)
    return "\n".join(error.value.faults)


def verdict(wall: Firewall, source: str, to: str, proto: str, port: int | None = None, role: Role = "worker") -> str:
    return str(decide(wall, role, source, Destination(to, proto, port)).verdict)


# Defaults


@pytest.mark.parametrize("port", [22, 80, 443])
def test_ssh_and_web_are_open_to_management_and_vpn_only(port: int) -> None:
    wall = firewall(services_cidr="192.168.50.0/24", given={"zones": {"dmz": {"interfaces": "eth9"}}})
    open_to = {zone for zone in wall.zones if verdict(wall, zone, "host", "tcp", port) == "accept"}
    assert open_to == {"management", "vpn"}


@pytest.mark.parametrize("proto", ["tcp", "udp"])
@pytest.mark.parametrize("port", [30000, 31234, 32767])
def test_node_ports_are_internal_only(proto: str, port: int) -> None:
    zones = {name: {"interfaces": f"eth{place}"} for place, name in enumerate(("dmz", "internal", "restricted"))}
    wall = firewall(given={"zones": zones}, services_cidr="192.168.50.0/24")
    open_to = {zone for zone in wall.zones if verdict(wall, zone, "nodeport", proto, port) == "accept"}
    assert open_to == {"management", "vpn", "internal", "pods"}
    assert verdict(wall, "public", "host", proto, port) == "drop", "a host port of the range is a NodePort"


@pytest.mark.parametrize(
    ("proto", "port"), [("tcp", 10250), ("udp", 8472), ("tcp", 7946), ("udp", 7946), ("tcp", 9100)]
)
def test_ports_of_the_cluster_are_open_between_nodes_only(proto: str, port: int) -> None:
    wall = firewall()
    assert verdict(wall, "nodes", "host", proto, port) == "accept"
    for zone in ("management", "vpn", "public"):
        assert verdict(wall, zone, "host", proto, port) == "drop"


def test_pods_reach_the_api_the_kubelet_and_node_exporter_but_not_ssh() -> None:
    wall = firewall()
    open_ports = {
        port
        for port in (22, 80, 2379, 6443, 9100, 10250)
        if verdict(wall, "pods", "host", "tcp", port, "master") == "accept"
    }
    assert open_ports == {6443, 9100, 10250}
    assert verdict(wall, "pods", "host", "tcp", 6443, "worker") == "drop"
    assert verdict(wall, "pods", "public", "any") == "accept"


def test_etcd_is_open_between_servers_only_and_only_where_there_is_etcd() -> None:
    wall = firewall(("master", "master", "master", "worker"), datastore="etcd")
    assert verdict(wall, "servers", "host", "tcp", 2379, "master") == "accept"
    assert verdict(wall, "nodes", "host", "tcp", 2380, "master") == "drop"
    assert verdict(wall, "servers", "host", "tcp", 2379, "worker") == "drop"
    assert verdict(firewall(), "servers", "host", "tcp", 2379, "master") == "drop"


@pytest.mark.parametrize(
    ("backend", "opened"), [("vxlan", {8472}), ("wireguard-native", {51820, 51821}), ("host-gw", set())]
)
def test_the_overlay_port_is_that_of_the_backend(backend: str, opened: set[int]) -> None:
    wall = firewall(flannel_backend=backend)
    assert {port for port in (8472, 51820, 51821) if verdict(wall, "nodes", "host", "udp", port) == "accept"} == opened


def test_pod_addresses_in_the_lan_are_forged_unless_the_backend_routes_them_there() -> None:
    assert firewall().zones["pods"].strict
    wall = firewall(flannel_backend="host-gw")
    assert not wall.zones["pods"].strict
    assert verdict(wall, "nodes", "pods", "tcp", 8080) == "accept"


@pytest.mark.parametrize(
    ("option", "source", "port", "role"),
    [
        ("embedded_registry", "nodes", 5001, "worker"),
        ("embedded_registry", "nodes", 6443, "worker"),
        ("longhorn", "nodes", 9500, "worker"),
        ("nfs_server", "nodes", 2049, "data_node"),
    ],
)
def test_optional_ports_are_closed_until_asked_for(option: str, source: str, port: int, role: Role) -> None:
    assert verdict(firewall(), source, "host", "tcp", port, role) == "drop"
    wall = firewall(given={option: True})
    assert verdict(wall, source, "host", "tcp", port, role) == "accept"
    assert verdict(wall, "management", "host", "tcp", port, role) == "drop"


def test_what_the_inventory_gives_replaces_and_removes_defaults() -> None:
    given = {
        "zones": {"cameras": {"interfaces": ["eth0.40"]}},
        "policies": {"cameras": {"public": "reject"}, "management": {"vip": "drop"}},
        "rules": {"web": None, "dns": {"from": "cameras", "proto": "tcp+udp", "ports": 53, "to": "vip"}},
    }
    wall = firewall(given=given)
    assert verdict(wall, "management", "host", "tcp", 443) == "drop"
    assert verdict(wall, "management", "vip", "tcp", 443) == "drop"
    assert verdict(wall, "cameras", "vip", "udp", 53) == "accept"
    assert verdict(wall, "cameras", "public", "any") == "reject"
    assert verdict(wall, "cameras", "host", "tcp", 22) == "drop", "a zone of one's own starts closed"


def test_one_service_address_can_be_opened_alone() -> None:
    rule = {"from": "public", "ports": 443, "to": "vip", "destinations": "192.168.0.201"}
    wall = firewall(given={"rules": {"shop": rule}})
    shop, other = (
        Destination("vip", "tcp", 443, ip_network(address)[0]) for address in ("192.168.0.201", "192.168.0.202")
    )
    assert decide(wall, "worker", "public", shop).verdict == "accept"
    assert decide(wall, "worker", "public", other).verdict == "drop"
    assert shop in destinations(wall, "worker")


def test_longer_prefixes_win() -> None:
    zones = {"internal": {"sources": ["192.168.0.64/26"]}, "dmz": {"sources": ["192.168.0.66"]}}
    wall = firewall(given={"zones": zones})
    found = [
        zone_of(wall, ip_network(address)) for address in ("192.168.0.5", "192.168.0.65", "192.168.0.66", "1.1.1.1")
    ]
    assert found == ["management", "internal", "dmz", "public"]
    parts = disjoint_sources(wall.zones)
    every = [net for nets in parts.values() for net in nets if net.subnet_of(ip_network("192.168.0.0/24"))]
    assert sum(net.num_addresses for net in every) == 256, "no address twice, none lost"
    assert ip_network("192.168.0.66/32") not in parts["internal"]


def test_a_pool_is_a_range_or_a_network() -> None:
    assert pool_networks("192.168.0.200-192.168.0.203") == (ip_network("192.168.0.200/30"),)
    assert pool_networks("192.168.0.192/26") == (ip_network("192.168.0.192/26"),)
    assert pool_networks(None) == ()


def test_rules_and_settings_know_the_same_roles() -> None:
    roles = get_args(get_args(Rule.model_fields["roles"].annotation)[0])
    assert set(roles) == set(ROLES)


# Faults


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rules": {"x": {"from": "lan", "ports": 1}}}, "rule x: lan is neither a zone nor nodes or servers"),
        ({"policies": {"lan": {"host": "drop"}}}, "lan is no zone"),
        ({"policies": {"vpn": {"lan": "drop"}}}, "lan is neither host, nodeport, vip nor a zone"),
        (
            {"zones": {"dmz": {"sources": "192.168.0.0/24"}}},
            "source 192.168.0.0/24 is in the zones management and dmz",
        ),
        (
            {"zones": {"dmz": {"interfaces": "wg0"}}},
            "interface wg0 is in the zones vpn and dmz",
        ),
        ({"zones": {"dmz": {"sources": "10.9.0.0/24", "strict": True}}}, "zone dmz is strict but has no interfaces"),
        ({"zones": {"management": {"sources": "10.0.0.0/24"}}}, "the nodes are in zone public"),
        ({"zones": {"dmz": {"sources": "192.168.0.122"}}}, "node pi-2: 192.168.0.122 is in zone dmz"),
        ({"zones": {"pods": {"interfaces": "eth7"}}}, "zone pods lacks the interface cni0"),
        ({"policies": {"pods": {"pods": "drop"}}}, "pods -> pods must be accept"),
        ({"service_addresses": "192.168.0.120/30"}, "node pi-0: 192.168.0.120 is among the addresses of services"),
        ({"node_addresses": {"pi-9": "fd00::9"}}, "node_addresses: pi-9 is no node of this cluster"),
        ({"login_addresses": {"pi-9": "10.8.0.9"}}, "login_addresses: pi-9 is no node of this cluster"),
    ],
)
def test_a_firewall_that_makes_no_sense_is_refused(given: dict[str, Any], words: str) -> None:
    assert words in refused(given)


@pytest.mark.parametrize(
    "given",
    [
        {"rules": {"ssh": None}},
        {"rules": {"ssh": {"from": ["management", "vpn"], "ports": 22, "roles": "master"}}},
        {"ssh_port": 2222, "rules": {"ssh": {"from": ["management", "vpn"], "ports": 22}}},
    ],
)
def test_a_firewall_that_forgets_ssh_is_refused(given: dict[str, Any]) -> None:
    assert "is accepted from no zone: nobody could log in again" in refused(given)


def test_a_firewall_that_shuts_its_controllers_out_is_refused() -> None:
    only_vpn = {"ssh": {"from": "vpn", "ports": 22}}
    words = refused({"rules": only_vpn, "controllers": ["192.168.0.5", "10.8.0.5", "fd00::5"]})
    assert "controller 192.168.0.5/32 is in zone management, from which SSH (tcp 22) is not accepted" in words
    assert "controller fd00::5/128 is in zone public" in words
    assert "10.8.0.5" not in words
    assert firewall(given={"rules": only_vpn, "controllers": "10.8.0.5"})


def test_a_network_of_controllers_is_checked_in_all_of_its_zones() -> None:
    given = {"controllers": "192.168.0.0/24", "zones": {"restricted": {"sources": "192.168.0.64/28"}}}
    assert "is in zone restricted" in refused(given)


def test_the_vpn_must_not_use_the_port_of_flannel() -> None:
    assert "vpn_port 51820 is that of flannel wireguard-native" in refused(
        vpn_port=51820, flannel_backend="wireguard-native"
    )


def test_all_faults_are_told_at_once() -> None:
    given = {"policies": {"lan": {"host": "drop"}}, "zones": {"dmz": {"interfaces": "wg0"}}}
    assert len(refused(given).splitlines()) > 1


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"from": "vpn", "ports": 65536}, "is no port from 1 to 65535"),
        ({"from": "vpn", "ports": 0}, "is no port from 1 to 65535"),
        ({"from": "vpn", "ports": "90-80"}, "is no port from 1 to 65535"),
        ({"from": "vpn"}, "say which tcp ports are opened"),
        ({"from": "vpn", "proto": "icmp", "ports": 1, "to": "vip"}, "icmp has no ports"),
        ({"from": "vpn", "proto": "icmp"}, "ICMP to a node is always allowed"),
        ({"from": "vpn", "ports": 31000}, "are NodePorts: use to = nodeport"),
        ({"from": "vpn", "ports": "29999-30000"}, "are NodePorts: use to = nodeport"),
        ({"from": "vpn", "ports": 443, "to": "nodeport"}, "NodePorts are 30000-32767"),
        ({"from": "vpn", "ports": 1, "destinations": "10.0.0.1/8"}, "is no address or network"),
        ({"from": "vpn", "ports": 1, "comment": 'a "quoted" word'}, "a comment has at most 60"),
        ({"from": "vpn", "ports": 1, "comment": "two\nlines"}, "a comment has at most 60"),
        ({"from": "vpn", "ports": 1, "port": 2}, "Extra inputs are not permitted"),
        ({"from": [], "ports": 1}, "at least 1 item"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FirewallSettings.model_validate({"rules": {"x": rule}})


@pytest.mark.parametrize("name", ["host", "nodes", "Management", "a_b", "", "far-too-long-a-name", "vips", "drop me"])
def test_a_zone_has_a_name_that_nftables_can_bear(name: str) -> None:
    with pytest.raises(ValidationError):
        FirewallSettings.model_validate({"zones": {name: {}}})


@pytest.mark.parametrize("name", ["lo", "eth*", 'eth0"', "sixteen-letters-", ""])
def test_an_interface_has_a_name_of_an_interface(name: str) -> None:
    with pytest.raises(ValidationError):
        Zone.model_validate({"interfaces": [name]})


# Matrix


def test_the_matrix_has_every_cell_once() -> None:
    wall = firewall(given={"zones": {"internal": {"sources": "fd00:1::/64"}}})
    for role in ROLES:
        cells = matrix(wall, role)
        expected = {(s, d, f) for s in sources(wall) for d in destinations(wall, role) for f in FAMILIES}
        assert {(cell.source, cell.destination, cell.family) for cell in cells} == expected
        assert len(cells) == len(expected)
        assert all(cell.decision.origin for cell in cells)


def test_the_matrix_is_plain_data_for_machines() -> None:
    records = [cell.record() for cell in matrix(firewall(), "master")]
    assert json.loads(json.dumps(records)) == records
    ssh = {"source": "public", "to": "host", "proto": "tcp", "port": 22, "address": None, "family": "ipv6"}
    assert {**ssh, "verdict": "drop", "origin": "policy public -> host"} in records


def test_a_family_that_a_zone_lacks_is_no_hole() -> None:
    wall = firewall()
    cell = decide(wall, "master", "management", Destination("host", "tcp", 22), 6)
    assert (cell.verdict, cell.origin) == (None, "management has no IPv6 addresses")
    assert decide(wall, "master", "public", Destination("host", "tcp", 22), 6).verdict == "drop"


def rendered(role: Role) -> str:
    table = matrix_table(firewall(), role)
    table.box, table.title = box.MARKDOWN, None
    console = Console(file=io.StringIO(), width=240, record=True)
    console.print(table)
    return "\n".join(line.strip() for line in console.export_text().splitlines() if line.strip())


@pytest.mark.parametrize("role", ["master", "worker"])
def test_the_documentation_shows_the_matrix_as_it_is(role: Role) -> None:
    page = (REPOSITORY / "docs/explanation/firewall.md").read_text()
    assert rendered(role) in page


HOW_TO = (REPOSITORY / "docs/how-to/open-a-port.md").read_text()


def documented(name: str) -> Firewall:
    """The firewall of the block in the how-to that has a certain word."""
    block = next(block for block in re.findall(r"```python\n(.*?)```", HOW_TO, re.S) if name in block)
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    return firewall(given=namespace["firewall"])


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", HOW_TO, re.S))
def test_every_example_of_the_how_to_is_a_sound_firewall(block: str) -> None:
    given: dict[str, Any] = {}
    exec(block, {}, given)
    wall = firewall_of(k3s_samples.cluster(vpn_cidr="10.8.0.0/24", **given))
    for role in ROLES:
        assert compile_ruleset(wall, role)


def test_the_examples_of_the_how_to_do_what_it_says() -> None:
    assert verdict(documented("agent"), "management", "host", "tcp", 10050, "data_node") == "accept"
    assert verdict(documented("agent"), "management", "host", "tcp", 10050, "worker") == "drop"
    mqtt = matrix(documented("mqtt"), "master")
    opened = {
        cell.destination.port for cell in mqtt if (cell.source, cell.decision.verdict) == ("restricted", "accept")
    }
    assert opened == {31883, None}, "and ICMP, which has no port"
    assert verdict(documented("gluster"), "nodes", "host", "tcp", 24008) == "accept"
    assert verdict(documented("gluster"), "management", "host", "tcp", 24008) == "drop"
    assert verdict(documented("internal"), "internal", "vip", "tcp", 443) == "accept"
    assert verdict(documented("internal"), "internal", "nodeport", "tcp", 30080) == "drop"
    assert decide(documented("fd00:1234"), "master", "management", SSH, 6).verdict == "accept"
    assert verdict(documented('"web": None'), "management", "host", "tcp", 443) == "drop"
