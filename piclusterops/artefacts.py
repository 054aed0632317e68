"""Files of a K3s release: found in a mirror, downloaded once, verified before use.

A mirror is a directory or a URL laid out like the K3s releases: ``<version>/k3s[-arm64]`` and
``<version>/sha256sum-<arch>.txt``. Nothing here runs on a host.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from piclusterops.paths import cache_root

_TIMEOUT_S = 30.0
_CHUNK = 1 << 20
_LARGEST_CHECKSUM_FILE = 1 << 20
_CHECKSUM_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9._+-]+)")
_K3S_SETTINGS = "k3s_mirror and k3s_version"
_COMPARE_LOCK = (
    "picluster lock, which compares the lock file with the release's checksum file; "
    "if they agree, the mirror's file is damaged"
)
_SCHEMES = ("http://", "https://", "file://")

#: Called now and then with the bytes that have arrived and their expected number, if known.
Progress = Callable[[int, int | None], None]


class ArtefactError(Exception):
    """An artefact cannot be had or is not what it must be; the text is for the user."""


class WrongDigest(ArtefactError):
    """An artefact is there and has another digest than it must have."""


@dataclass(frozen=True)
class Release:
    """Names of the files of one architecture in a K3s release."""

    arch: str
    binary: str

    @property
    def checksums(self) -> str:
        """The file with the digests of the others."""
        return f"sha256sum-{self.arch}.txt"

    @property
    def images(self) -> str:
        """The archive with all container images of K3s."""
        return f"k3s-airgap-images-{self.arch}.tar.zst"


#: By machine, as ``uname -m`` prints it (names: K3s install script).
RELEASES: dict[str, Release] = {
    "aarch64": Release("arm64", "k3s-arm64"),
    "x86_64": Release("amd64", "k3s"),
}


def location(mirror: str, version: str, file: str) -> str:
    """The path or URL of a file in a mirror; in a URL the `+` of a version must be ``%2B``.

    `version` is empty for a mirror that has no folder for each version.
    """
    if "://" in mirror:
        return "/".join([mirror.rstrip("/"), *(quote(part, safe="") for part in (version, file) if part)])
    return str(Path(mirror).expanduser() / version / file)


def checksums(mirror: str, version: str, release: Release) -> dict[str, str]:
    """File name to SHA-256, from the release's own checksum file.

    Raises:
        ArtefactError: there is none, it cannot be read, or it is malformed.
    """
    return read_checksums(location(mirror, version, release.checksums))


def read_checksums(where: str, settings: str = _K3S_SETTINGS) -> dict[str, str]:
    """File name to SHA-256, from a checksum file; `settings` are what the user is told to check.

    Raises:
        ArtefactError: it cannot be read, or it is malformed.
    """
    content = read_file(where, settings, _LARGEST_CHECKSUM_FILE)
    try:
        return parse_checksums(content.decode("ascii"))
    except ValueError as error:
        raise ArtefactError(f"{where} is not a checksum file: {error}. Check {settings}") from error


def read_file(where: str, settings: str, largest: int) -> bytes:
    """The content of a file at a path or URL, at most `largest` bytes of it.

    Raises:
        ArtefactError: it cannot be read.
    """
    with _open(where, settings) as (stream, _):
        try:
            return stream.read(largest)
        except OSError as error:
            raise ArtefactError(f"{where} broke off: {error}. Check {settings}") from error


def parse_checksums(text: str) -> dict[str, str]:
    """File name to SHA-256 from the output of ``sha256sum``; whole names only, nothing is guessed.

    Raises:
        ValueError: a line is malformed, or a file has two digests.
    """
    digests: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        found = _CHECKSUM_LINE.fullmatch(line.rstrip())
        if not found:
            raise ValueError(f"line {number} is not '<sha256>  <file>'")
        digest, name = found.groups()
        if digests.setdefault(name, digest) != digest:
            raise ValueError(f"{name} has two digests")
    if not digests:
        raise ValueError("it is empty")
    return digests


def digest_of_file(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal text."""
    total = sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


_locks: dict[Path, threading.Lock] = {}
_locks_guard = threading.Lock()


def fetch(mirror: str, version: str, file: str, digest: str, authority: str, progress: Progress | None = None) -> Path:
    """A verified file of a release, from the cache or else from the mirror.

    Args:
        mirror: directory or URL.
        version: K3s version, such as ``v1.36.5+k3s1``.
        file: name of the file in the release.
        digest: the SHA-256 it must have.
        authority: the file that says so, for the error text.
        progress: called now and then during a download.

    Raises:
        ArtefactError: the file cannot be read or has another digest; nothing is left in the cache then.
    """
    return fetch_from(location(mirror, version, file), f"{version}/{file}", digest, authority, progress)


def fetch_from(
    where: str,
    name: str,
    digest: str,
    authority: str,
    progress: Progress | None = None,
    settings: str = _K3S_SETTINGS,
    remedy: str = _COMPARE_LOCK,
) -> Path:
    """A verified file, from the cache or else from where it is.

    Args:
        where: its path or URL.
        name: its name in the cache, folders included.
        digest: the SHA-256 it must have.
        authority: what says so, for the error text.
        progress: called now and then during a download.
        settings: what the user is told to check when it cannot be read.
        remedy: what to do when it has another digest.

    Raises:
        ArtefactError: the file cannot be read or has another digest; nothing is left in the cache then.
    """
    target = cache_root() / "artefacts" / name
    with _locks_guard:
        lock = _locks.setdefault(target, threading.Lock())
    with lock:
        if not (target.is_file() and digest_of_file(target) == digest):
            with _open(where, settings) as (stream, size):
                _save(where, stream, size, target, (digest, authority, remedy), progress)
    return target


def _save(
    where: str,
    stream: BinaryIO,
    size: int | None,
    target: Path,
    expected: tuple[str, str, str],
    progress: Progress | None,
) -> None:
    digest, authority, remedy = expected
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as sink:
            found = _copy(where, stream, sink, size, progress)
            sink.flush()
            os.fsync(sink.fileno())
        if found != digest:
            raise WrongDigest(
                f"{where} has SHA-256 {found}, but {authority} says {digest}: it is not installed. Next: {remedy}"
            )
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _copy(where: str, stream: BinaryIO, sink: BinaryIO, size: int | None, progress: Progress | None) -> str:
    total, done, last = sha256(), 0, time.monotonic()
    while True:
        try:
            chunk = stream.read(_CHUNK)
        except OSError as error:
            raise ArtefactError(f"{where} broke off after {done} bytes: {error}") from error
        if not chunk:
            return total.hexdigest()
        sink.write(chunk)
        total.update(chunk)
        done += len(chunk)
        if progress and time.monotonic() - last > 5:
            progress(done, size)
            last = time.monotonic()


@contextmanager
def _open(where: str, settings: str) -> Iterator[tuple[BinaryIO, int | None]]:
    try:
        if "://" not in where:
            path = Path(where)
            stream: BinaryIO = path.open("rb")
            size: int | None = path.stat().st_size
        elif where.startswith(_SCHEMES):
            response = urlopen(Request(where, headers={"User-Agent": "piclusterops"}), timeout=_TIMEOUT_S)
            length = response.headers.get("Content-Length")
            stream, size = response, int(length) if length else None
        else:
            mirror = settings.split(" ", 1)[0]
            raise ArtefactError(f"{mirror} must be a directory or an http, https or file URL, not {where}")
    except (OSError, URLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ArtefactError(f"cannot read {where}: {reason}. Check {settings}") from error
    with stream:
        yield stream, size
