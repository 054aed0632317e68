"""Our charts are sound: Helm's own checks, their metadata, and schemas that refuse what charts don't know."""

from __future__ import annotations

from typing import Any

import pytest
from harness import Chart, charts, charts_with_a_release, lint, planned, render

from piclusterops.catalogue import Profile, catalogue

CHARTS = charts()
PROFILES: tuple[Profile, ...] = ("named", "clean")


def _names(chart: Chart) -> str:
    return chart.name


every_chart = pytest.mark.parametrize("chart", CHARTS, ids=_names)
every_release = pytest.mark.parametrize("chart", charts_with_a_release(), ids=_names)
every_profile = pytest.mark.parametrize("profile", PROFILES)


@every_chart
def test_the_metadata_is_complete(chart: Chart) -> None:
    metadata = chart.metadata
    assert metadata["apiVersion"] == "v2"
    assert metadata["name"] == chart.name
    assert metadata["type"] == "application"
    assert metadata["kubeVersion"].startswith(">=")
    assert metadata["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    assert metadata["version"] and metadata["appVersion"] and metadata["description"]


@every_release
def test_the_catalogue_has_the_versions_of_the_chart(chart: Chart) -> None:
    entry = catalogue()[chart.name].chart
    assert entry is not None
    assert (entry.name, entry.version, entry.app_version) == (
        chart.name,
        chart.metadata["version"],
        str(chart.metadata["appVersion"]),
    )


@every_profile
@every_release
def test_helm_lints_it_with_the_values_of_the_platform(chart: Chart, profile: Profile) -> None:
    answer = lint(chart, planned(chart.name, profile).values)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@every_release
def test_a_misspelt_value_is_refused(chart: Chart) -> None:
    answer = render(chart, {**planned(chart.name).values, "replicaCuont": 1})
    assert answer.returncode != 0
    assert "replicaCuont" in answer.stderr


@every_chart
def test_the_schema_knows_no_other_keys_at_any_depth(chart: Chart) -> None:
    assert chart.schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    open_objects = [path for path, node in _objects(chart.schema, "$") if "additionalProperties" not in node]
    assert not open_objects, f"objects that take any key: {open_objects}"


@every_chart
def test_the_schema_describes_every_default(chart: Chart) -> None:
    missing = sorted(set(chart.values) - set(chart.schema["properties"]))
    assert not missing, f"values without a schema: {missing}"
    surplus = sorted(set(chart.schema["properties"]) - set(chart.values))
    assert not surplus, f"described, but with no default: {surplus}"


def _objects(node: Any, path: str) -> list[tuple[str, dict[str, Any]]]:
    """All descriptions of objects in a schema, with their paths."""
    found: list[tuple[str, dict[str, Any]]] = []
    if isinstance(node, dict):
        if node.get("type") == "object":
            found.append((path, node))
        for key, value in node.items():
            found += _objects(value, f"{path}.{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            found += _objects(value, f"{path}[{number}]")
    return found
