"""A run that installs the platform: who is skipped because of whom, what is told, what is off."""

from __future__ import annotations

import pytest
from platform_samples import platform, release

from piclusterops.helm_releases import DIGEST_LABEL, HelmRelease, HelmState, Outcome, Workload
from piclusterops.platform_run import Progress, leftovers, uninstall_order

BASE = release("base")
SQL = release("sql", depends_on=("base",))
WEB = release("web", depends_on=("sql",))
ALONE = release("alone")


@pytest.fixture
def progress() -> Progress:
    return Progress(platform([BASE, SQL, WEB, ALONE]))


def test_a_failure_is_an_obstacle_for_those_that_depend_on_it_and_for_no_other(progress: Progress) -> None:
    progress.tell(Outcome("base", "installed"))
    progress.tell(Outcome("sql", "failed", "no image"))
    assert progress.obstacle("web") == "sql"
    assert progress.obstacle("sql") == progress.obstacle("alone") == ""


def test_what_was_skipped_is_an_obstacle_too(progress: Progress) -> None:
    progress.tell(Outcome("base", "failed"))
    progress.tell(Outcome("sql", "skipped", "because of base"))
    assert progress.obstacle("web") == "sql"


@pytest.mark.parametrize("kind", ["installed", "upgraded", "unchanged", "left to Flux"])
def test_what_is_there_is_no_obstacle(progress: Progress, kind: str) -> None:
    progress.tell(Outcome("sql", kind))  # type: ignore[arg-type]
    assert progress.obstacle("web") == "" and not progress.failed


def test_the_first_outcome_counts(progress: Progress) -> None:
    progress.tell(Outcome("sql", "failed", "its chart is missing"))
    progress.tell(Outcome("sql", "unchanged"))
    assert progress.kind("sql") == "failed" and progress.failed


@pytest.mark.parametrize("kind", ["installed", "upgraded", "unchanged", "left to Flux"])
def test_a_release_whose_new_secret_is_not_in_force_has_failed_after_its_upgrade(progress: Progress, kind: str) -> None:
    progress.owe("sql", "its server could not be told\nnext: look")
    assert progress.kind("sql") is None and progress.obstacle("sql") == "", "it may be upgraded, which may mend it"
    progress.tell(Outcome("sql", kind))  # type: ignore[arg-type]
    assert progress.outcomes["sql"] == Outcome("sql", "failed", "its server could not be told\nnext: look")
    assert progress.obstacle("web") == "sql" and progress.failed


def test_another_failure_of_a_release_is_told_first(progress: Progress) -> None:
    progress.owe("sql", "its server could not be told")
    progress.tell(Outcome("sql", "failed", "image x can't be had"))
    assert progress.outcomes["sql"].text == "image x can't be had"


def test_the_report_tells_all_that_happened(progress: Progress) -> None:
    progress.tell(Outcome("base", "installed", "base 1.2.3"))
    progress.tell(Outcome("sql", "failed", "image x can't be had\nit is left as it is\nnext: look"))
    progress.tell(Outcome("web", "skipped", "because of sql"))
    progress.tell(Outcome("alone", "left to Flux", "HelmRelease flux-system/alone"))
    progress.leftovers.append(HelmRelease("old-space", "old", 1, "deployed"))
    assert progress.told("pyinfra ... --data platform_prune=true") == [
        "Platform: 1 installed, 1 left to Flux, 1 failed, 1 skipped",
        "  installed: base (base 1.2.3)",
        "  left to Flux: alone (HelmRelease flux-system/alone)",
        "  failed: sql: image x can't be had",
        "    it is left as it is",
        "    next: look",
        "  skipped: web because of sql",
        "  off, but present: old (old-space)",
        "    next: pyinfra ... --data platform_prune=true removes them; their volumes stay",
    ]


def test_a_run_that_changed_nothing_takes_one_line(progress: Progress) -> None:
    for name in ("base", "sql", "web", "alone"):
        progress.tell(Outcome(name, "unchanged"))
    assert progress.told("x") == ["Platform: 4 unchanged"]


# -- what was left unchanged ---------------------------------------------------------------------------------

TRINO = release("trino", health=["Deployment/trino-coordinator", "DaemonSet/trino-agent", "StatefulSet/trino"])
SPACE = "data-platform"


def workloads(**ready: int | None) -> HelmState:
    """A cluster whose workloads of Trino have so many of two pods ready; None for one that is not there."""
    names = {"coordinator": ("Deployment", "trino-coordinator"), "agent": ("DaemonSet", "trino-agent")}
    names["trino"] = ("StatefulSet", "trino")
    given = {"coordinator": 2, "agent": 2, "trino": 2} | ready
    return HelmState(
        workloads={
            (names[key][0], SPACE, names[key][1]): Workload(2, count)
            for key, count in given.items()
            if count is not None
        }
    )


def unready(state: HelmState, kind: str = "unchanged") -> dict[str, list[str]]:
    progress = Progress(platform([TRINO, ALONE]))
    progress.tell(Outcome("trino", kind))  # type: ignore[arg-type]
    progress.tell(Outcome("alone", "unchanged"))
    return progress.unready(state)


def test_a_release_that_is_unchanged_and_not_ready_is_found() -> None:
    assert unready(workloads()) == {}
    assert unready(workloads(coordinator=1, agent=0)) == {
        "trino": [
            "of Deployment trino-coordinator 1 of 2 pods are ready",
            "of DaemonSet trino-agent 0 of 2 pods are ready",
        ]
    }
    assert unready(workloads(trino=None)) == {"trino": ["StatefulSet trino is not there"]}


def test_one_that_somebody_scaled_to_none_is_as_it_is_to_be() -> None:
    state = HelmState(workloads={**workloads().workloads, ("StatefulSet", SPACE, "trino"): Workload(0, 0)})
    assert unready(state) == {}


@pytest.mark.parametrize("kind", ["installed", "upgraded", "failed", "skipped", "left to Flux"])
def test_what_was_waited_for_already_or_is_anothers_is_not_looked_at(kind: str) -> None:
    assert unready(workloads(coordinator=0), kind) == {}


def test_what_is_not_ready_fails_the_run_and_stops_nothing(progress: Progress) -> None:
    progress.outcomes["sql"] = Outcome("sql", "not ready", "of StatefulSet sql 0 of 1 pods are ready\nnext: look")
    assert progress.failed and progress.obstacle("web") == ""
    assert progress.told("x") == [
        "Platform: 1 not ready",
        "  not ready: sql: of StatefulSet sql 0 of 1 pods are ready",
        "    next: look",
    ]


# -- what is off ---------------------------------------------------------------------------------------------


def live(*names: str, ours: bool = True, status: str = "deployed", flux: str = "") -> HelmState:
    labels = {DIGEST_LABEL: "d"} if ours else {}
    releases = [HelmRelease("data-platform", name, 1, status, labels=labels) for name in names]
    return HelmState({found.key: found for found in releases}, {("data-platform", flux): "a/b"} if flux else {})


def off(state: HelmState) -> list[str]:
    wanted = platform([BASE])
    return [found.name for found in leftovers(wanted, ("base", "old", "older"), state)]


def test_what_is_off_is_ours_catalogued_and_there() -> None:
    assert off(live("base", "old", "someones-own")) == ["old"]
    assert off(live("old", ours=False)) == off(live("old", status="uninstalled")) == off(live("old", flux="old")) == []


def test_a_release_of_the_platform_in_another_namespace_is_off() -> None:
    moved = HelmRelease("elsewhere", "base", 1, "deployed", labels={DIGEST_LABEL: "d"})
    assert off(HelmState({moved.key: moved})) == ["base"]


def test_what_others_may_use_is_removed_last() -> None:
    found = leftovers(platform([BASE]), ("old", "older"), live("old", "older"))
    assert [release.name for release in uninstall_order(found, {"old": 2, "older": 9})] == ["older", "old"]
