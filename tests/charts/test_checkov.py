"""checkov finds nothing in the manifests that we have not looked at, and given a reason for."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from harness import PROFILES, REPOSITORY, charts_with_a_release, planned, template_planned

EXCEPTIONS = Path(__file__).with_name("checkov-exceptions.yaml")
CHECKOV = Path(os.environ.get("CHECKOV", REPOSITORY / "build/checkov/bin/checkov"))

pytestmark = pytest.mark.skipif(not CHECKOV.exists(), reason=f"{CHECKOV} is not there; `make test-charts` installs it")


class Finding(NamedTuple):
    """A check that a resource fails."""

    check: str
    resource: str
    """`<profile>/<kind>.<namespace>.<name>`"""
    title: str


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """What checkov finds in what the platform installs of our charts, in all profiles."""
    folder = tmp_path_factory.mktemp("manifests")
    for profile in PROFILES:
        (folder / profile).mkdir()
        for chart in charts_with_a_release():
            text = yaml.safe_dump_all(template_planned(planned(chart.name, profile)))
            (folder / profile / f"{chart.name}.yaml").write_text(text, encoding="utf-8")
    return scan(folder)


def scan(folder: Path) -> list[Finding]:
    """What checkov finds in the manifests of a folder's folders."""
    command = [CHECKOV, "--directory", folder, "--framework", "kubernetes", "--output", "json", "--skip-download"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LOG_LEVEL": "ERROR"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    report: dict[str, Any] = json.loads(answer.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 100, "it looked at nothing"
    return list(_findings(report["results"]["failed_checks"]))


def _findings(failed: list[dict[str, Any]]) -> Iterator[Finding]:
    for one in failed:
        profile = Path(one["file_path"].lstrip("/")).parts[0]
        yield Finding(one["check_id"], f"{profile}/{one['resource']}", one["check_name"])


def exceptions() -> list[dict[str, str]]:
    return list(yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8")))


def excepted(finding: Finding, entry: dict[str, str]) -> bool:
    return finding.check == entry["check"] and re.fullmatch(entry["resources"], finding.resource) is not None


def test_every_finding_has_a_reason(findings: list[Finding]) -> None:
    unknown = [one for one in findings if not any(excepted(one, entry) for entry in exceptions())]
    assert not unknown, "\n".join(f"{one.check} {one.resource}: {one.title}" for one in unknown)


def test_every_exception_is_needed_and_says_why(findings: list[Finding]) -> None:
    unused = [entry["check"] for entry in exceptions() if not any(excepted(one, entry) for one in findings)]
    assert not unused, f"no longer found: {unused}"
    assert all(len(entry["why"]) > 5 for entry in exceptions())
