"""What ``kubectl diff`` prints, for people: by object, without temporary files. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NOISE = ("generation: ", "resourceVersion: ")
#: Lines of the API's record of who owns which field; newer kubectls leave it out themselves.
_RECORD = re.compile(r'\s*(f:\S|k:\{|v:"|\.: \{\})')


def shown(lines: Sequence[str]) -> list[str]:
    """The changed lines with a little around them, after the name of each object.

    An object whose changes are bookkeeping of the API alone is left out.
    """
    found: list[str] = []
    for name, body in _objects(lines):
        kept = [line for line in _without_record(body) if not line[1:].strip().startswith(_NOISE)]
        if any(line[:1] in "+-" for line in kept):
            found += [name, *(f"  {line}" for line in kept)]
    return found


def _without_record(body: Sequence[str]) -> list[str]:
    """The lines but for `managedFields`, whose beginning may not be among them."""
    kept: list[str] = []
    inside = False
    for line in body:
        text = line[1:]
        if text.startswith("  managedFields:"):
            inside = True
        elif inside and not text.startswith(("  - ", "    ")):
            inside = False
        if not inside and not _RECORD.match(text):
            kept.append(line)
    return kept


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
