"""Who sets a host's addresses, and what they are: a probe for the query of a node, and its answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from piclusterops.facts.snapshot import PathState, Snapshot
from piclusterops.network_files import NETPLAN_FILE, OWN_FILES, Manager

#: Name and shell of the probe.
PROBE = (
    "network",
    "printf 'units %s\\n' \"$(systemctl is-active NetworkManager systemd-networkd networking | tr '\\n' ' ')\"; "
    "if command -v netplan >/dev/null && ls /etc/netplan/*.yaml >/dev/null; then echo netplan; "
    # Nothing else of these files: they have the passwords of wireless networks.
    f"for f in /lib/netplan/*.yaml /etc/netplan/*.yaml; do [ $f = {NETPLAN_FILE} ] || cat $f; done 2>/dev/null | "
    "tr -d '\\042\\047' | grep -owF \"$(ls /sys/class/net | sed 's/$/:/')\" | sort -u | sed 's/^/netplan-names /'; fi; "
    "[ -e /usr/lib/systemd/systemd-networkd ] && echo has-networkd; "
    "grep -hsE '^ *iface ' /etc/network/interfaces /etc/network/interfaces.d/* | sed 's/^ */ifupdown /'; "
    "printf 'addresses %s\\n' \"$(ip -j -4 addr show)\"; printf 'routes %s\\n' \"$(ip -j -4 route show default)\"; "
    # The whole answer is long on a node with many pods.
    "if systemctl -q is-active systemd-networkd; then networkctl --json=short list | "
    'grep -oE \'"(Name|NetworkFile)":"[^"]*"\' | sed \'s/^/link /\'; fi; '
    "if systemctl -q is-active NetworkManager; then nmcli -t -f DEVICE,STATE device | sed 's/^/device /'; fi; "
    f"for f in {' '.join(OWN_FILES)}; do "
    '[ -f "$f" ] && printf "file %s %.64s %s\\n" "$(stat -c "%a %U %G" "$f")" "$(sha256sum <"$f")" "$f"; done',
)


@dataclass(frozen=True)
class NetworkState:
    """A host's network.

    Attributes:
        active: which of NetworkManager, systemd-networkd and networking (ifupdown) run.
        netplan: whether netplan writes the files of one of these.
        in_netplan: interfaces that a file of netplan's names, other than ours.
        has_networkd: whether systemd-networkd could be started.
        ifupdown: interfaces of /etc/network/interfaces.
        addresses: IPv4 addresses by interface.
        gateways: interface and router of each default route.
        network_files: by which file systemd-networkd configures an interface.
        unmanaged: interfaces that NetworkManager leaves alone.
        files: the files of ours.
    """

    active: frozenset[str] = frozenset()
    netplan: bool = False
    in_netplan: frozenset[str] = frozenset()
    has_networkd: bool = False
    ifupdown: frozenset[str] = frozenset()
    addresses: dict[str, tuple[IPv4Interface, ...]] = field(default_factory=dict)
    gateways: tuple[tuple[str, str], ...] = ()
    network_files: dict[str, str] = field(default_factory=dict)
    unmanaged: frozenset[str] = frozenset()
    files: dict[str, PathState] = field(default_factory=dict)

    def interface(self, lan: IPv4Network, address: IPv4Address, reached_at: IPv4Address | None) -> str | None:
        """The interface of the LAN: the one that has the node's address, or the one that we came by, or one in it."""
        for wanted in (address, reached_at):
            for name, addresses in self.addresses.items():
                if wanted in [found.ip for found in addresses]:
                    return name
        inside = [name for name, addresses in self.addresses.items() if any(found.ip in lan for found in addresses)]
        routed = list(dict.fromkeys(name for name, _ in self.gateways))
        return inside[0] if len(inside) == 1 else routed[0] if len(routed) == 1 else None

    def is_networkmanagers(self, interface: str) -> bool:
        """Whether NetworkManager sets the addresses of an interface, on netplan's behalf or not."""
        return "NetworkManager" in self.active and interface not in self.unmanaged

    def manager(self, interface: str) -> Manager | None:
        """Who is to set the addresses of an interface; None when it is something that we can't tell what to do."""
        if self.netplan and self.active & {"NetworkManager", "systemd-networkd"}:
            return "netplan"
        if self.is_networkmanagers(interface):
            return "NetworkManager"
        if "systemd-networkd" in self.active:
            return "networkd"
        if interface in self.ifupdown or not self.has_networkd:
            return None
        return "networkd"


def network_state(snapshot: Snapshot) -> NetworkState | None:
    """The host's network; None when it could not be read."""
    rows: dict[str, list[str]] = {}
    for line in snapshot.probes.get(PROBE[0], []):
        word, _, rest = line.partition(" ")
        rows.setdefault(word, []).append(rest)
    try:
        return _parsed(rows)
    except (KeyError, IndexError, ValueError):
        return None


def _parsed(rows: dict[str, list[str]]) -> NetworkState:
    units = ("NetworkManager", "systemd-networkd", "networking")
    states = rows["units"][0].split()
    devices = [row.rpartition(":") for row in rows.get("device", [])]
    files = [row.split(" ", 4) for row in rows.get("file", [])]
    return NetworkState(
        active=frozenset(unit for unit, state in zip(units, states, strict=True) if state == "active"),
        netplan="netplan" in rows,
        in_netplan=frozenset(row.rstrip(":") for row in rows.get("netplan-names", [])),
        has_networkd="has-networkd" in rows,
        ifupdown=frozenset(row.split()[1] for row in rows.get("ifupdown", [])),
        addresses={
            link["ifname"]: tuple(
                IPv4Interface(f"{found['local']}/{found['prefixlen']}")
                for found in link["addr_info"]
                if found.get("scope") == "global"
            )
            for link in json.loads(rows["addresses"][0])
            if link
        },
        gateways=tuple(
            (route["dev"], route["gateway"]) for route in json.loads(rows["routes"][0] or "[]") if "gateway" in route
        ),
        network_files=_network_files(rows.get("link", [])),
        unmanaged=frozenset(device for device, _, state in devices if state == "unmanaged"),
        files={path: PathState("regular file", mode, user, group, digest) for mode, user, group, digest, path in files},
    )


def _network_files(links: list[str]) -> dict[str, str]:
    """From the lines `"Name":"..."`, each followed by `"NetworkFile":"..."` if there is one."""
    found, name = {}, ""
    for line in links:
        key, value = json.loads(f"[{line.replace(':', ',', 1)}]")
        if key == "Name":
            name = value
        else:
            found[name] = value
    return found
