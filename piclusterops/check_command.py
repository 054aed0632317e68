"""``picluster check``: look at everything before a deploy, and change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import click
from pyinfra.api.exceptions import InventoryError
from rich.console import Console

from piclusterops.check import CLUSTER, Finding, Result
from piclusterops.check_report import show
from piclusterops.inventory import environment_path, load_inventory
from piclusterops.survey import check_inventory


@click.command()
@click.option(
    "--env", default="prod", show_default=True, help="Environment: the name of a file in inventories/, or a path."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Ask this host only; may be repeated.")
def check(env: str, as_json: bool, hosts: tuple[str, ...]) -> None:
    """Look for what will go wrong: settings, SSH, sudo, boards, disks, clocks, ports, network. Changes nothing.

    Exit code 0: no errors (there may be warnings); 1: errors; 2: the command line is wrong.
    """
    result = _result(env, hosts, as_json)
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    else:
        show(result, Console())
    raise SystemExit(1 if result.has_errors else 0)


def _result(env: str, hosts: tuple[str, ...], as_json: bool) -> Result:
    try:
        path = environment_path(env)
    except InventoryError as error:
        raise click.UsageError(str(error)) from error
    if not path.is_file():
        raise click.UsageError(f"There is no inventory {path}.")
    try:
        inventory = load_inventory(path)
    except InventoryError as error:
        cause, _, fix = str(error).partition("\nNext: ")
        return Result(path.stem, (), (Finding("error", CLUSTER, "settings", cause, "", fix),))
    known = [host.name for host in inventory]
    strangers = [name for name in hosts if name not in known]
    if strangers:
        raise click.UsageError(f"{', '.join(strangers)} is not in {path}; there are {', '.join(known)}.")
    message = f"asking {', '.join(hosts or known)}; this takes a few seconds ..."
    with Console(stderr=True, quiet=as_json).status(message):
        return check_inventory(inventory, f"pyinfra -y {_relative(path)} deploys/site.py", hosts)


def _relative(path: Path) -> Path:
    """As one types it in the current directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
