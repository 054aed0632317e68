"""Charts and the lock file: what it holds them to, and what it is filled with. Nothing here runs on a host.

A chart in a folder of ours is packed anew from what is there, and is not locked: it changes with its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from piclusterops import lock
from piclusterops.artefacts import ArtefactError, WrongDigest
from piclusterops.chart_repository import Unpinnable, digest_in_repository
from piclusterops.helm_charts import Chart, archive_at
from piclusterops.lock import How, Key, LockEntry


@dataclass(frozen=True)
class Resolved:
    """What became of charts that were to be locked.

    Attributes:
        entries: for the lock file.
        failed: those whose digest could not be had now, with the reason.
        unpinnable: those whose digest can't be had this way at all, with the reason.
    """

    entries: tuple[LockEntry, ...] = ()
    failed: tuple[str, ...] = ()
    unpinnable: tuple[str, ...] = ()


def key_of(chart: Chart) -> Key:
    """What identifies a chart in a lock file."""
    return (chart.version, chart.archive)


def entry_of(chart: Chart, digest: str, how: How = "first use", source: str = "") -> LockEntry:
    """The entry of a chart whose archive has that SHA-256."""
    version, file = key_of(chart)
    return LockEntry(version=version, file=file, sha256=digest, source=source or chart.source, how=how)


def held(chart: Chart, known: Mapping[Key, LockEntry], path: Path | None) -> Chart:
    """A chart with the digest that the lock file says, if it says one.

    Raises:
        WrongDigest: the chart itself says another.
    """
    entry = None if chart.folder else known.get(key_of(chart))
    if entry is None:
        return chart
    if chart.digest not in (None, entry.sha256):
        raise WrongDigest(
            f"{path} says that {chart.archive} has SHA-256 {entry.sha256}, but {chart.digest} is expected. Next: find "
            "out which is right; only if the lock file is wrong, delete its entry there and run: picluster lock"
        )
    return replace(chart, digest=entry.sha256, authority=str(path))


def resolve(charts: Iterable[Chart]) -> Resolved:
    """The digests of charts as their mirror serves them now, or their repository states them; of none in a folder."""
    entries: list[LockEntry] = []
    failed: list[str] = []
    unpinnable: list[str] = []
    for chart in dict.fromkeys(chart for chart in charts if not chart.folder):
        try:
            entries.append(_resolved(chart))
        except Unpinnable as error:
            unpinnable.append(f"{chart.archive}: {error}")
        except ArtefactError as error:
            failed.append(f"{chart.archive}: {error}")
    return Resolved(tuple(entries), tuple(failed), tuple(unpinnable))


def _resolved(chart: Chart) -> LockEntry:
    if chart.mirror:
        return entry_of(chart, archive_at(chart, chart.source).digest, "lock command")
    digest, source = digest_in_repository(chart)
    return entry_of(chart, digest, "lock command", source)


def remember(path: Path, found: Mapping[Chart, str]) -> list[LockEntry]:
    """Record the first use of charts, by the SHA-256 of their archives; returns what was not recorded before.

    Raises:
        ArtefactError: a digest differs from the one recorded, or the file can't be written.
    """
    return lock.write(path, [entry_of(chart, digest) for chart, digest in found.items() if not chart.folder])
