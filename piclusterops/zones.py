"""The words of the firewall: zones, policies between them and openings, as an inventory gives them.

Nothing here knows of nftables or of a cluster: `piclusterops.firewall` computes the defaults of a cluster, and
`piclusterops.ruleset` compiles the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Verdict = Literal["accept", "drop", "reject"]
Protocol = Literal["tcp", "udp", "tcp+udp", "icmp"]

#: What a connection can aim at on a node: the node itself, a NodePort, a LoadBalancer address, a pod or ClusterIP.
Kind = Literal["host", "nodeport", "vip", "pods"]
KINDS: tuple[Kind, ...] = ("host", "nodeport", "vip", "pods")

#: Zones that every firewall has, from the most to the least trusted. What is in no other zone is in `public`.
ZONES = ("management", "services", "pods", "vpn", "dmz", "internal", "restricted", "public")

#: Groups of addresses inside the nodes' zone that a rule may name beside zones.
Group = Literal["nodes", "servers"]
GROUPS: tuple[Group, ...] = ("servers", "nodes")

#: `--service-node-port-range` of kube-apiserver, its default.
NODE_PORTS = (30000, 32767)

_ZONE_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")
_RESERVED = frozenset({*KINDS, *GROUPS, "vips", "cluster", "controllers", "limit", "zone"}) - {"pods"}
_RULE_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_COMMENT = re.compile(r"[A-Za-z0-9 ,.;:()/+_-]{0,60}")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def _zone_name(value: str) -> str:
    if not _ZONE_NAME.fullmatch(value):
        raise ValueError("a zone's name is a letter and at most 15 more of a-z and 0-9")
    if value in _RESERVED:
        raise ValueError(f"{value} has a meaning of its own and can't be the name of a zone")
    return value


def _rule_name(value: str) -> str:
    if not _RULE_NAME.fullmatch(value):
        raise ValueError("a rule's name is a letter and at most 30 more of a-z, 0-9 and -")
    return value


def _interface(value: str) -> str:
    if not _INTERFACE.fullmatch(value):
        raise ValueError(f"{value!r} is no name of an interface, such as eth0.20 or wg0 (no wildcards)")
    if value == "lo":
        raise ValueError("lo is always allowed and in no zone")
    return value


def _comment(value: str) -> str:
    if not _COMMENT.fullmatch(value):
        raise ValueError("a comment has at most 60 letters, digits, spaces and , . ; : ( ) / + _ -")
    return value


def _several(value: Any) -> Any:
    """One value where several may stand."""
    return value if isinstance(value, list | tuple | set) else (value,)


def _ports(value: int | str) -> str:
    found = _PORTS.fullmatch(str(value))
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"{value!r} is no port from 1 to 65535 and no range such as 8000-8100")
    return str(first) if first == last else f"{first}-{last}"


def _network(value: Any) -> IPv4Network | IPv6Network:
    try:
        return ip_network(value)
    except ValueError:
        raise ValueError(f"{str(value)!r} is no address or network, such as 192.168.0.0/24 or fd00:1::/64") from None


def _address(value: Any) -> IPv4Address | IPv6Address:
    try:
        return ip_address(value)
    except ValueError:
        raise ValueError(f"{str(value)!r} is no address") from None


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(_address)]
ZoneName = Annotated[str, AfterValidator(_zone_name)]
RuleName = Annotated[str, AfterValidator(_rule_name)]
InterfaceName = Annotated[str, AfterValidator(_interface)]
Comment = Annotated[str, AfterValidator(_comment)]
PortRange = Annotated[str, BeforeValidator(_ports)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Zone(_Model):
    """Where packets come from: by which interfaces, or with which source addresses.

    An interface decides before an address does, and a longer prefix before a shorter one.
    """

    interfaces: Annotated[tuple[InterfaceName, ...], BeforeValidator(_several)] = Field(
        (), description="Interfaces all of whose traffic is of this zone."
    )
    sources: Annotated[tuple[Network, ...], BeforeValidator(_several)] = Field(
        (), description="Networks of this zone, IPv4 and IPv6, on interfaces that no zone claims."
    )
    strict: bool = Field(
        False, description="Drop a packet from `sources` that comes by another interface: its address is forged."
    )


class Rate(_Model):
    """How many new connections one address may open."""

    connections: int = Field(ge=1, le=100_000, description="New connections in the unit of time.")
    per: Literal["second", "minute", "hour"] = Field("minute", description="The unit of time.")
    burst: int = Field(10, ge=1, le=100_000, description="Connections beyond that before the limit bites.")


class Rule(_Model):
    """A named opening: who may reach what."""

    from_: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(
        alias="from", min_length=1, description="Zones, or `nodes` or `servers` for the cluster's own machines."
    )
    proto: Protocol = Field("tcp", description="`tcp`, `udp`, `tcp+udp` or `icmp`.")
    ports: Annotated[tuple[PortRange, ...], BeforeValidator(_several)] = Field(
        (), description="Ports as the sender writes them, before any DNAT: `443`, `8000-8100`."
    )
    to: Kind = Field("host", description="`host`: the node itself; `nodeport`; `vip`: LoadBalancer addresses; `pods`.")
    destinations: Annotated[tuple[Network, ...], BeforeValidator(_several)] = Field(
        (), description="Only these of the addresses, such as one LoadBalancer address; all when empty."
    )
    roles: Annotated[tuple[Literal["master", "worker", "data_node"], ...], BeforeValidator(_several)] = Field(
        (), description="Only on nodes of these roles; on all when empty."
    )
    nodes: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(
        (), description="Only on these nodes, by name; on all when empty."
    )
    rate: Rate | None = Field(None, description="Most new connections of one address; controllers have no limit.")
    comment: Comment = Field("", description="Why; it is shown in the ruleset.")

    @model_validator(mode="after")
    def _ports_fit(self) -> Rule:
        if self.proto == "icmp" and (self.ports or self.rate):
            raise ValueError("icmp has no ports and no rate")
        if self.proto == "icmp" and self.to in ("host", "nodeport"):
            raise ValueError("ICMP to a node is always allowed: no rule is needed")
        if self.proto != "icmp" and not self.ports:
            raise ValueError(f"say which {self.proto} ports are opened")
        low, high = NODE_PORTS
        inside = [first <= high and last >= low for first, last in port_ranges(self.ports)]
        if self.to == "host" and any(inside):
            raise ValueError(f"ports {low}-{high} are NodePorts: use to = nodeport, and other ports for the host")
        if self.to == "nodeport" and not all(low <= a and b <= high for a, b in port_ranges(self.ports)):
            raise ValueError(f"NodePorts are {low}-{high}: use to = host for other ports")
        return self

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols, one by one."""
        return tuple(self.proto.split("+"))


def port_ranges(ports: Sequence[str]) -> list[tuple[int, int]]:
    """Ports as (first, last), both included."""
    pairs = (port.partition("-") for port in ports)
    return [(int(first), int(last or first)) for first, _, last in pairs]


class FirewallSettings(_Model):
    """What an inventory says of the firewall. All has a default computed from the cluster."""

    enabled: bool = Field(True, description="Whether the nodes get a firewall.")
    zones: dict[ZoneName, Zone] = Field(
        default_factory=dict, description="Zones; one that is given replaces the default of that name."
    )
    policies: dict[str, dict[str, Verdict]] = Field(
        default_factory=dict,
        description="From a zone to `host`, `nodeport`, `vip` or a zone: `accept`, `drop` or `reject`. "
        "Only what differs from the default needs to be given.",
    )
    rules: dict[RuleName, Rule | None] = Field(
        default_factory=dict,
        description="Openings by name; one of a default's name replaces it, None removes it.",
    )
    controllers: Annotated[tuple[Network, ...], BeforeValidator(_several)] = Field(
        (),
        description="Addresses that the cluster is run from, besides the setting `controllers`, such as IPv6 ones. SSH "
        "from all of these is never limited and must stay allowed.",
    )
    ssh_port: Annotated[int, Field(ge=1, le=65535)] = Field(22, description="Port of the nodes' sshd.")
    ssh_rate: Rate | None = Field(
        Rate(connections=6, per="minute", burst=10), description="Most SSH connections of one address."
    )
    vpn_interface: InterfaceName = Field("wg0", description="Interface of the VPN on a node that ends it.")
    service_addresses: Annotated[tuple[Network, ...], BeforeValidator(_several)] = Field(
        (), description="LoadBalancer and external addresses of services beyond `metallb_pool`."
    )
    pod_networks: Annotated[tuple[Network, ...], BeforeValidator(_several)] = Field(
        (), description="Networks of pods beyond `pod_cidr`, such as the IPv6 one."
    )
    service_networks: Annotated[tuple[Network, ...], BeforeValidator(_several)] = Field(
        (), description="Networks of ClusterIPs beyond `service_cidr`, such as the IPv6 one."
    )
    node_addresses: dict[str, Annotated[tuple[Address, ...], BeforeValidator(_several)]] = Field(
        default_factory=dict, description="Node to further addresses it uses towards other nodes, such as IPv6."
    )
    login_addresses: dict[str, Annotated[tuple[Address, ...], BeforeValidator(_several)]] = Field(
        default_factory=dict,
        description="Node to further addresses at which it lets us in, such as the one in the VPN: a change of the "
        "firewall or of sshd that closes one of them to this machine is undone.",
    )
    embedded_registry: bool = Field(False, description="Open the ports of K3s' embedded registry between nodes.")
    node_exporter: bool = Field(True, description="Open node-exporter's port between nodes and to pods.")
    longhorn: bool = Field(False, description="Open Longhorn's ports between nodes.")
    nfs_server: bool = Field(
        False,
        description="Open NFS (v4) on data nodes to the other nodes; the release `nfs-server` opens it by itself.",
    )

    def ways_in(self, node: str) -> tuple[tuple[str, int], ...]:
        """The further ways in to a node, as address and port."""
        return tuple((str(address), self.ssh_port) for address in self.login_addresses.get(node, ()))


class Firewall(_Model):
    """The firewall of one cluster, complete: what is compiled and explained.

    `policies` has every pair: each zone to `host`, `nodeport`, `vip` and each zone.
    """

    zones: dict[ZoneName, Zone]
    policies: dict[str, dict[str, Verdict]]
    rules: dict[RuleName, Rule]
    nodes: dict[str, tuple[Address, ...]]
    servers: tuple[str, ...]
    controllers: tuple[Network, ...] = ()
    ssh_port: int = 22
    vips: tuple[Network, ...] = ()
    cluster_networks: tuple[Network, ...] = ()

    def at(self, node: str) -> Firewall:
        """The same without the rules that are for other nodes than this one."""
        if not any(rule.nodes for rule in self.rules.values()):
            return self
        here = {name: rule for name, rule in self.rules.items() if not rule.nodes or node in rule.nodes}
        return self.model_copy(update={"rules": here})
