"""Alert rules: they fire when they should and are silent otherwise, and tell whoever is woken up what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import FOLDER, load
from promtool import promtool

RULES = FOLDER / "platform-config/rules"
TOPICS = tuple(sorted(path.stem for path in RULES.glob("*.yaml")))
CASES = load(Path(__file__).parent / "observability/alerts.yaml")

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/alerts.md"
TABLE = re.compile(r"(?<=<!-- alerts -->\n\n).*?(?=\n<!-- end -->)", re.DOTALL)

every_topic = pytest.mark.parametrize("topic", TOPICS)


def groups(topic: str) -> list[dict[str, Any]]:
    return list(load(RULES / f"{topic}.yaml")["groups"])


def alerts(topic: str) -> list[dict[str, Any]]:
    return [rule for group in groups(topic) for rule in group["rules"] if "alert" in rule]


@every_topic
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(topic: str) -> None:
    assert [case["alert"] for case in CASES[topic]] == [alert["alert"] for alert in alerts(topic)]
    assert all("silent" in case and "fires" in case for case in CASES[topic])


def test_there_are_no_cases_without_rules() -> None:
    assert set(CASES) == set(TOPICS)


@every_topic
def test_alerts_fire_when_they_should_and_only_then(topic: str, tmp_path: Path) -> None:
    """Prometheus' own evaluation; of the annotations only the summary is compared, not the prose."""
    rules = groups(topic)
    for group in rules:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["annotations"] = {"summary": rule["annotations"]["summary"]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rules}), encoding="utf-8")
    tests = [test for case in CASES[topic] for test in _tests(case)]
    written = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(written, allow_unicode=True), encoding="utf-8")

    answer = promtool("test", "rules", tmp_path / "tests.yaml")

    assert answer.returncode == 0, answer.stdout + answer.stderr


def _tests(case: dict[str, Any]) -> list[dict[str, Any]]:
    fires, silent = case["fires"], case["silent"]
    expected = [{"exp_labels": dict(fires["labels"]), "exp_annotations": {"summary": fires["summary"]}}]
    tests = [_test(case["alert"], fires, expected)]
    return tests if silent is None else [*tests, _test(case["alert"], silent, [])]


def _test(alert: str, situation: dict[str, Any], expected: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": f"{alert} {'fires' if expected else 'is silent'}",
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in situation["series"].items()],
        "alert_rule_test": [{"eval_time": situation["at"], "alertname": alert, "exp_alerts": expected}],
    }


@every_topic
def test_who_is_woken_up_reads_what_to_do(topic: str) -> None:
    for alert in alerts(topic):
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}, alert["alert"]
        assert len(alert["annotations"]["runbook"]) > 40, alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning", "info", "none"), alert["alert"]


def test_names_of_alerts_are_unique() -> None:
    names = [alert["alert"] for topic in TOPICS for alert in alerts(topic)]
    assert len(names) == len(set(names))


@every_topic
def test_prometheus_takes_the_rules(topic: str) -> None:
    answer = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES / f"{topic}.yaml")
    assert answer.returncode == 0, answer.stdout + answer.stderr


# -- the page --------------------------------------------------------------------------------------------------


def table() -> str:
    """All alerts, for people."""
    lines = ["| alert | severity | after | topic |", "| --- | --- | --- | --- |"]
    for topic in TOPICS:
        for alert in alerts(topic):
            after = alert.get("for", "at once")
            lines.append(f"| {alert['alert']} | {alert['labels']['severity']} | {after} | {topic} |")
    return "\n".join(lines) + "\n"


def test_the_page_lists_all_alerts(update_golden: bool) -> None:
    text = PAGE.read_text(encoding="utf-8")
    if update_golden:
        PAGE.write_text(TABLE.sub(lambda _: table(), text), encoding="utf-8")
        return
    found = TABLE.search(text)
    assert found and found[0] == table(), "write it anew: pytest tests/charts/test_alerts.py --update-golden"


def test_the_page_shows_how_alerts_are_sent() -> None:
    """Receivers that routes name are there, and nothing secret is in the settings."""
    (text,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    given: dict[str, Any] = {}
    exec(compile(text, PAGE.name, "exec"), {}, given)
    values = given["platform_releases"]["kube-prometheus-stack"]["values"]["alertmanager"]
    config = values["config"]
    named = {config["route"]["receiver"], *(route["receiver"] for route in config["route"]["routes"])}
    assert named == {receiver["name"] for receiver in config["receivers"]}
    mounted = {f"/etc/alertmanager/secrets/{name}/" for name in values["alertmanagerSpec"]["secrets"]}
    files = re.findall(r'_file": "([^"]+)"', text)
    assert len(files) == 2 and all(file.startswith(tuple(mounted)) for file in files)
    assert "password" not in {key for key in config["global"] if not key.endswith("_file")}


def test_the_page_shows_a_rule_that_prometheus_takes(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(yaml.safe_load(text)["spec"]), encoding="utf-8")
    answer = promtool("check", "rules", tmp_path / "rules.yaml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
