"""The firewall of a cluster: its defaults, its faults, and who may reach what.

The verdicts here are computed from the model and not from the compiled ruleset, so that tests can hold one against
the other.

Where the default ports are from: K3s, flannel and the embedded registry, https://docs.k3s.io/installation/requirements;
MetalLB's memberlist, https://metallb.io/installation; Longhorn, its networking reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network, summarize_address_range
from itertools import product
from typing import Any, Literal

from rich.table import Table

from piclusterops.host_releases import NFS_SERVER, WIREGUARD, node_of
from piclusterops.settings import ROLES, Cluster, ClusterSettings, Role
from piclusterops.zones import (
    GROUPS,
    KINDS,
    NODE_PORTS,
    ZONES,
    Address,
    Firewall,
    FirewallSettings,
    Kind,
    Rule,
    Verdict,
    Zone,
    port_ranges,
)

Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)
DEFAULT_ZONE = "public"
AnyNetwork = IPv4Network | IPv6Network

#: What pods are attached to on every node, and what carries their traffic between nodes, by flannel's backend.
POD_BRIDGE = "cni0"
_OVERLAY_INTERFACES = {
    "vxlan": ("flannel.1", "flannel-v6.1"),
    "wireguard-native": ("flannel-wg", "flannel-wg-v6"),
    "host-gw": (),
}
_OVERLAY_PORTS = {"vxlan": ("8472",), "wireguard-native": ("51820", "51821"), "host-gw": ()}

#: What is accepted of what is not dropped by default: from a zone to what.
_DEFAULT_ACCEPTS: dict[str, tuple[str, ...]] = {
    "management": ("nodeport", "vip"),
    "vpn": ("nodeport", "vip", "management", "services"),
    "internal": ("nodeport", "vip"),
    "services": ("vip",),
    "pods": ("nodeport", "vip", *ZONES),
}


class FirewallError(ValueError):
    """A firewall that must not be applied; `faults` says why, one sentence each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


# Defaults


def firewall_of(cluster: Cluster, settings: FirewallSettings | None = None) -> Firewall:
    """The firewall of a cluster: what its inventory says, on the defaults of such a cluster.

    Args:
        cluster: the cluster.
        settings: other settings than the cluster's own.

    Raises:
        FirewallError: it names what does not exist, contradicts itself, or would lock everybody out.
    """
    settings = settings or cluster.settings.firewall
    zones = {**_default_zones(cluster.settings, settings), **settings.zones}
    rules = {**_default_rules(cluster, settings), **settings.rules}
    firewall = Firewall(
        zones=zones,
        policies=_policies(zones, settings.policies),
        rules={name: rule for name, rule in rules.items() if rule is not None},
        nodes=_node_addresses(cluster, settings),
        servers=tuple(node.name for node in cluster.servers),
        controllers=(*settings.controllers, *(cluster.settings.controllers or ())),
        ssh_port=settings.ssh_port,
        vips=(
            *pool_networks(cluster.settings.metallb_pool),
            *map(ip_network, cluster.settings.service_addresses.values()),
            *settings.service_addresses,
        ),
        cluster_networks=(
            cluster.settings.pod_cidr,
            cluster.settings.service_cidr,
            *settings.pod_networks,
            *settings.service_networks,
        ),
    )
    found = [*_unknown_nodes(cluster, settings), *_vpn_port_clash(cluster.settings), *faults(firewall)]
    if found:
        raise FirewallError(found)
    return firewall


def pool_networks(pool: str | None) -> tuple[AnyNetwork, ...]:
    """A MetalLB pool, `first-last` or a network, as networks."""
    if pool is None:
        return ()
    first, dash, last = (part.strip() for part in pool.partition("-"))
    if not dash:
        return (ip_network(first),)
    low: Any = ip_address(first)
    return tuple(summarize_address_range(low, ip_address(last)))


def _default_zones(cluster: ClusterSettings, settings: FirewallSettings) -> dict[str, Zone]:
    backend = cluster.flannel_backend
    vpn = (cluster.vpn_cidr,) if cluster.vpn_cidr else ()
    return {
        **{name: Zone() for name in ZONES},
        "management": Zone(sources=(cluster.lan_cidr,)),
        "services": Zone(sources=(cluster.services_cidr,) if cluster.services_cidr else ()),
        # with host-gw pods of other nodes are routed through the LAN; else their addresses have no business there
        "pods": Zone(
            interfaces=(POD_BRIDGE, *_OVERLAY_INTERFACES[backend]),
            sources=(cluster.pod_cidr, *settings.pod_networks),
            strict=backend != "host-gw",
        ),
        "vpn": Zone(interfaces=(settings.vpn_interface,) if vpn else (), sources=vpn),
    }


def _policies(zones: Mapping[str, Zone], given: Mapping[str, Mapping[str, Verdict]]) -> dict[str, dict[str, Verdict]]:
    policies: dict[str, dict[str, Verdict]] = {}
    for zone in {**zones, **given}:
        accepted = tuple(zones) if zone == "pods" else ()
        accepted += _DEFAULT_ACCEPTS.get(zone, ())
        row: dict[str, Verdict] = {target: "accept" if target in accepted else "drop" for target in _targets(zones)}
        policies[zone] = {**row, **given.get(zone, {})}
    return policies


def _targets(zones: Iterable[str]) -> tuple[str, ...]:
    return ("host", "nodeport", "vip", *zones)


def _rule(origin: str | Sequence[str], ports: str | Sequence[str], **more: Any) -> Rule:
    return Rule.model_validate({"from": origin, "ports": ports, **more})


def _default_rules(whole: Cluster, settings: FirewallSettings) -> dict[str, Rule]:
    cluster = whole.settings
    trusted = ("management", "vpn")
    rules = {
        "ssh": _rule(trusted, str(settings.ssh_port), rate=settings.ssh_rate, comment="administration"),
        "web": _rule(trusted, ("80", "443"), comment="ingress on the nodes"),
        "api": _rule((*trusted, "nodes", "pods"), "6443", roles="master", comment="Kubernetes API and K3s supervisor"),
        "kubelet": _rule(("nodes", "pods"), "10250", comment="kubelet; metrics-server"),
    }
    if overlay := _OVERLAY_PORTS[cluster.flannel_backend]:
        rules["overlay"] = _rule("nodes", overlay, proto="udp", comment=f"flannel {cluster.flannel_backend}")
    else:
        rules["overlay"] = _rule("nodes", "1-65535", proto="tcp+udp", to="pods", comment="flannel host-gw")
    if cluster.datastore == "etcd":
        rules["etcd"] = _rule("servers", "2379-2380", roles="master", comment="etcd between servers")
    if cluster.metallb_pool:
        rules["metallb"] = _rule("nodes", "7946", proto="tcp+udp", comment="MetalLB memberlist")
    if cluster.vpn_cidr:
        anywhere = ("public", "management", "internal", "services")
        end = node_of(whole, WIREGUARD)  # else somebody made the VPN himself, on a server
        where = {"nodes": end} if end else {"roles": "master"}
        rules["vpn"] = _rule(anywhere, str(cluster.vpn_port), proto="udp", comment="WireGuard", **where)
    return rules | _optional_rules(whole, settings)


def _optional_rules(cluster: Cluster, settings: FirewallSettings) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    if settings.node_exporter:
        rules["node-exporter"] = _rule(("nodes", "pods"), "9100", comment="Prometheus")
    if settings.embedded_registry:
        # peers also ask each other's supervisor port, on agents too
        rules["registry"] = _rule("nodes", ("5001", "6443"), comment="embedded registry")
    if settings.longhorn:
        # up to 30000 in its reference; what is above is a NodePort
        ports = ("3260", "8500-8502", "9500-9503", "10000-29999")
        rules["longhorn"] = _rule("nodes", ports, comment="Longhorn")
    if server := node_of(cluster, NFS_SERVER):
        rules["nfs-server"] = _rule("nodes", "2049", nodes=server, comment="NFS v4")
    if settings.nfs_server:
        rules["nfs"] = _rule("nodes", "2049", roles="data_node", comment="NFS v4")
    return rules


def _node_addresses(cluster: Cluster, settings: FirewallSettings) -> dict[str, tuple[Address, ...]]:
    return {node.name: (node.settings.address, *settings.node_addresses.get(node.name, ())) for node in cluster.nodes}


# Sets of addresses


def disjoint_sources(zones: Mapping[str, Zone]) -> dict[str, tuple[AnyNetwork, ...]]:
    """Each zone's sources without what a longer prefix of another zone takes out of them; sorted, IPv4 first."""
    owned = [(name, net) for name, zone in zones.items() for net in zone.sources]
    result: dict[str, tuple[AnyNetwork, ...]] = {}
    for name, zone in zones.items():
        kept: list[AnyNetwork] = []
        for net in zone.sources:
            kept += _without(net, [other for owner, other in owned if owner != name and other != net])
        result[name] = collapse(kept)
    return result


def collapse(networks: Iterable[AnyNetwork]) -> tuple[AnyNetwork, ...]:
    """The least list of networks with the same addresses, sorted, IPv4 first."""
    found = set(networks)
    return tuple(net for family in FAMILIES for net in collapse_addresses(_of_family(found, family)))


def _of_family(networks: Iterable[AnyNetwork], family: Family) -> list[Any]:
    return [net for net in networks if net.version == family]


def within(inner: AnyNetwork, outer: AnyNetwork) -> bool:
    """Whether all of a network is in another one."""
    whole: Any = outer
    return inner.version == outer.version and bool(inner.subnet_of(whole))


def _without(net: AnyNetwork, holes: Iterable[AnyNetwork]) -> list[AnyNetwork]:
    pieces: list[Any] = [net]
    for hole in holes:
        if within(hole, net):
            pieces = [part for piece in pieces for part in _carved(piece, hole)]
    return pieces


def _carved(piece: Any, hole: Any) -> list[Any]:
    if within(piece, hole):
        return []
    return list(piece.address_exclude(hole)) if within(hole, piece) else [piece]


def zone_of(firewall: Firewall, source: AnyNetwork | Address) -> str:
    """The zone of an address that comes by an interface which no zone claims: that of the longest prefix."""
    net = ip_network(source)
    holding = [
        (own.prefixlen, name) for name, zone in firewall.zones.items() for own in zone.sources if within(net, own)
    ]
    return max(holding, default=(0, DEFAULT_ZONE))[1]


def home_zone(firewall: Firewall) -> str:
    """The zone of the nodes' own addresses, in which rules for `nodes` and `servers` apply."""
    return zone_of(firewall, next(iter(firewall.nodes.values()))[0])


def group_addresses(firewall: Firewall, group: str) -> tuple[AnyNetwork, ...]:
    """The addresses of `nodes` or `servers`, as networks."""
    return collapse(ip_network(address) for address in _members(firewall, group))


def _members(firewall: Firewall, group: str) -> list[Address]:
    names = firewall.servers if group == "servers" else tuple(firewall.nodes)
    return [address for name in names for address in firewall.nodes[name]]


def inhabited(firewall: Firewall) -> tuple[str, ...]:
    """The zones that a packet can come from, in a fixed order: the known ones first."""
    order = {name: place for place, name in enumerate(ZONES)}
    return tuple(
        sorted(
            (name for name, zone in firewall.zones.items() if zone.interfaces or zone.sources or name == DEFAULT_ZONE),
            key=lambda name: (order.get(name, len(order)), name),
        )
    )


# Faults


def faults(firewall: Firewall) -> list[str]:
    """Why a firewall must not be applied: one sentence each, with what to change; none when it is sound."""
    found = [*_unknown(firewall), *_contradictions(firewall)]
    # the rest needs names that exist
    return found or [*_misplaced_nodes(firewall), *_broken_cluster(firewall), *_locked_out(firewall)]


def _unknown(firewall: Firewall) -> Iterator[str]:
    zones, targets = firewall.zones, _targets(firewall.zones)
    if DEFAULT_ZONE not in zones:
        yield f"zone {DEFAULT_ZONE} is missing: it holds what is in no other zone"
    for zone, row in firewall.policies.items():
        if zone not in zones:
            yield f"policies: {zone} is no zone; the zones are {', '.join(zones)}"
        for target in row:
            if target not in targets:
                yield f"policies: {zone} -> {target}: {target} is neither host, nodeport, vip nor a zone"
    for zone in zones:
        if missing := [target for target in targets if target not in firewall.policies.get(zone, {})]:
            yield f"policies: {zone} -> {', '.join(missing)} is missing"
    for name, rule in firewall.rules.items():
        for origin in rule.from_:
            if origin not in zones and origin not in GROUPS:
                yield f"rule {name}: {origin} is neither a zone nor nodes or servers; the zones are {', '.join(zones)}"
        for node in rule.nodes:
            if node not in firewall.nodes:
                yield f"rule {name}: {node} is no node of this cluster"


def _contradictions(firewall: Firewall) -> Iterator[str]:
    for what, of in (("source", "sources"), ("interface", "interfaces")):
        owners: dict[Any, str] = {}
        for name, zone in firewall.zones.items():
            for member in dict.fromkeys(getattr(zone, of)):
                if owners.setdefault(member, name) != name:
                    yield f"{what} {member} is in the zones {owners[member]} and {name}: leave it in one of them"
    for name, zone in firewall.zones.items():
        if zone.strict and not zone.interfaces:
            yield f"zone {name} is strict but has no interfaces: name them, or all of its traffic is dropped"


def _misplaced_nodes(firewall: Firewall) -> Iterator[str]:
    if not firewall.nodes:
        yield "the cluster has no nodes"
        return
    home = home_zone(firewall)
    if home in (DEFAULT_ZONE, "pods"):
        first = next(iter(firewall.nodes.values()))[0]
        yield f"the nodes are in zone {home} (by {first}): add their network to the sources of management"
    for name, addresses in firewall.nodes.items():
        for address in addresses:
            if (zone := zone_of(firewall, address)) != home:
                yield f"node {name}: {address} is in zone {zone}, other nodes in {home}: put all nodes into one zone"
            for what, networks in (("services", firewall.vips), ("pods and ClusterIPs", firewall.cluster_networks)):
                if any(within(ip_network(address), net) for net in networks):
                    yield f"node {name}: {address} is among the addresses of {what}: they must not overlap"


def _broken_cluster(firewall: Firewall) -> Iterator[str]:
    pods = firewall.zones.get("pods", Zone())
    if POD_BRIDGE not in pods.interfaces:
        yield f"zone pods lacks the interface {POD_BRIDGE}: no pod could reach anything"
    elif firewall.policies["pods"]["pods"] != "accept":
        yield "policies: pods -> pods must be accept; restrict pods with NetworkPolicies"


def _locked_out(firewall: Firewall) -> Iterator[str]:
    port = f"SSH (tcp {firewall.ssh_port})"
    for controller in firewall.controllers:
        for zone in _zones_touching(firewall, controller):
            if not _ssh_accepted(firewall, zone, (controller.version,)):
                yield (
                    f"controller {controller} is in zone {zone}, from which {port} is not accepted on every node: "
                    "nobody could log in again. Open it with a rule, or put the controller into another zone"
                )
    if not any(_ssh_accepted(firewall, zone, FAMILIES) for zone in inhabited(firewall) if zone != "pods"):
        yield f"{port} is accepted from no zone: nobody could log in again. Keep the rule ssh"


def _ssh_accepted(firewall: Firewall, zone: str, families: Sequence[Family]) -> bool:
    """Whether every node, of whatever role, accepts SSH from a zone in one of the families."""
    ssh = Destination("host", "tcp", firewall.ssh_port)
    everywhere = [*product(firewall.nodes, ROLES)]
    return any(
        all(decide(firewall.at(node), role, zone, ssh, family).verdict == "accept" for node, role in everywhere)
        for family in families
    )


def _zones_touching(firewall: Firewall, network: AnyNetwork) -> list[str]:
    inside = {name for name, zone in firewall.zones.items() for net in zone.sources if within(net, network)}
    return sorted({zone_of(firewall, network), *inside})


def _unknown_nodes(cluster: Cluster, settings: FirewallSettings) -> Iterator[str]:
    names = {node.name for node in cluster.nodes}
    for key in ("node_addresses", "login_addresses"):
        for name in getattr(settings, key):
            if name not in names:
                yield f"{key}: {name} is no node of this cluster"


def _vpn_port_clash(cluster: ClusterSettings) -> Iterator[str]:
    if cluster.vpn_cidr and str(cluster.vpn_port) in _OVERLAY_PORTS[cluster.flannel_backend]:
        yield f"vpn_port {cluster.vpn_port} is that of flannel {cluster.flannel_backend}: take another, such as 51900"


# Who may reach what


@dataclass(frozen=True)
class Destination:
    """What a connection aims at, as its sender writes it.

    Attributes:
        to: a kind (`host`, `nodeport`, `vip`, `pods`), or a zone that the node would forward to.
        proto: `tcp`, `udp` or `icmp`; `any` for a zone.
        port: the port, where the protocol has one.
        address: one address of the kind, where a rule opens only that.
    """

    to: str
    proto: str
    port: int | None = None
    address: Address | None = None

    def __str__(self) -> str:
        where = str(self.address or self.to)
        return " ".join(filter(None, (where, self.proto, "" if self.port is None else str(self.port))))


@dataclass(frozen=True)
class Decision:
    """A verdict and what gave it. The verdict is None where no such packet can be."""

    verdict: Verdict | None
    origin: str


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix."""

    source: str
    destination: Destination
    family: Family
    decision: Decision

    def record(self) -> dict[str, Any]:
        """The cell as plain data, for JSON."""
        address = self.destination.address
        return {
            "source": self.source,
            **asdict(self.destination),
            "address": None if address is None else str(address),
            "family": f"ipv{self.family}",
            "verdict": self.decision.verdict,
            "origin": self.decision.origin,
        }


def decide(firewall: Firewall, role: Role, source: str, destination: Destination, family: Family = 4) -> Decision:
    """What a node of a role does with a new connection. `source` is a zone, `nodes` or `servers`.

    Raises:
        KeyError: no such zone, group or destination.
    """
    to = _kind_of(destination)
    zone = home_zone(firewall) if source in GROUPS else source
    policy = firewall.policies[zone][to]
    if (absent := _absent(firewall, source, destination, family)) is not None:
        return Decision(None, absent)
    if to in ("host", "nodeport") and destination.proto == "icmp":
        return Decision("accept", "always: ICMP")
    names = {zone, source, *(("nodes",) if source == "servers" else ())}
    for name, rule in sorted(rules_of(firewall, role).items()):
        if rule.to == to and names & {*rule.from_} and opens(rule, destination):
            return Decision("accept", f"rule {name}")
    return Decision(policy, f"policy {zone} -> {to}")


def rules_of(firewall: Firewall, role: Role) -> dict[str, Rule]:
    """The rules for nodes of a role."""
    return {name: rule for name, rule in firewall.rules.items() if not rule.roles or role in rule.roles}


def opens(rule: Rule, destination: Destination) -> bool:
    """Whether protocol, port and address of a destination are among those of a rule."""
    if destination.proto not in rule.protocols:
        return False
    if rule.ports and not any(low <= (destination.port or 0) <= high for low, high in port_ranges(rule.ports)):
        return False
    if not rule.destinations:
        return True
    address = destination.address
    return address is not None and any(within(ip_network(address), net) for net in rule.destinations)


def _kind_of(destination: Destination) -> str:
    low, high = NODE_PORTS
    if destination.to == "host" and destination.port is not None and low <= destination.port <= high:
        return "nodeport"
    return destination.to


def _absent(firewall: Firewall, source: str, destination: Destination, family: Family) -> str | None:
    if source in GROUPS:
        here = any(address.version == family for address in _members(firewall, source))
    else:
        zone = firewall.zones[source]
        here = source == DEFAULT_ZONE or bool(zone.interfaces or _of_family(zone.sources, family))
    if not here:
        return f"{source} has no IPv{family} addresses"
    if destination.address is not None and destination.address.version != family:
        return f"{destination.address} is not IPv{family}"
    networks = {"vip": firewall.vips, "pods": firewall.cluster_networks}.get(destination.to)
    if networks is not None and not _of_family(networks, family):
        return f"no {destination.to} has an IPv{family} address"
    return None


_ALWAYS_SHOWN = (
    Destination("host", "icmp"),
    *(Destination("host", "tcp", port) for port in (22, 80, 443, 2379, 6443, 7946, 9100, 10250)),
    *(Destination("host", "udp", port) for port in (7946, 8472)),
    *(Destination("nodeport", proto, 30080) for proto in ("tcp", "udp")),
    *(Destination("vip", proto, 443) for proto in ("tcp", "udp")),
    Destination("pods", "tcp", 8080),
)


def destinations(firewall: Firewall, role: Role) -> tuple[Destination, ...]:
    """What the matrix of a role shows: well-known ports, both ends of what rules open, a port nobody opens, zones."""
    shown = {*_ALWAYS_SHOWN, Destination("host", "tcp", firewall.ssh_port)}
    for rule in rules_of(firewall, role).values():
        shown |= set(_ends(rule))
    unlisted = next(port for port in range(4444, 30000) if Destination("host", "tcp", port) not in shown)
    shown |= {Destination("host", proto, unlisted) for proto in ("tcp", "udp")}
    kinds = sorted(shown, key=_row_order)
    return (*kinds, *(Destination(zone, "any") for zone in inhabited(firewall) if zone != "pods"))


def _ends(rule: Rule) -> Iterator[Destination]:
    addresses: list[Address | None] = [net[0] for net in rule.destinations]
    for proto in rule.protocols:
        for address in addresses or [None]:
            if proto == "icmp":
                yield Destination(rule.to, proto, None, address)
            for port in {port for ends in port_ranges(rule.ports) for port in ends}:
                yield Destination(rule.to, proto, port, address)


def _row_order(row: Destination) -> tuple[int, str, str, int]:
    return KINDS.index(_as_kind(row.to)), str(row.address or ""), row.proto, row.port or 0


def _as_kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind == name)


def sources(firewall: Firewall) -> tuple[str, ...]:
    """Where the matrix looks from: every zone with members, and the cluster's own machines."""
    return (*inhabited(firewall), *reversed(GROUPS))


def matrix(firewall: Firewall, role: Role) -> tuple[Cell, ...]:
    """What a node of a role does with everything worth a look, from everywhere, with IPv4 and IPv6."""
    return tuple(
        Cell(source, destination, family, decide(firewall, role, source, destination, family))
        for destination in destinations(firewall, role)
        for source in sources(firewall)
        for family in FAMILIES
    )


def matrix_table(firewall: Firewall, role: Role) -> Table:
    """The matrix for people: a row for each destination, a column for each source."""
    columns = sources(firewall)
    table = Table(title=f"New connections to a node of role {role}")
    table.add_column("to")
    for source in columns:
        table.add_column(source)
    cells = {(cell.source, cell.destination, cell.family): cell.decision.verdict for cell in matrix(firewall, role)}
    for row in destinations(firewall, role):
        table.add_row(
            _label(row), *(_summary([cells[source, row, family] for family in FAMILIES]) for source in columns)
        )
    return table


def _label(row: Destination) -> str:
    return str(row) if row.to in KINDS else f"forwarded to {row.to}"


def _summary(verdicts: Sequence[Verdict | None]) -> str:
    """`accept`, or `accept v4` when there is no such IPv6 packet, or `accept v4, drop v6`."""
    present = {family: verdict for family, verdict in zip(FAMILIES, verdicts, strict=True) if verdict}
    if len(present) == len(FAMILIES) and len({*present.values()}) == 1:
        return next(iter(present.values()))
    return ", ".join(f"{verdict} v{family}" for family, verdict in present.items()) or "-"
