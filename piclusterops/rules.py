"""What must hold between the settings of a cluster, one function a rule.

A rule gets the whole `Draft` and yields faults. Settings whose own value is no good are marked unusable and
reported once, by `piclusterops.validation`; the rules skip these, so that one slip makes one fault.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, ip_address
from itertools import combinations
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from piclusterops.faults import Fault, closest, literal, shown
from piclusterops.firewall import FirewallError, firewall_of
from piclusterops.networks import (
    AddressRange,
    free_network,
    node_shares,
    parse_range,
    pod_addresses,
    prefix_for_nodes,
)
from piclusterops.quantities import number_of
from piclusterops.settings import DEFAULT_K3S_VERSION, ROLES, Cluster, ClusterSettings, Node, NodeSettings, Role, Vlan
from piclusterops.sshd import RSA_BITS


@dataclass(frozen=True)
class NodeDraft:
    """A host of the inventory, its own settings as far as they could be read."""

    name: str
    groups: tuple[str, ...]
    data: Mapping[str, Any]
    settings: NodeSettings
    unusable: frozenset[str]

    @property
    def address(self) -> IPv4Address | None:
        """The node's address, when it has a usable one."""
        return None if "address" in self.unusable else self.settings.address

    @property
    def roles(self) -> list[Role]:
        """The roles the host's groups give it; a sound host has one."""
        return [role for role in ROLES if role in self.groups]

    @property
    def endpoint(self) -> str:
        """Where SSH goes."""
        return f"{self.data.get('ssh_hostname') or self.name}:{self.data.get('ssh_port') or 22}"


@dataclass(frozen=True)
class Draft:
    """An inventory whose values were read one by one, but not yet checked against each other."""

    settings: ClusterSettings
    unusable: frozenset[str]
    nodes: tuple[NodeDraft, ...]

    def usable(self, *keys: str) -> bool:
        """Whether all these settings have a value one can reason about."""
        return self.unusable.isdisjoint(keys)

    def networks(self) -> dict[str, IPv4Network]:
        """The usable networks by setting, the least easily changed first."""
        found = {key: getattr(self.settings, key) for key in NETWORK_KEYS if self.usable(key)}
        return {key: network for key, network in found.items() if network is not None}

    @property
    def servers(self) -> list[NodeDraft]:
        """The hosts that would run the control plane."""
        return [node for node in self.nodes if "master" in node.groups]

    def pool(self) -> AddressRange | None:
        """The MetalLB pool, when there is one that can be read."""
        if self.settings.metallb_pool is None or not self.usable("metallb_pool"):
            return None
        try:
            return parse_range(self.settings.metallb_pool)
        except ValueError:
            return None


Rule = Callable[[Draft], Iterator[Fault]]
RULES: dict[str, Rule] = {}

NETWORK_KEYS = ("lan_cidr", "services_cidr", "vpn_cidr", "pod_cidr", "service_cidr")
_NETWORK_WORDS = {
    "lan_cidr": "the LAN",
    "services_cidr": "the network of the published services",
    "vpn_cidr": "the VPN",
    "pod_cidr": "the pods",
    "service_cidr": "the ClusterIPs",
}

#: Networks no host or pod can have an address in (RFC 6890).
_UNUSABLE_NETWORKS = tuple(
    IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
)
#: Networks that are nobody's on the internet (RFC 1918, RFC 6598).
_PRIVATE_NETWORKS = tuple(
    IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)

#: K3s gives its DNS service the tenth address of `service_cidr`; kube-apiserver refuses more than 2^20.
_SERVICE_PREFIXES = (12, 24)
#: kube-controller-manager refuses more than 2^16 shares.
_MOST_SHARE_BITS = 16
#: The kubelet's default for max-pods.
_DEFAULT_MAX_PODS = 110

#: Oldest good patch release per minor version (K3s release notes of 2026-09-30): restore of compressed etcd
#: snapshots (k3s#14528), anonymous access to the supervisor (k3s#14701).
_FLOORS = {(1, 36): 5, (1, 37): 1}

#: UDP ports that a node already listens on. Sources: K3s requirements, MetalLB, flannel.
_UDP_PORTS = {
    53: "DNS",
    68: "the DHCP client",
    111: "rpcbind",
    123: "NTP",
    5353: "mDNS",
    7946: "MetalLB",
}
_FLANNEL_PORTS = {"vxlan": (8472,), "wireguard-native": (51820, 51821), "host-gw": ()}
#: kube-apiserver's default range for NodePort services.
_NODE_PORTS = range(30000, 32768)

#: Users that Debian, the packages we install, or Kubernetes own (base-passwd, sysusers.d).
_SYSTEM_USERS = """
    root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats _apt nobody
    systemd-network systemd-resolve systemd-timesync systemd-coredump messagebus sshd avahi polkitd _rpc statd
    _chrony tss dnsmasq uuidd tcpdump etcd kube
"""

#: Arguments that this project sets for good, and the setting to use instead where there is one. Others that it sets,
#: such as audit-log-maxsize, are defaults that may be replaced.
_OWN_ARGUMENTS: dict[str, dict[str, str | None]] = {
    "kube_apiserver_args": {
        "admission-control-config-file": None,
        "anonymous-auth": None,
        "audit-log-path": None,
        "audit-policy-file": None,
        "authorization-mode": None,
        "encryption-provider-config": "secrets_encryption",
        "service-cluster-ip-range": "service_cidr",
        "token-auth-file": None,
    },
    "kube_controller_manager_args": {
        "cluster-cidr": "pod_cidr",
        "node-cidr-mask-size": "node_cidr_mask",
        "service-cluster-ip-range": "service_cidr",
    },
    "kubelet_args": {
        "anonymous-auth": None,
        "cluster-dns": None,
        "cluster-domain": "cluster_domain",
        "config": None,
        "config-dir": None,
        "hostname-override": None,
        "kube-reserved": "kube_reserved",
        "node-ip": "address",
        "node-labels": "node_labels",
        "pod-max-pids": "pod_max_pids",
        "protect-kernel-defaults": None,
        "register-with-taints": "node_taints",
        "system-reserved": "system_reserved",
    },
}
#: What an enable-admission-plugins of one's own must keep: without it nodes could change each other (CIS 1.2.14), and
#: psa.yaml configures EventRateLimit.
_ADMISSION_PLUGINS = ("NodeRestriction", "EventRateLimit")
_SSHD_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9]+")
#: Keywords of sshd_config that can't be given: why, and what to use instead.
_OWN_SSHD_KEYWORDS = {
    "allowusers": ("the user that pyinfra logs in as must stay in it", "use admin_users and sshd_users"),
    "include": ("what another file says can't be checked here", "write its keywords into sshd_options"),
    "match": ("a block would swallow the lines after it", "put the block into a file of its own in sshd_config.d"),
}
_ARGUMENT = re.compile(r"[a-z][a-z0-9-]*=.*")
DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
#: Interfaces that K3s, the VPN or the kernel make; pod traffic can't be sent over them.
_OWN_INTERFACES = re.compile(r"lo|cni\d+|flannel.*|kube-.*|veth.*|docker\d+|wg\d+")


def rule(function: Rule) -> Rule:
    """Enter a rule into `RULES` under its name."""
    RULES[function.__name__] = function
    return function


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)


# -- hosts and roles ---------------------------------------------------------------------------------------


@rule
def node_name(draft: Draft) -> Iterator[Fault]:
    """The name of a host is its hostname and the name of its Kubernetes node: one DNS label."""
    names = [node.name.lower() for node in draft.nodes]
    for node in draft.nodes:
        if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", node.name) and node.name != "localhost":
            continue
        if names.count(node.name.lower()) > 1:
            continue  # duplicate_name says so
        label = re.sub(r"[^a-z0-9-]+", "-", node.name.split(".")[0].lower()).strip("-")[:63]
        better = label if label not in ("", "localhost") else "pi-1"
        hint = f' Write ("{better}", {{"ssh_hostname": "{node.name}"}})' if "." in node.name else ""
        yield Fault(
            "host name",
            literal(node.name),
            "it becomes the hostname and the name of the Kubernetes node, which is one DNS label: a-z, 0-9 and -",
            f'did you mean "{better}"?{hint}',
            node.name,
        )


@rule
def duplicate_name(draft: Draft) -> Iterator[Fault]:
    """Two entries of one name are one host to pyinfra, and two that differ by case collide in DNS."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for node in draft.nodes:
        by_name[node.name.lower()].append(node.name)
    for names in by_name.values():
        if len(names) > 1:
            same = len(set(names)) == 1
            why = "pyinfra takes entries of one name for one host, so that a node would silently be left out"
            yield Fault(
                "host name",
                " and ".join(literal(name) for name in names),
                why if same else "names that differ only by case are one name in DNS and in Kubernetes",
                "give each node a name of its own, such as pi-worker-4",
            )


@rule
def node_role(draft: Draft) -> Iterator[Fault]:
    """Every host is in exactly one of the groups master, worker and data_node."""
    for node in draft.nodes:
        if len(node.roles) > 1:
            yield Fault(
                "role",
                _and(node.roles),
                "a node has one role, and its groups give it several",
                f"list {node.name} in one of them only; a master also runs pods",
                node.name,
            )
        elif not node.roles:
            misspelt = [(group, meant) for group in node.groups if (meant := closest(group, ROLES))]
            groups = ", ".join(node.groups) or "none"
            fix = f"list {node.name} in master, worker or data_node"
            if misspelt:
                fix = _and(f"rename the group {group}: did you mean {meant}?" for group, meant in misspelt)
            yield Fault(
                "role", "none", f"its groups ({groups}) are no role; roles are {', '.join(ROLES)}", fix, node.name
            )


@rule
def no_master(draft: Draft) -> Iterator[Fault]:
    """A cluster has a server."""
    misspelt = any(closest(group, ROLES) == "master" for node in draft.nodes if not node.roles for group in node.groups)
    if not draft.servers and not misspelt:
        first = draft.nodes[0].name if draft.nodes else "pi-master"
        yield Fault(
            "master",
            "empty",
            "no host is in the group master, so nothing would run the control plane",
            f'master = [("{first}", {{"ssh_hostname": "192.168.0.120"}})]',
        )


@rule
def server_count(draft: Draft) -> Iterator[Fault]:
    """etcd needs a majority: an even number of servers is no better than one fewer."""
    count = len(draft.servers)
    if not count or count % 2:
        return
    quorum = count // 2 + 1
    yield Fault(
        "master",
        ", ".join(node.name for node in draft.servers),
        f"{count} servers have no useful quorum: {quorum} must be up, so they survive the loss of {count - quorum}, as "
        f"{_count(count - 1, 'server')} would, and there is one more to lose",
        f"use {count - 1} or {count + 1} servers: move one to worker, or add one to master",
    )


@rule
def servers_on_sqlite(draft: Draft) -> Iterator[Fault]:
    """SQLite is a file of one server."""
    if len(draft.servers) > 1 and draft.usable("datastore") and draft.settings.datastore == "sqlite":
        yield Fault(
            "datastore",
            '"sqlite"',
            f"SQLite is a file on one server and can't be shared by {len(draft.servers)}",
            'datastore = "etcd" (on SSDs or NVMe: SD cards are too slow for it), or one server only',
        )


@rule
def nowhere_for_pods(draft: Draft) -> Iterator[Fault]:
    """Some node takes pods that tolerate nothing."""
    if not draft.nodes or any("node_taints" in node.unusable for node in draft.nodes):
        return
    if all(any(not taint.endswith(":PreferNoSchedule") for taint in node.settings.node_taints) for node in draft.nodes):
        yield Fault(
            "node_taints",
            shown("node_taints", draft.nodes[0].settings.node_taints),
            "every node has a taint that keeps ordinary pods away, so none could run anywhere",
            "leave at least one node without taints, or use the effect PreferNoSchedule",
        )


# -- addresses and networks --------------------------------------------------------------------------------


@rule
def duplicate_address(draft: Draft) -> Iterator[Fault]:
    """Every node has an address of its own, and SSH reaches each by its own way."""
    by_address: dict[str, list[NodeDraft]] = defaultdict(list)
    by_endpoint: dict[str, list[NodeDraft]] = defaultdict(list)
    for node in {node.name: node for node in draft.nodes}.values():
        by_endpoint[node.endpoint].append(node)
        if node.address:
            by_address[str(node.address)].append(node)
    for address, nodes in by_address.items():
        if len(nodes) > 1:
            yield Fault(
                "address",
                literal(address),
                f"{_and(node.name for node in nodes)} have the same address",
                "give each its own: ssh_hostname, or address where SSH goes another way",
                ", ".join(node.name for node in nodes),
            )
    for endpoint, nodes in by_endpoint.items():
        if len(nodes) > 1 and len({node.address for node in nodes}) > 1:
            yield Fault(
                "ssh_hostname",
                literal(endpoint),
                f"SSH would reach the same machine for {_and(node.name for node in nodes)}",
                "correct the ssh_hostname or the ssh_port of one of them",
                ", ".join(node.name for node in nodes),
            )


@rule
def node_address(draft: Draft) -> Iterator[Fault]:
    """Every node is a host of the LAN."""
    if not draft.usable("lan_cidr"):
        return
    lan = draft.settings.lan_cidr
    for node in draft.nodes:
        if node.address is None:
            continue
        if node.address not in lan:
            yield Fault(
                "address",
                literal(node.address),
                f"it is not in lan_cidr {lan}, so the other nodes would not reach it",
                f"correct ssh_hostname or address, or set lan_cidr to the network of all nodes{_common(draft)}",
                node.name,
            )
        elif lan.prefixlen < 31 and node.address in (lan.network_address, lan.broadcast_address):
            which = "network" if node.address == lan.network_address else "broadcast"
            yield Fault(
                "address",
                literal(node.address),
                f"it is the {which} address of lan_cidr {lan}, which no host can have",
                f"use one from {lan.network_address + 1} to {lan.broadcast_address - 1}",
                node.name,
            )


def _common(draft: Draft) -> str:
    """The network all nodes are in, to be proposed, if there is a plausible one."""
    addresses = [int(node.address) for node in draft.nodes if node.address]
    spread = (min(addresses) ^ max(addresses)).bit_length()
    if spread > 16:
        return ""
    network = IPv4Network((min(addresses), 32 - max(spread, 8)), strict=False)
    return f' (lan_cidr = "{network}"?)'


@rule
def network_range(draft: Draft) -> Iterator[Fault]:
    """Networks are of a kind hosts and pods can have addresses in, and not somebody else's on the internet."""
    for key, network in draft.networks().items():
        special = next((net for net in _UNUSABLE_NETWORKS if net.overlaps(network)), None)
        if special:
            yield Fault(
                key, literal(network), f"it overlaps {special}, which no host can use", _free_fix(draft, key, network)
            )
        elif key != "lan_cidr" and not any(network.subnet_of(net) for net in _PRIVATE_NETWORKS):
            yield Fault(
                key,
                literal(network),
                "it holds public addresses: their owners on the internet could not be reached any more",
                _free_fix(draft, key, network),
            )


@rule
def network_overlap(draft: Draft) -> Iterator[Fault]:
    """An address belongs to one network only."""
    for (first, one), (second, other) in combinations(draft.networks().items(), 2):
        if one.overlaps(other):
            yield Fault(
                second,
                literal(other),
                f"it overlaps {first} {one}: an address of both could be one of {_NETWORK_WORDS[first]} "
                f"and one of {_NETWORK_WORDS[second]}",
                _free_fix(draft, second, other),
            )


def _free_fix(draft: Draft, key: str, network: IPv4Network) -> str:
    """A network of the same size, the default if that is free, that overlaps no other network or the pool."""
    others = [other for name, other in draft.networks().items() if name != key]
    default = ClusterSettings.model_fields[key].default
    prefix = max(network.prefixlen, 8)
    free = default if isinstance(default, IPv4Network) and not any(map(default.overlaps, others)) else None
    free = free or free_network(prefix, others)
    return f'{key} = "{free}", or another network that nothing else uses' if free else "use a smaller network"


@rule
def pod_cidr_size(draft: Draft) -> Iterator[Fault]:
    """Every node gets a share of the pods' network.

    kube-controller-manager cuts `pod_cidr` into networks of `node_cidr_mask`, one a node; a node without one
    gets no pods (event CIDRNotAvailable, k3s#5556).
    """
    if not draft.usable("pod_cidr", "node_cidr_mask"):
        return
    settings, nodes = draft.settings, max(len(draft.nodes), 1)
    network, mask = settings.pod_cidr, settings.node_cidr_mask
    shares = node_shares(network, mask)
    if shares < nodes:
        better = _wider_pod_network(draft, nodes)
        yield Fault(
            "pod_cidr",
            literal(network),
            f"every node takes a /{mask} of it (node_cidr_mask), so it has room for {_count(shares, 'node')}, "
            f"and the inventory has {nodes}",
            f'pod_cidr = "{better}" (room for {_count(node_shares(better, mask), "node")})'
            if better
            else f"use a network of /{prefix_for_nodes(nodes, mask)} or wider",
        )
    elif mask - network.prefixlen > _MOST_SHARE_BITS:
        yield Fault(
            "node_cidr_mask",
            literal(mask),
            f"kube-controller-manager refuses to cut pod_cidr {network} into more than 2^{_MOST_SHARE_BITS} shares",
            f"node_cidr_mask = {network.prefixlen + _MOST_SHARE_BITS}, or a smaller pod_cidr",
        )


def _wider_pod_network(draft: Draft, nodes: int) -> IPv4Network | None:
    """A network with room to grow if one is free where the present one is, else with just enough, else elsewhere."""
    network, mask = draft.settings.pod_cidr, draft.settings.node_cidr_mask
    others = [other for key, other in draft.networks().items() if key != "pod_cidr"]
    enough = prefix_for_nodes(nodes, mask)
    for prefix in (min(mask - 8, enough), enough):
        if 8 <= prefix < network.prefixlen:
            wider = network.supernet(new_prefix=prefix)
            if not any(wider.overlaps(other) for other in others):
                return wider
    return free_network(min(mask - 8, enough), others) if enough >= 8 else None


@rule
def node_share_size(draft: Draft) -> Iterator[Fault]:
    """A node's share has an address for every pod the kubelet admits."""
    if not draft.usable("node_cidr_mask", "kubelet_args"):
        return
    mask = draft.settings.node_cidr_mask
    given = [arg.partition("=")[2] for arg in draft.settings.kubelet_args if arg.startswith("max-pods=")]
    most = int(given[-1]) if given and given[-1].isdecimal() else _DEFAULT_MAX_PODS
    if pod_addresses(mask) < most:
        yield Fault(
            "node_cidr_mask",
            literal(mask),
            f"a /{mask} has addresses for {pod_addresses(mask)} pods, and the kubelet admits {most}",
            f'node_cidr_mask = 24, or kubelet_args = ["max-pods={pod_addresses(mask)}"]',
        )


@rule
def service_cidr_size(draft: Draft) -> Iterator[Fault]:
    """The network of the ClusterIPs is one that kube-apiserver takes and that lasts."""
    if not draft.usable("service_cidr"):
        return
    network = draft.settings.service_cidr
    widest, narrowest = _SERVICE_PREFIXES
    if network.prefixlen < widest:
        why = f"kube-apiserver refuses networks wider than /{widest} for ClusterIPs"
    elif network.prefixlen > narrowest:
        why = f"it has {network.num_addresses} addresses for all services there will ever be: it can't be changed later"
    else:
        return
    yield Fault("service_cidr", literal(network), why, _free_fix(draft, "service_cidr", IPv4Network("10.43.0.0/16")))


@rule
def pool_format(draft: Draft) -> Iterator[Fault]:
    """The MetalLB pool can be read."""
    pool = draft.settings.metallb_pool
    if pool is None or not draft.usable("metallb_pool"):
        return
    try:
        parse_range(pool)
    except ValueError as error:
        yield Fault("metallb_pool", shown("metallb_pool", pool), str(error), f'metallb_pool = "{some_pool(draft)}"')


def some_pool(draft: Draft) -> str:
    """An example of a pool at the upper end of the network that it belongs in."""
    lan = draft.networks().get("services_cidr") or draft.networks().get("lan_cidr")
    if lan is None or lan.num_addresses < 64:
        return "192.168.0.200-192.168.0.250"
    return str(AddressRange(lan.broadcast_address - 55, lan.broadcast_address - 5))


@rule
def pool_placement(draft: Draft) -> Iterator[Fault]:
    """The MetalLB pool lies in a network whose neighbours can ask for its addresses (ARP), apart from the nodes."""
    pool = draft.pool()
    if pool is None or not draft.usable("lan_cidr", "services_cidr"):
        return
    networks = draft.networks()
    value = shown("metallb_pool", draft.settings.metallb_pool)
    home = next((networks[key] for key in ("lan_cidr", "services_cidr") if pool.within(networks.get(key, _NONE))), None)
    if home is None:
        wrong = [key for key in ("pod_cidr", "service_cidr", "vpn_cidr") if pool.overlaps(networks.get(key, _NONE))]
        within = f" (it is in {_and(f'{key} {networks[key]}' for key in wrong)})" if wrong else ""
        homes = _and(f"{key} {networks[key]}" for key in ("lan_cidr", "services_cidr") if key in networks)
        yield Fault(
            "metallb_pool",
            value,
            f"no router would find these addresses: they must all be in lan_cidr or services_cidr{within}",
            f'metallb_pool = "{some_pool(draft)}", or another range in {homes}',
        )
    elif home.prefixlen < 31 and (home.network_address in pool or home.broadcast_address in pool):
        edge = home.network_address if home.network_address in pool else home.broadcast_address
        inner = AddressRange(max(pool.first, home.network_address + 1), min(pool.last, home.broadcast_address - 1))
        yield Fault(
            "metallb_pool",
            value,
            f"{edge} is the network or broadcast address of {home}, which no service can have",
            f'metallb_pool = "{inner}"',
        )
    inside = {node.name: node.address for node in draft.nodes if node.address is not None and node.address in pool}
    if inside:
        yield Fault(
            "metallb_pool",
            value,
            f"it contains {_and(f'{address} ({name})' for name, address in inside.items())}: MetalLB would give "
            "the address of a node to a service",
            f'metallb_pool = "{_pool_beside(draft, pool, sorted(inside.values()))}", or another range without nodes',
        )


_NONE = IPv4Network("255.255.255.255/32")


def _pool_beside(draft: Draft, pool: AddressRange, nodes: Sequence[IPv4Address]) -> AddressRange | str:
    """The part of the pool above the last of these nodes, else below the first, else an example."""
    if nodes[-1] < pool.last:
        return AddressRange(nodes[-1] + 1, pool.last)
    if pool.first < nodes[0]:
        return AddressRange(pool.first, nodes[0] - 1)
    return some_pool(draft)


@rule
def pool_and_servicelb(draft: Draft) -> Iterator[Fault]:
    """One controller only gives addresses to LoadBalancer services."""
    if draft.settings.metallb_pool is None or not draft.usable("metallb_pool", "k3s_disable"):
        return
    if "servicelb" not in draft.settings.k3s_disable:
        yield Fault(
            "k3s_disable",
            shown("k3s_disable", draft.settings.k3s_disable),
            "metallb_pool is set, and K3s' own servicelb would answer for the same LoadBalancer services",
            f"k3s_disable = {literal([*draft.settings.k3s_disable, 'servicelb'])}, or leave out metallb_pool",
        )


@rule
def vpn_port(draft: Draft) -> Iterator[Fault]:
    """The VPN's UDP port is free on every node."""
    if draft.settings.vpn_cidr is None or not draft.usable("vpn_port", "vpn_cidr", "flannel_backend"):
        return
    port, backend = draft.settings.vpn_port, draft.settings.flannel_backend
    if port in _FLANNEL_PORTS[backend]:
        why = f"flannel uses UDP port {port} with flannel_backend {backend}"
    elif port in _UDP_PORTS:
        why = f"UDP port {port} is used by {_UDP_PORTS[port]} on every node"
    elif port in _NODE_PORTS:
        why = f"Kubernetes gives ports {_NODE_PORTS[0]} to {_NODE_PORTS[-1]} to NodePort services"
    else:
        return
    default = ClusterSettings.model_fields["vpn_port"].default
    yield Fault("vpn_port", literal(port), why, f"vpn_port = {default} (and on the clients of the VPN)")


@rule
def interface_name(draft: Draft) -> Iterator[Fault]:
    """The interface for pod traffic is a real one."""
    for node in draft.nodes:
        name = node.settings.interface
        if name is None or "interface" in node.unusable:
            continue
        if not _INTERFACE.fullmatch(name):
            why = "the name of a Linux interface has at most 15 characters, no space, no / and no :"
        elif _OWN_INTERFACES.fullmatch(name):
            why = "this interface is made by the cluster, the VPN or the kernel itself and can't carry its traffic"
        else:
            continue
        yield Fault(
            "interface",
            literal(name),
            why,
            'interface = "eth0" (see ip -br link on the node), or leave it out',
            node.name,
        )


@rule
def static_address(draft: Draft) -> Iterator[Fault]:
    """A node that sets its address itself has what DHCP would tell it: a router of the LAN, and name servers."""
    for node in draft.nodes:
        settings = node.settings
        keys = ("static_address", "gateway", "dns", "address")
        if not settings.static_address or not node.unusable.isdisjoint(keys) or not draft.usable("lan_cidr"):
            continue
        lan = draft.settings.lan_cidr
        owner = next((other.name for other in draft.nodes if other.address == settings.gateway), None)
        first = lan.network_address + 1
        if settings.gateway is None or not settings.dns:
            missing = [key for key in ("gateway", "dns") if not getattr(settings, key)]
            why = f"without DHCP nobody tells the node its {_and(missing)}"
            fix = f'gateway = "{first}", dns = ["{first}"], or leave out static_address and reserve the address'
            yield Fault("static_address", "True", why, fix, node.name)
        elif settings.gateway not in lan:
            why = f"it is not in lan_cidr {lan}, so the node could not reach it"
            yield Fault("gateway", literal(settings.gateway), why, f'gateway = "{first}"', node.name)
        elif owner or settings.gateway in (lan.network_address, lan.broadcast_address):
            why = f"it is the address of {owner}" if owner else f"it is no address that a router can have in {lan}"
            yield Fault("gateway", literal(settings.gateway), why, "use the address of the LAN's router", node.name)


@rule
def vlan(draft: Draft) -> Iterator[Fault]:
    """A VLAN is a network of its own, with an address of its own for every node."""
    seen: dict[tuple[str, object], str] = {}
    for node in draft.nodes:
        for name, given in node.settings.vlans.items() if "vlans" not in node.unusable else ():
            problem = _vlan_problem(draft, name, given)
            for what, value in (("id", given.id), ("address", given.address.ip)):
                first = seen.setdefault((f"{node.name} {what}" if what == "id" else what, value), f"{node.name} {name}")
                if problem is None and first != f"{node.name} {name}":
                    problem = f"{what} {value} is that of {first} already", f"give it an {what} of its own"
            if problem:
                text = literal({"id": given.id, "address": str(given.address)})
                yield Fault(f"vlans.{name}", text, *problem, node.name)


def _vlan_problem(draft: Draft, name: str, given: Vlan) -> tuple[str, str] | None:
    """Why a VLAN's address can't work, and what to write."""
    network, address = given.address.network, given.address.ip
    services = draft.networks().get("services_cidr")
    if network.prefixlen > 30:
        return "an address without the prefix length of its network reaches nobody", f'"address": "{address}/24"'
    if address in (network.network_address, network.broadcast_address):
        return (
            f"no node can have the first or last address of {network}",
            f'"address": "{address + 1}/{network.prefixlen}"',
        )
    if name == "services" and services and network != services:
        inside = services.network_address + (int(address) & 0xFF if services.prefixlen <= 24 else 1)
        return (
            f"it is not in services_cidr {services}, the network of the published services",
            f'"address": "{inside}/{services.prefixlen}", or services_cidr = "{network}"',
        )
    for key, other in draft.networks().items():
        if other.overlaps(network) and (key, name) != ("services_cidr", "services"):
            return f"it overlaps {key} {other}, which is another network", "use a network that nothing else uses"
    pool = draft.pool()
    if pool and address in pool:
        return f"MetalLB would give this address, of metallb_pool {pool}, to a service", "use one outside the pool"
    return None


@rule
def domain_name(draft: Draft) -> Iterator[Fault]:
    """Domains are DNS names, and the cluster's own is apart from the nodes'."""
    sound = []
    for key in ("domain", "cluster_domain"):
        name = getattr(draft.settings, key)
        if not draft.usable(key):
            continue
        if DNS_NAME.fullmatch(name):
            sound.append(name)
            continue
        better = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip(".-") or ClusterSettings.model_fields[key].default
        yield Fault(
            key, shown(key, name), "it is no DNS domain: labels of a-z, 0-9 and - with dots", f'{key} = "{better}"'
        )
    if len(sound) == 2:
        nodes, cluster = sound
        if nodes == cluster or nodes.endswith(f".{cluster}"):
            yield Fault(
                "domain",
                literal(nodes),
                f"it is in cluster_domain {cluster}, which the cluster's own DNS answers for: pods can't find nodes",
                'domain = "home.arpa"',
            )


@rule
def api_name(draft: Draft) -> Iterator[Fault]:
    """Names in the API's certificate are DNS names or addresses."""
    if not draft.usable("api_names"):
        return
    for name in draft.settings.api_names:
        if not _is_address(name) and not DNS_NAME.fullmatch(name.removeprefix("*.")):
            host = re.sub(r"^\w+://", "", name).split("/")[0].split(":")[0].lower()
            yield Fault(
                "api_names",
                shown("api_names", name),
                "it is neither an IP address nor a DNS name; no scheme, port or path belongs here",
                f'did you mean "{host}"?' if DNS_NAME.fullmatch(host) else 'write it like "k3s.example.org"',
            )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# -- the operating system ----------------------------------------------------------------------------------


@rule
def timezone(draft: Draft) -> Iterator[Fault]:
    """The time zone is one of the IANA database, where this machine has one to compare with."""
    known, name = _time_zones(), draft.settings.timezone
    if not known or not draft.usable("timezone") or name in known:
        return
    meant = closest(name, known) or next((zone for zone in sorted(known) if zone.endswith(f"/{name.title()}")), None)
    fix = f'did you mean "{meant}"?' if meant else 'use a name such as "Europe/Vienna" (see timedatectl list-timezones)'
    yield Fault("timezone", shown("timezone", name), "the IANA database has no time zone of this name", fix)


@cache
def _time_zones() -> frozenset[str]:
    """The zones this machine knows; empty without a time zone database. Walks its folder, hence cached."""
    return frozenset(available_timezones())


@rule
def package_name(draft: Draft) -> Iterator[Fault]:
    """Packages are given by their Debian names."""
    for key in ("packages", "extra_packages"):
        names: Sequence[str] = getattr(draft.settings, key) if draft.usable(key) else ()
        for name in names:
            if not _PACKAGE.fullmatch(name):
                better = re.split(r"[=<>\s/]", name.strip().lower())[0]
                fix = f'did you mean "{better}"?' if _PACKAGE.fullmatch(better) else "see apt-cache search"
                yield Fault(
                    key, shown(key, name), "it is no name of a Debian package (versions are not given here)", fix
                )


@rule
def admin_user_name(draft: Draft) -> Iterator[Fault]:
    """Every admin user is there once, and is not a user of the system."""
    if not draft.usable("admin_users"):
        return
    names = [user.name for user in draft.settings.admin_users]
    for name in dict.fromkeys(names):
        if name in _SYSTEM_USERS.split() or name.startswith("systemd-"):
            yield Fault(
                "admin_users",
                literal(name),
                "this user belongs to the operating system; its keys and groups are not ours to change",
                "use a name of the person's own" + ("; sudo gives them root" if name == "root" else ""),
            )
        if names.count(name) > 1:
            yield Fault(
                "admin_users",
                literal(name),
                f"the user is listed {names.count(name)} times, and only one list of keys can be the right one",
                "make it one entry with all the keys in ssh_keys",
            )


@rule
def admin_user_key(draft: Draft) -> Iterator[Fault]:
    """Public keys are whole: what was cut off while copying would lock its owner out."""
    if not draft.usable("admin_users"):
        return
    for user in draft.settings.admin_users:
        for key in user.ssh_keys:
            if not _is_whole_key(key):
                yield Fault(
                    "admin_users",
                    shown("admin_users", key),
                    f"this key of {user.name} is damaged or cut off",
                    "copy it again, whole, on one line: cat ~/.ssh/id_ed25519.pub",
                )


@rule
def admin_user_key_size(draft: Draft) -> Iterator[Fault]:
    """sshd takes no short RSA keys, so their owners could not log in."""
    if not draft.usable("admin_users") or "requiredrsasize" in map(str.lower, draft.settings.sshd_options):
        return
    for user in draft.settings.admin_users:
        for key in user.ssh_keys:
            bits = _rsa_bits(key)
            if bits and bits < RSA_BITS:
                yield Fault(
                    "admin_users",
                    shown("admin_users", key),
                    f"this RSA key of {user.name} has {bits} bits, and sshd takes those of {RSA_BITS} or more",
                    "make a new one: ssh-keygen -t ed25519",
                )


def _is_whole_key(key: str) -> bool:
    """Whether the body of a public key is base64 of complete fields, the first naming its kind (RFC 4253 6.6)."""
    fields = _key_fields(key)
    return len(fields) > 1 and fields[0].decode(errors="replace") == key.split()[0]


def _rsa_bits(key: str) -> int | None:
    """Bits of the modulus of an RSA key, its third field (RFC 4253 6.6); None for another or a damaged key."""
    fields = _key_fields(key)
    return int.from_bytes(fields[2]).bit_length() if len(fields) == 3 and fields[0] == b"ssh-rsa" else None


def _key_fields(key: str) -> list[bytes]:
    """The fields in the body of a public key; none when it is damaged."""
    try:
        rest = base64.b64decode(key.split()[1], validate=True)
    except binascii.Error:
        return []
    fields = []
    while rest:
        if len(rest) < 4:
            return []
        (length,) = struct.unpack(">I", rest[:4])
        if len(rest) < 4 + length:
            return []
        fields.append(rest[4 : 4 + length])
        rest = rest[4 + length :]
    return fields


@rule
def sshd_user(draft: Draft) -> Iterator[Fault]:
    """Those who log in are people: root and the system's own users are not let in."""
    if not draft.usable("sshd_users"):
        return
    for name in draft.settings.sshd_users:
        if name in _SYSTEM_USERS.split() or name.startswith("systemd-"):
            yield Fault(
                "sshd_users",
                literal(name),
                "a user of the operating system has no business to log in",
                "list the person in admin_users" + (", with sudo" if name == "root" else ""),
            )


@rule
def controllers(draft: Draft) -> Iterator[Fault]:
    """sshd must be able to lock out those who guess, so that not everyone is a controller."""
    if not draft.usable("controllers"):
        return
    for network in draft.settings.controllers or ():
        if not any(network.subnet_of(private) for private in _PRIVATE_NETWORKS) and network.prefixlen < 16:
            yield Fault(
                "controllers",
                literal(network),
                "everyone in it could try to log in without end",
                "list the networks, or the single addresses (203.0.113.7/32), that you run pyinfra from",
            )


@rule
def sshd_option(draft: Draft) -> Iterator[Fault]:
    """Options for sshd are single lines, and leave alone what decides about our own way in."""
    if not draft.usable("sshd_options"):
        return
    for keyword, value in draft.settings.sshd_options.items():
        key = f"sshd_options.{keyword}"
        if not _SSHD_KEYWORD.fullmatch(keyword):
            yield Fault(key, shown(key, value), "it is no keyword of sshd_config", "see man sshd_config")
        elif keyword.lower() in _OWN_SSHD_KEYWORDS:
            yield Fault(key, shown(key, value), *_OWN_SSHD_KEYWORDS[keyword.lower()])
        elif not value.strip() or "\n" in value:
            yield Fault(key, shown(key, value), "a keyword has a value, on one line", "correct it or leave it out")


# -- K3s and Kubernetes ------------------------------------------------------------------------------------


@rule
def firewall(draft: Draft) -> Iterator[Fault]:
    """The firewall names what exists, does not cut the cluster in pieces, and lets those in who run it."""
    if not draft.settings.firewall.enabled or draft.unusable or any(node.unusable for node in draft.nodes):
        return
    # its defaults come from the rest, which must be sound first; of the platform these are the fixed addresses only
    others = [other for other in RULES.values() if other.__module__ == __name__ or other.__name__ == "service_address"]
    if any(fault for other in others if other is not firewall for fault in other(draft)):
        return
    nodes = tuple(Node(name=node.name, role=node.roles[0], settings=node.settings) for node in draft.nodes)
    try:
        firewall_of(Cluster(settings=draft.settings, nodes=nodes))
    except FirewallError as error:
        for text in error.faults:
            yield Fault("firewall", "", text, "correct firewall, as docs/how-to/open-a-port.md shows")


@rule
def k3s_version(draft: Draft) -> Iterator[Fault]:
    """The release is not older than those with fixes that apply and restore depend on."""
    if not draft.usable("k3s_version"):
        return
    version = draft.settings.k3s_version
    match = re.match(r"v(\d+)\.(\d+)\.(\d+)(-rc)?", version)
    assert match, version
    major, minor, patch = (int(part) for part in match.groups()[:3])
    oldest = min(_FLOORS)
    floor = _FLOORS.get((major, minor), 0)
    if (major, minor) >= oldest and (patch > floor or (patch == floor and not match[4])):
        return
    better = f"v{major}.{minor}.{floor}+k3s1" if (major, minor) in _FLOORS else DEFAULT_K3S_VERSION
    yield Fault(
        "k3s_version",
        literal(version),
        f"releases before {better} can't restore compressed etcd snapshots (k3s#14528) and let anyone reach parts of "
        "the supervisor (k3s#14701)",
        f'k3s_version = "{better}" or newer',
    )


@rule
def k3s_mirror(draft: Draft) -> Iterator[Fault]:
    """The place K3s comes from is a URL, or a directory that is there and has the release."""
    if not draft.usable("k3s_mirror"):
        return
    mirror, version = draft.settings.k3s_mirror, draft.settings.k3s_version
    value = shown("k3s_mirror", mirror)
    folder = Path(mirror).expanduser()
    if problem := mirror_problem(mirror, "leave it out to fetch K3s from its releases"):
        yield Fault("k3s_mirror", value, *problem)
    elif "://" in mirror:
        return
    elif draft.usable("k3s_version") and not (folder / version).is_dir():
        releases = sorted(path.name for path in folder.iterdir() if path.is_dir())
        has = f"it has {', '.join(releases[-5:])}" if releases else "it has no release"
        meant = closest(version, releases)
        fix = f"put the files of the release into {folder}/{version}/"
        yield Fault(
            "k3s_mirror",
            value,
            f"the release {version} (k3s_version) is not in this directory: {has}",
            f'{fix}, or k3s_version = "{meant}"' if meant else fix,
        )


def mirror_problem(mirror: str, instead: str) -> tuple[str, str] | None:
    """Why nothing can be fetched from a mirror, and what to do; `instead` is what to do without one."""
    if "://" in mirror:
        if re.match(r"https?://[^/\s]+|file:///", mirror):
            return None
        return "nothing can be fetched with a URL of this kind", "use a http, https or file URL, or a directory"
    if Path(mirror).expanduser().is_dir():
        return None
    return "there is no such directory on this machine", f"create and fill it, correct the path, or {instead}"


@rule
def lock_file(draft: Draft) -> Iterator[Fault]:
    """The lock file can be written where it is."""
    if draft.settings.lock_file is None or not draft.usable("lock_file"):
        return
    path = Path(draft.settings.lock_file).expanduser()
    if path.is_dir():
        why, fix = "it is a directory", f'lock_file = "{path / "cluster.lock"}"'
    elif not path.absolute().parent.is_dir():
        why, fix = f"there is no directory {path.parent} on this machine", "create it, or correct the path"
    else:
        return
    yield Fault("lock_file", shown("lock_file", draft.settings.lock_file), why, fix)


@rule
def component_argument(draft: Draft) -> Iterator[Fault]:
    """Arguments for components of Kubernetes are name=value, given once, and not ones that are set already."""
    for key, own in _OWN_ARGUMENTS.items():
        arguments: Sequence[str] = getattr(draft.settings, key) if draft.usable(key) else ()
        names = [argument.lstrip("-").partition("=")[0] for argument in arguments]
        for argument, name in zip(arguments, names, strict=True):
            value = shown(key, argument)
            if not _ARGUMENT.fullmatch(argument):
                better = re.sub(r"^-*([A-Za-z0-9-]+)[ =:]*", r"\1=", argument.strip())
                yield Fault(key, value, "it is not of the form name=value, without --", f'did you mean "{better}"?')
            elif name in own:
                setting = own[name]
                fix = f"leave it out; use {setting}" if setting else "leave it out"
                why = f"{name} is set by this project, and what it sets would no longer hold"
                yield Fault(key, value, why, fix)
            elif name == "enable-admission-plugins":
                given = argument.partition("=")[2].split(",")
                if missing := [plugin for plugin in _ADMISSION_PLUGINS if plugin not in given]:
                    fix = f'did you mean "{name}={",".join([*missing, *given])}"?'
                    yield Fault(key, value, f"this list replaces the default and lacks {_and(missing)}", fix)
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                why = f"it is given {names.count(name)} times, and only the last one counts"
                yield Fault(key, literal(name), why, "give it once, with all its values: name=one,two")


@rule
def registries(draft: Draft) -> Iterator[Fault]:
    """The content of registries.yaml has the shape that K3s reads; K3s ignores what it does not know."""
    if not draft.usable("registries"):
        return
    known = ("mirrors", "configs", "auths")
    for name, content in draft.settings.registries.items():
        if name not in known:
            meant = closest(name, known)
            yield Fault(
                f"registries[{name!r}]",
                "",
                "K3s knows only mirrors and configs in registries.yaml and would ignore this",
                f"did you mean {meant}?" if meant else "remove it",
            )
        elif not isinstance(content, dict):
            yield Fault(
                f"registries[{name!r}]",
                "",
                f"it must be a mapping by registry, and is a {type(content).__name__}",
                f'registries = {{"{name}": {{"registry.example.org": {{...}}}}}}',
            )


@rule
def node_label(draft: Draft) -> Iterator[Fault]:
    """Labels that this project sets are not set again."""
    for node in draft.nodes:
        own = [key for key in node.settings.node_labels if key.startswith("piclusterops.io/")]
        for key in own if "node_labels" not in node.unusable else []:
            yield Fault(
                "node_labels",
                literal({key: node.settings.node_labels[key]}),
                "labels below piclusterops.io/ are set by this project from the node's role",
                "remove it; the role is the group that the host is listed in",
                node.name,
            )


@rule
def node_taint(draft: Draft) -> Iterator[Fault]:
    """A node has one taint of a key and effect: Kubernetes refuses a second."""
    for node in draft.nodes:
        by_identity: dict[tuple[str, str], list[str]] = defaultdict(list)
        for taint in node.settings.node_taints if "node_taints" not in node.unusable else ():
            rest, _, effect = taint.rpartition(":")
            by_identity[rest.partition("=")[0], effect].append(taint)
        for taints in by_identity.values():
            if len(taints) > 1:
                yield Fault(
                    "node_taints",
                    literal(taints),
                    "Kubernetes allows one taint of a key and effect on a node",
                    f"keep one of them, such as {literal(taints[-1])}",
                    node.name,
                )


@rule
def shutdown_grace(draft: Draft) -> Iterator[Fault]:
    """The time of critical pods is a part of the whole, and leaves some to the others."""
    if not draft.usable("shutdown_grace_s", "shutdown_grace_critical_s"):
        return
    total, critical = draft.settings.shutdown_grace_s, draft.settings.shutdown_grace_critical_s
    if critical and critical >= total:
        yield Fault(
            "shutdown_grace_critical_s",
            literal(critical),
            f"it is the part of shutdown_grace_s ({total}) for critical pods, and leaves no time for the others",
            f"shutdown_grace_critical_s = {total // 3}, or shutdown_grace_s = {critical * 3}",
        )


@rule
def reserved_memory(draft: Draft) -> Iterator[Fault]:
    """What is kept from pods is less than the least memory of a node."""
    keys = ("system_reserved", "kube_reserved", "min_memory_mb")
    if not draft.usable(*keys):
        return
    settings = draft.settings
    kept = sum(int(number_of(part.memory)) for part in (settings.system_reserved, settings.kube_reserved)) // 10**6
    if kept >= settings.min_memory_mb:
        yield Fault(
            "system_reserved",
            f"{settings.system_reserved.memory}, kube_reserved {settings.kube_reserved.memory}",
            f"{kept} MB would be kept from pods, and a node may have only {settings.min_memory_mb} (min_memory_mb)",
            'system_reserved = {"memory": "256Mi"}, kube_reserved = {"memory": "256Mi"}, or a larger min_memory_mb',
        )
