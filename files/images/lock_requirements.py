"""Pins the Python packages of a chart, with the SHA-256 of their wheels for arm64 and amd64:

    uv run --no-project files/images/lock_requirements.py files/charts/jupyterlab/files/requirements.in

writes `requirements.txt` beside it. Needs uv (https://docs.astral.sh/uv/). What is newest then is pinned.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

PYTHON = "3.12"
#: Raspberry Pis, and the machines that images are tried on.
PLATFORMS = ("aarch64-manylinux_2_28", "x86_64-manylinux_2_28")
HEADER = """\
# Made of {name} by files/images/lock_requirements.py: don't edit it by hand.
# Wheels for Python {python} on arm64 and amd64.
"""


def wheels(requirements: Path, platform: str) -> dict[tuple[str, str], str]:
    """The SHA-256 of the wheel of every package on a platform, by its name and version.

    Raises:
        subprocess.CalledProcessError: uv finds no versions that go together, or a package has no wheel.
    """
    command = [os.environ.get("UV", "uv"), "pip", "compile", "--quiet", "--format", "pylock.toml"]
    command += ["--python-version", PYTHON, "--python-platform", platform, "--only-binary", ":all:"]
    command += ["--default-index", "https://pypi.org/simple", str(requirements)]
    lock = tomllib.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        (package["name"], package["version"]): package["wheels"][0]["hashes"]["sha256"] for package in lock["packages"]
    }


def main() -> None:
    """Write the file."""
    source = Path(sys.argv[1])
    found = [wheels(source, platform) for platform in PLATFORMS]
    if set(found[0]) != set(found[1]):
        sys.exit(f"arm64 and amd64 differ in {sorted(set(found[0]) ^ set(found[1]))}")
    lines = [HEADER.format(name=source.name, python=PYTHON)]
    for name, version in sorted(found[0]):
        hashes = dict.fromkeys(one[name, version] for one in found)
        lines.append(f"{name}=={version} \\\n" + " \\\n".join(f"    --hash=sha256:{one}" for one in hashes) + "\n")
    source.with_suffix(".txt").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
