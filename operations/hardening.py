"""Operations that keep what is on a host from those it is not for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from piclusterops.facts.snapshot import Query, snapshot_of
from piclusterops.operations.managed import unknown_state
from pyinfra import host
from pyinfra.api import StringCommand, operation


def loose_files(patterns: Sequence[str]) -> str:
    """Shell that prints the files below the patterns that group or others may use, one a line."""
    # The patterns are ours and may hold wildcards, so that they are not quoted.
    return f"find {' '.join(patterns)} -maxdepth 0 -perm /077 -print"


@operation()
def private_paths(patterns: Sequence[str]) -> Any:
    """
    Take every permission on files and directories from group and others.

    + patterns: absolute paths, which may hold shell wildcards; what does not exist is passed over
    """
    snapshot = snapshot_of(Query(probes=(("loose", loose_files(patterns)),)))
    if snapshot is None:
        yield unknown_state()
        return
    if not snapshot.probes.get("loose"):
        host.noop("only root can read them")
        return
    yield StringCommand(f"{loose_files(patterns)} -exec chmod go-rwx {{}} + 2>/dev/null")
