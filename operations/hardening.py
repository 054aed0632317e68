"""Operations that keep what is on a host from those it is not for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, operation

from piclusterops.facts.snapshot import Query, snapshot_of
from piclusterops.operations.managed import unknown_state


def _find(patterns: Sequence[str], action: str) -> str:
    # The patterns are ours and may hold wildcards, so that they are not quoted; those that match nothing are no error.
    return f"{{ find {' '.join(patterns)} -maxdepth 0 -perm /077 {action} 2>/dev/null || true; }}"


def loose_paths(patterns: Sequence[str]) -> str:
    """Shell that prints the paths below the patterns that group or others may use, one a line."""
    return _find(patterns, "-print")


def take_from_others(patterns: Sequence[str]) -> str:
    """Shell that takes them from group and others; it fails when any stays as it was."""
    return f'{_find(patterns, "-exec chmod go-rwx {} +")}; test -z "$({loose_paths(patterns)})"'


@operation()
def private_paths(patterns: Sequence[str]) -> Any:
    """
    Take every permission on files and directories from group and others.

    + patterns: absolute paths, which may hold shell wildcards; what does not exist is passed over
    """
    snapshot = snapshot_of(Query(probes=(("loose", loose_paths(patterns)),)))
    if snapshot is None:
        yield unknown_state()
        return
    if not snapshot.probes.get("loose"):
        host.noop("only root can use them")
        return
    yield StringCommand(take_from_others(patterns))
