"""Operations that manage files as sets: one read for all, each written whole, privately and atomically."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from shlex import quote
from typing import Any

from pyinfra import host
from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.host import Host
from pyinfra.api.state import State

from piclusterops.facts.snapshot import STAMP_DIR, PathState, Query, snapshot_of

Commands = Generator[str | StringCommand | FunctionCommand, None, None]


@dataclass(frozen=True)
class ManagedFile:
    """A file as it should be: text content, octal mode and owner."""

    content: str
    mode: str = "644"
    user: str = "root"
    group: str = "root"

    @property
    def state(self) -> PathState:
        """How the file looks in a snapshot once it is right."""
        kind = "regular file" if self.content else "regular empty file"
        return PathState(kind, self.mode, self.user, self.group, sha256(self.content.encode()).hexdigest())


def refuse(reason: str) -> FunctionCommand:
    """A command that fails this host only (an exception in an operation would stop every host)."""

    def fail(state: State, host: Host) -> bool:
        host.log_styled(reason, fg="red")
        return False

    return FunctionCommand(fail, (), {})


def unknown_state() -> FunctionCommand:
    """The refusal of an operation whose host could not be read: nothing is guessed."""
    return refuse(f"{host.name}: its state could not be read, so it is left alone. Try: ssh {host.name} sudo true")


def digest_of(files: Mapping[str, ManagedFile]) -> str:
    """One digest over paths, contents, modes and owners."""
    lines = [f"{path} {file.state.mode} {file.user} {file.group} {file.state.sha256}" for path, file in files.items()]
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()


#: Ending of a file that is being written. One name for each file, so that what a power cut left goes with the next try.
UNFINISHED = ".piclusterops-new"


def receive(content: str) -> str:
    """Shell that takes a content from its input into "$t", private and anew, and fails unless all of it came.

    A controller that dies while it sends looks like the end of the content.
    """
    digest = sha256(content.encode()).hexdigest()
    return f'umask 077 && rm -f "$t" && cat >"$t" && [ "$(sha256sum <"$t")" = "{digest}  -" ]'


def write_file(path: str, file: ManagedFile) -> StringCommand:
    """Write a file whole: content on stdin, private temporary file, digest, fsync, rename."""
    dest = quote(path)
    return StringCommand(
        f'd=$(dirname {dest}) && {{ [ -d "$d" ] || mkdir -p "$d"; }} && t={quote(path + UNFINISHED)} && '
        f"trap 'rm -f \"$t\"' EXIT && {receive(file.content)} && "
        f'chown {quote(file.user)}:{quote(file.group)} "$t" && chmod {quote(file.mode)} "$t" && '
        f'sync "$t" && mv -f "$t" {dest} && sync "$d"',
        _stdin=file.content,
    )


#: A stamp for as long as a change is under way: what is in force is unknown, and the next run finishes it.
BEGUN = "begun"


def set_stamp(name: str, value: str) -> str:
    """Shell that records on the host that `value` is in force, for the next run to compare."""
    path = f"{STAMP_DIR}/{name}"
    return (
        f"mkdir -p -m 755 {STAMP_DIR} && printf '%s\\n' {quote(value)} >{quote(path)}.new && "
        f"mv -f {quote(path)}.new {quote(path)}"
    )


@operation()
def file_set(files: Mapping[str, ManagedFile], query: Query, apply: str = "", stamp: str = "") -> Any:
    """
    Write text files, each atomically and never readable by others on the way.

    + files: map of remote path to file
    + query: the role's query; it must contain the paths
    + apply: shell that puts the files into force, such as a reload
    + stamp: name under which the host remembers what is in force; needed with `apply`

    `apply` also runs when an earlier run wrote the files but was stopped before it could apply them.
    Give the operation a name: without one pyinfra prints its arguments.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    changed = [path for path, file in files.items() if snapshot.paths.get(path) != file.state]
    for path in changed:
        yield write_file(path, files[path])
    digest = digest_of(files)
    if apply and (changed or snapshot.stamps.get(stamp) != digest):
        yield StringCommand(f"{{ {apply}\n}} && {set_stamp(stamp, digest)}")
    elif not changed:
        host.noop(f"{len(files)} files are up to date")
