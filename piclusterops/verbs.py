"""What the verbs of the command line have in common: the environment they work on, and how they fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from pyinfra.api import Inventory
from pyinfra.api.exceptions import PyinfraError

from piclusterops.artefacts import ArtefactError
from piclusterops.catalogue import CatalogueError
from piclusterops.inventory import environment_path, load_inventory
from piclusterops.session import CommandFailed, HostUnreachable
from piclusterops.settings import Cluster
from piclusterops.validation import cluster_from_inventory

env_option = click.option(
    "--env", default="prod", show_default=True, help="Environment: the name of a file in inventories/, or a path."
)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the errors that a user can mend into one message and exit code 1."""
    try:
        yield
    except (HostUnreachable, CommandFailed, PyinfraError, ArtefactError, CatalogueError) as error:
        raise click.ClickException(str(error)) from error


def load(env: str) -> tuple[Path, Inventory, Cluster]:
    """The inventory of an environment and the validated cluster in it.

    Raises:
        pyinfra.api.exceptions.PyinfraError: there is none, or it can't work.
    """
    path = environment_path(env)
    inventory = load_inventory(path)
    return path, inventory, cluster_from_inventory(inventory)
