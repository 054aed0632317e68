"""Swap entries of /etc/fstab become comments, and nothing else changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piclusterops.swap import has_swap, without_swap

ROOT = "PARTUUID=4a6b1e2c-02  /  ext4  defaults,noatime  0  1\n"
MARK = "# Switched off by PiClusterOps: "

GOLDEN = {
    "as flashed": (ROOT, ROOT),
    "partition": (f"{ROOT}UUID=1-2 none swap sw 0 0\n", f"{ROOT}{MARK}UUID=1-2 none swap sw 0 0\n"),
    "file with tabs": (
        "/swapfile\tswap\tswap\tdefaults\t0\t0\n" + ROOT,
        f"{MARK}/swapfile\tswap\tswap\tdefaults\t0\t0\n{ROOT}",
    ),
    "short line": ("/swapfile none swap", f"{MARK}/swapfile none swap"),
    "a comment": ("# /swapfile none swap sw 0 0\n", "# /swapfile none swap sw 0 0\n"),
    "a directory of that name": ("/dev/sda1 /swap ext4 rw 0 0\n", "/dev/sda1 /swap ext4 rw 0 0\n"),
    "a file system that begins so": ("/dev/sda1 /x swapfs rw 0 0\n", "/dev/sda1 /x swapfs rw 0 0\n"),
}


@pytest.mark.parametrize(("before", "after"), GOLDEN.values(), ids=GOLDEN.keys())
def test_swap_entries_become_comments(before: str, after: str) -> None:
    assert without_swap(before) == after
    assert has_swap(before) == (before != after)
    assert not has_swap(after)


@settings(deadline=None)
@given(st.lists(st.one_of(st.just("/swapfile none swap sw 0 0"), st.text(max_size=40)), max_size=6))
def test_editing_twice_changes_nothing_more_and_nothing_is_lost(lines: list[str]) -> None:
    text = "\n".join(lines)
    once = without_swap(text)
    assert without_swap(once) == once
    assert once.replace(MARK, "") == text.replace(MARK, "")
