"""The firewall that a host has: on disk, in its units, and in force."""

from __future__ import annotations

from dataclasses import dataclass

from piclusterops.facts.snapshot import Snapshot

FILE = "/etc/piclusterops/firewall.nft"
UNIT = "piclusterops-firewall.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
#: Debian's unit, which begins with `flush ruleset`.
OTHER_UNIT = "nftables.service"
FILES = (FILE, UNIT_FILE)

#: Shell that prints our table as it is in force, without counters and without the addresses that were limited;
#: nothing when there is none.
LISTING = (
    "nft -s list table inet piclusterops 2>/dev/null | "
    "awk '/^\\tset limit_/ { l = 1 } l && /^\\t\\telements/ { s = 1 } /^\\t[}]/ { l = s = 0 } !s { print }'"
)
#: Shell that prints what identifies our table.
DIGEST = f"{{ {LISTING}; }} | sha256sum | cut -c 1-64"

#: Probe for a role's query, see `firewall_state`.
PROBE = (
    "firewall",
    f'printf \'%s\\n\' "$(systemctl is-active {UNIT})" "$(systemctl is-enabled {UNIT})" '
    f'"$(systemctl is-enabled {OTHER_UNIT})" "$({DIGEST})"',
)


@dataclass(frozen=True)
class FirewallState:
    """The units of the firewall, as ``systemctl`` says, and the digest of the table in force."""

    active: str
    enabled: str
    other: str
    digest: str


def firewall_state(snapshot: Snapshot) -> FirewallState | None:
    """The firewall as it is; None when it was not understood."""
    match snapshot.probes.get(PROBE[0], []):
        case [active, enabled, other, digest] if len(digest) == 64:
            return FirewallState(active, enabled, other, digest)
    return None
