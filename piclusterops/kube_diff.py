"""What ``kubectl diff`` prints, for people: by object, without temporary files. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_NOISE = ("generation: ", "resourceVersion: ")


def shown(lines: Sequence[str]) -> list[str]:
    """The changed lines with a little around them, after the name of each object.

    An object whose changes are bookkeeping of the API alone is left out.
    """
    found: list[str] = []
    for name, body in _objects(lines):
        changes = [line for line in body if line[:1] in "+-" and not line[1:].strip().startswith(_NOISE)]
        if changes:
            found += [name, *(f"  {line}" for line in body if not line[1:].strip().startswith(_NOISE))]
    return found


def _objects(lines: Sequence[str]) -> list[tuple[str, list[str]]]:
    objects: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("diff -u"):
            objects.append((_title(line.split(" ")[-1]), []))
        elif objects and not line.startswith(("--- ", "+++ ", "@@ ", "\\ No newline")):
            objects[-1][1].append(line)
    return objects


def _title(path: str) -> str:
    """Of a file named `[group.]version.kind.[namespace].name`: the part after the API version."""
    name = path.rpartition("/")[2]
    parts = name.split(".")
    for number, part in enumerate(parts):
        if part[:1].isupper():
            kind, namespace, rest = part, parts[number + 1], ".".join(parts[number + 2 :])
            return f"{kind} {namespace}/{rest}" if namespace else f"{kind} {rest}"
    return name
