"""noatime on the root file system, and on no other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piclusterops.fstab import has_root, with_noatime

BOOT = "PARTUUID=4a6b1e2c-01  /boot/firmware  vfat    defaults          0       2\n"
PI_OS = f"proc            /proc           proc    defaults          0       0\n{BOOT}"

GOLDEN = {
    "as flashed": (
        f"{PI_OS}PARTUUID=4a6b1e2c-02  /  ext4  defaults,noatime  0  1\n",
        f"{PI_OS}PARTUUID=4a6b1e2c-02  /  ext4  defaults,noatime  0  1\n",
    ),
    "Debian": (
        f"{BOOT}UUID=1-2\t/\text4\terrors=remount-ro\t0\t1\n",
        f"{BOOT}UUID=1-2\t/\text4\terrors=remount-ro,noatime\t0\t1\n",
    ),
    "relatime": ("LABEL=root / ext4 relatime,rw 0 1\n", "LABEL=root / ext4 rw,noatime 0 1\n"),
    "contradiction": ("LABEL=root / ext4 noatime,strictatime 0 1\n", "LABEL=root / ext4 noatime 0 1\n"),
    "short line": ("LABEL=root / ext4 defaults", "LABEL=root / ext4 defaults,noatime"),
    "commented out": ("# LABEL=root / ext4 defaults 0 1\n", "# LABEL=root / ext4 defaults 0 1\n"),
}


@pytest.mark.parametrize(("before", "after"), GOLDEN.values(), ids=GOLDEN.keys())
def test_the_root_gets_noatime(before: str, after: str) -> None:
    assert with_noatime(before) == after


def test_a_container_has_no_root_entry() -> None:
    assert not has_root("# UNCONFIGURED FSTAB FOR BASE SYSTEM\n")
    assert not has_root(PI_OS)
    assert has_root(f"{PI_OS}LABEL=root / ext4 defaults 0 1\n")


@settings(deadline=None)
@given(st.lists(st.one_of(st.just("LABEL=root / ext4 rw,relatime 0 1"), st.text(max_size=40)), max_size=6))
def test_editing_twice_changes_nothing_more_and_no_other_line_changes(lines: list[str]) -> None:
    text = "\n".join(lines)
    once = with_noatime(text)
    assert with_noatime(once) == once
    before, after = text.splitlines(), once.splitlines()
    assert len(before) == len(after)
    assert all(old == new or " / " in " ".join(old.split()) for old, new in zip(before, after, strict=True))
