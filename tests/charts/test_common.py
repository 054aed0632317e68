"""What our charts share is the same in all of them: each has to be complete in itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import FOLDER, Chart, charts

APPLICATIONS = [chart for chart in charts() if (chart.folder / "templates/_platform.tpl").exists()]


@pytest.mark.parametrize("name", ["templates/_platform.tpl", "templates/serviceaccount.yaml", "files/install.py"])
def test_shared_files_are_the_same(name: str) -> None:
    having = [chart for chart in charts() if (chart.folder / name).exists()]
    assert len(having) > 1
    assert len({chart.read(name) for chart in having}) == 1, f"copy {name} to {[chart.name for chart in having]}"


def test_schemas_describe_the_same_things_alike() -> None:
    descriptions: dict[str, str] = {}
    for chart in APPLICATIONS:
        for name, description in chart.schema["definitions"].items():
            text = json.dumps(description, sort_keys=True)
            assert descriptions.setdefault(name, text) == text, f"{name} of {chart.name} differs"


@pytest.mark.parametrize("chart", APPLICATIONS, ids=lambda chart: chart.name)
def test_schemas_hold_nothing_unused(chart: Chart) -> None:
    used = {reference.rsplit("/", 1)[1] for reference in _references(chart.schema)}
    assert used == set(chart.schema["definitions"])


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


@pytest.mark.parametrize(
    "script", sorted(FOLDER.glob("*/files/*.sh")), ids=lambda path: f"{path.parts[-3]}-{path.name}"
)
def test_shellcheck_finds_nothing(script: Path) -> None:
    command = [str(Path(sys.executable).with_name("shellcheck")), str(script)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout
