"""etcd snapshots on disk: names, list, retention, schedule.

K3s names them ``<name>-<node>-<unix time>`` (with ``.zip`` when compressed) in ``server/db/snapshots``.
"""

import re
import time
import zipfile
from pathlib import Path

from . import etcd
from .layout import make_dir
from .log import Fatal

_NAME = re.compile(r".+-\d{9,}(\.zip)?")


def find(folder: Path) -> list[Path]:
    """All snapshots, oldest first."""
    found = [f for f in folder.glob("*") if f.is_file() and not f.name.startswith(".")] if folder.is_dir() else []
    return sorted(found, key=lambda f: (f.stat().st_mtime, f.name))


def created(file: Path) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(file.stat().st_mtime))


def save(client: etcd.Client, folder: Path, name: str, node: str, compress: bool) -> Path:
    """A new snapshot. Raises etcd.EtcdError, OSError."""
    make_dir(folder)
    target = folder / f"{name}-{node}-{int(time.time())}"
    draft = folder / f".{target.name}.part"
    try:
        client.snapshot(draft)
        if not compress:
            draft.replace(target)
            return target
        packed = folder / f"{target.name}.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(draft, target.name)
        packed.chmod(0o600)
        return packed
    finally:
        draft.unlink(missing_ok=True)


def unpacked(file: Path, folder: Path) -> Path:
    """The plain snapshot; a compressed one is unpacked into ``folder``. Raises Fatal."""
    if file.suffix != ".zip":
        return file
    try:
        with zipfile.ZipFile(file) as archive:
            name = archive.namelist()[0]
            target = folder / Path(name).name
            target.write_bytes(archive.read(name))
    except (OSError, zipfile.BadZipFile, IndexError) as problem:
        raise Fatal(f"failed to decompress snapshot {file}: {problem}") from problem
    target.chmod(0o600)
    return target


def prune(folder: Path, prefix: str, keep: int) -> list[Path]:
    """Delete all but the newest ``keep`` snapshots of this prefix; returns those that went."""
    mine = [f for f in find(folder) if f.name.startswith(prefix) and _NAME.fullmatch(f.name)]
    gone = mine[: max(0, len(mine) - keep)] if keep > 0 else []
    for file in gone:
        file.unlink()
    return gone


def cron_due(expression: str, moment: time.struct_time) -> bool:
    """Whether a five-field cron expression matches this minute. Raises Fatal when it is none."""
    fields = expression.split()
    if len(fields) != 5:
        raise Fatal(
            f"invalid etcd-snapshot-schedule-cron: expected exactly 5 fields, found {len(fields)}: [{expression}]"
        )
    limits = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    values = (moment.tm_min, moment.tm_hour, moment.tm_mday, moment.tm_mon, (moment.tm_wday + 1) % 7)
    hits = [_field(field, low, high) for field, (low, high) in zip(fields, limits, strict=True)]
    weekday = values[4] in hits[4] or (values[4] == 0 and 7 in hits[4])
    days = (values[2] in hits[2], weekday)
    # cron: when both day fields are restricted, either may match
    day = any(days) if fields[2] != "*" and fields[4] != "*" else all(days)
    return day and all(values[i] in hits[i] for i in (0, 1, 3))


def _field(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\*|\d+(?:-\d+)?)(?:/(\d+))?", part)
        if not match:
            raise Fatal(f"invalid etcd-snapshot-schedule-cron: failed to parse {text}")
        span, step = match[1], int(match[2] or 1)
        first, _, last = span.partition("-")
        start = low if span == "*" else int(first)
        end = high if span == "*" else int(last or (high if match[2] else first))
        if step < 1 or not low <= start <= end <= high:
            raise Fatal(f"invalid etcd-snapshot-schedule-cron: {text} is out of range")
        found.update(range(start, end + 1, step))
    return found
