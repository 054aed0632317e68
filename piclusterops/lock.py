"""The lock file: which digest each artefact of an environment has, kept beside its inventory.

`picluster lock` fills it from the checksum files of releases, and for charts (`piclusterops.chart_lock`) from what
states their digests; without it the first use does. From then on only that digest is accepted. Of a release it is
always one that its checksum file states, never one computed from a download.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from piclusterops import artefacts
from piclusterops.artefacts import RELEASES, ArtefactError, Release
from piclusterops.settings import ClusterSettings
from piclusterops.whole_file import exclusive, write_whole

How = Literal["lock command", "first use"]
Key = tuple[str, str]
#: What the functions here raise; the text is for the user.
LockError = ArtefactError

_HEADER = (
    "# Digests of the artefacts of this environment; keep this file under version control.\n"
    "# Made and checked by `picluster lock` and by the first deployment of a version.\n"
)


class LockEntry(BaseModel):
    """The digest of one file of one version, and where it is from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    source: str
    how: How

    @property
    def key(self) -> Key:
        """What identifies the entry."""
        return (self.version, self.file)


def lock_path(settings: ClusterSettings) -> Path:
    """The lock file of an environment.

    Raises:
        LockError: the settings name none.
    """
    if not settings.lock_file:
        raise LockError("lock_file is not set: name the file that keeps the digests, such as inventories/prod.lock")
    return Path(settings.lock_file).expanduser()


def read(path: Path) -> dict[Key, LockEntry]:
    """The entries of a lock file; none when it does not exist.

    Raises:
        LockError: the file is not a lock file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LockError(f"cannot read the lock file {path}: {error.strerror}") from error
    try:
        content: Any = yaml.safe_load(text) or {"artefacts": []}
        entries = [LockEntry.model_validate(entry) for entry in content["artefacts"]]
    except (yaml.YAMLError, ValidationError, KeyError, TypeError) as error:
        raise LockError(
            f"{path} is not a lock file: {error}. Restore it from version control, or delete it and run: picluster lock"
        ) from error
    return {entry.key: entry for entry in entries}


def resolve(mirror: str, version: str) -> list[LockEntry]:
    """What the checksum files of a version state, for every architecture the mirror has.

    Raises:
        LockError: the mirror has no checksum file of that version, or it cannot be read.
    """
    entries: list[LockEntry] = []
    failures: list[str] = []
    for release in RELEASES.values():
        try:
            entries += _stated(mirror, version, release, "lock command")
        except LockError as error:
            failures.append(str(error))
    if not entries:
        raise LockError("; ".join(failures))
    return entries


def expected(mirror: str, version: str, release: Release, file: str, path: Path) -> LockEntry:
    """The digest a file must have: the lock file decides, else the release's checksum file.

    Raises:
        LockError: neither knows the file, so that nothing can be installed.
    """
    known = read(path).get((version, file))
    if known:
        return known
    for entry in _stated(mirror, version, release, "first use"):
        if entry.file == file:
            return entry
    raise LockError(
        f"{artefacts.location(mirror, version, release.checksums)} does not name {file}, and neither does {path}: "
        "without a digest nothing is installed"
    )


def expected_file(version: str, file: str, source: str, path: Path | None, settings: str) -> LockEntry:
    """The digest that a file with a checksum file of its own must have: the lock file decides, else that one.

    Args:
        version: version of what the file is of.
        file: name of the file.
        source: path or URL of its checksum file.
        path: the lock file; None for none.
        settings: what the user is told to check when the checksum file cannot be read.

    Raises:
        LockError: neither knows the file, so that nothing can be installed.
    """
    known = read(path).get((version, file)) if path else None
    if known:
        return known
    digest = artefacts.read_checksums(source, settings).get(file)
    if digest is None:
        raise LockError(f"{source} does not name {file}: without a digest nothing is installed. Check {settings}")
    return LockEntry(version=version, file=file, sha256=digest, source=source, how="first use")


def write(path: Path, entries: Iterable[LockEntry]) -> list[LockEntry]:
    """Add entries to a lock file, whole and atomically; known ones stay as they are.

    Returns:
        The entries that were not there before.

    Raises:
        LockError: an entry differs from the one in the file; the file is then left alone.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.parent):
            known = read(path)
            added = [entry for entry in entries if _is_new(path, known, entry)]
            if added:
                _write(path, {**known, **{entry.key: entry for entry in added}})
            return added
    except OSError as error:
        raise LockError(f"cannot write the lock file {path}: {error.strerror}") from error


def _is_new(path: Path, known: dict[Key, LockEntry], entry: LockEntry) -> bool:
    old = known.get(entry.key)
    if old and old.sha256 != entry.sha256:
        raise LockError(
            f"{entry.file} of {entry.version} has SHA-256 {entry.sha256} by {entry.source}, "
            f"but {old.sha256} in {path} (from {old.source}). A release never changes: find out which is right. "
            f"Only if the lock file is wrong, delete that entry and run: picluster lock"
        )
    return old is None


def _stated(mirror: str, version: str, release: Release, how: How) -> list[LockEntry]:
    source = artefacts.location(mirror, version, release.checksums)
    digests = artefacts.checksums(mirror, version, release)
    return [
        LockEntry(version=version, file=file, sha256=digests[file], source=source, how=how)
        for file in (release.binary, release.images)
        if file in digests
    ]


def _write(path: Path, entries: dict[Key, LockEntry]) -> None:
    rows = [entries[key].model_dump() for key in sorted(entries)]
    text = _HEADER + yaml.safe_dump({"artefacts": rows}, sort_keys=False, width=1000)
    write_whole(path, text.encode(), 0o644)
