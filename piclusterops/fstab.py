"""Mount options of the root file system in `/etc/fstab`."""

from __future__ import annotations

import re

_ENTRY = re.compile(r"^(?P<head>\s*[^#\s]\S*\s+/\s+\S+\s+)(?P<options>\S+)(?P<tail>.*)$", re.DOTALL)
# Each of these says how access times are written: they exclude each other (mount(8)).
_ATIME = frozenset({"atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime"})


def has_root(text: str) -> bool:
    """Whether there is an entry for `/`; an image without one mounts its root in another way."""
    return any(_ENTRY.match(line) for line in text.splitlines())


def with_noatime(text: str) -> str:
    """The content of `/etc/fstab` with `noatime` on `/`, so that reading files writes nothing.

    Only the options of the entries for `/` change; every other character stays.
    """
    return "".join(_line(line) for line in text.splitlines(keepends=True))


def _line(line: str) -> str:
    entry = _ENTRY.match(line)
    if not entry:
        return line
    options = entry["options"].split(",")
    if "noatime" in options and not (_ATIME - {"noatime"}) & set(options):
        return line
    kept = [option for option in options if option not in _ATIME]
    return f"{entry['head']}{','.join([*kept, 'noatime'])}{entry['tail']}"
