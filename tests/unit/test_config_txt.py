"""Editing config.txt: sections by board, one block of our own, every other line kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piclusterops import config_txt
from piclusterops.config_txt import BEGIN, END, Wanted, effective, initramfs, model_filters, parameter, with_settings

PI_5 = "Raspberry Pi 5 Model B Rev 1.0"
PI_500 = "Raspberry Pi 500 Rev 1.0"
CM5 = "Raspberry Pi Compute Module 5 Rev 1.0"
PI_4 = "Raspberry Pi 4 Model B Rev 1.4"
CM4 = "Raspberry Pi Compute Module 4 Rev 1.0"
FUTURE = "Raspberry Pi 9 Model B Rev 1.0"
MODELS = (PI_5, PI_500, CM5, PI_4, CM4, "Raspberry Pi 3 Model B Plus Rev 1.3", FUTURE)

FOUR_K = Wanted(kernel="kernel8.img")
ALL = Wanted(kernel="kernel8.img", parameters=(("watchdog", "on"), ("pciex1", "on"), ("pciex1_gen", "3")))

# As flashed, shortened.
PI_OS = """\
# For more options and information see
# http://rptl.io/configtxt
dtparam=audio=on
camera_auto_detect=1
auto_initramfs=1
dtoverlay=vc4-kms-v3d
arm_64bit=1

[cm4]
otg_mode=1

[cm5]
dtoverlay=dwc2,dr_mode=host

[all]
"""
BLOCK = f"{BEGIN}\n[all]\nkernel=kernel8.img\n{END}\n"
WHOLE = f"""\
{BEGIN}
[all]
kernel=kernel8.img
dtoverlay=
dtparam=watchdog=on
dtparam=pciex1=on
dtparam=pciex1_gen=3
{END}
"""

GOLDEN = {
    "as flashed": (PI_OS, FOUR_K, PI_OS + BLOCK),
    "everything": (PI_OS, ALL, PI_OS + WHOLE),
    "nothing wanted": (PI_OS, Wanted(), PI_OS),
    "empty file": ("", FOUR_K, BLOCK),
    "no last newline": ("arm_64bit=1", FOUR_K, f"arm_64bit=1\n{BLOCK}"),
    "windows line ends": ("arm_64bit=1\r\n[pi4]\r\n", FOUR_K, "arm_64bit=1\r\n[pi4]\r\n" + BLOCK.replace("\n", "\r\n")),
    "already so for this board": ("[pi5]\nkernel=kernel8.img\n", FOUR_K, "[pi5]\nkernel=kernel8.img\n"),
    "for another board": ("[cm4]\nkernel=kernel8.img\n", FOUR_K, f"[cm4]\nkernel=kernel8.img\n{BLOCK}"),
    "taken back later": (
        "kernel=kernel8.img\n[pi5]\nkernel=kernel_2712.img\n",
        FOUR_K,
        f"kernel=kernel8.img\n[pi5]\nkernel=kernel_2712.img\n{BLOCK}",
    ),
    "only with a certain monitor": (
        "kernel=kernel8.img\n[EDID=DEL-U24]\nkernel=kernel_2712.img\n",
        FOUR_K,
        f"kernel=kernel8.img\n[EDID=DEL-U24]\nkernel=kernel_2712.img\n{BLOCK}",
    ),
    "in a file that is included": ("include extra.txt\n", FOUR_K, f"include extra.txt\n{BLOCK}"),
    "commented out": ("#kernel=kernel8.img\n", FOUR_K, f"#kernel=kernel8.img\n{BLOCK}"),
    "blanks, which the firmware does not skip": (
        "kernel = kernel8.img\n",
        FOUR_K,
        f"kernel = kernel8.img\n{BLOCK}",
    ),
    "an old block": (f"a=1\n{BLOCK}", ALL, f"a=1\n{WHOLE}"),
    "a block that somebody wrote below": (f"a=1\n{BLOCK}b=2\n", ALL, f"a=1\n{WHOLE}b=2\n"),
    "a block that no longer wins": (
        f"[pi4]\na=1\n{BLOCK}kernel=kernel_2712.img\n",
        FOUR_K,
        f"[pi4]\na=1\n[all]\nkernel=kernel_2712.img\n{BLOCK}",
    ),
    "no longer wanted": (f"[pi4]\na=1\n{BLOCK}", Wanted(), "[pi4]\na=1\n"),
    "no longer wanted, with lines below": (
        f"[pi4]\na=1\n{WHOLE}b=2\n",
        Wanted(),
        "[pi4]\na=1\n[all]\ndtoverlay=\nb=2\n",
    ),
    "no longer wanted, with a section below": (
        f"[pi4]\na=1\n{BLOCK}# x\n[all]\nb=2\n",
        Wanted(),
        "[pi4]\na=1\n# x\n[all]\nb=2\n",
    ),
    "a block without its end": (f"{BEGIN}\n[all]\nkernel=kernel8.img\n", FOUR_K, "[all]\nkernel=kernel8.img\n"),
}


@pytest.mark.parametrize(("before", "wanted", "after"), GOLDEN.values(), ids=GOLDEN.keys())
def test_the_settings_become_effective_on_a_pi_5(before: str, wanted: Wanted, after: str) -> None:
    assert with_settings(before, PI_5, wanted) == after


def test_a_board_that_we_do_not_know_is_told() -> None:
    assert with_settings("", FUTURE, FOUR_K) == BLOCK


def test_a_pi_4_has_4_kib_pages_as_flashed() -> None:
    assert with_settings(PI_OS, PI_4, FOUR_K) == PI_OS


SECTIONS = """\
x=none
[pi5]
x=pi5
[cm5]
x=cm5
[pi500]
x=pi500
[pi4]
x=pi4
[cm4]
x=cm4
"""


@pytest.mark.parametrize(
    ("model", "value"),
    [(PI_5, "pi5"), (CM5, "cm5"), (PI_500, "pi500"), (PI_4, "pi4"), (CM4, "cm4"), (MODELS[5], "none")],
)
def test_a_board_sees_the_sections_of_its_family_and_its_own(model: str, value: str) -> None:
    assert effective(SECTIONS, "x", model, "none") == {value}


def test_a_board_that_we_do_not_know_may_have_any_of_them() -> None:
    assert model_filters(FUTURE) is None
    assert effective(SECTIONS, "x", FUTURE, "none") == {"none", "pi5", "cm5", "pi500", "pi4", "cm4"}


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("[all]", {"2"}),
        ("[pi5]", {"2"}),
        ("[pi4]", {"1"}),
        ("[none]", {"1"}),
        ("[none]\n[pi5]", {"1", "2"}),
        ("[none]\n[all]", {"2"}),
        ("[EDID=VSC-TD2220]", {"1", "2"}),
        ("[0x12345678]", {"1", "2"}),
        ("[gpio4=1]", {"1", "2"}),
        ("[HDMI:0]", {"1", "2"}),
        ("[tryboot]", {"1", "2"}),
        ("[boot_partition=2]", {"1", "2"}),
        ("[board-type=0x17]", {"1", "2"}),
        ("[board-type=0x17]\n[pi5]", {"2"}),
        ("[EDID=VSC-TD2220]\n[pi4]", {"1"}),
        ("[EDID=VSC-TD2220]\n[pi4]\n[pi5]", {"1", "2"}),
        ("[pi4]\n[EDID=VSC-TD2220]", {"1"}),
        ("[pi4]\n[all]", {"2"}),
        ("[something new]", {"1", "2"}),
    ],
)
def test_filters_of_different_kinds_add_up_and_of_one_kind_replace_each_other(section: str, values: set[str]) -> None:
    assert effective(f"x=1\n{section}\nx=2\n", "x", PI_5, "0") == values


def test_a_line_counts_up_to_the_length_that_the_firmware_reads() -> None:
    assert effective(f"x={'1' * 200}\n", "x", PI_5, "0") == {"1" * 96}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {None}),
        ("dtparam=watchdog=on\n", {"on"}),
        ("dtparam=watchdog\n", {"on"}),
        ("dtparam=audio=on,watchdog=on\n", {"on"}),
        ("dtparam=watchdog=on\ndtparam=watchdog=off\n", {"off"}),
        ("device_tree_param=watchdog=on\n", {"on"}),
        ("dtoverlay=foo\ndtparam=watchdog=on\n", {None, "on"}),
        ("dtoverlay=foo\ndtoverlay=\ndtparam=watchdog=on\n", {"on"}),
        ("dtoverlay=foo\n[EDID=x]\ndtoverlay=\n[all]\ndtparam=watchdog=on\n", {None, "on"}),
        ("[pi4]\ndtparam=watchdog=on\n", {None}),
        ("include x.txt\ndtparam=watchdog=on\n", {None, "?", "on"}),
    ],
)
def test_a_parameter_is_the_boards_own_where_no_overlay_is_in_between(text: str, values: set[str | None]) -> None:
    assert parameter(text, "watchdog", PI_5) == values


def test_nvme_is_another_name_of_the_pcie_connector() -> None:
    assert parameter("dtparam=nvme\n", "pciex1", PI_5) == {"on"}


def test_an_initramfs_that_is_named_belongs_to_one_kernel() -> None:
    assert initramfs("auto_initramfs=1\n", PI_5) == frozenset()
    assert initramfs("initramfs initrd.img followkernel\n", PI_5) == {"initrd.img"}
    assert initramfs("[pi4]\ninitramfs initrd.img followkernel\n", PI_5) == frozenset()
    assert initramfs("ramfsfile=initrd.img\n", PI_5) == {"initrd.img"}


def test_our_own_kernel_is_the_one_in_our_block() -> None:
    assert config_txt.own_kernel(f"kernel=mine.img\n{BLOCK}") == "kernel8.img"
    assert config_txt.own_kernel("kernel=mine.img\n") is None


# -- for all files --------------------------------------------------------------------------------------------

_LINES = st.one_of(
    st.sampled_from(
        [
            *("[all]", "[pi4]", "[pi5]", "[cm5]", "[pi500]", "[none]", "[EDID=VSC-TD2220]", "[0x1234]", "[gpio4=1]"),
            *("[board-type=0x17]", "[tryboot]", "[broken", "[]", "# a comment", "", "include extra.txt"),
            *("kernel=kernel8.img", "kernel=kernel_2712.img", "kernel=vmlinuz", "kernel =kernel8.img"),
            *("dtoverlay=vc4-kms-v3d", "dtoverlay=", "dtparam=watchdog=on", "dtparam=watchdog=off", "dtparam=audio=on"),
            *("dtparam=nvme", "dtparam=pciex1=off", "dtparam=pciex1_gen=2", BEGIN, END, "gpu_mem=16"),
        ]
    ),
    st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=20),
)
_FILES = st.builds(
    lambda lines, end, last: end.join(lines) + (end if last else ""),
    st.lists(_LINES, max_size=15),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
_WANTED = st.builds(
    Wanted,
    st.sampled_from([None, "kernel8.img", "kernel_2712.img"]),
    st.sampled_from([(), (("watchdog", "on"),), (("pciex1", "on"), ("pciex1_gen", "3")), ALL.parameters]),
)
_MODELS = st.sampled_from(MODELS)
untimed = settings(deadline=None, max_examples=100)


def foreign(text: str) -> list[str]:
    """The lines that are not ours, without their ends."""
    lines, ours = [], False
    words = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    for number, line in enumerate(words):
        word = line.strip()
        if word == BEGIN and END in [later.strip() for later in words[number:]]:
            ours = True
        elif word == END:
            ours = False
        elif not ours and word != BEGIN:
            lines.append(line)
    return lines


@untimed
@given(_FILES, _MODELS, _WANTED)
def test_what_is_wanted_is_effective_for_certain(text: str, model: str, wanted: Wanted) -> None:
    after = with_settings(text, model, wanted)
    if wanted.kernel:
        assert effective(after, "kernel", model, config_txt.default_kernel(model)) == {wanted.kernel}
    for name, value in wanted.parameters:
        assert parameter(after, name, model) == {value}


@untimed
@given(_FILES, _MODELS, _WANTED)
def test_editing_twice_changes_nothing_more(text: str, model: str, wanted: Wanted) -> None:
    once = with_settings(text, model, wanted)
    assert with_settings(once, model, wanted) == once


@untimed
@given(_FILES, _MODELS, _WANTED)
def test_other_lines_stay_in_their_order(text: str, model: str, wanted: Wanted) -> None:
    before, after = foreign(text), iter(foreign(with_settings(text, model, wanted)))
    assert all(line in after for line in before)


@untimed
@given(_FILES, _MODELS, _WANTED)
def test_a_file_without_a_block_only_gets_one_at_its_end(text: str, model: str, wanted: Wanted) -> None:
    if BEGIN in text or END in text:
        return
    after = with_settings(text, model, wanted)
    assert after.startswith(text)
    assert after == text or after.rstrip().endswith(END)


@untimed
@given(_FILES, _FILES, _MODELS, _WANTED, _WANTED)
def test_other_settings_mean_what_they_meant(text: str, below: str, model: str, first: Wanted, then: Wanted) -> None:
    """Whatever we add and take away again, and whoever writes below it: no line gets into another section."""
    for marker in (BEGIN, END):
        text, below = text.replace(marker, ""), below.replace(marker, "")
    once = with_settings(text, model, first)
    assert effective(once, "gpu_mem", model, "") == effective(text, "gpu_mem", model, "")
    assert parameter(once, "audio", model) == parameter(text, "audio", model)
    grown = f"{once}\n{below}"
    twice = with_settings(grown, model, then)
    assert effective(twice, "gpu_mem", model, "") == effective(grown, "gpu_mem", model, "")
    assert parameter(twice, "audio", model) == parameter(grown, "audio", model)


@untimed
@given(_FILES, _MODELS, _WANTED)
def test_what_was_added_is_taken_away_without_a_trace(text: str, model: str, wanted: Wanted) -> None:
    bare = with_settings(text, model, Wanted())
    with_newline = bare if not bare or bare.endswith("\n") else bare + ("\r\n" if "\r\n" in bare else "\n")
    assert with_settings(with_settings(bare, model, wanted), model, Wanted()) in (bare, with_newline)


@untimed
@given(_FILES, _MODELS, _WANTED)
def test_line_ends_are_of_one_kind(text: str, model: str, wanted: Wanted) -> None:
    after = with_settings(text, model, wanted)
    if "\r\n" in text:
        assert after.count("\n") == after.count("\r\n")
