"""What the platform installs of our charts, whole: a change of a template shows as a difference of manifests."""

from __future__ import annotations

import difflib

import pytest
import yaml
from harness import GOLDEN, PLATFORM_APIS, Chart, charts_with_a_release, planned, template_planned


class Lines(yaml.SafeDumper):
    """Writes texts of several lines as such, so that a difference shows the line that differs."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Lines.add_representer(str, _text)


@pytest.mark.parametrize("chart", charts_with_a_release(), ids=lambda chart: chart.name)
def test_the_manifests_are_the_golden_ones(chart: Chart, update_golden: bool) -> None:
    manifests = template_planned(planned(chart.name), apis=PLATFORM_APIS)
    text = yaml.dump_all(manifests, Dumper=Lines, sort_keys=False, width=120, allow_unicode=True)
    path = GOLDEN / f"{chart.name}.yaml"
    if update_golden:
        path.write_text(text, encoding="utf-8")
        return
    golden = path.read_text(encoding="utf-8") if path.exists() else ""
    difference = "\n".join(
        difflib.unified_diff(golden.splitlines(), text.splitlines(), f"golden/{path.name}", "rendered", "", "", 2, "")
    )
    assert not difference, (
        f"{difference}\n\nWanted? Then write it anew: pytest tests/charts/test_golden.py --update-golden"
    )


def test_no_golden_file_is_left_over() -> None:
    known = {f"{chart.name}.yaml" for chart in charts_with_a_release()}
    assert {path.name for path in GOLDEN.glob("*.yaml")} <= known
