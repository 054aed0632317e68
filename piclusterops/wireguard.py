"""The VPN into the home network: WireGuard on one node, its files, and what its clients are told.

The other nodes send answers to the VPN's addresses to that node. It does not masquerade: who comes by the VPN keeps
an address of `vpn_cidr`, by which the firewall of every node knows the zone `vpn`. As an address of the node itself it
would be taken for a member of the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network

from piclusterops.firewall import AnyNetwork, collapse, pool_networks
from piclusterops.host_releases import WIREGUARD, mark_of, node_of
from piclusterops.settings import Cluster, ClusterSettings, VpnPeer
from piclusterops.templates import render

DIRECTORY = "/etc/wireguard"
#: What fits into an Ethernet frame of 1500 bytes together with WireGuard's own header over IPv6.
MTU = 1420
ROUTE_UNIT = "piclusterops-vpn-route.service"
ROUTE_FILE = f"/etc/systemd/system/{ROUTE_UNIT}"


def config_file(interface: str) -> str:
    """The configuration for wg-quick, which has no key in it."""
    return f"{DIRECTORY}/{interface}.conf"


def key_file(interface: str) -> str:
    """The private key, made on the node and known nowhere else."""
    return f"{DIRECTORY}/{interface}.key"


def unit_of(interface: str) -> str:
    """Debian's unit for an interface."""
    return f"wg-quick@{interface}.service"


def drop_in(interface: str) -> str:
    """What we change of that unit."""
    return f"/etc/systemd/system/{unit_of(interface)}.d/piclusterops.conf"


def vpn_address(settings: ClusterSettings) -> IPv4Address | None:
    """The address in the VPN of the node that ends it: `vpn_address`, or the first of `vpn_cidr`."""
    if settings.vpn_cidr is None:
        return None
    return settings.vpn_address or next(settings.vpn_cidr.hosts())


@dataclass(frozen=True)
class Vpn:
    """The VPN of a cluster, as it should be."""

    node: str
    interface: str
    address: IPv4Address
    network: IPv4Network
    port: int
    peers: Sequence[VpnPeer]
    gateway: str
    """The node's address in the LAN."""

    @cached_property
    def config(self) -> str:
        """The node's configuration for wg-quick."""
        return render(
            "wireguard.conf.j2",
            address=f"{self.address}/{self.network.prefixlen}",
            port=self.port,
            mtu=MTU,
            key_file=key_file(self.interface),
            peers=self.peers,
        )

    @cached_property
    def drop_in(self) -> str:
        """The node's drop-in for the unit of wg-quick."""
        return render("wireguard-unit.conf", key_file=key_file(self.interface))

    @property
    def mark(self) -> str:
        """What the node notes once all is in force; the interface comes first, for whoever removes it."""
        return f"{self.interface} {mark_of(self.config, self.drop_in)}"

    @property
    def in_force(self) -> list[str]:
        """What the probe of `piclusterops.facts.wireguard` answers when the kernel has what is wanted."""
        return sorted(
            [
                "key ours",
                f"port {self.port}",
                f"mtu {MTU}",
                f"address {self.address}/{self.network.prefixlen}",
                *(f"peer {peer.public_key} {peer.address}/32" for peer in self.peers),
            ]
        )

    @cached_property
    def route(self) -> str:
        """The unit of the other nodes that keeps their way back to the VPN."""
        return render(ROUTE_UNIT, network=self.network, gateway=self.gateway)

    def peer(self, name: str) -> VpnPeer:
        """The peer of that name.

        Raises:
            KeyError: there is none.
        """
        for peer in self.peers:
            if peer.name == name:
                return peer
        raise KeyError(name)


def vpn_of(cluster: Cluster) -> Vpn | None:
    """The VPN that the settings ask for; None when they do not."""
    settings = cluster.settings
    node, address = node_of(cluster, WIREGUARD), vpn_address(settings)
    if node is None or address is None or settings.vpn_cidr is None:
        return None
    return Vpn(
        node=node,
        interface=settings.firewall.vpn_interface,
        address=address,
        network=settings.vpn_cidr,
        port=settings.vpn_port,
        peers=settings.vpn_peers,
        gateway=cluster.node(node).address,
    )


def reachable(settings: ClusterSettings) -> tuple[AnyNetwork, ...]:
    """The networks that are behind the VPN: itself, the LAN, and those of the published services."""
    services = (settings.services_cidr,) if settings.services_cidr else ()
    own = (settings.vpn_cidr,) if settings.vpn_cidr else ()
    fixed = (IPv4Network(address) for address in settings.service_addresses.values())
    return collapse([*own, settings.lan_cidr, *services, *pool_networks(settings.metallb_pool), *fixed])


def client_config(cluster: Cluster, vpn: Vpn, peer: VpnPeer, server_key: str) -> str:
    """A peer's own configuration, for any WireGuard client, with a gap for the private key that only it knows."""
    endpoint = cluster.settings.vpn_endpoint or vpn.gateway
    return render(
        "wireguard-client.conf.j2",
        cluster=cluster.settings.cluster_name,
        peer=peer,
        mtu=MTU,
        node=vpn.node,
        server_key=server_key,
        endpoint=f"{endpoint}:{vpn.port}",
        networks=", ".join(map(str, reachable(cluster.settings))),
    )
