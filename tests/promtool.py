"""promtool, Prometheus' own checker of rules and queries: the machine's, or that of Debian's package, unpacked."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from piclusterops.lab.state import cache_root, locked


def promtool(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """What promtool says; the test is skipped, with the reason, where it cannot be had."""
    found = _found()
    if isinstance(found, str):
        pytest.skip(found)
    command = [str(found), *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)


@cache
def _found() -> Path | str:
    """The program, or why there is none."""
    if path := shutil.which("promtool"):
        return Path(path)
    target = cache_root() / "tools" / "prometheus"
    with locked(target.parent / ".prometheus.lock"):
        return target / "usr/bin/promtool" if target.is_dir() else _unpacked(target)


def _unpacked(target: Path) -> Path | str:
    """promtool of Debian's package prometheus in a folder of its own: the package is not installed."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return "promtool is not in the PATH, and this is no Debian to take it from: install Prometheus"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="new-") as scratch:
        folder = Path(scratch)
        done = _apt("download", folder)
        if done.returncode:  # a fresh system has no lists of packages
            _apt("update", folder)
            done = _apt("download", folder)
        packages = list(folder.glob("*.deb"))
        if done.returncode or len(packages) != 1:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            return f"promtool is not in the PATH, and apt-get download prometheus says {said!r}"
        subprocess.run(["dpkg", "-x", packages[0], folder / "root"], check=True, capture_output=True)
        (folder / "root").rename(target)
    return target / "usr/bin/promtool"


def _apt(verb: Literal["download", "update"], folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "-q", verb, *(["prometheus"] if verb == "download" else [])]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
