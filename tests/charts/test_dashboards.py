"""Dashboards: what is shipped is what is described, and every query can be answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import FOLDER, load
from promtool import promtool

from piclusterops.grafana_dashboards import COLUMNS, Dashboard, read, rendered

DASHBOARDS = FOLDER / "platform-config/dashboards"
RULES = FOLDER / "platform-config/rules"
NAMES = tuple(sorted(path.stem for path in DASHBOARDS.glob("*.yaml")))
METRICS = load(Path(__file__).parent / "observability/metrics.yaml")

every_dashboard = pytest.mark.parametrize("name", NAMES)


def described(name: str) -> Dashboard:
    return read(DASHBOARDS / f"{name}.yaml")


def shipped(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def queries(name: str) -> list[str]:
    return [query.expr for row in described(name).rows for panel in row.panels for query in panel.queries]


def rules() -> Iterator[dict[str, Any]]:
    for path in sorted(RULES.glob("*.yaml")):
        for group in load(path)["groups"]:
            yield from group["rules"]


@every_dashboard
def test_what_is_shipped_is_what_is_described(name: str) -> None:
    text = (DASHBOARDS / f"{name}.json").read_text(encoding="utf-8")
    assert text == rendered(described(name)), "write it anew: python -m piclusterops.grafana_dashboards"


def test_nothing_is_shipped_that_is_not_described() -> None:
    assert {path.stem for path in DASHBOARDS.glob("*.json")} == set(NAMES)


def test_links_lead_to_one_dashboard() -> None:
    uids = [described(name).uid for name in NAMES]
    assert len(set(uids)) == len(uids)


@every_dashboard
def test_panels_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in shipped(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@every_dashboard
def test_every_query_asks_the_chosen_source(name: str) -> None:
    panels = [panel for panel in shipped(name)["panels"] if panel["type"] != "row"]
    sources = [target["datasource"] for panel in panels for target in panel["targets"]]
    assert sources and all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert len({panel["id"] for panel in shipped(name)["panels"]}) == len(shipped(name)["panels"])


@every_dashboard
def test_variables_are_defined(name: str) -> None:
    defined = {variable.name for variable in described(name).variables}
    used = {variable for query in queries(name) for variable in re.findall(r"\$(\w+)", query)}
    assert used == defined


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    checked = [
        {"record": f"checked:{name.replace('-', '_')}:{number}", "expr": query}
        for name in NAMES
        for number, query in enumerate(queries(name))
    ]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": checked}]}))

    answer = promtool("check", "rules", "--lint=none", tmp_path / "queries.yaml")

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"{len(checked)} rules found" in answer.stdout


#: What is not the name of a metric in PromQL.
_WORDS = frozenset(
    {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}
)


def metrics_of(query: str) -> set[str]:
    """Names of the metrics in a query: what is left without strings, labels, durations, functions and words."""
    bare = re.sub(r'"[^"]*"|\'[^\']*\'', '""', query)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    return {
        name
        for name, call in re.findall(r"(?<![\w.])([A-Za-z_:][\w:]*)\s*(\(?)", bare)
        if not call and name not in _WORDS
    }


def test_the_names_of_metrics_are_found_in_a_query() -> None:
    query = (
        'sum by (a, b) (rate(x_total{c="d e", f=~"g.*"}[5m])) / on (a) group_left (h) node:y:ratio == bool 0 or sum(1)'
    )
    assert metrics_of(query) == {"x_total", "node:y:ratio"}


def test_every_metric_is_known_and_somebody_makes_it() -> None:
    """A misspelt name is a panel without data, or an alert that never fires."""
    known = {metric for exporter in METRICS.values() for metric in exporter["names"]}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {metric for rule in rules() for metric in metrics_of(rule["expr"])}
    used |= {metric for name in NAMES for query in queries(name) for metric in metrics_of(query)}
    asked = {
        re.findall(r"label_values\((\w+),", variable.query)[0]
        for name in NAMES
        for variable in described(name).variables
    }
    assert (used | asked) - recorded - known == set(), "not in observability/metrics.yaml"
    assert known - used - asked == set(), "listed in observability/metrics.yaml, but not used"
    assert recorded <= used, "recorded in vain"


def test_who_makes_a_metric_says_where_that_is_written() -> None:
    assert all(exporter["source"] and exporter["names"] for exporter in METRICS.values())
    names = [name for exporter in METRICS.values() for name in exporter["names"]]
    assert len(names) == len(set(names))
