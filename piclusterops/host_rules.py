"""What must hold of an inventory's settings for the packages of the hosts, one function a rule; see `rules`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network

from piclusterops.faults import Fault, literal
from piclusterops.host_releases import WIREGUARD, is_selected
from piclusterops.networks import free_network
from piclusterops.rules import DNS_NAME, Draft, rule
from piclusterops.wireguard import vpn_address

_USUAL_VPN = IPv4Network("10.8.0.0/24")
#: What wg-quick takes as the name of an interface.
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


def _has_vpn(draft: Draft) -> bool:
    return draft.usable("platform_releases") and is_selected(draft.settings, WIREGUARD)


@rule
def vpn_network(draft: Draft) -> Iterator[Fault]:
    """A VPN has a network of its own."""
    if _has_vpn(draft) and draft.settings.vpn_cidr is None and draft.usable("vpn_cidr"):
        taken = [*draft.networks().values()]
        free = free_network(24, taken) if any(map(_USUAL_VPN.overlaps, taken)) else _USUAL_VPN
        why = "the release wireguard is on, and its peers have addresses in a network of their own"
        turn_off = f"platform_releases = {literal({WIREGUARD: {'enabled': False}})}"
        yield Fault("vpn_cidr", "not set", why, f"vpn_cidr = {literal(free)}, or {turn_off}")


@rule
def vpn_own_address(draft: Draft) -> Iterator[Fault]:
    """The node that ends the VPN has an address in it."""
    given, network = draft.settings.vpn_address, draft.settings.vpn_cidr
    if given is None or network is None or not draft.usable("vpn_address", "vpn_cidr"):
        return
    if problem := _misplaced(given, network):
        yield Fault("vpn_address", literal(given), problem, f'vpn_address = "{next(network.hosts())}", or leave it out')


@rule
def vpn_peer(draft: Draft) -> Iterator[Fault]:
    """Every peer of the VPN has a name, a key and an address of its own, the address in the VPN."""
    if not draft.usable("vpn_peers"):
        return
    peers, network = draft.settings.vpn_peers, draft.settings.vpn_cidr
    for part, what in (("name", "name"), ("public_key", "key"), ("address", "address")):
        values = [getattr(peer, part) for peer in peers]
        for value in dict.fromkeys(value for value in values if values.count(value) > 1):
            names = " and ".join(dict.fromkeys(peer.name for peer in peers if getattr(peer, part) == value))
            who = f"peers are called {value}" if part == "name" else f"peers ({names}) have this {what}"
            why = f"{values.count(value)} {who}, and only the last of them would get in"
            yield Fault(
                f"vpn_peers.{part}",
                literal(value),
                why,
                f"give each device {'an' if part == 'address' else 'a'} {what} of its own",
            )
    if network is None or not draft.usable("vpn_cidr", "vpn_address"):
        return
    own = vpn_address(draft.settings)
    for peer in peers:
        problem = _misplaced(peer.address, network)
        if peer.address == own:
            problem = "it is that of the node which ends the VPN (vpn_address)"
        if problem:
            free = _free_address(network, [own, *(other.address for other in peers)])
            fix = f'use "{free}"' if free else "use a larger vpn_cidr"
            yield Fault(f"vpn_peers.{peer.name}.address", literal(peer.address), problem, fix)


def _misplaced(address: IPv4Address, network: IPv4Network) -> str | None:
    """Why nobody can have an address in a network."""
    if address not in network:
        return f"it is not in the VPN's network {network} (vpn_cidr)"
    if network.prefixlen < 31 and address in (network.network_address, network.broadcast_address):
        return f"it is the {'network' if address == network.network_address else 'broadcast'} address of {network}"
    return None


def _free_address(network: IPv4Network, taken: Sequence[IPv4Address | None]) -> IPv4Address | None:
    return next((address for address in network.hosts() if address not in taken), None)


@rule
def vpn_interface(draft: Draft) -> Iterator[Fault]:
    """wg-quick can make the VPN's interface, and the firewall knows it and its network as those of the VPN."""
    if not _has_vpn(draft) or not draft.usable("firewall"):
        return
    name, zone = draft.settings.firewall.vpn_interface, draft.settings.firewall.zones.get("vpn")
    if not _INTERFACE.fullmatch(name):
        why = "wg-quick takes letters, digits, _, . and - only"
        yield Fault("firewall.vpn_interface", literal(name), why, 'leave it out for "wg0"')
    elif draft.settings.firewall.enabled and zone is not None and name not in zone.interfaces:
        why = f"the zone vpn of firewall has other interfaces, so that what comes by {name} would not be of it"
        interfaces = literal([*zone.interfaces, name])
        yield Fault(
            "firewall.vpn_interface", literal(name), why, f'zones = {{"vpn": {{"interfaces": {interfaces}, ...}}}}'
        )


@rule
def vpn_endpoint(draft: Draft) -> Iterator[Fault]:
    """Clients of the VPN are given a name or an address; the port is a setting of its own."""
    endpoint = draft.settings.vpn_endpoint
    if endpoint is None or not draft.usable("vpn_endpoint"):
        return
    if not DNS_NAME.fullmatch(endpoint.lower()):
        name = endpoint.partition("://")[2] or endpoint
        better = re.split(r"[:/]", name)[0].lower()
        fix = f'vpn_endpoint = "{better}"' if DNS_NAME.fullmatch(better) else 'vpn_endpoint = "home.example.org"'
        why = "it is no name and no IPv4 address; the port is vpn_port"
        yield Fault("vpn_endpoint", literal(endpoint), why, fix)
