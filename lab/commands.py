"""``picluster lab``: the verbs of the lab. What needs the extra ``lab`` is imported by the verbs only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from piclusterops.lab.state import LabError, default_name

if TYPE_CHECKING:
    from piclusterops.lab.fleet import Lab


@contextmanager
def _opened(name: str) -> Iterator[Lab]:
    """The lab called `name`; errors that the user can mend become one message and exit code 1."""
    try:
        from docker.errors import DockerException

        from piclusterops.lab.fleet import Lab
    except ImportError as error:
        raise click.ClickException(f"{error.name} is missing: pip install 'piclusterops[lab]'") from error
    try:
        yield Lab(name)
    except (LabError, DockerException, OSError) as error:
        raise click.ClickException(str(error)) from error


def _name_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--name", default=default_name, show_default="$PICLUSTEROPS_LAB or lab", help="Which lab, if there are several."
    )(command)


@click.group("lab")
def lab() -> None:
    """Hosts without hardware: containers that behave like Raspberry Pis, on networks with no way out."""


@lab.command()
@click.option("--nodes", type=int, help="How many nodes: 4, or those that the lab has.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(["master", "worker", "data_node"]),
    help="Role of each node in turn; once for each node.",
)
@_name_option
def up(nodes: int | None, roles: tuple[str, ...], name: str) -> None:
    """Start the lab; the first time this builds an image, which takes minutes."""
    with _opened(name) as it:
        it.up(len(roles) if roles else nodes, roles or None)
        _show(it)


@lab.command()
@_name_option
def down(name: str) -> None:
    """Remove the lab: containers, networks, route and keys. What was built or downloaded stays cached."""
    with _opened(name) as it:
        it.down()
    click.echo(f"Nothing is left of lab {name}.")


@lab.command()
@_name_option
def status(name: str) -> None:
    """Show the hosts. Exit code 1 when one of them is not running."""
    with _opened(name) as it:
        states = _show(it)
    if any(state != "running" for state in states.values()):
        raise SystemExit(1)


@lab.command(context_settings={"ignore_unknown_options": True})
@click.argument("host")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_name_option
def ssh(host: str, command: tuple[str, ...], name: str) -> None:
    """Log in to HOST, or run COMMAND there."""
    with _opened(name) as it:
        argv = it.ssh_command(host)
        os.execvp(argv[0], [*argv, *command])


@lab.command()
@click.argument("host")
@click.option("-n", "--lines", default=200, show_default=True, help="How many lines from the end.")
@_name_option
def logs(host: str, lines: int, name: str) -> None:
    """Print the end of HOST's journal."""
    with _opened(name) as it:
        click.echo(it.logs(host, lines), nl=False)


def _show(it: Lab) -> dict[str, str]:
    fleet, states = it.fleet, it.status()
    table = Table(title=f"Lab {fleet.name}, {'stand-in K3s' if fleet.standin else 'K3s'} {fleet.k3s_version}")
    for column in ("Host", "Role", "Address", "State"):
        table.add_column(column)
    for host in fleet.hosts:
        state = states[host.name]
        table.add_row(host.name, host.role, host.address, state, style=None if state == "running" else "red")
    Console().print(table)
    return states
