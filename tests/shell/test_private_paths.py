"""The shell of `hardening.private_paths`, run for real."""

from __future__ import annotations

import subprocess
from pathlib import Path

from piclusterops.operations.hardening import loose_paths, take_from_others


def dash(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["dash", "-c", script], text=True, capture_output=True, check=False)


def test_permissions_are_taken_and_the_second_look_finds_nothing(tmp_path: Path) -> None:
    for name, mode in {"a.crt": 0o644, "b.crt": 0o600, "other": 0o644}.items():
        (tmp_path / name).touch(mode)
        (tmp_path / name).chmod(mode)
    patterns = [f"{tmp_path}/*.crt", f"{tmp_path}/missing"]
    assert dash(loose_paths(patterns)).stdout.split() == [f"{tmp_path}/a.crt"]
    assert dash(take_from_others(patterns)).returncode == 0
    assert dash(loose_paths(patterns)).stdout == ""
    assert (tmp_path / "a.crt").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o644


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    assert dash(loose_paths([f"{tmp_path}/*"])).returncode == 0
    assert dash(take_from_others([f"{tmp_path}/*"])).returncode == 0
