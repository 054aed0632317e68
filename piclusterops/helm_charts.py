"""Charts as archives: an own folder packed, or what a mirror has. Nothing here runs on a host, and Helm is not needed.

A folder gives the same bytes each time, on every machine, so that its digest tells whether the chart has changed.
"""

from __future__ import annotations

import io
import re
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

import yaml

from piclusterops import artefacts
from piclusterops.artefacts import ArtefactError, WrongDigest
from piclusterops.helm_releases import chart_label

#: Where charts lie on the server that Helm runs on.
CHARTS_DIR = "/var/lib/piclusterops/charts"
#: Helm takes no larger chart (pkg/chart/loader/archive: MaxDecompressedChartSize).
LARGEST = 100 << 20
_SETTINGS = "chart_mirror"
#: Most bytes of a stored block (RFC 1951).
_STORED = 0xFFFF
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Chart:
    """A chart, and where it comes from: the first of `folder`, `mirror` and `repository` that is given.

    Attributes:
        name: name of the chart.
        version: its version.
        folder: its own folder on this machine; it is packed.
        mirror: directory of this machine or URL with ``<name>-<version>.tgz``.
        repository: ``https://...`` of a chart repository or ``oci://...`` without the chart's name; fetched by the
            host itself.
        digest: the SHA-256 that the archive must have; None when it is not known.
        authority: what says so, such as the path of a lock file; empty for the one who made this.
    """

    name: str
    version: str
    folder: Path | None = None
    mirror: str | None = None
    repository: str | None = None
    digest: str | None = None
    authority: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for word in (self.name, self.version):
            if not _WORD.fullmatch(word):
                raise ValueError(f"{word!r} is neither the name nor the version of a chart")
        if not (self.folder or self.mirror or self.repository):
            raise ValueError(f"chart {self.name}: say where it is, with folder, mirror or repository")

    @property
    def archive(self) -> str:
        """Name of its archive."""
        return f"{self.name}-{self.version}.tgz"

    @property
    def path(self) -> str:
        """Where the archive lies on the server."""
        return f"{CHARTS_DIR}/{self.archive}"

    @property
    def label(self) -> str:
        """Name and version as the value of a label."""
        return chart_label(self.name, self.version)

    @property
    def is_local(self) -> bool:
        """Whether this machine has it, or can get it; else the host fetches it."""
        return bool(self.folder or self.mirror)

    @property
    def source(self) -> str:
        """Where it is from, for people."""
        if self.folder:
            return str(self.folder)
        return artefacts.location(self.mirror, "", self.archive) if self.mirror else str(self.repository)

    @property
    def expectation(self) -> str:
        """Which digest is expected, and by whom, for people."""
        return f"{self.digest} is expected{f' by {self.authority}' if self.authority else ''}"

    @property
    def remedy(self) -> str:
        """What to do when the archive has another digest."""
        lock = "; only if the lock file is wrong, delete its entry there and run: picluster lock"
        return f"compare it with what its maintainers publish{lock if self.authority else ''}"


@dataclass(frozen=True)
class Archive:
    """The archive of a chart."""

    content: bytes

    @property
    def digest(self) -> str:
        """Its SHA-256."""
        return sha256(self.content).hexdigest()


def own_chart(folder: Path) -> Chart:
    """The chart in a folder.

    Raises:
        ArtefactError: there is none, or a chart that it depends on is missing.
    """
    about = _chart_yaml(folder)
    return Chart(str(about["name"]), str(about["version"]), folder=folder)


def archive_of(chart: Chart) -> Archive:
    """The archive of a chart that this machine has or can get.

    An archive from a URL is kept in the cache; one whose digest is not known is taken from there ever after, because
    a version of a chart does not change.

    Raises:
        ArtefactError: it can't be had, or is not the expected one.
    """
    if chart.folder:
        archive = Archive(package(chart.folder))
        about = _chart_yaml(chart.folder)
        if (about["name"], str(about["version"])) != (chart.name, chart.version):
            raise ArtefactError(f"{chart.folder} is {about['name']} {about['version']}, not {chart.archive}")
        return archive
    assert chart.mirror
    where, remote = chart.source, "://" in chart.mirror and not chart.mirror.startswith("file://")
    kept = artefacts.cache_root() / "charts" / sha256(where.encode()).hexdigest()[:16] / chart.archive
    if remote and kept.is_file():
        archive = Archive(kept.read_bytes())
        if chart.digest in (None, archive.digest):
            return archive
    archive = archive_at(chart, where)
    if remote:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = kept.with_suffix(".new")
        unfinished.write_bytes(archive.content)
        unfinished.replace(kept)
    return archive


def archive_at(chart: Chart, where: str) -> Archive:
    """The archive of a chart that is at a path or URL now, whatever the cache has.

    Raises:
        ArtefactError: it can't be had, or is not the expected one.
    """
    archive = Archive(artefacts.read_file(where, _SETTINGS, LARGEST))
    if chart.digest not in (None, archive.digest):
        raise WrongDigest(
            f"{where} has SHA-256 {archive.digest}, but {chart.expectation}: it is not used. Next: {chart.remedy}"
        )
    if not archive.content.startswith(b"\x1f\x8b"):
        raise ArtefactError(f"{where} is no archive of a chart. Next: fetch the chart into the mirror again")
    return archive


def package(folder: Path) -> bytes:
    """The archive of a chart's folder, like ``helm package`` makes it, but the same bytes each time.

    Names are sorted, and there are no times, no owners and no compression.

    Raises:
        ArtefactError: the folder holds no chart, or a chart that it depends on is missing.
    """
    about = _chart_yaml(folder)
    _check_dependencies(folder, about)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, name in _files(folder):
            content = path.read_bytes()
            entry = tarfile.TarInfo(f"{about['name']}/{name}")
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return _gzip(packed.getvalue())


def _gzip(data: bytes) -> bytes:
    """Data in gzip's format (RFC 1952), uncompressed: what a library compresses differs with its version."""
    chunks = [data[start : start + _STORED] for start in range(0, len(data), _STORED)]
    blocks = [
        struct.pack("<BHH", number == len(chunks), len(chunk), len(chunk) ^ 0xFFFF) + chunk
        for number, chunk in enumerate(chunks, 1)
    ]
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return head + b"".join(blocks) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _chart_yaml(folder: Path) -> dict[str, object]:
    file = folder / "Chart.yaml"
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ArtefactError(f"{folder} holds no chart: {error}") from error
    if not isinstance(about, dict) or not {"name", "version"} <= set(about):
        raise ArtefactError(f"{file} has no name or no version")
    return about


def _check_dependencies(folder: Path, about: dict[str, object]) -> None:
    wanted = about.get("dependencies") or []
    assert isinstance(wanted, list)
    there = [path.name for path in (folder / "charts").glob("*")]
    missing = [
        str(chart["name"])
        for chart in wanted
        if not any(name == chart["name"] or name.startswith(f"{chart['name']}-") for name in there)
    ]
    if missing:
        raise ArtefactError(f"{folder}: {', '.join(missing)} is missing. Next: helm dependency build {folder}")


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files that belong to a chart with their names in it, sorted."""
    ignored = _ignore_rules(folder)
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder)
        parents = [name, *list(name.parents)[:-1]]
        if path.is_file() and not any(_is_ignored(folder, part, ignored) for part in parents):
            yield path, name.as_posix()


def _ignore_rules(folder: Path) -> list[str]:
    """The rules of a chart's ``.helmignore``, and those that Helm adds itself (pkg/ignore)."""
    file = folder / ".helmignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    rules = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [*rules, "templates/.?*"]


def _is_ignored(folder: Path, name: Path, rules: list[str]) -> bool:
    """Whether rules leave out a file or folder; the last that matches decides, as ``!`` takes one back."""
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        if pattern.endswith("/") and not (folder / name).is_dir():
            continue
        wanted = pattern.strip("/").split("/")
        parts = name.parts if "/" in pattern.rstrip("/") else (name.name,)
        if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
            ignored = not rule.startswith("!")
    return ignored
