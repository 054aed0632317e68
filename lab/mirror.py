"""The artefact mirror of a lab, laid out like the K3s releases."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Filled:
    """What a mirror holds: a K3s version, and whether it is the stand-in."""

    version: str
    standin: bool


def fill(mirror: Path) -> Filled:
    """Fill `mirror` with the default K3s version."""
    from piclusterops.settings import DEFAULT_K3S_VERSION

    return add_version(mirror, DEFAULT_K3S_VERSION)


def add_version(mirror: Path, version: str) -> Filled:
    mirror.mkdir(parents=True, exist_ok=True)
    return Filled(version, True)
