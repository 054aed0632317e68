"""Helm values: with their secret part hidden, and what differs between two sets of them. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

HIDDEN = "(hidden)"
HIDDEN_CHANGED = "(hidden, changed)"
#: Shorter ones are not replaced in texts: they would make every text unreadable, and hide nothing.
_SHORTEST_SECRET = 4

_Path = tuple[str, ...]


def leaves(values: Mapping[str, Any], path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    """Every value that is no mapping, with its path; a list is one value."""
    for key, value in values.items():
        here = (*path, str(key))
        if isinstance(value, Mapping) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def difference(
    old: Mapping[str, Any], new: Mapping[str, Any], secret: Mapping[str, Any], had_secrets: bool = False
) -> list[str]:
    """What changes in the values of a release, as lines of a unified diff of YAML; empty when nothing does.

    Args:
        old: all its values as they are, secret ones too.
        new: the values without the secret ones.
        secret: the secret values, which go over the others. They are hidden on both sides, and so is what stands
            in their place now.
        had_secrets: whether some of `old` were secret; then what is neither in `new` nor in `secret` is hidden too.
    """
    hidden = dict(leaves(secret))
    before = {path: _shown_before(path, value, hidden, new, had_secrets) for path, value in leaves(old)}
    after = {path: value for path, value in leaves(new) if not _covers(path, hidden)}
    for path, value in hidden.items():
        after[path] = HIDDEN if _at(old, path) == value else HIDDEN_CHANGED
    lines = difflib.unified_diff(_yaml(before), _yaml(after), n=2, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _shown_before(
    path: _Path, value: Any, hidden: Mapping[_Path, Any], new: Mapping[str, Any], had_secrets: bool
) -> Any:
    if _covers(path, hidden) or (had_secrets and _at(new, path) is _NOTHING):
        return HIDDEN
    return value


def _covers(path: _Path, hidden: Mapping[_Path, Any]) -> bool:
    """Whether a secret value is at, above or below a path."""
    return any(path[: len(other)] == other or other[: len(path)] == path for other in hidden)


_NOTHING = object()


def _at(values: Any, path: _Path) -> Any:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return _NOTHING
        values = values[key]
    return values


def _yaml(flat: Mapping[_Path, Any]) -> list[str]:
    nested: dict[str, Any] = {}
    for path, value in sorted(flat.items()):
        inner = nested
        for key in path[:-1]:
            below = inner.setdefault(key, {})
            inner = below if isinstance(below, dict) else inner.setdefault(f"{key} ", {})
        inner[path[-1]] = value
    return yaml.safe_dump(nested, sort_keys=True, width=1000).splitlines() if nested else []


def secret_texts(secret: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts that must be seen nowhere, longest first."""
    found: set[str] = set()
    for _, value in leaves(secret):
        found |= set(_texts(value))
    return tuple(sorted(found, key=lambda text: (-len(text), text)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool):
        text = str(value)
        yield from (line for line in {text, *text.splitlines()} if len(line) >= _SHORTEST_SECRET)


def without(text: str, secrets: Sequence[str]) -> str:
    """A text with every secret in it replaced."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text
