"""The stand-in k3s is one executable file that says what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from piclusterops.lab.k3s.build import build

VERSION = "v1.36.5+k3s1"


@pytest.fixture(scope="module")
def k3s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("standin") / "k3s"
    build(target, VERSION)
    return target


def run(k3s: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(k3s), *arguments], capture_output=True, text=True, timeout=30)


def test_the_same_version_gives_the_same_bytes(k3s: Path, tmp_path: Path) -> None:
    build(tmp_path / "again", VERSION)
    assert (tmp_path / "again").read_bytes() == k3s.read_bytes()
    build(tmp_path / "other", "v1.37.1+k3s1")
    assert (tmp_path / "other").read_bytes() != k3s.read_bytes()


def test_it_is_executable_with_the_systems_python(k3s: Path) -> None:
    assert k3s.read_bytes().startswith(b"#!/usr/bin/python3\n")
    assert k3s.stat().st_mode & 0o777 == 0o755


def test_its_version_says_that_it_is_a_stand_in(k3s: Path) -> None:
    lines = run(k3s, "--version").stdout.splitlines()
    assert lines[0].startswith(f"k3s version {VERSION} (stand-in of the PiClusterOps lab")
    assert lines[1].startswith("go version none: this is Python")


def test_its_help_says_what_is_not_real(k3s: Path) -> None:
    assert "no container" in run(k3s, "--help").stdout


def test_a_wrong_flag_ends_with_a_fatal_line_and_code_1(k3s: Path) -> None:
    done = run(k3s, "server", "--nonsense")
    assert done.returncode == 1
    assert 'level=fatal msg="Error: flag provided but not defined: -nonsense"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_can_be_made_without_a_cluster(k3s: Path) -> None:
    assert len(run(k3s, "token", "generate").stdout.strip()) == 23


@pytest.mark.parametrize("version", ["1.36.5+k3s1", "v1.36.5", 'v1.36.5+k3s1"; import os'])
def test_only_k3s_versions_are_built(tmp_path: Path, version: str) -> None:
    with pytest.raises(ValueError, match="no K3s version"):
        build(tmp_path / "k3s", version)
