"""What a host has for pods and volumes, asked in one round trip."""

from __future__ import annotations

from piclusterops import preflight
from piclusterops.capacity import STORED_PROBE, parse_stored
from piclusterops.facts.snapshot import Query, Snapshot

#: The same for every host.
ROOM = Query(probes=(("preflight", preflight.PROBE), ("stored", STORED_PROBE)))


def stored_mib(snapshot: Snapshot | None) -> int:
    """What volumes take of the disk already; 0 when that is not known."""
    return parse_stored(snapshot.probes.get("stored", [])) if snapshot else 0
