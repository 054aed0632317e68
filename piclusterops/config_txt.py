"""The boot configuration that the Raspberry Pi firmware reads from `config.txt`.

Lines of `property=value` in sections whose filters say on which boards, monitors and so on they count. Sources:
documentation/asciidoc/computers/config_txt/ of raspberrypi/documentation. Whether a filter such as `[EDID=...]` holds
can't be told from a running host, so that a property has a set of possible values here; it is effective for certain
when there is one. `kernel` and the like take the last value, `dtparam` counts for the overlay before it, if any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

BEGIN = "# BEGIN PiClusterOps: changes up to END are overwritten"
END = "# END PiClusterOps"
#: The kernel with 4 KiB pages, for every board that runs in 64 bit.
KERNEL_4K = "kernel8.img"
#: The kernel with 16 KiB pages, which the firmware prefers on a Raspberry Pi 5.
KERNEL_16K = "kernel_2712.img"

#: The firmware ignores what is beyond it.
_LINE_LENGTH = 98
_UNKNOWN = "?"
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
# Boards by what the device tree calls them, and the model filters that hold for each; the first match counts.
_BOARDS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (pattern, frozenset(filters.split()))
    for pattern, filters in (
        (r"Compute Module 5\b", "pi5 cm5"),
        (r"Pi 500\b", "pi5 pi500"),
        (r"Pi 5\b", "pi5"),
        (r"Compute Module 4S\b", "pi4 cm4s"),
        (r"Compute Module 4\b", "pi4 cm4"),
        (r"Pi 400\b", "pi4 pi400"),
        (r"Pi 4\b", "pi4"),
        (r"Compute Module 3\b", "pi3"),
        (r"Pi 3 Model [AB] Plus\b", "pi3 pi3+"),
        (r"Pi 3\b", "pi3"),
        (r"Pi Zero 2\b", "pi0 pi0w pi02"),
        (r"Pi 2\b", "pi2"),
    )
)
_MODEL_FILTER = re.compile(r"(pi|cm)\d\w*\+?")
_ALIASES = {"nvme": "pciex1"}
_SWITCHES = {"": "on", "yes": "on", "y": "on", "true": "on", "1": "on", "no": "off", "n": "off", "false": "off"}


@dataclass(frozen=True)
class Wanted:
    """What is to be effective.

    Attributes:
        kernel: file name of the kernel image; None: whatever it is.
        parameters: (name, value) of parameters of the board's own device tree, such as ("watchdog", "on").
    """

    kernel: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()


def model_filters(model: str) -> frozenset[str] | None:
    """The model filters that hold for a board; None for one that we don't know."""
    return next((filters for pattern, filters in _BOARDS if re.search(pattern, model)), None)


def default_kernel(model: str) -> str:
    """The image that a 64-bit installation boots when `config.txt` names none; `?` on a board that we don't know."""
    filters = model_filters(model)
    if filters is None:
        return _UNKNOWN
    return KERNEL_16K if "pi5" in filters else KERNEL_4K


def effective(text: str, key: str, model: str, default: str) -> frozenset[str]:
    """The values that a property may have when a board of this model boots; one when it is certain."""
    values = {default}
    for line, certain in _applying(text, model):
        name, equals, value = line.partition("=")
        if line.split(" ")[0] == "include":
            values.add(_UNKNOWN)
        elif name == key and equals:
            values = {value} if certain else values | {value}
    return frozenset(values)


def parameter(text: str, name: str, model: str) -> frozenset[str | None]:
    """The values that a parameter of the board's device tree may have; None stands for its default."""
    values: set[str | None] = {None}
    base = True
    for line, certain in _applying(text, model):
        key, _, value = line.partition("=")
        if line.split(" ")[0] == "include":
            values.add(_UNKNOWN)
            base = False
        elif key in ("dtoverlay", "device_tree_overlay"):
            base = not value and (certain or base)
        elif key in ("dtparam", "device_tree_param"):
            for given in _parameter_values(value, name):
                values = {given} if certain and base else values | {given}
    return frozenset(values)


def initramfs(text: str, model: str) -> frozenset[str]:
    """The initramfs images that are named; without, the firmware takes the one of the kernel (`auto_initramfs`)."""
    found: set[str] = set()
    for line, certain in _applying(text, model):
        word, _, rest = line.partition(" ")
        key, _, value = line.partition("=")
        if word == "initramfs" and rest.strip():
            found = {rest.split()[0]} if certain else found | {rest.split()[0]}
        elif key == "ramfsfile":
            found = {value} if certain else found | {value}
    return frozenset(found)


def own_kernel(text: str) -> str | None:
    """The kernel that our block names."""
    lines = [line.strip() for line in _split(text)[1]]
    return next((line.partition("=")[2] for line in lines if line.startswith("kernel=")), None)


def with_settings(text: str, model: str, wanted: Wanted) -> str:
    """The content of `config.txt` with the wanted settings effective for a board of this model.

    What the rest of the file does not say already is said in a block of our own, which stays where it is as long as it
    is effective there, and else goes to the end. All other lines stay, in their order and with their line ends, and in
    the sections they were in: where a block goes away above other lines, the `[all]` that it began with remains.
    """
    head, block, tail = _split(text)
    end = "\r\n" if "\r\n" in text[: text.find("\n") + 1] else "\n"
    bare = "".join([*head, *_remains(block, tail, end), *tail])
    missing = _missing(bare, model, wanted)
    if not missing:
        return bare
    new = [f"{line}{end}" for line in (BEGIN, "[all]", *missing, END)]
    if block:
        replaced = "".join([*head, *new, *tail])
        if not _missing(replaced, model, wanted):
            return replaced
    return "".join([bare, end if bare and not bare.endswith("\n") else "", *new])


def _missing(text: str, model: str, wanted: Wanted) -> list[str]:
    """The lines that make the wanted settings effective, as far as they are not."""
    lines = []
    if wanted.kernel and effective(text, "kernel", model, default_kernel(model)) != {wanted.kernel}:
        lines.append(f"kernel={wanted.kernel}")
    parameters = [(name, value) for name, value in wanted.parameters if parameter(text, name, model) != {value}]
    if parameters:
        # It ends the scope of the overlay before, whose parameters may have the same names.
        lines += ["dtoverlay=", *(f"dtparam={name}={value}" for name, value in parameters)]
    return lines


def _split(text: str) -> tuple[list[str], list[str], list[str]]:
    """The lines before our block, those of it, and those after it; a block without its end is its first line only."""
    lines = _LINE.findall(text)
    bare = [line.strip() for line in lines]
    if BEGIN not in bare:
        return [line for line in lines if line.strip() != END], [], []
    first = bare.index(BEGIN)
    last = bare.index(END, first) if END in bare[first:] else first
    rest = [line for line in lines[last + 1 :] if line.strip() not in (BEGIN, END)]
    return [line for line in lines[:first] if line.strip() != END], lines[first : last + 1], rest


def _remains(block: Sequence[str], tail: Sequence[str], end: str) -> list[str]:
    """What must stay of a block so that the lines after it mean what they did."""
    words = [line.strip() for line in tail if line.strip() and not line.strip().startswith("#")]
    if not block or not words or words[0] == "[all]":
        return []
    return [f"{line}{end}" for line in ("[all]", "dtoverlay=") if line in [own.strip() for own in block]]


def _applying(text: str, model: str) -> Iterator[tuple[str, bool]]:
    """The lines that count for a board, each with whether that is certain."""
    filters: dict[str, bool | None] = {}
    for whole in _LINE.findall(text):
        line = whole[:_LINE_LENGTH].strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            _filter(filters, line.strip("[]"), model)
        elif False not in filters.values():
            yield line, None not in filters.values()
            if line.split(" ")[0] == "include":
                filters["include"] = None


def _filter(filters: dict[str, bool | None], name: str, model: str) -> None:
    """Apply a section's filter: those of one kind replace each other, those of different kinds must all hold."""
    if name == "all":
        filters.clear()
    elif name == "none":
        filters["none"] = False
    elif _MODEL_FILTER.fullmatch(name):
        mine = model_filters(model)
        filters["model"] = name in mine if mine else None
        # Nobody says whether another filter ends [none].
        filters.update({"none": None} if "none" in filters else {})
    elif name.startswith("board-type="):
        filters["model"] = None
    else:
        filters[re.split(r"[=:&]|x", name)[0]] = None


def _parameter_values(given: str, name: str) -> Iterable[str]:
    for part in given.split(","):
        key, _, value = part.partition("=")
        if _ALIASES.get(key.strip(), key.strip()) == name:
            yield _SWITCHES.get(value.strip(), value.strip())
