"""Installs pinned packages into a virtual environment, unless they are there already: install.py REQUIREMENTS FOLDER.

The environment is FOLDER/current. One that could not be finished is never that: it is made anew under another name and
the link replaced. `PIP_INDEX_URL` names a mirror of PyPI. Only the standard library.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

#: Written into an environment when all of it is there.
COMPLETE = ".complete"


def install(requirements: Path, folder: Path) -> str:
    """Make FOLDER/current an environment with these packages; returns what was done.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = _name(requirements)
    environment = folder / name
    done = "is there already"
    if not (environment / COMPLETE).exists():
        if environment.exists():
            shutil.rmtree(environment)
        venv.create(environment, with_pip=True)
        _pip(environment, requirements)
        (environment / COMPLETE).touch()
        done = "is new"
    _point(folder / "current", name)
    for other in folder.iterdir():
        if other.name not in (name, "current"):
            shutil.rmtree(other)
    return f"{environment} {done}"


def _name(requirements: Path) -> str:
    """A name for the environment of these packages and this Python: both have to stay the same for it to be kept."""
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    return f"env-{digest[:16]}"


def _pip(environment: Path, requirements: Path) -> None:
    command = [str(environment / "bin/python"), "-m", "pip", "install", "--no-cache-dir", "--require-hashes"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--requirement"]
    subprocess.run([*command, str(requirements)], check=True)


def _point(link: Path, name: str) -> None:
    if link.is_symlink() and link.readlink() == Path(name):
        return
    new = link.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.symlink_to(name)
    new.replace(link)


if __name__ == "__main__":
    try:
        print(install(Path(sys.argv[1]), Path(sys.argv[2])), flush=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip failed with status {error.returncode}; the next start tries again")
