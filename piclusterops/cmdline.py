"""The kernel command line that the Raspberry Pi firmware reads from `cmdline.txt`.

The firmware reads the first line only. It puts `cgroup_disable=memory` in front of it, which
`cgroup_enable=memory` takes back (raspberrypi/linux#6980); `cgroup_memory=1` is not needed, and harmless.
"""

from __future__ import annotations

import re

MEMORY = "cgroup_enable=memory"

# A value may hold blanks between double quotes.
_TOKEN = re.compile(r'(?:"[^"]*"?|[^\s"])+')
_CGROUP_LISTS = ("cgroup_enable", "cgroup_disable")


def tokens(line: str) -> list[str]:
    """The parameters of one command line."""
    return _TOKEN.findall(line)


def asks_for_memory(line: str) -> bool:
    """Whether a kernel started with this line was asked for the memory controller."""
    return any("memory" in values for key, values in map(_cgroup_list, tokens(line)) if key == "cgroup_enable")


def with_memory_cgroup(text: str) -> str:
    """The content of `cmdline.txt` with the memory controller enabled.

    The result is one line. Unknown parameters are kept, in their order; `cgroup_enable=memory` is there exactly
    once, at its first place or else at the end; `memory` is taken out of `cgroup_disable`. Parameters on further
    lines, which the firmware has ignored so far (the usual remains of `tee -a`), are appended, except where the
    first line already sets the same parameter: what the host boots with wins. Further lines that begin with `#`
    are left out. A file that is right already is returned as it is.

    Raises:
        ValueError: there is no parameter at all (`root=` and the rest can't be invented), or a quote is not closed.
    """
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    if not lines:
        raise ValueError("it is empty, and the parameters it had (root=, console=) can't be invented")
    if any(line.count('"') % 2 for line in lines):
        raise ValueError("a double quote is never closed, so it is unclear where a parameter ends")
    first = tokens(lines[0])
    keys = {_key(token) for token in first} - set(_CGROUP_LISTS)
    strays = [token for line in lines[1:] if not line.lstrip().startswith("#") for token in tokens(line)]
    kept = _enable_memory(first + [token for token in strays if _key(token) not in keys])
    line = " ".join(kept)
    return text if text.removesuffix("\n") == line else f"{line}\n"


def _key(token: str) -> str:
    return token.partition("=")[0]


def _cgroup_list(token: str) -> tuple[str, list[str]]:
    key, _, values = token.partition("=")
    return (key, values.split(",")) if key in _CGROUP_LISTS else (key, [])


def _enable_memory(parameters: list[str]) -> list[str]:
    kept: list[str] = []
    for parameter in parameters:
        key, values = _cgroup_list(parameter)
        if "memory" not in values:
            kept.append(parameter)
            continue
        others = ",".join(value for value in values if value != "memory")
        if others:
            kept.append(f"{key}={others}")
        if key == "cgroup_enable" and MEMORY not in kept:
            kept.append(MEMORY)
    return kept if MEMORY in kept else [*kept, MEMORY]
