"""Answers of probes as text."""

from __future__ import annotations

import binascii
from base64 import b64decode

from piclusterops.facts.snapshot import Snapshot


def first_line(snapshot: Snapshot, probe: str) -> str:
    """The first line of a probe's answer; empty when there is none."""
    lines = snapshot.probes.get(probe) or [""]
    return lines[0].strip()


def decoded(encoded: str) -> str | None:
    """The text of a base64 answer; None when it is not UTF-8 text."""
    try:
        return b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
