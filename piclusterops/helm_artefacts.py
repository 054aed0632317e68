"""Helm's own releases: found in a mirror, downloaded once, verified before use. Nothing here runs on a host.

A mirror is a directory or a URL laid out like https://get.helm.sh: ``helm-<version>-linux-<arch>.tar.gz`` and beside
it the same name with ``.sha256sum``.
"""

from __future__ import annotations

import tarfile
from hashlib import sha256
from pathlib import Path

from piclusterops import artefacts, lock
from piclusterops.artefacts import RELEASES, ArtefactError, Progress, WrongDigest

DEFAULT_MIRROR = "https://get.helm.sh"
_SETTINGS = "helm_mirror and helm_version"
_REMEDY = "compare it with the same file of get.helm.sh; if the lock file is wrong, delete its entry and run again"


def architecture(machine: str) -> str:
    """Helm's name of an architecture, from what ``uname -m`` prints.

    Raises:
        ArtefactError: Helm is not installed there.
    """
    if machine not in RELEASES:
        raise ArtefactError(f"there is no Helm for {machine or 'an unknown machine'}: use a 64-bit image")
    return RELEASES[machine].arch


def archive_name(version: str, machine: str) -> str:
    """Name of a release's archive.

    Raises:
        ArtefactError: there is none for that machine.
    """
    return f"helm-{version}-linux-{architecture(machine)}.tar.gz"


def expected(mirror: str, version: str, machine: str, lock_file: Path | None) -> lock.LockEntry:
    """The digest that Helm's archive must have: the lock file decides, else the release's checksum file.

    Raises:
        ArtefactError: neither knows it, or it can't be read.
    """
    name = archive_name(version, machine)
    source = artefacts.location(mirror, "", f"{name}.sha256sum")
    return lock.expected_file(version, name, source, lock_file, _SETTINGS)


def resolve(mirror: str, version: str) -> list[lock.LockEntry]:
    """What the checksum files of a version state, for every architecture the mirror has.

    Raises:
        ArtefactError: the mirror has no checksum file of that version, or it cannot be read.
    """
    entries: list[lock.LockEntry] = []
    failures: list[str] = []
    for machine in RELEASES:
        try:
            entries.append(expected(mirror, version, machine, None).model_copy(update={"how": "lock command"}))
        except ArtefactError as error:
            failures.append(str(error))
    if not entries:
        raise ArtefactError("; ".join(failures))
    return entries


def check(mirror: str, version: str, lock_file: Path | None) -> None:
    """See that what a directory has of a version is what the lock file says; of a URL that is seen once it is fetched.

    Raises:
        WrongDigest: it is something else.
        ArtefactError: the lock file, or the archive, can't be read.
    """
    if "://" in mirror or lock_file is None:
        return
    known = lock.read(lock_file)
    for machine in RELEASES:
        entry = known.get((version, archive_name(version, machine)))
        archive = Path(mirror).expanduser() / archive_name(version, machine)
        if entry is None or not archive.is_file():
            continue
        try:
            found = artefacts.digest_of_file(archive)
        except OSError as error:
            raise ArtefactError(f"cannot read {archive}: {error.strerror}. Check {_SETTINGS}") from error
        if found != entry.sha256:
            raise WrongDigest(
                f"{archive} has SHA-256 {found}, but {lock_file} says {entry.sha256}: it is not installed. "
                f"Next: {_REMEDY}"
            )


def fetch(mirror: str, entry: lock.LockEntry, authority: str, progress: Progress | None = None) -> Path:
    """Helm's verified archive, from the cache or else from the mirror.

    Raises:
        ArtefactError: it can't be read, or has another digest.
    """
    return artefacts.fetch_from(
        artefacts.location(mirror, "", entry.file),
        f"helm/{entry.file}",
        entry.sha256,
        authority,
        progress,
        _SETTINGS,
        _REMEDY,
    )


def program_in(archive: Path, machine: str) -> tuple[str, str]:
    """Name of the program in Helm's archive, and its SHA-256.

    Raises:
        ArtefactError: there is none in it.
    """
    name = f"linux-{architecture(machine)}/helm"
    try:
        with tarfile.open(archive) as members:
            program = members.extractfile(name)
            if program is None:
                raise KeyError(name)
            return name, sha256(program.read()).hexdigest()
    except (tarfile.TarError, KeyError, OSError) as error:
        raise ArtefactError(f"{archive.name} holds no {name}: {error}. Check {_SETTINGS}") from error
