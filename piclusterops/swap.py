"""Swap entries of `/etc/fstab`."""

from __future__ import annotations

import re

_MARK = "# Switched off by PiClusterOps: "
_ENTRY = re.compile(r"^\s*[^#\s]\S*\s+\S+\s+swap(\s|$)")


def has_swap(text: str) -> bool:
    """Whether something is mounted as swap at boot."""
    return any(_ENTRY.match(line) for line in text.splitlines())


def without_swap(text: str) -> str:
    """The content of `/etc/fstab` with its swap entries turned into comments; every other character stays."""
    return "".join(f"{_MARK}{line}" if _ENTRY.match(line) else line for line in text.splitlines(keepends=True))
