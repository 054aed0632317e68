"""The Kubernetes programs that hosts find in /opt/piclusterops-lab/kube: given ones, or built from Debian's source."""

from __future__ import annotations

import hashlib
import lzma
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docker.client import DockerClient

from piclusterops.lab import image, mirror
from piclusterops.lab.progress import say, step
from piclusterops.lab.state import LabError
from piclusterops.paths import cache_root

#: The control plane's programs.
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
#: Clients, which always come from Debian's packages.
TOOLS = ("kubectl", "etcdctl")

_SCRIPTS = Path(__file__).parent / "kubebuild"


def ensure(client: DockerClient, tag: str) -> Path:
    """The folder with `PROGRAMS` and `TOOLS`; from ``$PICLUSTEROPS_KUBE_DIR`` if set, else built once (10 minutes).

    Raises:
        LabError: if a program is missing there, has another checksum than the folder's SHA256SUMS says, or
            the build fails.
    """
    given = os.environ.get("PICLUSTEROPS_KUBE_DIR")
    sources = find_programs(Path(given)) if given else {}
    target = cache_root() / "kube" / (_given_digest(sources) if sources else _built_digest())
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="new-") as scratch:
        out = Path(scratch) / "out"
        out.mkdir(mode=0o755)
        volumes = {str(out): {"bind": "/srv", "mode": "rw"}}
        if sources:
            with step("unpacking the Kubernetes programs"), ThreadPoolExecutor() as pool:
                sums = _checksums(sources)
                list(pool.map(lambda name: unpack(sources[name], out / name, sums.get(name)), sources))
        else:
            say("Building the Kubernetes programs from Debian's source; this is done once and takes about 10 minutes.")
            image.run_script(client, "Kubernetes", tag, "build.sh", Path(scratch), volumes, scripts=_SCRIPTS)
        image.run_script(client, "kubectl and etcdctl", tag, "tools.sh", Path(scratch), volumes, scripts=_SCRIPTS)
        out.rename(target)
    return target


def find_programs(folder: Path) -> dict[str, Path]:
    """Where in `folder` or its ``bin`` each of `PROGRAMS` is, plain or as ``.xz``.

    Raises:
        LabError: if one is not there; names all that are missing.
    """
    found = {}
    for name in PROGRAMS:
        for place in (folder / name, folder / f"{name}.xz", folder / "bin" / name, folder / "bin" / f"{name}.xz"):
            if place.is_file():
                found[name] = place
                break
    missing = [name for name in PROGRAMS if name not in found]
    if missing:
        raise LabError(
            f"PICLUSTEROPS_KUBE_DIR={folder} lacks {', '.join(missing)} (plain or .xz, there or in bin/); "
            "unset it to build them from Debian's source package"
        )
    return found


def unpack(source: Path, target: Path, sha256: str | None) -> None:
    """Write the program in `source` (plain or xz) to `target`, executable.

    Raises:
        LabError: if its SHA-256 is not `sha256`, or the file is damaged.
    """
    total = hashlib.sha256()
    try:
        with (lzma.open if source.suffix == ".xz" else open)(source, "rb") as packed, target.open("wb") as out:
            while chunk := packed.read(1 << 20):
                total.update(chunk)
                out.write(chunk)
    except (lzma.LZMAError, EOFError) as error:
        raise LabError(f"{source} is damaged: {error}; get it anew") from error
    if sha256 is not None and total.hexdigest() != sha256:
        raise LabError(f"{source} is not what SHA256SUMS beside it says ({total.hexdigest()}); get it anew")
    target.chmod(0o755)


def _checksums(sources: dict[str, Path]) -> dict[str, str]:
    """What the SHA256SUMS beside the programs says, by program."""
    sums: dict[str, str] = {}
    for folder in {path.parent for path in sources.values()}:
        listing = folder / "SHA256SUMS"
        if listing.is_file():
            sums |= mirror.parse_checksums(listing.read_text())
    return sums


def _given_digest(sources: dict[str, Path]) -> str:
    sums = _checksums(sources)
    parts = [(f"{name} {sums[name]}" if name in sums else f"{name} {_stamp(path)}") for name, path in sources.items()]
    return image.digest_of(part.encode() for part in parts)


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def _built_digest() -> str:
    return image.digest_of(path.read_bytes() for path in sorted(_SCRIPTS.iterdir()) if path.is_file())
