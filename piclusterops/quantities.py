"""Quantities of Kubernetes (``256Mi``, ``4``, ``3900m``) as numbers."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([eE]\d+|[KMGTPE]i|[mkMGTPE]|)")
_BINARY = {f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {letter: 1000**power for power, letter in enumerate("kMGTPE", start=1)}


def number_of(quantity: str) -> Decimal:
    """The number that a quantity stands for: bytes of memory, cores of CPU.

    Raises:
        ValueError: it is no quantity (Kubernetes: Resource Management for Pods and Containers).
    """
    found = _QUANTITY.fullmatch(quantity.strip())
    if not found:
        raise ValueError(f"{quantity!r} is no Kubernetes quantity")
    digits, unit = found.groups()
    if unit == "m":
        return Decimal(digits) / 1000
    if unit[:1] in ("e", "E") and unit[1:].isdigit():
        return Decimal(f"{digits}e{unit[1:]}")
    return Decimal(digits) * (_BINARY.get(unit) or _DECIMAL.get(unit) or 1)


def mebibytes(quantity: str) -> int:
    """A quantity of memory in MiB, rounded down.

    Raises:
        ValueError: it is no quantity.
    """
    return int(number_of(quantity) // 2**20)


def millicores(quantity: str) -> int:
    """A quantity of CPU in thousandths of a core, rounded down.

    Raises:
        ValueError: it is no quantity.
    """
    return int(number_of(quantity) * 1000)
