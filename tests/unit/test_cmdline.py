"""The editor of cmdline.txt: one line, nothing lost, the memory cgroup asked for once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piclusterops import cmdline

PI_OS = "console=serial0,115200 console=tty1 root=PARTUUID=4a6b1e2c-02 rootfstype=ext4 fsck.repair=yes rootwait"

GOLDEN = {
    "as flashed": (f"{PI_OS}\n", f"{PI_OS} cgroup_enable=memory\n"),
    "as flashed, trixie": (
        f"{PI_OS} resize ds=nocloud;i=rpios-image cfg80211.ieee80211_regdom=CH\n",
        f"{PI_OS} resize ds=nocloud;i=rpios-image cfg80211.ieee80211_regdom=CH cgroup_enable=memory\n",
    ),
    "no newline at the end": (PI_OS, f"{PI_OS} cgroup_enable=memory\n"),
    "trailing blanks": (f"{PI_OS}  \t\n", f"{PI_OS} cgroup_enable=memory\n"),
    "written on Windows": (f"{PI_OS}\r\n", f"{PI_OS} cgroup_enable=memory\n"),
    "right already": (f"cgroup_enable=memory {PI_OS}\n", f"cgroup_enable=memory {PI_OS}\n"),
    "right already, without a newline": (f"{PI_OS} cgroup_enable=memory", f"{PI_OS} cgroup_enable=memory"),
    "the docs of K3s": (
        f"{PI_OS} cgroup_memory=1 cgroup_enable=memory\n",
        f"{PI_OS} cgroup_memory=1 cgroup_enable=memory\n",
    ),
    "twice": (f"cgroup_enable=memory {PI_OS} cgroup_enable=memory\n", f"cgroup_enable=memory {PI_OS}\n"),
    "disabled": (f"cgroup_disable=memory {PI_OS}\n", f"{PI_OS} cgroup_enable=memory\n"),
    "disabled among others": (
        f"cgroup_disable=cpuset,memory {PI_OS}\n",
        f"cgroup_disable=cpuset {PI_OS} cgroup_enable=memory\n",
    ),
    "enabled among others": (
        f"{PI_OS} cgroup_enable=cpuset,memory\n",
        f"{PI_OS} cgroup_enable=cpuset cgroup_enable=memory\n",
    ),
    "a second line by tee -a": (
        f"{PI_OS}\ncgroup_memory=1 cgroup_enable=memory\n",
        f"{PI_OS} cgroup_memory=1 cgroup_enable=memory\n",
    ),
    "a second line with another root, which was ignored and stays so": (
        f"{PI_OS}\nroot=/dev/sda2 quiet\n",
        f"{PI_OS} quiet cgroup_enable=memory\n",
    ),
    "a comment that someone left": (f"{PI_OS}\n# old: root=/dev/sda2\n", f"{PI_OS} cgroup_enable=memory\n"),
    "an empty first line": (f"\n{PI_OS}\n", f"{PI_OS} cgroup_enable=memory\n"),
    "a quoted value with blanks": (
        'dyndbg="file drivers/usb/* +p" root=/dev/mmcblk0p2\n',
        'dyndbg="file drivers/usb/* +p" root=/dev/mmcblk0p2 cgroup_enable=memory\n',
    ),
}


@pytest.mark.parametrize(("before", "after"), GOLDEN.values(), ids=GOLDEN.keys())
def test_the_memory_cgroup_is_asked_for(before: str, after: str) -> None:
    assert cmdline.with_memory_cgroup(before) == after


@pytest.mark.parametrize("text", ["", "\n", " \r\n\t\n"])
def test_an_empty_file_is_refused_for_root_cannot_be_invented(text: str) -> None:
    with pytest.raises(ValueError, match="root="):
        cmdline.with_memory_cgroup(text)


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(ValueError, match="quote"):
        cmdline.with_memory_cgroup(f'{PI_OS} dyndbg="file x\n')


def test_the_running_kernel_was_asked_even_if_the_firmware_said_no_before() -> None:
    assert cmdline.asks_for_memory("reboot=w cgroup_disable=memory root=/dev/mmcblk0p2 cgroup_enable=memory")
    assert not cmdline.asks_for_memory("reboot=w cgroup_disable=memory root=/dev/mmcblk0p2 cgroup_enable=cpuset")


_WORDS = st.one_of(
    st.sampled_from(
        ["cgroup_enable=memory", "cgroup_disable=memory", "cgroup_enable=cpuset,memory", "cgroup_disable=memory,io"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"'), min_size=1, max_size=20),
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"'), max_size=10).map(
        lambda text: f'key="{text}"'
    ),
)
_BLANKS = st.text(" \t", min_size=1, max_size=3)


@st.composite
def _lines(draw: st.DrawFn) -> str:
    words = draw(st.lists(_WORDS, min_size=1, max_size=12))
    return "".join(word + draw(_BLANKS) for word in words)


def _others(words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith(("cgroup_enable=", "cgroup_disable="))]


@settings(deadline=None)
@given(_lines(), st.sampled_from(["", "\n", "\r\n", "\n\n"]))
def test_one_line_results_that_keeps_every_unknown_parameter_in_order(line: str, end: str) -> None:
    after = cmdline.with_memory_cgroup(line + end)
    assert len(after.splitlines()) == 1
    assert _others(cmdline.tokens(after)) == _others(cmdline.tokens(line))


@settings(deadline=None)
@given(st.lists(_lines(), min_size=1, max_size=3), st.sampled_from(["\n", "\r\n"]))
def test_memory_is_enabled_once_and_disabled_nowhere(lines: list[str], newline: str) -> None:
    after = cmdline.tokens(cmdline.with_memory_cgroup(newline.join(lines)))
    assert after.count("cgroup_enable=memory") == 1
    lists = [
        word.partition("=")[2].split(",") for word in after if word.startswith(("cgroup_disable=", "cgroup_enable="))
    ]
    assert sum("memory" in values for values in lists) == 1


@settings(deadline=None)
@given(st.lists(_lines(), min_size=1, max_size=3), st.sampled_from(["\n", "\r\n"]))
def test_editing_twice_changes_nothing_more(lines: list[str], newline: str) -> None:
    once = cmdline.with_memory_cgroup(newline.join(lines))
    assert cmdline.with_memory_cgroup(once) == once


@settings(deadline=None)
@given(st.text())
def test_no_text_makes_it_fail_in_another_way(text: str) -> None:
    try:
        after = cmdline.with_memory_cgroup(text)
    except ValueError:
        assert not text.strip() or '"' in text
    else:
        assert cmdline.asks_for_memory(after)
