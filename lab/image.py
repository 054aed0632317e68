"""The image of a lab host, and the package repository that hosts install from."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from docker.client import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.containers import Container

from piclusterops.lab import progress
from piclusterops.lab.progress import say
from piclusterops.lab.state import LabError
from piclusterops.paths import cache_root

SUITE = "bookworm"
REGISTRY_BASE = "debian:bookworm"
#: Seconds that a registry gets to answer before the base is made from packages instead.
PULL_TIMEOUT = 20
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: Label of the containers that build; they exist only while `picluster lab up` builds.
BUILD_LABEL = "piclusterops.lab-build"
_FILES = Path(__file__).parent / "image"
_DEFAULT_SOURCES = (
    f"deb http://deb.debian.org/debian {SUITE} main",
    f"deb http://deb.debian.org/debian-security {SUITE}-security main",
)


def digest_of(parts: Iterable[bytes]) -> str:
    """Twelve hexadecimal digits that change when one of `parts` does."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:12]


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def image_digest(folder: Path = _FILES) -> str:
    """Digest of everything that an image is made of: the files in `folder` and the architecture."""
    parts = [SUITE.encode(), platform.machine().encode()]
    for path in _files_in(folder):
        parts += [path.name.encode(), path.read_bytes()]
    return digest_of(parts)


def ensure_image(client: DockerClient) -> str:
    """The tag of the lab's image in `client`'s engine; builds it (minutes) or loads it from the cache if need be.

    Raises:
        LabError: if it cannot be built.
    """
    digest = image_digest()
    tag = f"piclusterops-lab:{digest}"
    try:
        client.images.get(tag)
        return tag
    except ImageNotFound:
        pass
    archive = cache_root() / "images" / f"{digest}.tar"
    if not archive.exists():
        _build(client, archive)
    with progress.step("loading the image"):
        _import(client, archive, "piclusterops-lab", digest)
    return tag


def ensure_repository(client: DockerClient, image: str, packages: Sequence[str], bare: Sequence[str] = ()) -> Path:
    """A folder with `packages`, all that they need beyond `image`, and their index; `bare` without recommendations.

    Raises:
        LabError: if one of them cannot be downloaded.
    """
    names = [*sorted(packages), "bare", *sorted(bare)]
    digest = digest_of([image.encode(), *(name.encode() for name in names)])
    target = cache_root() / "apt" / digest
    if (target / "Packages").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="new-") as scratch:
        out = Path(scratch) / "out"
        out.mkdir(mode=0o755)
        run_script(
            client,
            f"repository of {len(packages) + len(bare)} packages",
            image,
            "repository.sh",
            Path(scratch),
            {str(out): {"bind": "/srv", "mode": "rw"}},
            {"LAB_PACKAGES": " ".join(packages), "LAB_BARE_PACKAGES": " ".join(bare)},
        )
        out.rename(target)
    return target


def prune(client: DockerClient, tag: str) -> None:
    """Remove images and archives that an older version of the lab made, unless a container still needs them."""
    for old in client.images.list("piclusterops-lab"):
        if tag not in old.tags:
            with suppress(APIError):  # in use
                client.images.remove(str(old.id))
    for archive in (cache_root() / "images").glob("*.tar"):
        if archive.stem != tag.partition(":")[2]:
            archive.unlink(missing_ok=True)


def sweep(client: DockerClient) -> None:
    """Remove what a build that was killed left behind; the caller sees to it that none is going on."""
    for container in client.containers.list(all=True, filters={"label": BUILD_LABEL}):
        container.remove(force=True)
    for pattern in ("images/build-*", "apt/new-*", "kube/new-*"):
        for folder in cache_root().glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


def remove_images(client: DockerClient) -> None:
    """Take the lab's images out of an engine that is not the lab's own; the archive in the cache stays."""
    for image in client.images.list("piclusterops-lab"):
        client.images.remove(str(image.id), force=True)


def _import(client: DockerClient, archive: Path, repository: str, tag: str) -> None:
    client.api.import_image(src=str(archive), repository=repository, tag=tag)


def _build(client: DockerClient, archive: Path) -> None:
    say("Building the lab's image; this is done once and takes a few minutes.")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="build-") as scratch:
        base = _base(client, Path(scratch))
        new = Path(scratch) / "image.tar"
        run_script(client, "packages and host files", base, "build.sh", Path(scratch), export=new)
        new.rename(archive)
        if base != REGISTRY_BASE:
            client.images.remove(base, force=True)


def _base(client: DockerClient, scratch: Path) -> str:
    choice = os.environ.get("PICLUSTEROPS_LAB_BASE") or "auto"
    if choice not in ("auto", "registry", "mmdebstrap"):
        raise LabError(f"PICLUSTEROPS_LAB_BASE={choice}: it can be auto, registry or mmdebstrap")
    if choice != "mmdebstrap":
        cause = _pull(client)
        if cause is None:
            return REGISTRY_BASE
        if choice == "registry":
            raise LabError(f"{REGISTRY_BASE} cannot be pulled: {cause}; try PICLUSTEROPS_LAB_BASE=mmdebstrap")
        say(f"No registry gave {REGISTRY_BASE}: making the base from Debian's packages.")
    tree = scratch / "base.tar"
    _bootstrap(tree, scratch)
    tag = digest_of([str(scratch).encode()])
    _import(client, tree, "piclusterops-lab-base", tag)
    tree.unlink()
    return f"piclusterops-lab-base:{tag}"


def _pull(client: DockerClient) -> str | None:
    """Have `REGISTRY_BASE` in the engine; returns why not."""
    try:
        client.images.get(REGISTRY_BASE)
        return None
    except ImageNotFound:
        pass
    repository, _, tag = REGISTRY_BASE.partition(":")
    with progress.step(f"pulling {REGISTRY_BASE}"):
        timeout, client.api.timeout = client.api.timeout, PULL_TIMEOUT
        try:
            client.images.pull(repository, tag)
        except (DockerException, OSError) as error:
            return str(error)
        finally:
            client.api.timeout = timeout
    return None


def _bootstrap(tree: Path, scratch: Path) -> None:
    log = cache_root() / "log" / "base.log"
    if shutil.which("mmdebstrap") is None:
        if shutil.which("apt-get") is None:
            raise LabError(
                "no registry and no apt-get here: the lab's base needs one of them; see PICLUSTEROPS_LAB_BASE"
            )
        say("Installing mmdebstrap from this machine's Debian packages.")
        progress.run("package lists", ["apt-get", "update"], log)
        progress.run("mmdebstrap", ["apt-get", "install", "-y", "--no-install-recommends", "mmdebstrap"], log)
    sources = scratch / "base.list"
    sources.write_text("\n".join(package_sources()) + "\n")
    options = [f"--aptopt={setting}" for setting in package_settings()]
    command: list[str | Path] = ["mmdebstrap", "--mode=root", "--variant=minbase", *options, SUITE, tree, sources]
    progress.run("base system", command, log)


def package_sources(targets: str | None = None) -> tuple[str, ...]:
    """Lines of a sources.list for Debian `SUITE`: this machine's own where it has them, else deb.debian.org.

    Args:
        targets: output of ``apt-get indextargets`` as `_index_targets` asks for it; None: ask this machine.
    """
    lines = []
    for line in (_index_targets() if targets is None else targets).splitlines():
        uri, _, rest = line.partition(" ")
        release, _, component = rest.partition(" ")
        debian = uri.rstrip("/").endswith(("/debian", "/debian-security"))
        if debian and component == "main" and release in (SUITE, f"{SUITE}-updates", f"{SUITE}-security"):
            lines.append(f"deb {uri} {release} main")
    found = tuple(dict.fromkeys(lines))
    return found if any(f" {SUITE} " in line for line in found) else _DEFAULT_SOURCES


def _index_targets() -> str:
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def package_settings(dump: str | None = None) -> tuple[str, ...]:
    """How this machine reaches its package source: the proxy and check settings of ``apt-config dump``."""
    if dump is None:
        command = ["apt-config", "dump", "Acquire"]
        try:
            dump = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        except (OSError, subprocess.SubprocessError):
            return ()
    wanted = ("acquire::http::proxy", "acquire::https::proxy", "acquire::check-", "acquire::retries")
    return tuple(
        line
        for line in dump.splitlines()
        if line.lower().startswith(wanted) and "::proxy-auto" not in line.lower() and not line.endswith('"";')
    )


def _apt_folder(scratch: Path, scripts: Path) -> dict[str, dict[str, str]]:
    """Bind mounts that give a building container this machine's package source, and nothing to keep."""
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="mnt-"))
    folder.chmod(0o755)
    (folder / "sources.list").write_text("\n".join(package_sources()) + "\n")
    lines = list(package_settings())
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    mounts = {str(folder): {"bind": "/mnt", "mode": "ro"}}
    if certificates.exists():
        shutil.copy(certificates, folder / "ca.crt")
        lines.append('Acquire::https::CAInfo "/mnt/ca.crt";')
    (folder / "apt.conf").write_text("\n".join(lines) + "\n")
    for path in _files_in(scripts):
        shutil.copy(path, folder / path.name)
    return mounts


def run_script(
    client: DockerClient,
    title: str,
    image: str,
    script: str,
    scratch: Path,
    volumes: dict[str, dict[str, str]] | None = None,
    environment: dict[str, str] | None = None,
    export: Path | None = None,
    scripts: Path = _FILES,
) -> None:
    """Run one of `scripts` in a container of `image` that has this machine's package source.

    Args:
        title: what the user sees.
        scratch: a folder for what the script is given; the caller removes it.
        volumes: more bind mounts, as Docker's SDK takes them.
        environment: more variables.
        export: where to write the container's files as a tar, if wanted.
        scripts: the folder that the container finds in /mnt, with its package source.

    Raises:
        LabError: if the script fails.
    """
    proxies = {
        key: value for key, value in os.environ.items() if key.lower() in ("http_proxy", "https_proxy", "no_proxy")
    }
    container = client.containers.create(
        image,
        ["/bin/sh", f"/mnt/{script}"],
        network_mode="host",
        volumes={**_apt_folder(scratch, scripts), **(volumes or {})},
        environment={**proxies, **(environment or {}), "APT_CONFIG": "/mnt/apt.conf"},
        labels={BUILD_LABEL: "yes"},
    )
    log = cache_root() / "log" / f"{scripts.name}-{Path(script).stem}.log"
    try:
        container.start()
        tail = progress.follow(title, _log_lines(container), log)
        code = int(container.wait(timeout=60)["StatusCode"])
        if code:
            raise LabError("\n".join([f"{title}: ended with {code}", *tail[-8:], f"whole log: {log}"]))
        if export is not None:
            with progress.step("packing the image"), export.open("wb") as handle:
                for chunk in container.export(chunk_size=1 << 20):
                    handle.write(cast(bytes, chunk))  # the stubs say str
    finally:
        container.remove(force=True)


def _log_lines(container: Container) -> Iterator[str]:
    rest = b""
    try:
        for chunk in container.logs(stream=True, follow=True):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
    except APIError as error:
        yield str(error)
    yield rest.decode(errors="replace")
