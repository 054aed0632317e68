"""A node's own addresses and VLANs, changed so that the node undoes what cuts it off."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface
from shlex import quote
from typing import Any

from pyinfra import host
from pyinfra.api import FunctionCommand, operation
from pyinfra.api.host import Host
from pyinfra.api.state import State

from piclusterops.facts.armed import is_pending
from piclusterops.facts.network import NetworkState, network_state
from piclusterops.facts.snapshot import Query, snapshot_of
from piclusterops.network_files import Manager, Network, Present, Tagged, connection_ids, files
from piclusterops.operations.armed import ArmedChange, Confirmation, NewConnection, armed
from piclusterops.operations.managed import ManagedFile, refuse, unknown_state
from piclusterops.session import ssh_command
from piclusterops.settings import Cluster, Node

NAME = "network"
#: How long a manager gets to set the addresses, in seconds: netplan restarts NetworkManager, and a link takes its time.
_SETTLE_S = 20
#: How long a former address may take to come back before it is set by hand, in seconds.
_RETURN_S = 8
_LEAST_TIMER_S = 20


@operation()
def addresses(node: str, cluster: Cluster, query: Query) -> Any:
    """
    Give a node the addresses and VLANs of the inventory, confirmed by a new connection to where it then answers.

    + node: name of the node; the operation does nothing on any other host
    + cluster: the cluster; the settings of the node say what is wanted
    + query: the role's query

    To be called on every host for every node, in the same order. A node that asks for nothing is left alone, unless an
    earlier run has set something: that is taken back.
    """
    if host.name != node:
        host.noop(f"this is about {node}")
        return
    snapshot = snapshot_of(query)
    state = network_state(snapshot) if snapshot else None
    if snapshot is None or state is None:
        yield unknown_state()
        return
    member = cluster.node(node)
    asked = member.settings.static_address or bool(member.settings.vlans)
    if not asked and not state.files and not is_pending(snapshot, NAME):
        host.noop("no address or VLAN is asked for")
        return
    reached_at = _resolved(host)
    interface = member.settings.interface or state.interface(
        cluster.settings.lan_cidr, member.settings.address, reached_at
    )
    manager = state.manager(interface) if interface else None
    fault = _fault(host, state, interface, manager, member)
    if fault or interface is None or manager is None:
        yield refuse(f"{host.name}: {fault}")
        return
    network = wanted_network(cluster, member, interface)
    wanted = {
        path: ManagedFile(content, mode)
        for path, (content, mode) in files(manager, network, node, _present(state, interface)).items()
    }
    if _is_so(state, network, wanted) and not is_pending(snapshot, NAME):
        host.noop("the addresses are as the inventory has them")
        return
    stale = sorted(set(state.files) - set(wanted))
    moving = _moves_away(state, network, reached_at)
    port = int(host.data.get("ssh_port") or 22)
    timeout_s = max(cluster.settings.armed_timeout_s, _LEAST_TIMER_S)
    yield armed(
        ArmedChange(
            name=NAME,
            files=wanted,
            check=_check(state, manager, network),
            fingerprint=fingerprint(network),
            # It gets half of the time; what is left is for the manager's own work.
            apply=apply(manager, network, stale, min(_SETTLE_S, timeout_s // 2 - 4)),
            rollback=rollback(manager, network, stale),
            persist="systemctl enable --quiet systemd-networkd.service" if manager == "networkd" and wanted else "",
            paths=((member.address, port),) if moving else (None,),
            confirm=(_confirmation(network),),
            timeout_s=timeout_s,
        )
    )
    if moving:
        yield FunctionCommand(_remember, (member.address,), {})


def wanted_network(cluster: Cluster, node: Node, interface: str) -> Network:
    """What the inventory asks of a node."""
    settings = node.settings
    static = settings.static_address
    return Network(
        interface,
        IPv4Interface(f"{settings.address}/{cluster.settings.lan_cidr.prefixlen}") if static else None,
        settings.gateway if static else None,
        settings.dns if static else (),
        tuple(Tagged(name, vlan.id, vlan.address) for name, vlan in settings.vlans.items()),
    )


def _resolved(target: Host) -> IPv4Address | None:
    """The address that SSH goes to, when that can be told."""
    with suppress(OSError, ValueError):
        return IPv4Address(socket.gethostbyname(target.data.get("ssh_hostname") or target.name))
    return None


def _fault(
    target: Host, state: NetworkState, interface: str | None, manager: Manager | None, member: Node
) -> str | None:
    """Why the addresses can't be set; None when they can."""
    look = f"{ssh_command(target)} ip -br address"
    if interface is None:
        return f"it can't be told which interface is in the LAN. Next: {look}; and set interface for this node"
    if interface not in state.addresses:
        return f"it has no interface {interface}. Next: {look}; and correct interface for this node"
    if manager is None:
        cause = "ifupdown (/etc/network/interfaces)" if interface in state.ifupdown else "something we don't know"
        return (
            f"the addresses of {interface} are set by {cause}, and not by NetworkManager or systemd-networkd. "
            "Next: set them there, or reserve them at the DHCP server, and leave out static_address and vlans"
        )
    only_vlans = bool(member.settings.vlans) and not member.settings.static_address
    if manager == "networkd" and only_vlans and _former_file(state, interface) is None:
        return (
            f"no file of systemd-networkd but ours configures {interface}, so it can't put VLANs on it. "
            "Next: set static_address = True for this node as well"
        )
    return None


def _former_file(state: NetworkState, interface: str) -> str | None:
    """The file that systemd-networkd configures an interface by, when it is not ours."""
    file = state.network_files.get(interface)
    return None if file in state.files else file


def _present(state: NetworkState, interface: str) -> Present:
    return Present(_former_file(state, interface), interface in state.in_netplan, state.is_networkmanagers(interface))


def _is_so(state: NetworkState, network: Network, wanted: Mapping[str, ManagedFile]) -> bool:
    written = state.files == {path: file.state for path, file in wanted.items()}
    there = all(address in state.addresses.get(device, ()) for device, address in network.addresses.items())
    return written and there


def _moves_away(state: NetworkState, network: Network, reached_at: IPv4Address | None) -> bool:
    """Whether the address that SSH goes to will not be there any more."""
    if network.address is None or reached_at == network.address.ip:
        return False
    return reached_at in [address.ip for address in state.addresses.get(network.interface, ())]


# -- shell --------------------------------------------------------------------------------------------------


def _shown(interface: str) -> str:
    return f"ip -4 -o addr show dev {quote(interface)} scope global 2>/dev/null | awk '{{ print $4 }}'"


def fingerprint(network: Network) -> str:
    """Shell that prints what identifies the state of a host's network."""
    routes = f"ip -4 route show default dev {quote(network.interface)} | awk '{{ print $2 }}'"
    return (
        "; ".join(_shown(device) for device in (network.interface, *map(network.device, network.vlans))) + f"; {routes}"
    )


def _check(state: NetworkState, manager: Manager, network: Network) -> str:
    """Shell that refuses an address that another machine has, and files that netplan does not understand."""
    lines = []
    own = {address.ip for addresses in state.addresses.values() for address in addresses}
    if network.address and network.address.ip not in own:
        address = network.address.ip
        lines.append(
            f"if command -v ping >/dev/null && ping -c 2 -i 0.3 -W 1 -q {address} >/dev/null 2>&1 || "
            f"ip -4 neigh show to {address} | grep -q lladdr; then echo 'another machine has {address}'; exit 1; fi"
        )
    if manager == "netplan":
        lines.append(
            'root=$(mktemp -d); trap \'rm -rf "$root"\' EXIT; mkdir -p "$root/etc" "$root/lib"; '
            'cp -a /etc/netplan "$root/etc/"; [ ! -d /lib/netplan ] || cp -a /lib/netplan "$root/lib/"; '
            '[ ! -d "$new" ] || cp -a "$new/." "$root/"; netplan generate --root-dir "$root"'
        )
    return "\n".join(lines)


_WAIT = """\
wait_for() { # device address seconds
    i=0
    until ip -4 -o addr show dev "$1" 2>/dev/null | grep -qF " $2 "; do
        i=$((i + 1))
        [ "$i" -le "$3" ] || { echo "$1 does not get $2"; return 1; }
        sleep 1
    done
}"""
# nmcli would make up a profile where there is none, and keep it; what NetworkManager makes up itself is nowhere kept.
_CONNECT = f"""\
profiles() {{ nmcli -g CONNECTIONS.AVAILABLE-CONNECTIONS device show "$1"; }}
connect() {{ # device
    if [ -z "$(profiles "$1")" ]; then
        systemctl restart NetworkManager.service
        i=0
        until [ -n "$(profiles "$1")" ] || [ "$i" -ge {_RETURN_S} ]; do i=$((i + 1)); sleep 1; done
    fi
    nmcli --wait {_RETURN_S} device connect "$1"
}}"""

_UNITS = ("NetworkManager.service", "systemd-networkd.service")
_NETWORKD_IS_ACTIVE = "systemctl -q is-active systemd-networkd.service"


def apply(manager: Manager, network: Network, stale: Sequence[str], settle_s: int = _SETTLE_S) -> str:
    """Shell that puts the files into force, after it has noted what was; it fails when an address does not come."""
    device = quote(network.interface)
    steps = [
        _WAIT,
        f'ip -4 route show default dev {device} >"$staged/routes"',
        'ip -br link | cut -d" " -f1 | cut -d@ -f1 >"$staged/devices"',
        f'for u in {" ".join(_UNITS)}; do if systemctl -q is-active $u; then echo $u; fi; done >"$staged/active"',
    ]
    if manager == "NetworkManager":
        steps.append(
            f'nmcli -t -f UUID,DEVICE connection show --active | sed -n "s/:"{device}"$//p" >"$staged/connection"'
        )
    # Last, because this one says that all was noted.
    steps.append(f'{_shown(network.interface)} >"$staged/addresses"')
    steps += [f'mv -f {quote(path)} "$staged/stale-{number}"' for number, path in enumerate(stale)]
    if stale and manager == "networkd":
        steps.append("rmdir /etc/systemd/network/*.network.d 2>/dev/null || :")
    steps.append(_activation(manager, network, settle_s))
    # systemd-networkd forgets a VLAN whose file is gone, and leaves its interface up until the next boot.
    steps += [
        f'sed -n \'s/^Name=//p\' "$staged/stale-{number}" | while read -r d; do ip link delete "$d" || :; done'
        for number, path in enumerate(stale)
        if path.endswith(".netdev")
    ]
    steps += [f"wait_for {quote(name)} {address} {settle_s}" for name, address in network.addresses.items()]
    return "\n".join(steps)


def _activation(manager: Manager, network: Network, settle_s: int) -> str:
    device = quote(network.interface)
    if manager == "netplan":
        return "netplan apply"
    if manager == "NetworkManager":
        ups = [f"nmcli --wait {settle_s} connection up id {quote(name)}" for name in connection_ids(network)]
        return "\n".join([_CONNECT, "nmcli connection reload", *(ups or [f"connect {device}"])])
    return (
        # The latter also drops what others have set: from now on it is as after a boot.
        f"if {_NETWORKD_IS_ACTIVE}; then networkctl reload; else systemctl start systemd-networkd.service; fi\n"
        f"networkctl reconfigure {device}"
    )


def rollback(manager: Manager, network: Network, stale: Sequence[str]) -> str:
    """Shell that puts back what `apply` noted, by hand where the manager does not: a node must be reachable again."""
    device = quote(network.interface)
    steps = [
        f'if [ -e "$staged/stale-{number}" ]; then mkdir -p "$(dirname {quote(path)})"; '
        f'mv -f "$staged/stale-{number}" {quote(path)}; fi'
        for number, path in enumerate(stale)
    ]
    if manager == "networkd":
        steps.append("rmdir /etc/systemd/network/*.network.d 2>/dev/null || :")
    if manager == "netplan":
        # Its generator has run already, and has read what was not confirmed.
        steps.append('if [ "$boot" = yes ]; then netplan generate; fi')
    steps += ['if [ "$boot" = yes ] || [ ! -e "$staged/addresses" ]; then exit 0; fi', _deactivation(manager, device)]
    for vlan in network.vlans:
        name = quote(network.device(vlan))
        steps.append(f'grep -qxF {name} "$staged/devices" || ip link delete {name} 2>/dev/null || :')
    steps.append(
        # Where nobody manages the interface, waiting is in vain.
        f'i=0; while [ -e "$staged/managed" ] && [ -s "$staged/addresses" ] && [ "$i" -lt {_RETURN_S} ] && '
        f'! {_shown(network.interface)} | grep -qxF -f "$staged/addresses"; do i=$((i + 1)); sleep 1; done'
    )
    if network.address:
        steps.append(
            f'grep -qxF {network.address} "$staged/addresses" || '
            f"ip addr del {network.address} dev {device} 2>/dev/null || :"
        )
    if network.gateway:
        steps.append(
            f'grep -qF "via {network.gateway} " "$staged/routes" || '
            f"ip route del default via {network.gateway} dev {device} 2>/dev/null || :"
        )
    steps.append(
        f'while read -r a; do {_shown(network.interface)} | grep -qxF "$a" || '
        f'ip addr add "$a" brd + dev {device} || :; done <"$staged/addresses"'
    )
    steps.append(
        f'[ -n "$(ip -4 route show default dev {device})" ] || while read -r r; do '
        f'ip route replace $r dev {device} || :; done <"$staged/routes"'
    )
    return "\n".join(steps)


def _deactivation(manager: Manager, device: str) -> str:
    if manager == "netplan":
        # It stops the manager, and may fail before it starts it again.
        return (
            ': >"$staged/managed"; netplan apply || :\n'
            'while read -r u; do systemctl -q is-active "$u" || systemctl start "$u" || :; done <"$staged/active"'
        )
    if manager == "NetworkManager":
        return (
            f'{_CONNECT}\n: >"$staged/managed"; nmcli connection reload || :\n'
            f'read -r c <"$staged/connection" && nmcli --wait {_RETURN_S} connection up uuid "$c" || '
            f"connect {device} || :"
        )
    return (
        f'if grep -qx systemd-networkd.service "$staged/active"; then : >"$staged/managed"; networkctl reload || :; '
        f"networkctl reconfigure {device} || :; "
        "else systemctl stop systemd-networkd.socket systemd-networkd.service || :; fi"
    )


# -- what must hold over the new connection -----------------------------------------------------------------


def _confirmation(network: Network) -> Confirmation:
    def confirm(connection: NewConnection) -> str | None:
        for device, address in network.addresses.items():
            shell = f"ip -4 -o addr show dev {quote(device)} | grep -qF ' {address} '"
            if not connection.run(shell, 10).ok:
                return f"{device} does not have {address}"
        if network.gateway and not connection.run(_answers(network.gateway, network.interface), 10).ok:
            return f"the gateway {network.gateway} does not answer in the LAN"
        return None

    return confirm


def _answers(gateway: IPv4Address, interface: str) -> str:
    """Shell that succeeds when a machine of the LAN has this address, whether it answers pings or not."""
    return (
        f"ping -c 1 -W 1 -q {gateway} >/dev/null 2>&1 || "
        f"ip -4 neigh show to {gateway} dev {quote(interface)} | grep -q lladdr"
    )


def _remember(state: State, host: Host, address: str) -> bool:
    """Let the rest of the run, and every connection that it makes, go to the node's new address."""
    former = host.data.get("ssh_hostname") or host.name
    host.data.ssh_hostname = address
    host.connector.data["ssh_hostname"] = address
    host.log_styled(
        f"{host.name}: it answers at {address} now, and no longer at {former}. "
        f'Next: set ssh_hostname = "{address}" for it in the inventory, before the next run',
        fg="yellow",
    )
    return True
