"""The VPN into the home network: its end on one node, and the way back to it on the others."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from shlex import quote
from socket import socket
from typing import Any

from pyinfra import host
from pyinfra.api import operation
from pyinfra.connectors.ssh import SSHConnector

from piclusterops.facts.snapshot import STAMP_DIR, PathState, Query, Snapshot, UnitState, snapshot_of
from piclusterops.facts.wireguard import ROUTE_STAMP, STAMP, in_kernel
from piclusterops.host_releases import PACKAGES, WIREGUARD
from piclusterops.operations.managed import BEGUN, ManagedFile, refuse, set_stamp, unknown_state, write_file
from piclusterops.operations.system import installation
from piclusterops.session import ssh_command
from piclusterops.settings import Cluster
from piclusterops.wireguard import (
    ROUTE_FILE,
    ROUTE_UNIT,
    Vpn,
    config_file,
    drop_in,
    key_file,
    unit_of,
    vpn_of,
)

_RUNNING = UnitState("active", "enabled")


def wanted_files(vpn: Vpn) -> dict[str, ManagedFile]:
    """The files of the node that ends the VPN; who its peers are is root's business only."""
    return {
        config_file(vpn.interface): ManagedFile(vpn.config, "600"),
        drop_in(vpn.interface): ManagedFile(vpn.drop_in),
    }


@operation()
def vpn_end(cluster: Cluster, query: Query) -> Any:
    """
    End the VPN on its node, and nowhere else.

    + cluster: the cluster
    + query: the role's query

    The private key is made on the node and never leaves it. Peers come and go without a break for the others; another
    port or address restarts the VPN. Where it is turned off, or moved away from, the unit and its files are removed and
    the key stays, so that the clients still fit when it is turned on again.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    vpn, before = vpn_of(cluster), snapshot.stamps.get(STAMP, "").split(" ")[0]
    if vpn is not None and vpn.node == host.name:
        yield from _end(cluster, vpn, snapshot, before)
    elif not before:
        host.noop("the VPN does not end here")
    elif fault := _cuts_us_off(cluster, vpn, snapshot):
        yield refuse(fault)
    else:
        yield _removal(before)


def _end(cluster: Cluster, vpn: Vpn, snapshot: Snapshot, before: str) -> Any:
    files, config = wanted_files(vpn), config_file(vpn.interface)
    differing = [path for path, file in files.items() if snapshot.paths.get(path) != file.state]
    running = snapshot.units.get(unit_of(vpn.interface)) == _RUNNING
    kernel, wanted = in_kernel(snapshot), vpn.in_force
    has_key = _is_private(snapshot.paths.get(key_file(vpn.interface)))
    if running and has_key and not differing and kernel == wanted and snapshot.stamps.get(STAMP) == vpn.mark:
        host.noop(f"the VPN ends here, with {len(vpn.peers)} peers")
        return
    if config in snapshot.paths and config in differing and before != vpn.interface:
        yield refuse(
            f"{host.name}: {config} is a file of your own, so the VPN was not set up. "
            f"Next: {ssh_command(host)} sudo wg-quick down {vpn.interface}, and move the file away; or set "
            'firewall = {"vpn_interface": ...} to another name'
        )
        return
    same_but_peers = running and has_key and _but_peers(kernel) == _but_peers(wanted)
    if not same_but_peers and before and (fault := _cuts_us_off(cluster, vpn, snapshot)):
        yield refuse(fault)
        return
    if before and before != vpn.interface:
        yield _removal(before)
    yield set_stamp(STAMP, f"{vpn.interface} {BEGUN}")
    if missing := [name for name in PACKAGES[WIREGUARD] if name not in snapshot.packages]:
        yield installation(missing)
    if not has_key:
        yield _new_key(key_file(vpn.interface))
    for path in differing:
        yield write_file(path, files[path])
    yield f"{_start(vpn, 'reload' if same_but_peers else 'restart')} && {set_stamp(STAMP, vpn.mark)}"


def _but_peers(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("peer ")]


def _is_private(state: PathState | None) -> bool:
    return state is not None and (state.kind, state.mode, state.user) == ("regular file", "600", "root")


def _new_key(path: str) -> str:
    """Shell that makes the private key, if there is none yet, or only makes it private."""
    return (
        f"umask 077; f={path}; mkdir -p -m 700 ${{f%/*}} && {{ [ -s $f ] || "
        "{ wg genkey >$f.new && sync $f.new && mv -f $f.new $f && sync ${f%/*}; }; } && "
        "chmod 600 $f && chown root:root $f"
    )


def _start(vpn: Vpn, how: str) -> str:
    unit = unit_of(vpn.interface)
    fault = (
        f"{host.name}: WireGuard does not run. Next: {ssh_command(host)} sudo journalctl -b -u {unit}; without the "
        "kernel's module wireguard, restart the node into the kernel that is installed"
    )
    return (
        f"{{ systemctl daemon-reload && systemctl enable --quiet {unit} && systemctl {how} {unit}; }} || "
        f"{{ echo {quote(fault)} >&2; exit 1; }}"
    )


def _removal(interface: str) -> str:
    unit, folder = unit_of(interface), drop_in(interface).rpartition("/")[0]
    return (
        f"{{ systemctl disable --quiet --now {unit} || ! systemctl is-active --quiet {unit}; }} && "
        f"rm -f {config_file(interface)} && rm -rf {folder} && systemctl daemon-reload && rm -f {STAMP_DIR}/{STAMP}"
    )


def _cuts_us_off(cluster: Cluster, vpn: Vpn | None, snapshot: Snapshot) -> str | None:
    """Why the change must be made from elsewhere: this very run comes by the VPN that it would restart or remove."""
    own = _own_address()
    addresses = [line.split()[1] for line in in_kernel(snapshot) if line.startswith("address ")]
    networks: list[IPv4Network] = [IPv4Interface(address).network for address in addresses]
    networks += [network for network in (vpn and vpn.network, cluster.settings.vpn_cidr) if network]
    if own is None or not any(own in network for network in networks):
        return None
    return (
        f"{host.name}: the VPN was left as it is: this change ends it for a while, and you come by it ({own}), so that "
        "you could be locked out. Next: run this again from within the LAN"
    )


def _own_address() -> IPv4Address | None:
    """This machine's address on the connection to the host; None when there is another way between."""
    connector = host.connector
    client = connector.client if isinstance(connector, SSHConnector) else None
    transport = client.get_transport() if client else None
    if transport is None or not isinstance(transport.sock, socket):
        return None
    try:
        return IPv4Address(transport.sock.getsockname()[0])
    except (OSError, ValueError):  # it ended, or has an IPv6 address
        return None


@operation()
def way_back(cluster: Cluster, query: Query) -> Any:
    """
    Keep the route to the VPN on the nodes that it does not end on.

    + cluster: the cluster
    + query: the role's query
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    vpn = vpn_of(cluster)
    if vpn is None or vpn.node == host.name:
        if ROUTE_STAMP in snapshot.stamps:
            yield (
                f"{{ systemctl disable --quiet --now {ROUTE_UNIT} || ! systemctl is-active --quiet {ROUTE_UNIT}; }} && "
                f"rm -f {ROUTE_FILE} && systemctl daemon-reload && rm -f {STAMP_DIR}/{ROUTE_STAMP}"
            )
        else:
            host.noop("no route to the VPN is wanted")
        return
    file = ManagedFile(vpn.route)
    same = snapshot.paths.get(ROUTE_FILE) == file.state
    if same and snapshot.units.get(ROUTE_UNIT) == _RUNNING and snapshot.stamps.get(ROUTE_STAMP) == file.state.sha256:
        host.noop(f"the way back to {vpn.network} is kept")
        return
    yield set_stamp(ROUTE_STAMP, BEGUN)
    if not same:
        yield write_file(ROUTE_FILE, file)
    yield (
        f"systemctl daemon-reload && systemctl enable --quiet {ROUTE_UNIT} && systemctl restart {ROUTE_UNIT} && "
        f"{set_stamp(ROUTE_STAMP, file.state.sha256)}"
    )
