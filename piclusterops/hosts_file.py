"""The cluster's part of `/etc/hosts`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

BEGIN = "# BEGIN piclusterops"
END = "# END piclusterops"
_LOCALHOST = ("127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback")


def with_cluster(text: str, nodes: Sequence[tuple[str, str]], domain: str, own: str) -> str:
    """The content of `/etc/hosts` with one line per node of the cluster.

    The cluster's lines are kept between two markers, where they are or else at the end. All other lines stay, in
    their order, except that the names of the nodes are taken out of them: the resolver returns the first match, so
    an old address would hide the right one. Debian's `127.0.1.1` line for the host itself goes for the same reason.

    Args:
        text: the file as it is; may be empty.
        nodes: (address, name) of every node.
        domain: DNS domain of the nodes.
        own: name of the host that has the file.
    """
    names = {name for _, name in nodes} | {f"{name}.{domain}" for _, name in nodes}
    before, after = _around_block(text.splitlines())
    others = [_without(line, names, own) for line in before]
    rest = [_without(line, names, own) for line in after]
    head = [line for line in others if line is not None]
    tail = [line for line in rest if line is not None]
    if not any("localhost" in _fields(line)[1:] for line in head + tail):
        head = [*_LOCALHOST, *head]
    block = [BEGIN, *(f"{address} {name}.{domain} {name}" for address, name in nodes), END]
    return "\n".join([*head, *block, *tail]) + "\n"


def _around_block(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines before and after the block; without a whole block only stray markers are left out."""
    if BEGIN in lines and END in lines[lines.index(BEGIN) :]:
        start = lines.index(BEGIN)
        end = lines.index(END, start)
        return _unmarked(lines[:start]), _unmarked(lines[end + 1 :])
    return _unmarked(lines), []


def _unmarked(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line not in (BEGIN, END)]


def _fields(line: str) -> list[str]:
    return line.partition("#")[0].split()


def _without(line: str, names: set[str], own: str) -> str | None:
    """The line without these names; None when no name is left."""
    fields = _fields(line)
    if len(fields) < 2:
        return line
    address, *aliases = fields
    gone = {alias for alias in aliases if alias.lower() in names}
    if address == "127.0.1.1":
        gone |= {alias for alias in aliases if alias.lower().partition(".")[0] == own}
    if not gone:
        return line
    kept = [alias for alias in aliases if alias not in gone]
    if not kept:
        return None
    _, hash_sign, comment = line.partition("#")
    return " ".join([address, *kept]) + (f" {hash_sign}{comment}" if hash_sign else "")
