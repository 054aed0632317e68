"""The doors of a firewall: what of its matrix can be tried, what it promises, and what came of knocking.

Whoever knocks, and answers, does so with `peer.py`: in namespaces, or on hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from piclusterops.firewall import FAMILIES, Destination, Family, Firewall, decide, destinations, sources
from piclusterops.settings import Role
from piclusterops.zones import KINDS

PEER = Path(__file__).with_name("peer.py")
#: Protocol, source address (any when None), address, port.
Knock = tuple[str, str | None, str, int]
#: Knock at all of everybody's doors at once; by who knocks.
Knocker = Callable[[Mapping[str, Sequence[Knock]]], Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Door:
    """A cell of the matrix that can be tried: from a source to a row, in a family."""

    source: str
    row: Destination
    family: Family

    @property
    def proto(self) -> str:
        """What to knock with."""
        return "tcp" if self.row.proto == "any" else self.row.proto


def doors(firewall: Firewall, role: Role, vip: Mapping[Family, str]) -> list[Door]:
    """What can be tried: peers of one link don't go through the node to each other, and a service has one address."""
    lan = {"management", "nodes", "servers"}
    return [
        Door(source, row, family)
        for row in destinations(firewall, role)
        for source in sources(firewall)
        for family in FAMILIES
        if row.to in KINDS or (row.to != source and not {row.to, source} <= lan)
        if row.address is None or str(row.address) == vip[family]
    ]


def expected(firewall: Firewall, role: Role, door: Door, vip: Mapping[Family, str]) -> str | None:
    """What the matrix says of a door; None where no such packet can be."""
    row = door.row
    if row.to == "vip" and row.address is None:
        # the address that is tried may be one that a rule opens alone
        row = Destination(row.to, row.proto, row.port, ip_address(vip[door.family]))
    return decide(firewall, role, door.source, row, door.family).verdict


def tried(
    wanted: Iterable[Door], who: Callable[[Door], str], aim: Callable[[Door], Knock], knock: Knocker
) -> dict[Door, str]:
    """What came of each door."""
    by_peer: dict[str, list[Door]] = {}
    for door in wanted:
        by_peer.setdefault(who(door), []).append(door)
    answers = knock({peer: [aim(door) for door in each] for peer, each in by_peer.items()})
    return {door: got for peer, each in by_peer.items() for door, got in zip(each, answers[peer], strict=True)}


def settled(
    results: Mapping[Door, str], promised: Mapping[Door, str | None], again: Callable[[list[Door]], Mapping[Door, str]]
) -> dict[Door, str]:
    """What came of each door, after a second try at those whose answer may have come too late on a busy machine.

    A door that opens when it must not is no such case.
    """
    late = [door for door, got in results.items() if got == "drop" != promised[door]]
    return {**results, **(again(late) if late else {})}
