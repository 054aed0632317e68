"""Everything a role wants to know of a host, in one round trip."""

from __future__ import annotations

from dataclasses import dataclass, field
from shlex import quote

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from piclusterops.facts.cache import cached_fact

STAMP_DIR = "/var/lib/piclusterops/stamps"
_MARK = "@@"


@dataclass(frozen=True)
class Query:
    """What to read of a host. All fields are tuples, so that equal queries share one cached answer.

    Attributes:
        paths: files and directories whose type, owner, mode and SHA-256 are wanted.
        packages: Debian packages whose state is wanted.
        sysctls: kernel parameters, in dotted form.
        units: systemd units.
        probes: (name, shell) pairs; the shell's output lines are the answer. It must not change the host.
    """

    paths: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    probes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PathState:
    """A file or directory as it is: `kind` is what ``stat -c %F`` says, `sha256` is empty for a directory."""

    kind: str
    mode: str
    user: str
    group: str
    sha256: str = ""


@dataclass(frozen=True)
class UnitState:
    """A systemd unit.

    Attributes:
        active: its ActiveState, such as `active`, `activating`, `failed`.
        enabled: what ``is-enabled`` says of it, such as `enabled`, `masked`; empty for a unit that is not there.
        sub: its SubState at the same moment, such as `running`, `start`, `auto-restart`; no part of a comparison.
    """

    active: str
    enabled: str
    sub: str = field(default="", compare=False)


@dataclass
class Snapshot:
    """The answer to a `Query`. What is not on the host is missing from the mappings."""

    paths: dict[str, PathState] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    sysctls: dict[str, str] = field(default_factory=dict)
    units: dict[str, UnitState] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)
    probes: dict[str, list[str]] = field(default_factory=dict)


def _quoted(words: tuple[str, ...]) -> str:
    return " ".join(quote(word) for word in words)


def script(query: Query) -> str:
    """The POSIX shell that answers a query; it changes nothing and always ends with status 0."""
    lines = [f'for f in {STAMP_DIR}/*; do [ -f "$f" ] && printf \'stamp %s %s\\n\' "${{f##*/}}" "$(cat "$f")"; done']
    if query.paths:
        paths = _quoted(query.paths)
        lines.append(f"stat -c 'path %a %U %G %F|%n' -- {paths} 2>/dev/null")
        lines.append(f"sha256sum -- {paths} 2>/dev/null | sed 's/^/sha256 /'")
    if query.packages:
        lines.append(
            "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' -- "
            f"{_quoted(query.packages)} 2>/dev/null | sed -n 's/^ii  */package /p'"
        )
    if query.sysctls:
        lines.append(
            f"for k in {_quoted(query.sysctls)}; do "
            'f=/proc/sys/$(printf %s "$k" | tr . /); [ -r "$f" ] && printf \'sysctl %s %s\\n\' "$k" "$(cat "$f")"; done'
        )
    if query.units:
        lines.append(
            # Both states in one answer: a unit that ends its start between two questions would have states that don't
            # belong together. `sort` puts ActiveState before SubState.
            f"for u in {_quoted(query.units)}; do printf 'unit %s %s %s\\n' \"$u\" "
            '"$(systemctl is-enabled "$u" 2>/dev/null)" "$(systemctl show -p ActiveState -p SubState "$u" 2>/dev/null '
            "| sort | sed 's/.*=//' | tr '\\n' ' ')\"; done"
        )
    for name, shell in query.probes:
        lines.append(f"echo '{_MARK}{name}'; {{ {shell}\n}} 2>/dev/null </dev/null")
    lines.append(f"echo '{_MARK}'")
    return "\n".join(lines)


def parse(output: list[str]) -> Snapshot:
    """What the script printed, as a snapshot.

    Raises:
        ValueError: a line is not of the expected form, or the output was cut off.
    """
    snapshot = Snapshot()
    probe: list[str] | None = None
    if not output or output[-1] != _MARK:
        raise ValueError("the output was cut off")
    for line in output[:-1]:
        if line.startswith(_MARK):
            probe = snapshot.probes.setdefault(line.removeprefix(_MARK), [])
        elif probe is not None:
            probe.append(line)
        else:
            _parse_line(snapshot, line)
    return snapshot


def _parse_line(snapshot: Snapshot, line: str) -> None:
    word, _, rest = line.partition(" ")
    if word == "path":
        state, _, path = rest.partition("|")
        mode, user, group, kind = state.split(" ", 3)
        snapshot.paths[path] = PathState(kind, mode, user, group)
    elif word == "sha256":
        digest, path = rest.split("  ", 1)
        known = snapshot.paths[path]
        snapshot.paths[path] = PathState(known.kind, known.mode, known.user, known.group, digest)
    elif word == "package":
        snapshot.packages.add(rest.strip())
    elif word == "sysctl":
        key, _, value = rest.partition(" ")
        snapshot.sysctls[key] = " ".join(value.split())
    elif word == "unit":
        name, enabled, active, sub = [*rest.split(" "), "", "", ""][:4]
        snapshot.units[name] = UnitState(active, enabled, sub)
    elif word == "stamp":
        name, _, value = rest.partition(" ")
        snapshot.stamps[name] = value
    else:
        raise ValueError(f"unexpected line: {line!r}")


class HostSnapshot(FactBase[Snapshot | None]):
    """The answer to a `Query`; None when it could not be read."""

    def command(self, query: Query) -> str:
        return script(query)

    def process(self, output: list[str]) -> Snapshot:
        try:
            return parse(output)
        except (KeyError, ValueError) as error:
            raise FactProcessError(f"unexpected snapshot output: {error}") from error


def snapshot_of(query: Query) -> Snapshot | None:
    """The snapshot of the current host, read at most once between two changes of that host."""
    return cached_fact(HostSnapshot, query=query)
