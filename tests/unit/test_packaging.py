"""`piclusterops.facts` and its siblings resolve in every way that the package is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
WHERE = (
    "import piclusterops.facts.snapshot as f, piclusterops.operations.managed as o, piclusterops.deploys.stop as d; "
    "print(f.__file__); print(o.__file__); print(d.__file__)"
)


def python(*args: str, cwd: Path, path: Path | None = None) -> list[str]:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    if path:
        env["PYTHONPATH"] = str(path)
    done = subprocess.run([sys.executable, *args], cwd=cwd, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain (not editable) installation of a copy of the repository."""
    source = tmp_path_factory.mktemp("source")
    target = tmp_path_factory.mktemp("installed")
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((REPOSITORY / name).read_bytes())
    python(
        *("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(target), str(source)),
        cwd=source,
    )
    return target


def test_plain_installation_holds_everything_below_one_name(installed: Path, tmp_path: Path) -> None:
    found = python("-c", WHERE, cwd=tmp_path, path=installed)
    assert all(Path(file).is_relative_to(installed / "piclusterops") for file in found)
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names <= {"piclusterops", "bin"}


def test_plain_installation_ships_the_files_that_the_deploys_read(installed: Path, tmp_path: Path) -> None:
    code = "from importlib.resources import files; print(sorted(p.name for p in files('piclusterops.files').iterdir()))"
    assert "templates" in python("-c", code, cwd=tmp_path, path=installed)[0]
    shipped = {p.relative_to(installed / "piclusterops/files") for p in (installed / "piclusterops/files").rglob("*")}
    wanted = {
        p.relative_to(REPOSITORY / "files") for p in (REPOSITORY / "files").rglob("*") if "__pycache__" not in p.parts
    }
    assert wanted <= shipped


def test_editable_installation_resolves_to_the_checkout(tmp_path: Path) -> None:
    found = python("-c", WHERE, cwd=tmp_path)
    assert [Path(file) for file in found] == [
        REPOSITORY / "facts/snapshot.py",
        REPOSITORY / "operations/managed.py",
        REPOSITORY / "deploys/stop.py",
    ]


def test_checkout_resolves_without_installation() -> None:
    found = python("-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {WHERE}", cwd=REPOSITORY)
    assert all(Path(file).is_relative_to(REPOSITORY) for file in found)


def test_pytest_resolves_to_the_checkout() -> None:
    import piclusterops.facts.snapshot

    assert Path(piclusterops.facts.snapshot.__file__) == REPOSITORY / "facts/snapshot.py"


def test_pyinfra_command_line_resolves_facts_and_deploys(tmp_path: Path) -> None:
    deploy = tmp_path / "deploy.py"
    deploy.write_text(
        "from pyinfra import logger\nimport piclusterops.facts.snapshot as f, piclusterops.deploys.stop as d\n"
        "logger.warning('found %s %s' % (f.__file__, d.__file__))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", "--dry", "@local", str(deploy)],
        cwd=REPOSITORY,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"found {REPOSITORY}/facts/snapshot.py {REPOSITORY}/deploys/stop.py" in " ".join(done.stderr.split())
