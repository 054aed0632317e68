"""Changes of sshd, firewall or network that a host has not been told to keep; see `operations.armed`."""

from __future__ import annotations

from piclusterops.facts.snapshot import Snapshot

ARMED_DIR = "/var/lib/piclusterops/armed"
#: Probe for a role's query: the names of the changes that an earlier run left unconfirmed.
PROBE = ("armed", f'for r in {ARMED_DIR}/*/rollback; do [ -e "$r" ] && basename "${{r%/*}}"; done')


def is_pending(snapshot: Snapshot, name: str) -> bool:
    """Whether an earlier run left this change unconfirmed: then the host will undo it, however right it looks."""
    return name in snapshot.probes.get(PROBE[0], [])
