"""Marks by which values can be recognised, but not guessed. Pure.

A mark of secret values lies where more people look than at the values themselves: in labels, annotations and the
output of `-vvv`. So it is salted, and slow to compute: scrypt (RFC 7914), some 10 ms and 4 MiB for each guess.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from hashlib import scrypt, sha256
from hmac import compare_digest
from typing import Any

#: Hexadecimal digits of a digest and of a salt: with a dot between them less than the 63 characters of a label.
_DIGITS = 40
_SALT_DIGITS = 16
_COST = 2**12


def digest_of(value: Any) -> str:
    """A digest of JSON-like values; whoever has it can try guesses, so it is not for secrets."""
    return sha256(canonical(value).encode()).hexdigest()[:_DIGITS]


def mark_of(secret: Mapping[str, Any]) -> str:
    """A new mark of secret values; each call gives another one."""
    salt = os.urandom(_SALT_DIGITS // 2).hex()
    return f"{salt}.{_slow(canonical(secret), salt)}"


def is_mark_of(mark: str, secret: Mapping[str, Any]) -> bool:
    """Whether a mark was made of these values."""
    salt, _, digest = mark.partition(".")
    return len(salt) == _SALT_DIGITS and compare_digest(digest.encode(), _slow(canonical(secret), salt).encode())


def canonical(value: Any) -> str:
    """The same text for the same values, in whatever order they were given."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@lru_cache(maxsize=256)
def _slow(text: str, salt: str) -> str:
    return scrypt(text.encode(), salt=salt.encode(), n=_COST, r=8, p=1).hex()[:_DIGITS]
