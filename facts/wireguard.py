"""WireGuard as a host has it: on disk, in its units, and in the kernel."""

from __future__ import annotations

from piclusterops.facts.snapshot import Query, Snapshot
from piclusterops.host_releases import PACKAGES, WIREGUARD
from piclusterops.settings import ClusterSettings
from piclusterops.wireguard import ROUTE_FILE, ROUTE_UNIT, config_file, drop_in, key_file, unit_of

#: What a host notes: of the node that ends the VPN, and of the others.
STAMP, ROUTE_STAMP = WIREGUARD, "vpn-route"


def _probe(interface: str) -> str:
    """Shell that prints what is in the kernel, and of the private key only whether it is the one of the file."""
    return (
        f"i={interface}; k={key_file(interface)}; "
        '[ -e "/sys/class/net/$i" ] && command -v wg >/dev/null && { '
        '[ "$(wg show "$i" public-key)" = "$(wg pubkey <"$k")" ] && echo "key ours"; '
        'echo "port $(wg show "$i" listen-port)"; echo "mtu $(cat "/sys/class/net/$i/mtu")"; '
        'ip -o -4 addr show dev "$i" | awk \'{ print "address", $4 }\'; '
        'wg show "$i" allowed-ips | while read -r p a; do echo "peer $p $a"; done; }'
    )


def query(settings: ClusterSettings) -> Query:
    """What to read of every node when the VPN is on."""
    interface = settings.firewall.vpn_interface
    return Query(
        paths=(config_file(interface), key_file(interface), drop_in(interface), ROUTE_FILE),
        packages=PACKAGES[WIREGUARD],
        units=(unit_of(interface), ROUTE_UNIT),
        probes=((WIREGUARD, _probe(interface)),),
    )


def in_kernel(snapshot: Snapshot) -> list[str]:
    """What the kernel has, in the words of `piclusterops.wireguard.Vpn.in_force`; empty when there is no interface."""
    return sorted(line.strip() for line in snapshot.probes.get(WIREGUARD, []))
