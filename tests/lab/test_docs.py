"""The commands that README and docs show, typed by a newcomer in a clean clone."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_commands import RUN
from runs import REPOSITORY

from piclusterops.lab.fleet import Lab
from piclusterops.paths import cache_root

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone, as a newcomer has it."""
    target = tmp_path_factory.mktemp("newcomer") / "piclusterops"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(target)], check=True)
    return target


def typed(command: str, clone: Path) -> str:
    """What a command prints, typed in the clone with its virtual environment in the path.

    The home directory is the clone's neighbour, so that no kubeconfig of ours is touched.
    """
    ours = ("PICLUSTEROPS_LAB", "PICLUSTEROPS_LAB_PLATFORM", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    done = subprocess.run(
        command,
        shell=True,
        cwd=clone,
        env={
            **environment,
            "HOME": str(clone.parent),
            "PICLUSTEROPS_CACHE": str(cache_root()),
            "PATH": f"{clone}/.venv/bin:{os.environ['PATH']}",
        },
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def demo(clone: Path) -> Iterator[tuple[Path, str]]:
    """The clone after ``make demo``, and what that printed."""
    try:
        yield clone, typed("make demo", clone)
    finally:
        Lab("lab").down()


def test_make_demo_brings_up_a_cluster_and_says_how_to_look_around(demo: tuple[Path, str]) -> None:
    _, printed = demo
    for node in ("pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3"):
        assert re.search(rf"{node} +│ +(master|worker|data_node) +│ +yes", printed), printed[-3000:]
    assert "make demo-down" in printed


@pytest.mark.parametrize("command", RUN)
def test_the_command_does_what_the_docs_say(demo: tuple[Path, str], command: str) -> None:
    clone, _ = demo
    printed = typed(command, clone)
    assert "Traceback" not in printed
    if command.startswith("picluster lock"):
        assert re.search(r"^[0-9a-f]{64}  v", printed, re.MULTILINE)
    if command == "picluster plan --env lab":
        assert "to install" not in printed and "to upgrade" not in printed, "the demo has installed everything"
    if command.startswith("picluster kubeconfig"):
        assert (clone.parent / ".kube/config").stat().st_mode & 0o777 == 0o600


def test_make_demo_down_leaves_nothing(demo: tuple[Path, str]) -> None:
    clone, _ = demo
    block = Lab("lab").fleet.block
    typed("make demo-down", clone)
    assert f"10.{block}." not in subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    links = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout
    assert f"10.{block}." not in links
    assert not (cache_root() / "lab" / "lab").exists()
    assert subprocess.run(["git", "status", "--short"], cwd=clone, capture_output=True, text=True).stdout == ""
