"""Where PiClusterOps keeps its files on the machine that runs it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """What can be had again, and all that a lab leaves: ``$PICLUSTEROPS_CACHE`` or ``~/.cache/piclusterops``."""
    return Path(os.environ.get("PICLUSTEROPS_CACHE") or Path.home() / ".cache" / "piclusterops").absolute()
