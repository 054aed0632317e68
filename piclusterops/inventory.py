"""Load inventory files as pyinfra's command line does.

All uses of pyinfra's command line internals are here; they are not a stable interface, hence ``pyinfra<4``.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pyinfra
from pyinfra.api.exceptions import InventoryError, PyinfraError
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State
from pyinfra.context import ctx_state
from pyinfra_cli.cli import cli  # type: ignore[import-untyped]
from pyinfra_cli.exceptions import CliError, UnexpectedExternalError  # type: ignore[import-untyped]
from pyinfra_cli.inventory import _get_groups_from_filename, make_inventory  # type: ignore[import-untyped]
from pyinfra_cli.util import PYTHON_CODES  # type: ignore[import-untyped]

_CHECKOUT = Path(__file__).resolve().parent.parent
#: Which file an inventory was loaded from.
_LOADED: WeakKeyDictionary[Inventory, str] = WeakKeyDictionary()


def environment_path(env: str, directory: Path | None = None) -> Path:
    """The inventory file of an environment: ``<directory>/<env>.py``; `env` may be the path of a file itself.

    Without a directory, ``inventories`` below the current directory, else that of the checkout.

    Raises:
        InventoryError: there is none; the message names those that exist.
    """
    if env.endswith(".py"):
        return Path(env)
    folders = [directory] if directory else [Path.cwd() / "inventories", _CHECKOUT / "inventories"]
    for folder in folders:
        if (folder / f"{env}.py").is_file():
            return folder / f"{env}.py"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.py")})
    looked = " and ".join(dict.fromkeys(str(folder) for folder in folders))
    there = f"There are: {', '.join(known)}." if known else "There is no inventory at all."
    raise InventoryError(
        f"There is no inventory {env}.py in {looked}. {there}\n"
        "Next: choose one of these with --env, or write it; inventories/prod.py is an example."
    )


def load_inventory(path: Path) -> Inventory:
    """The inventory in a file, with the data of its groups, as ``pyinfra <path> ...`` would read it.

    Raises:
        InventoryError: the file is missing, has an error, or says itself why it can't be used.
    """
    if not path.is_file():
        raise InventoryError(f"There is no inventory {path}.\nNext: check the path; --env names one of inventories/.")
    PYTHON_CODES.pop(str(path), None)  # pyinfra would not read a file again that changed since
    with ctx_state.use(State()):
        try:
            inventory: Inventory = make_inventory(str(path), cwd=str(Path.cwd()))
            _LOADED[inventory] = str(path)
            return inventory
        except InventoryError:
            raise
        except SyntaxError as error:
            raise _broken(Path(error.filename or path), f"line {error.lineno}: {error.msg}") from error
        except UnexpectedExternalError as error:
            cause = error.exception
            raise _broken(Path(error.filename), f"{_line_of(cause, error.filename)}{_describe(cause)}") from error
        except (PyinfraError, CliError, TypeError, ValueError) as error:
            raise _broken(path, str(error)) from error


def _broken(path: Path, cause: str) -> InventoryError:
    return InventoryError(
        f"The inventory can't be read: {path}: {cause}\nNext: correct the file; no host was contacted."
    )


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _line_of(error: Exception, filename: str) -> str:
    traceback, line = error.__traceback__, ""
    while traceback:
        if traceback.tb_frame.f_code.co_filename == filename:
            line = f"line {traceback.tb_lineno}: "
        traceback = traceback.tb_next
    return line


def repeated_hosts(inventory: Any) -> list[str]:
    """Names that the inventory's file lists more than once in one group.

    pyinfra merges such entries, so that the `Inventory` alone can't show that a node was left out. Empty when
    the inventory does not come from a file.
    """
    path = inventory_file(inventory)
    if path is None:
        return []
    with ctx_state.use(State()):
        groups = _get_groups_from_filename(str(path))
    repeated = []
    for listed in groups.values():
        entries = listed[0] if isinstance(listed, tuple) else listed
        counts = Counter(entry[0] if isinstance(entry, tuple) else entry for entry in entries)
        repeated += [name for name, count in counts.items() for _ in range(count - 1)]
    return repeated


def inventory_file(inventory: Any) -> Path | None:
    """The file of an inventory that `load_inventory` or pyinfra's command line loaded, if it is from one.

    pyinfra keeps no name of it, but it understands its own arguments: what it executed besides, such as the files of
    ``--group-data``, can look just like an inventory.
    """
    if inventory in _LOADED:
        return Path(_LOADED[inventory])
    if not pyinfra.is_cli:
        return None
    named = cli.make_context("pyinfra", sys.argv[1:], resilient_parsing=True).params["inventory"]
    # What is not there are names of hosts, and what was not executed is no file of this run.
    return Path(named) if named in PYTHON_CODES else None
