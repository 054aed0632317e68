"""What the platform's values need to know of nodes and only the cluster knows: addresses that it dealt out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

from piclusterops.kube_nodes import KubeNode
from piclusterops.platform import Planned, Platform, merged

#: The release whose values these are.
POLICIES = "platform-policies"


def asks_for_nodes(platform: Platform, release: str) -> bool:
    """Whether values of a release depend on the nodes of the cluster.

    `picluster vault` asks kube-apiserver of the first server to pass requests on to the vault's pod. On the same node
    that needs no policy; a pod on another node sees an address that is known only once the cluster is there.
    """
    if release != POLICIES:
        return False
    vaults = [name for name, one in platform.selected.items() if "vault" in one.provides]
    return any(platform.nodes(name)[0] != platform.cluster.first_server.name for name in vaults)


def settled(platform: Platform, planned: Planned, nodes: Sequence[KubeNode] | None) -> Planned:
    """A release with what the nodes of the cluster add to its values; as it is while there is no cluster."""
    if nodes is None or not asks_for_nodes(platform, planned.name):
        return planned
    servers = {server.name for server in platform.cluster.servers}
    tunnels = sorted(address for node in nodes if node.name in servers for address in tunnel_addresses(node))
    return replace(planned, values=merged(planned.values, {"networkPolicies": {"serverTunnels": tunnels}}))


def tunnel_addresses(node: KubeNode) -> list[str]:
    """The addresses with which a node itself reaches pods of other nodes: the first of its pods' network.

    Flannel gives it to its interface, flannel.1, whose route is the way to other nodes. (flannel-io/flannel,
    pkg/backend/vxlan; cloudnativelabs/kube-router#332.)
    """
    networks = [ip_network(text) for text in node.pod_cidrs]
    return [str(network.network_address) for network in networks if network.version == 4]
