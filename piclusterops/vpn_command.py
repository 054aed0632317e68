"""``picluster vpn``: what a device needs to come in by the VPN, and who is in; changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import click
from pyinfra.api import Inventory
from rich.console import Console
from rich.table import Table

from piclusterops.faults import closest
from piclusterops.session import CommandFailed, connected, output_of
from piclusterops.settings import Cluster
from piclusterops.status import age_text
from piclusterops.verbs import env_option, load, plain_errors
from piclusterops.wireguard import Vpn, client_config, key_file, vpn_of

#: `wg show` words whose answers have a line for each peer. `dump` would have the private key in it.
_SHOWN = ("allowed-ips", "endpoints", "latest-handshakes", "transfer")


@dataclass(frozen=True)
class PeerState:
    """A peer as the node's kernel has it, or as the inventory wants it there; empty texts are unknown."""

    name: str
    public_key: str
    address: str
    endpoint: str = ""
    handshake_s: int | None = None
    received: int = 0
    sent: int = 0
    fault: str = ""


@click.group()
def vpn() -> None:
    """The VPN into the home network, which is made by pyinfra: pyinfra inventories/prod.py deploys/site.py"""


@vpn.command()
@env_option
@click.argument("name")
def client(env: str, name: str) -> None:
    """Print the configuration of a peer of `vpn_peers`, with a gap for the private key that only its device knows."""
    with plain_errors():
        path, inventory, cluster, wanted = _load(env)
        try:
            peer = wanted.peer(name)
        except KeyError:
            names = [known.name for known in wanted.peers]
            meant = closest(name, names)
            hint = f"did you mean {meant}?" if meant else f"vpn_peers has {', '.join(names) or 'none'}"
            raise CommandFailed(f"{name} is no peer of the VPN: {hint}\nNext: add it to vpn_peers of {path}") from None
        key = _answer(inventory, wanted, f"wg pubkey <{key_file(wanted.interface)}").strip()
    click.echo(client_config(cluster, wanted, peer, key), nl=False)


@vpn.command()
@env_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(env: str, as_json: bool) -> None:
    """Show the peers and when each was last heard. Exit code 1 when the peers are not those of the inventory."""
    with plain_errors():
        path, inventory, _, wanted = _load(env)
        shell = f'for w in {" ".join(_SHOWN)}; do wg show {wanted.interface} $w | sed "s/^/$w\t/" || exit; done'
        check = f"wg show {wanted.interface} listen-port >/dev/null && {shell}"
        states = peer_states(wanted, _answer(inventory, wanted, check).splitlines(), int(time.time()))
    faulty = [state for state in states if state.fault]
    if as_json:
        peers = [asdict(state) for state in states]
        click.echo(json.dumps({"node": wanted.node, "interface": wanted.interface, "peers": peers}, indent=2))
    else:
        Console().print(status_table(wanted, states))
    if faulty:
        click.echo(f"Next: pyinfra -y {path} deploys/wireguard.py", err=True)
        raise SystemExit(1)


def _load(env: str) -> tuple[str, Inventory, Cluster, Vpn]:
    path, inventory, cluster = load(env)
    wanted = vpn_of(cluster)
    if wanted is None:
        raise CommandFailed(
            f"The VPN of {env} is off.\n"
            'Next: platform_releases = {"wireguard": {"enabled": True}}, and vpn_cidr; see docs/how-to/vpn.md'
        )
    return str(path), inventory, cluster, wanted


def _answer(inventory: Inventory, wanted: Vpn, command: str) -> str:
    with connected(inventory, wanted.node) as host:
        try:
            return output_of(host, command)
        except CommandFailed as error:
            text = f"{error}\nNext: set the VPN up with deploys/site.py, or look: sudo journalctl -b -u wg-quick@*"
            raise CommandFailed(text) from error


def peer_states(wanted: Vpn, lines: Sequence[str], now: int) -> list[PeerState]:
    """The peers of the inventory in its order, then those that only the node has.

    Args:
        wanted: the VPN as it should be.
        lines: what ``wg show`` says, each line with the word that it was asked for and a tab before it.
        now: seconds since 1970.
    """
    rows = [line.split("\t") for line in lines]
    found = {word: {row[1]: row[2:] for row in rows if row[0] == word and len(row) > 2} for word in _SHOWN}
    names = {peer.public_key: peer.name for peer in wanted.peers}
    states = []
    for key in dict.fromkeys([*names, *found["allowed-ips"]]):
        address = (found["allowed-ips"].get(key) or [""])[0].removesuffix("/32")
        last = int((found["latest-handshakes"].get(key) or ["0"])[0])
        received, sent = (int(number) for number in found["transfer"].get(key) or ("0", "0"))
        endpoint = (found["endpoints"].get(key) or [""])[0].replace("(none)", "")
        age = max(now - last, 0) if last else None
        fault = _fault(wanted, key, address)
        states.append(PeerState(names.get(key, ""), key, address, endpoint, age, received, sent, fault))
    return states


def _fault(wanted: Vpn, key: str, address: str) -> str:
    peer = next((peer for peer in wanted.peers if peer.public_key == key), None)
    if peer is None:
        return "not in the inventory"
    if not address:
        return "not on the node"
    return "" if address == str(peer.address) else f"the inventory has {peer.address}"


def status_table(wanted: Vpn, states: Sequence[PeerState]) -> Table:
    """A row for each peer."""
    table = Table(title=f"VPN on {wanted.node} ({wanted.address}, UDP port {wanted.port})")
    for column in ("Peer", "Address", "Heard", "From", "Received", "Sent", ""):
        table.add_column(column, overflow="fold")
    for state in states:
        table.add_row(
            state.name or state.public_key,
            state.address or "-",
            "never" if state.handshake_s is None else f"{age_text(state.handshake_s)} ago",
            state.endpoint or "-",
            _size(state.received),
            _size(state.sent),
            f"[red]{state.fault}[/]" if state.fault else "",
        )
    return table


def _size(count: int) -> str:
    return f"{count} B" if count < 1024 else f"{count / 1024:.0f} KiB" if count < 1 << 20 else f"{count >> 20} MiB"
