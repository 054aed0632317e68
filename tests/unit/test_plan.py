"""What a plan says of each release, and how it looks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from k3s_samples import cluster
from platform_samples import PI5, platform, release
from rich.console import Console

from piclusterops.capacity import budget_of
from piclusterops.helm_releases import parse
from piclusterops.plan import Plan, Step, steps_of
from piclusterops.plan_report import show
from piclusterops.platform import Platform

STAYS = "selected no more; it stays until a deploy with --data platform_prune=true"
ROOMS = dict.fromkeys(("pi-master", "pi-worker-1", "pi-worker-2"), PI5)
BASE = release("base", wave=1)
SQL = release("sql", depends_on=["base"])
WANTED = platform([BASE, SQL])


def row(
    name: str, status: str = "deployed", revision: int = 1, chart: str = "", digest: str = "d", **labels: str
) -> str:
    """A row of the fact: a revision of a release, ours unless its digest is empty."""
    ours = {"piclusterops.io/chart": chart or f"{name}-1.2.3", "piclusterops.io/digest": digest} if digest else {}
    all_ = {"name": name, "owner": "helm", "status": status, "version": str(revision), **ours}
    text = ",".join(f"{key}={value}" for key, value in sorted(all_.items()))
    return f"data-platform  sh.helm.release.v1.{name}.v{revision}  helm.sh/release.v1  1  9d  {text}"


def steps(
    *rows: str,
    wanted: Platform = WANTED,
    flux: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
    obstacles: Mapping[str, str] | None = None,
) -> dict[str, Step]:
    live = parse(["@@releases", *rows, "@@charts", "@@flux", *flux])
    marks = {"base": "d", "sql": "d"} if digests is None else digests
    found = steps_of(wanted, live, marks, obstacles or {}, catalogued=("base", "sql", "old"))
    return {step.release: step for step in found}


def actions(*rows: str, **given: Any) -> dict[str, str]:
    return {name: step.action for name, step in steps(*rows, **given).items()}


# -- what happens --------------------------------------------------------------------------------------------


def test_what_is_not_there_is_installed_in_the_order_of_the_waves() -> None:
    assert list(actions().items()) == [("base", "install"), ("sql", "install")]


def test_what_is_as_it_should_be_is_unchanged() -> None:
    assert actions(row("base"), row("sql")) == {"base": "unchanged", "sql": "unchanged"}


def test_another_version_of_a_chart_is_an_upgrade() -> None:
    step = steps(row("base"), row("sql", chart="sql-1.2.2", digest="old"))["sql"]
    assert (step.action, step.installed, step.version) == ("upgrade", "1.2.2", "1.2.3")


def test_other_values_are_an_upgrade() -> None:
    step = steps(row("base"), row("sql", digest="old"))["sql"]
    assert (step.action, step.why) == ("upgrade", "its chart or its values have changed")


def test_without_a_mark_to_compare_the_version_decides() -> None:
    assert actions(row("base"), row("sql", digest="old"), digests={})["sql"] == "unchanged"


@pytest.mark.parametrize("status", ["failed", "pending-upgrade", "pending-install"])
def test_what_failed_or_was_cut_off_is_tried_again(status: str) -> None:
    step = steps(row("base"), row("sql", status))["sql"]
    assert step.action == "upgrade" and status in step.why


def test_what_was_removed_is_installed() -> None:
    assert actions(row("base"), row("sql", "uninstalled"))["sql"] == "install"


def test_a_release_of_somebody_else_is_taken_over() -> None:
    step = steps(row("base"), row("sql", digest=""))["sql"]
    assert step.action == "upgrade" and "taken over" in step.why


def test_a_helm_that_is_not_ours_is_waited_for() -> None:
    step = steps(row("base"), row("sql", "pending-upgrade", digest=""))["sql"]
    assert step.action == "blocked" and step.why.startswith("by a Helm that is not ours")


def test_what_flux_owns_is_left_alone() -> None:
    step = steps(row("base"), row("sql", digest="old"), flux=["flux-system|sql|false|sql|data-platform|data-platform"])[
        "sql"
    ]
    assert step.action == "flux" and "flux-system/sql" in step.why
    suspended = ["flux-system|sql|true|sql|data-platform|data-platform"]
    assert actions(row("base"), row("sql", digest="old"), flux=suspended)["sql"] == "upgrade"


def test_missing_secrets_block_a_release_and_all_that_depend_on_it() -> None:
    missing = {"base": "by missing secrets: base/password"}
    found = steps(obstacles=missing)
    assert found["base"].action == found["sql"].action == "blocked"
    assert (found["base"].why, found["sql"].why) == (missing["base"], "by base")
    assert actions(row("base"), row("sql"), obstacles=missing)["base"] == "unchanged"


def test_what_is_selected_no_more_is_named_last_and_stays() -> None:
    foreign = row("traefik", digest="")
    found = steps(row("base"), row("sql"), row("old"), foreign, row("gone", "uninstalled"))
    assert list(found) == ["base", "sql", "old"]
    assert (found["old"].action, found["old"].wave, found["old"].installed) == ("remove", None, "1.2.3")


def test_what_is_selected_no_more_is_a_change_only_when_it_is_to_be_removed() -> None:
    prune = platform([BASE, SQL], cluster(platform_prune=True))
    there = [row("base"), row("sql"), row("old")]
    assert steps(*there)["old"].why == STAYS and not plan(steps(*there)).has_changes
    found = steps(*there, wanted=prune)
    assert found["old"].why == "selected no more; its volumes stay" and plan(found, prune).has_changes


# -- the whole -----------------------------------------------------------------------------------------------


def plan(found: Mapping[str, Step], wanted: Platform = WANTED, **rooms: Any) -> Plan:
    return Plan("prod", tuple(found.values()), budget_of(wanted, {**ROOMS, **rooms}))


def test_a_plan_knows_whether_there_is_something_to_do() -> None:
    nothing = plan(steps(row("base"), row("sql"), row("old")))
    assert not nothing.has_changes and not nothing.is_refused
    assert nothing.summary == "2 unchanged, 1 selected no more."
    changes = plan(steps(row("base")))
    assert changes.has_changes and changes.summary == "1 to install, 1 unchanged."


def test_a_plan_that_does_not_fit_is_refused() -> None:
    overfull = plan(steps(), platform([BASE, release("sql", memory=9000)]))
    assert overfull.is_refused and overfull.summary == "2 to install; it would be refused."


def test_a_plan_on_unknown_nodes_or_with_blocked_releases_is_refused() -> None:
    unknown = replace(plan(steps()), budget=budget_of(WANTED, {"pi-master": PI5}))
    assert unknown.is_refused and unknown.unknown == ["pi-worker-1", "pi-worker-2"]
    assert plan(steps(obstacles={"base": "by secrets"})).is_refused


def test_a_plan_for_programs_has_everything() -> None:
    found = plan(steps(row("base", chart="base-1.2.2"), row("old"))).as_dict()
    assert found["summary"]["upgrade"] == 1 and found["summary"]["refused"] is False
    assert found["releases"][0] == {
        "release": "base",
        "namespace": "data-platform",
        "wave": 1,
        "action": "upgrade",
        "installed": "1.2.2",
        "version": "1.2.3",
        "why": "another version of its chart",
        "node": "",
    }
    worker = found["nodes"][1]
    assert worker["name"] == "pi-worker-1" and worker["has"]["memory_mib"] == 7450
    assert worker["releases"]["sql"] == {"memory_mib": 500, "memory_limit_mib": 1000, "cpu_m": 100, "disk_mib": 0}


def test_a_release_of_a_name_that_is_not_the_platforms_is_someones_own() -> None:
    assert "mine" not in steps(row("mine"))


def printed(found: Plan) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    show(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_plan_for_people_names_all_that_happens_wave_by_wave() -> None:
    found = plan(
        steps(row("base", chart="base-1.2.2"), row("old"), obstacles={"sql": "by missing secrets: sql/password"})
    )
    text = printed(replace(found, notes=("There is no [cluster] yet.",)))
    assert text.startswith("There is no [cluster] yet.")
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert ["1", "base", "1.2.2 -> 1.2.3", "upgrade: another version of its chart"] in lines
    assert ["9", "sql", "1.2.3", "blocked by missing secrets: sql/password"] in lines
    assert ["-", "old", "1.2.3", f"remove: {STAYS}"] in lines
    assert text.rstrip().endswith("1 to upgrade, 1 selected no more, 1 blocked; it would be refused.")


def test_a_plan_for_people_says_what_does_not_fit_and_what_nobody_knows() -> None:
    wanted = platform([BASE, release("sql", memory=9000)])
    text = printed(plan(steps(), wanted, **{"pi-master": None}))
    assert "error pi-worker-1: the platform asks for 9500 MiB of memory" in text
    assert "turn off sql" in text
    assert "error pi-master: what it has is not known" in text


def test_a_small_cluster_has_its_own_words() -> None:
    alone = platform([release("sql")], cluster(roles=("master",)))
    text = printed(plan(steps(wanted=alone), alone))
    assert "pi-master" in text and "worker" not in text
