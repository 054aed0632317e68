"""Arithmetic on IPv4 networks and address ranges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

#: Where free networks are looked for: RFC 1918, the largest block.
_PRIVATE = IPv4Network("10.0.0.0/8")


@dataclass(frozen=True)
class AddressRange:
    """Addresses from `first` to `last`, both included."""

    first: IPv4Address
    last: IPv4Address

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def within(self, network: IPv4Network) -> bool:
        """Whether every address of the range is in the network."""
        return self.first in network and self.last in network

    def overlaps(self, network: IPv4Network) -> bool:
        """Whether some address of the range is in the network."""
        return self.first <= network.broadcast_address and network.network_address <= self.last

    def without(self, addresses: Iterable[IPv4Address]) -> tuple[AddressRange, ...]:
        """What is left of the range when these addresses are taken out, in ascending order."""
        first, left = self.first, []
        for address in sorted({address for address in addresses if address in self}):
            if first < address:
                left.append(AddressRange(first, address - 1))
            first = address + 1
        return (*left, AddressRange(first, self.last)) if first <= self.last else tuple(left)


def parse_range(text: str) -> AddressRange:
    """Read ``first-last`` or a network, the two forms that MetalLB takes.

    Raises:
        ValueError: it is neither, or the last address comes before the first; the message says which.
    """
    if "-" not in text:
        if "/" not in text:
            raise ValueError("it is neither first-last nor a network")
        network = parse_network(text)
        return AddressRange(network.network_address, network.broadcast_address)
    first, _, last = text.partition("-")
    try:
        found = AddressRange(IPv4Address(first.strip()), IPv4Address(last.strip()))
    except ValueError as error:
        raise ValueError(f"it is no range of IPv4 addresses ({error})") from None
    if found.last < found.first:
        raise ValueError("its last address comes before its first")
    return found


class HostBitsError(ValueError):
    """An address within a network was given where the network belongs."""

    def __init__(self, network: IPv4Network, text: str) -> None:
        self.network = network
        super().__init__(f"{text.partition('/')[0]} is an address in {network}, not the network itself")


def parse_network(text: str) -> IPv4Network:
    """Read ``address/prefix``, strictly.

    Raises:
        HostBitsError: host bits are set; it carries the network that was meant.
        ValueError: anything else; the message says what.
    """
    address, slash, prefix = text.partition("/")
    try:
        IPv4Address(address)
    except ValueError:
        reason = "only IPv4 is supported" if address.count(":") > 1 else f"{address or 'nothing'} is no IPv4 address"
        raise ValueError(reason) from None
    if not slash:
        raise ValueError("the prefix length is missing")
    if not prefix.isdecimal() or int(prefix) > 32:
        raise ValueError("the prefix length must be a number from 0 to 32")
    meant = IPv4Network(text, strict=False)
    if str(meant.network_address) != address:
        raise HostBitsError(meant, text)
    return meant


def node_shares(pod_network: IPv4Network, node_prefix: int) -> int:
    """How many nodes get a share with the prefix length `node_prefix` of the network of the pods."""
    return 1 << (node_prefix - pod_network.prefixlen) if node_prefix >= pod_network.prefixlen else 0


def prefix_for_nodes(nodes: int, node_prefix: int) -> int:
    """The longest prefix of a network with shares for that many nodes (at least 1)."""
    return node_prefix - (nodes - 1).bit_length()


def pod_addresses(node_prefix: int) -> int:
    """Pods that fit in a node's share: all but the network, the broadcast and the bridge's address."""
    return (1 << (32 - node_prefix)) - 3


def free_network(prefix: int, taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """The first network of 10.0.0.0/8 with that prefix length (8 to 24) which overlaps none of those taken."""
    others = list(taken)
    candidate = IPv4Network((_PRIVATE.network_address, prefix))
    while candidate.subnet_of(_PRIVATE):
        blocking = [other for other in others if other.overlaps(candidate)]
        if not blocking:
            return candidate
        after = max(int(net.broadcast_address) for net in [*blocking, candidate]) + 1
        size = candidate.num_addresses
        start = -(-after // size) * size
        if start > int(_PRIVATE.broadcast_address):
            return None
        candidate = IPv4Network((start, prefix))
    return None
