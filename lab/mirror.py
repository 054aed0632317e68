"""The artefact mirror of a lab, laid out like the K3s releases: a real release, or the stand-in."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from piclusterops.lab.progress import say, step
from piclusterops.lab.state import LabError

#: Seconds without a byte after which a download is given up.
STALL_TIMEOUT = 60
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Filled:
    """What a mirror holds: a K3s version, and whether it is the stand-in."""

    version: str
    standin: bool


def architecture(machine: str | None = None) -> str:
    """K3s's name of this machine's (or the given ``uname -m``) architecture.

    Raises:
        LabError: if K3s has no release for it.
    """
    machine = machine or platform.machine()
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        raise LabError(f"the lab runs on amd64 and arm64 machines; this one is {machine}") from None


def program_name(arch: str) -> str:
    """The name of the k3s program in a release."""
    return "k3s" if arch == "amd64" else f"k3s-{arch}"


def fill(mirror: Path) -> Filled:
    """Put the version that the deploy installs by default into `mirror`, and what the platform comes from.

    See `add_version` and `add_platform`.
    """
    from piclusterops.settings import DEFAULT_K3S_VERSION

    filled = add_version(mirror, DEFAULT_K3S_VERSION)
    add_platform(mirror, filled.standin)
    return filled


def add_platform(mirror: Path, standin: bool) -> None:
    """Put charts into ``charts/`` and Helm into ``helm/`` of `mirror`; says why when the platform cannot be had.

    Args:
        mirror: the lab's.
        standin: whether the lab's K3s is the stand-in, which alone can run stand-ins of charts.
    """
    from piclusterops.catalogue import CatalogueError, catalogue
    from piclusterops.lab import charts, tools
    from piclusterops.settings import ClusterSettings

    shutil.rmtree(mirror / "helm", ignore_errors=True)
    shutil.rmtree(mirror / "charts", ignore_errors=True)
    try:
        standins = charts.add_charts(mirror / "charts", catalogue())
        if standins and not standin:
            raise LabError(
                "a real K3s cannot run stand-ins of charts: give the real ones in a folder by "
                f"{charts.GIVEN}; it lacks those of {', '.join(standins)}"
            )
        tools.add_helm(mirror / "helm", ClusterSettings.model_fields["helm_version"].default)
    except (LabError, CatalogueError) as error:
        shutil.rmtree(mirror / "helm", ignore_errors=True)
        say(f"The platform cannot be installed in this lab (platform_profile is none): {error}")


def add_version(mirror: Path, version: str) -> Filled:
    """Put one K3s version into `mirror`: from ``$PICLUSTEROPS_K3S_MIRROR`` if set, else the stand-in.

    Args:
        mirror: the folder that gets ``<version>/``; what is there of that version is replaced.
        version: like ``v1.36.5+k3s1``.

    Raises:
        LabError: if the release is not where the variable says, or is not what its checksum file says.
    """
    given = os.environ.get("PICLUSTEROPS_K3S_MIRROR")
    arch = architecture()
    mirror.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=mirror, prefix=".new-") as scratch:
        folder = Path(scratch) / "version"
        folder.mkdir(mode=0o755)
        if given:
            _copy_release(given, version, arch, folder)
        else:
            _build_standin(version, arch, folder)
        shutil.rmtree(mirror / version, ignore_errors=True)
        folder.rename(mirror / version)
    return Filled(version, not given)


def _build_standin(version: str, arch: str, folder: Path) -> None:
    from piclusterops.lab.k3s.build import build

    build(folder / program_name(arch), version)
    images = _tiny_archive(f"images of the stand-in {version}\n".encode())
    archive = folder / f"k3s-airgap-images-{arch}.tar.zst"
    archive.write_bytes(_zstd(images))
    (folder / f"sha256sum-{arch}.txt").write_text(checksum_lines(folder))


def _zstd(content: bytes) -> bytes:
    """`content` as one Zstandard frame of raw blocks (RFC 8878, 3.1.1): valid, only not smaller."""
    blocks = [content[start : start + (1 << 17)] for start in range(0, len(content), 1 << 17)]
    frame = b"\x28\xb5\x2f\xfd" + b"\xa0" + len(content).to_bytes(4, "little")
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        frame += (len(block) << 3 | last).to_bytes(3, "little") + block
    return frame


def _tiny_archive(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("README")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def checksum_lines(folder: Path) -> str:
    """A release's checksum file for the files in `folder`: ``<sha256>  <name>`` lines, by name."""
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("sha256sum-"))
    return "".join(f"{file_digest(path)}  {path.name}\n" for path in files)


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def parse_checksums(text: str) -> dict[str, str]:
    """File name to SHA-256 of a checksum file's ``<sha256>  <name>`` lines."""
    sums = {}
    for line in text.splitlines():
        digest, _, name = line.partition(" ")
        if name:
            sums[Path(name.strip().lstrip("*")).name] = digest.lower()
    return sums


def _copy_release(source: str, version: str, arch: str, folder: Path) -> None:
    """Copy a release from a folder or URL, and check it against its own checksum file."""
    listing = f"sha256sum-{arch}.txt"
    with step(f"K3s {version} from {source}"):
        _fetch(source, version, listing, folder)
        sums = parse_checksums((folder / listing).read_text())
        program = program_name(arch)
        if program not in sums:
            raise LabError(f"{source}: {version}/{listing} has no line for {program}; is it the release's own file?")
        _fetch(source, version, program, folder)
        images = f"k3s-airgap-images-{arch}.tar.zst"
        if images in sums and "://" not in source and (Path(source) / version / images).is_file():
            _fetch(source, version, images, folder)
    for name, digest in sums.items():
        if (folder / name).is_file() and file_digest(folder / name) != digest:
            raise LabError(f"{source}: {version}/{name} is not what {listing} says; get the file anew")


def _fetch(source: str, version: str, name: str, folder: Path) -> None:
    try:
        if "://" in source:
            url = f"{source.rstrip('/')}/{urllib.parse.quote(version)}/{name}"
            with urllib.request.urlopen(url, timeout=STALL_TIMEOUT) as response, (folder / name).open("wb") as out:
                shutil.copyfileobj(response, out, 1 << 20)
        else:
            shutil.copyfile(Path(source) / version / name, folder / name)
    except (OSError, urllib.error.URLError) as error:
        raise LabError(
            f"PICLUSTEROPS_K3S_MIRROR={source}: {version}/{name}: {error}; unset it for the stand-in"
        ) from error
