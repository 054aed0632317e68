"""What the lab is made of: package sources, Kubernetes programs, the K3s mirror."""

from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import piclusterops.lab
from piclusterops.lab import kube, mirror
from piclusterops.lab.fleet import default_nodes
from piclusterops.lab.image import image_digest, package_settings, package_sources
from piclusterops.lab.state import LabError

VERSION = "v1.36.5+k3s1"
LAB = Path(piclusterops.lab.__path__[0])
SCRIPTS = [path for path in sorted(LAB.glob("*/*")) if path.is_file() and path.read_bytes()[:9] == b"#!/bin/sh"]


def test_the_machines_own_debian_sources_are_used() -> None:
    targets = (
        "http://mirror.example/debian bookworm main\n"
        "http://mirror.example/debian bookworm contrib\n"
        "http://mirror.example/debian bookworm main\n"
        "http://mirror.example/debian-security/ bookworm-security main\n"
        "https://packages.example/apt bookworm main\n"
        "http://mirror.example/debian trixie main\n"
    )
    assert package_sources(targets) == (
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian-security/ bookworm-security main",
    )


@pytest.mark.parametrize("targets", ["", "http://archive.ubuntu.com/ubuntu jammy main\n"])
def test_a_machine_without_bookworm_takes_debians_own_server(targets: str) -> None:
    assert package_sources(targets)[0] == "deb http://deb.debian.org/debian bookworm main"


def test_only_settings_about_reaching_the_source_are_taken_over() -> None:
    dump = (
        'Acquire "";\nAcquire::http "";\nAcquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/auto-apt-proxy";\nAcquire::Check-Valid-Until "false";\n'
        'Acquire::Languages "none";\nAcquire::https::Proxy "";\n'
    )
    assert package_settings(dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Valid-Until "false";',
    )


def test_another_file_makes_another_image(tmp_path: Path) -> None:
    shutil.copytree(LAB / "image", tmp_path / "image")
    same = image_digest(tmp_path / "image")
    assert same == image_digest()
    (tmp_path / "image" / "vcgencmd.answers").write_text("measure_temp temp=80.0'C\n")
    assert image_digest(tmp_path / "image") != same


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse_under_dash(script: Path) -> None:
    subprocess.run(["dash", "-n", script], check=True)


@pytest.mark.parametrize(
    ("count", "roles"),
    [
        (1, ["master"]),
        (2, ["master", "worker"]),
        (4, ["master", "worker", "data_node", "data_node"]),
        (5, ["master", "worker", "data_node", "data_node", "data_node"]),
    ],
)
def test_default_nodes_are_one_master_one_worker_and_data_nodes(count: int, roles: list[str]) -> None:
    nodes = default_nodes(count)
    assert [node.role for node in nodes] == roles
    assert [node.name for node in nodes] == ["pi-master", *(f"pi-worker-{n}" for n in range(1, count))]


def test_roles_can_be_given_one_for_each_node() -> None:
    assert [node.role for node in default_nodes(3, ["master"] * 3)] == ["master"] * 3
    with pytest.raises(LabError, match="3 nodes and 2 roles"):
        default_nodes(3, ["master"] * 2)
    with pytest.raises(LabError, match="at least one"):
        default_nodes(0)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs as `find_programs` takes them: one plain, the others packed in bin/."""
    folder = tmp_path / "given"
    (folder / "bin").mkdir(parents=True)
    lines = []
    for name in kube.PROGRAMS:
        content = f"program {name}".encode()
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}")
        if name == "etcd":
            (folder / "bin" / name).write_bytes(content)
        else:
            (folder / "bin" / f"{name}.xz").write_bytes(lzma.compress(content))
    (folder / "bin" / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    return folder


def test_programs_are_found_plain_or_packed(programs: Path, tmp_path: Path) -> None:
    found = kube.find_programs(programs)
    assert {name: path.name for name, path in found.items()} == {
        "etcd": "etcd",
        "kube-apiserver": "kube-apiserver.xz",
        "kube-controller-manager": "kube-controller-manager.xz",
        "kube-scheduler": "kube-scheduler.xz",
    }
    for name, path in found.items():
        kube.unpack(path, tmp_path / name, hashlib.sha256(f"program {name}".encode()).hexdigest())
        assert (tmp_path / name).read_text() == f"program {name}"
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755


def test_missing_programs_are_named_all_at_once(programs: Path) -> None:
    (programs / "bin" / "etcd").unlink()
    (programs / "bin" / "kube-scheduler.xz").unlink()
    with pytest.raises(LabError, match="lacks etcd, kube-scheduler"):
        kube.find_programs(programs)


def test_a_program_that_is_not_what_its_checksum_says_is_refused(programs: Path, tmp_path: Path) -> None:
    source = programs / "bin" / "kube-scheduler.xz"
    with pytest.raises(LabError, match="not what SHA256SUMS"):
        kube.unpack(source, tmp_path / "out", "0" * 64)
    source.write_bytes(source.read_bytes()[:-9])
    with pytest.raises(LabError, match="damaged"):
        kube.unpack(source, tmp_path / "out", None)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out like the K3s releases, given by the environment."""
    folder = tmp_path / "releases" / VERSION
    folder.mkdir(parents=True)
    arch = mirror.architecture()
    (folder / mirror.program_name(arch)).write_bytes(b"a release")
    (folder / f"sha256sum-{arch}.txt").write_text(mirror.checksum_lines(folder))
    monkeypatch.setenv("PICLUSTEROPS_K3S_MIRROR", str(folder.parent))
    return folder


def test_a_given_release_fills_the_mirror(release: Path, tmp_path: Path) -> None:
    assert mirror.add_version(tmp_path / "mirror", VERSION) == mirror.Filled(VERSION, standin=False)
    copied = tmp_path / "mirror" / VERSION
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == {
        path.name: path.read_bytes() for path in release.iterdir()
    }
    assert [path.name for path in (tmp_path / "mirror").iterdir()] == [VERSION]


def test_a_release_by_url_is_fetched_with_its_plus_escaped(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(release.parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split("port ")[1].split()[0]
            monkeypatch.setenv("PICLUSTEROPS_K3S_MIRROR", f"http://127.0.0.1:{port}/")
            mirror.add_version(tmp_path / "mirror", VERSION)
        finally:
            server.terminate()
    program = mirror.program_name(mirror.architecture())
    assert (tmp_path / "mirror" / VERSION / program).read_bytes() == b"a release"


def test_a_damaged_release_is_refused_and_leaves_the_mirror_alone(release: Path, tmp_path: Path) -> None:
    mirror.add_version(tmp_path / "mirror", VERSION)
    program = mirror.program_name(mirror.architecture())
    (release / program).write_bytes(b"something else")
    with pytest.raises(LabError, match=f"{program} is not what sha256sum"):
        mirror.add_version(tmp_path / "mirror", VERSION)
    assert (tmp_path / "mirror" / VERSION / program).read_bytes() == b"a release"


def test_a_version_that_the_given_mirror_lacks_is_named(release: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"v9\.9\.9\+k3s1/sha256sum"):
        mirror.add_version(tmp_path / "mirror", "v9.9.9+k3s1")


def test_without_a_release_the_mirror_gets_the_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PICLUSTEROPS_K3S_MIRROR", raising=False)
    assert mirror.add_version(tmp_path, VERSION).standin
    arch = mirror.architecture()
    sums = mirror.parse_checksums((tmp_path / VERSION / f"sha256sum-{arch}.txt").read_text())
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / VERSION).iterdir()
        if not path.name.startswith("sha256sum")
    }
    assert set(sums) == {mirror.program_name(arch), f"k3s-airgap-images-{arch}.tar.zst"}


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")
def test_the_stand_ins_image_archive_is_a_zstandard_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PICLUSTEROPS_K3S_MIRROR", raising=False)
    mirror.add_version(tmp_path, VERSION)
    archive = next((tmp_path / VERSION).glob("*.tar.zst"))
    unpacked = subprocess.run(["zstd", "-dc", archive], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as inside:
        assert inside.getnames() == ["README"]
