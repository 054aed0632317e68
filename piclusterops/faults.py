"""What is wrong with an inventory, said so that its author can mend it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pyinfra.api.exceptions import PyinfraError

_SECRET_KEY = re.compile(r"passw|secret|token|credential|private|api_?key|^registries|connect_kwargs", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"PRIVATE KEY|passw|secret|token|://[^/\s]*@", re.IGNORECASE)
_LONGEST_VALUE = 70


@dataclass(frozen=True)
class Fault:
    """One fault: where it is, what it is, why it can't work, and what to write instead.

    ``value`` is already fit to be shown (see `shown`). ``host`` is None when the fault is one of the whole
    inventory. ``rule`` is the name of the rule that found it.
    """

    key: str
    value: str
    why: str
    fix: str
    host: str | None = None
    rule: str = ""


class SettingsError(PyinfraError):
    """An inventory can't work; the message lists all its faults and ends in what to do next.

    A subclass of pyinfra's error, so that pyinfra's command line prints the message, without a traceback,
    and ends with exit code 1.
    """

    faults: tuple[Fault, ...]

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(render(self.faults))


def render(faults: Iterable[Fault]) -> str:
    """The faults as text for a terminal, numbered, in the order given."""
    blocks = [_block(number, fault) for number, fault in enumerate(faults, start=1)]
    count = "1 fault" if len(blocks) == 1 else f"{len(blocks)} faults"
    return "\n\n".join(
        [
            f"The inventory has {count}; nothing was changed on any host.",
            *blocks,
            "Next: correct the inventory file, or its group_data folder, and run the same command again.\n"
            "      Every setting is explained in docs/reference/settings.md.",
        ]
    )


def _block(number: int, fault: Fault) -> str:
    where = f"  ({fault.host})" if fault.host else ""
    value = f" = {fault.value}" if fault.value else ""
    return f"{number:3}. {fault.key}{value}{where}\n     why: {fault.why}\n     fix: {fault.fix}"


def shown(key: str, value: Any) -> str:
    """A value as it may be shown: Python notation, shortened, and hidden when it may hold a secret."""
    text = literal(value)
    if _SECRET_KEY.search(key) or _SECRET_VALUE.search(text):
        return "(hidden)"
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 4]} ..."


def literal(value: Any) -> str:
    """A value as one writes it in an inventory."""
    if isinstance(value, str | IPv4Network | IPv4Address):
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    return repr(value)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None."""
    by_lower = {name.lower(): name for name in known}
    matches = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.65)
    return by_lower[matches[0]] if matches else None
