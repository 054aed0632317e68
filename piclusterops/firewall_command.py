"""``picluster firewall``: what the firewall is, what a host has of it, and whether it does as the matrix says."""

from __future__ import annotations

import difflib
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Literal

import click
from pyinfra.api import Inventory
from rich.console import Console
from rich.table import Table

from piclusterops.facts.firewall import DIGEST, FILE
from piclusterops.facts.snapshot import STAMP_DIR
from piclusterops.firewall import (
    decide,
    destinations,
    firewall_of,
    home_zone,
    matrix,
    matrix_table,
    zone_of,
)
from piclusterops.inventory import environment_path
from piclusterops.ruleset import compile_ruleset
from piclusterops.session import CommandFailed, connected, output_of
from piclusterops.settings import ROLES, Cluster, Node
from piclusterops.verbs import env_option, load, plain_errors
from piclusterops.zones import Address, Firewall, Verdict

#: What became of an attempt to connect: a packet that the firewall accepts is answered, by a service or by the kernel.
Outcome = Literal["open", "refused", "silent"]
_CONNECT_S = 3.0


@click.group()
def firewall() -> None:
    """Look at the firewall of the nodes: as the inventory has it, and as a host has it. Changes nothing."""


def _load(env: str) -> tuple[Inventory, Cluster]:
    _, inventory, cluster = load(env)
    if not cluster.settings.firewall.enabled:
        raise click.ClickException(f"{env} has no firewall (firewall = False).\nNext: set firewall = True")
    return inventory, cluster


def _node(cluster: Cluster, name: str) -> Node:
    try:
        return cluster.node(name)
    except KeyError:
        raise click.UsageError(
            f"There is no node {name}; there are {', '.join(n.name for n in cluster.nodes)}."
        ) from None


@firewall.command("matrix")
@env_option
@click.option("--role", "only", type=click.Choice(ROLES), help="Nodes of this role only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the rule or policy that decides.")
def matrix_command(env: str, only: str | None, as_json: bool) -> None:
    """Show who may open what on the nodes, by role, as the inventory has it."""
    with plain_errors():
        _, cluster = _load(env)
        wall = firewall_of(cluster)
    present = {node.role for node in cluster.nodes}
    roles = [role for role in ROLES if (role == only if only else role in present)]
    if as_json:
        records = {role: [cell.record() for cell in matrix(wall, role)] for role in roles}
        click.echo(json.dumps(records, indent=2))
        return
    for role in roles:
        Console().print(matrix_table(wall, role))


@firewall.command()
@env_option
@click.argument("host")
def show(env: str, host: str) -> None:
    """Print the ruleset of a node as the inventory has it, for nft."""
    with plain_errors():
        _, cluster = _load(env)
        click.echo(compile_ruleset(firewall_of(cluster).at(host), _node(cluster, host).role), nl=False)


@firewall.command()
@env_option
@click.argument("host")
def diff(env: str, host: str) -> None:
    """Show what a deploy would change in the firewall of a node. Exit code 1 when it is not as the inventory has it."""
    with plain_errors():
        inventory, cluster = _load(env)
        wanted = compile_ruleset(firewall_of(cluster).at(host), _node(cluster, host).role)
        with connected(inventory, host) as target:
            found = output_of(target, f"cat {FILE} 2>/dev/null || :")
            stamp, _, digest = output_of(target, f"cat {STAMP_DIR}/firewall || echo none; {DIGEST}").partition("\n")
    lines = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), f"{host}:{FILE}", "the inventory", lineterm="", n=1
    )
    changes = [*lines] if found.strip() != wanted.strip() else []
    for line in changes:
        click.echo(line)
    in_force = stamp.rpartition(":")[2] == digest.strip()
    if not in_force:
        click.echo(f"{host}: what is in force is not what was loaded: table inet piclusterops was changed or removed")
    if changes or not in_force:
        raise click.ClickException(f"Next: pyinfra -y {environment_path(env)} deploys/firewall.py")
    click.echo(f"{host}: the firewall is as the inventory has it")


@firewall.command("test")
@env_option
@click.argument("host")
def test_command(env: str, host: str) -> None:
    """Open TCP connections to a node, and compare with the matrix. Exit code 1 when one is not as it says.

    It tests what this machine may reach; run it in another zone to test that one.
    """
    with plain_errors():
        inventory, cluster = _load(env)
        node = _node(cluster, host)
        wall = firewall_of(cluster).at(node.name)
    data = inventory.get_host(host).data
    address = str(data.get("ssh_hostname") or host)
    with plain_errors():
        own = _own_address(address)
    zone = source_of(wall, own)
    ports = [row for row in destinations(wall, node.role) if row.proto == "tcp" and row.to in ("host", "nodeport")]
    with ThreadPoolExecutor(len(ports)) as pool:
        outcomes = [*pool.map(lambda row: attempt(address, row.port or 0), ports)]
    table = Table(title=f"From here ({own}, {zone}) to {host} ({address})")
    for column in ("to", "matrix", "found", "by", ""):
        table.add_column(column)
    wrong = 0
    for row, outcome in zip(ports, outcomes, strict=True):
        decision = decide(wall, node.role, zone, row, own.version)
        fine = agrees(decision.verdict, outcome)
        wrong += not fine
        table.add_row(
            str(row),
            str(decision.verdict),
            outcome,
            decision.origin,
            "[green]as it says[/]" if fine else "[red]WRONG[/]",
        )
    Console().print(table)
    if wrong:
        raise click.ClickException(
            f"{wrong} of {len(ports)} connections are not as the matrix says. Either another device between here and "
            f"{host} decides, or the host has other rules.\nNext: picluster firewall diff --env {env} {host}"
        )


def _own_address(address: str) -> Address:
    """The address that this machine has on the way to another one; nothing is sent."""
    try:
        family, _, _, _, target = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)
            return ip_address(probe.getsockname()[0])
    except OSError as error:
        raise CommandFailed(
            f"There is no way to {address}: {error}\nNext: check ssh_hostname in the inventory"
        ) from error


def source_of(wall: Firewall, own: Address) -> str:
    """The column of the matrix that an address is in."""
    names = [name for name, addresses in wall.nodes.items() if own in addresses]
    zone = zone_of(wall, own)
    if not names or zone != home_zone(wall):
        return zone
    return "servers" if names[0] in wall.servers else "nodes"


def attempt(address: str, port: int) -> Outcome:
    """Open a TCP connection: what became of it."""
    try:
        with socket.create_connection((address, port), timeout=_CONNECT_S):
            return "open"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"


def agrees(verdict: Verdict | None, outcome: Outcome) -> bool:
    """Whether an attempt went as a verdict says: where nothing listens, what is accepted is refused by the kernel."""
    allowed: dict[Verdict | None, tuple[Outcome, ...]] = {
        "accept": ("open", "refused"),
        "reject": ("refused",),
        "drop": ("silent",),
        None: (),
    }
    return outcome in allowed[verdict]
