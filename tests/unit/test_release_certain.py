"""What Helm is not let wait for: causes that waiting can't mend, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from piclusterops.release_causes import Evidence
from piclusterops.release_certain import LASTING_S, PATIENT_S, Doubt, Sight

RECORDED = Path(__file__).with_name("release_evidence")
#: When Helm began, before all that was recorded.
SINCE = 1_795_459_000
NODES = [("3800m", "7628800Ki"), ("3800m", "7628800Ki")]
PSA = (
    'Error creating: pods "web-1" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != '
    'false (container "app" must set securityContext.allowPrivilegeEscalation=false)'
)

Change = Callable[[list[dict[str, Any]]], None]


def recorded(name: str, change: Change | None = None) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = deepcopy(json.loads((RECORDED / f"{name}.json").read_text())["items"])
    for item in items:
        item["metadata"].setdefault("generation", 1)
        item["metadata"].setdefault("creationTimestamp", "2026-11-23T19:29:00Z")
    if change:
        change(items)
    return items


def seen(items: list[dict[str, Any]], *after_s: int, since: int = SINCE) -> list[str]:
    """The kinds of what is certain when this is seen at these times."""
    doubt, found = Doubt(), []
    for seconds in after_s:
        sight = Sight(
            Evidence("web", items[0]["metadata"]["namespace"], "pi-master", objects=items),
            since,
            since + seconds,
            NODES,
        )
        found = doubt.certain(sight)
    return [cause.kind for cause in found]


def lasting(items: list[dict[str, Any]], **more: int) -> list[str]:
    """The kinds of what is certain in the end, when nothing changes any more."""
    return seen(items, 15, 15 + LASTING_S, 15 + PATIENT_S, **more)


def of(items: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(item for item in items if item["kind"] == kind)


def waiting(reason: str, message: str = "", restarts: int = 0) -> Change:
    def change(items: list[dict[str, Any]]) -> None:
        (container,) = of(items, "Pod")["status"]["containerStatuses"]
        container["state"] = {"waiting": {"reason": reason, "message": message}}
        container["restartCount"] = restarts

    return change


def unscheduled(message: str) -> Change:
    def change(items: list[dict[str, Any]]) -> None:
        (condition,) = of(items, "Pod")["status"]["conditions"]
        condition["message"] = message

    return change


def refused(message: str) -> Change:
    def change(items: list[dict[str, Any]]) -> None:
        for item in items:
            if item["kind"] == "Event" and item["reason"] == "FailedCreate":
                item["message"] = message

    return change


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        ("image", waiting("InvalidImageName"), "image"),
        ("image", waiting("ErrImageNeverPull"), "image"),
        ("config", waiting("CreateContainerConfigError", "couldn't find key password in Secret demo/web"), "config"),
        ("config", waiting("CreateContainerConfigError", 'secret "missing" not found'), "config"),
        ("crash", waiting("CrashLoopBackOff", "back-off 5m0s", 5), "crash"),
        ("oom", waiting("CrashLoopBackOff", "back-off 5m0s", 6), "oom"),
        (
            "unschedulable",
            unscheduled(
                "0/2 nodes are available: 1 node(s) had volume node affinity conflict, 1 node(s) didn't match Pod's "
                "node affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful."
            ),
            "unschedulable",
        ),
        ("quota", None, "quota"),
        ("quota", refused(PSA), "refused"),
    ],
)
def test_what_waiting_can_not_mend_is_certain_after_a_while(name: str, change: Change | None, kind: str) -> None:
    items = recorded(name, change)
    assert seen(items, 15, 30, LASTING_S) == []
    assert lasting(items) == [kind]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("image", None),  # a slow line, or a registry that comes back
        ("image", waiting("ErrImagePull")),
        ("crash", waiting("CrashLoopBackOff", "back-off 1m20s", 4)),  # it may start once what it needs is there
        ("config", waiting("CreateContainerConfigError", "failed to sync secret cache: timed out")),
        ("mount", None),  # its Secret may come from an operator
        ("volume", None),
        ("unready", None),
        ("job", None),  # Helm itself ends because of that
        ("unschedulable", None),  # other pods may end
        ("unschedulable", unscheduled("0/2 nodes are available: 2 Insufficient memory.")),
        (
            "unschedulable",
            unscheduled("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match node selector."),
        ),
        (
            "unschedulable",
            unscheduled(
                "0/2 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, "
                "1 node(s) didn't match Pod's node affinity/selector."
            ),
        ),
        ("unschedulable", unscheduled("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.")),
        ("quota", refused('Error creating: pods "web-1" is forbidden: error looking up service account demo/web')),
    ],
)
def test_what_may_still_pass_is_waited_for(name: str, change: Change | None) -> None:
    assert lasting(recorded(name, change)) == []


def test_what_others_may_bring_gets_more_time_than_what_nobody_can() -> None:
    key = recorded("config", waiting("CreateContainerConfigError", "couldn't find key a in ConfigMap demo/web"))
    missing = recorded("config", waiting("CreateContainerConfigError", 'configmap "web" not found'))
    for items, needed_s in ((key, LASTING_S), (missing, PATIENT_S), (recorded("quota"), PATIENT_S)):
        assert seen(items, 15, 15 + needed_s - 1) == []
        assert seen(items, 15, 15 + needed_s) != []


def test_a_cause_that_was_gone_in_between_begins_anew() -> None:
    broken, fine = (
        recorded("crash", waiting("CrashLoopBackOff", "", 5)),
        recorded("crash", waiting("ContainerCreating")),
    )
    doubt, found = Doubt(), []
    for seconds, items in ((0, broken), (50, fine), (65, broken), (110, broken)):
        sight = Sight(
            Evidence("web", items[0]["metadata"]["namespace"], "pi-master", objects=items),
            SINCE,
            SINCE + seconds,
            NODES,
        )
        found = doubt.certain(sight)
    assert found == []


@pytest.mark.parametrize(("cpu", "memory", "certain"), [("4", "1Gi", True), ("1", "8Gi", True), ("3", "7Gi", False)])
def test_a_pod_that_is_larger_than_any_node_is_certain(cpu: str, memory: str, certain: bool) -> None:
    def change(items: list[dict[str, Any]]) -> None:
        requests = {"cpu": cpu, "memory": memory}
        of(items, "Pod")["spec"] = {"containers": [{"resources": {"requests": requests}}, {"name": "no requests"}]}

    items = recorded("unschedulable", change)
    assert (lasting(items) == ["unschedulable"]) is certain
    doubt = Doubt()
    for seconds in (0, LASTING_S):
        unknown = Sight(
            Evidence("web", items[0]["metadata"]["namespace"], "pi-master", objects=items), SINCE, SINCE + seconds
        )
    assert doubt.certain(unknown) == [], "nothing is known of the nodes"


# -- which pods count ----------------------------------------------------------------------------------------

BROKEN = waiting("InvalidImageName")


def changed(*changes: Change) -> list[dict[str, Any]]:
    def change(items: list[dict[str, Any]]) -> None:
        for one in (BROKEN, *changes):
            one(items)

    return recorded("image", change)


def test_pods_of_the_revision_before_do_not_count() -> None:
    """An upgrade that mends a broken release keeps the broken pod until the new one is ready."""

    def newer(items: list[dict[str, Any]]) -> None:
        of(items, "Deployment")["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "2"

    def not_seen_yet(items: list[dict[str, Any]]) -> None:
        of(items, "Deployment")["metadata"]["generation"] = 2

    assert lasting(changed()) == ["image"]
    assert lasting(changed(newer)) == []
    assert lasting(changed(not_seen_yet)) == []


def test_pods_of_others_and_pods_that_go_do_not_count() -> None:
    def of_another(items: list[dict[str, Any]]) -> None:
        for kind in ("Deployment", "ReplicaSet"):
            of(items, kind)["metadata"]["annotations"]["meta.helm.sh/release-name"] = "other"

    def of_nobody(items: list[dict[str, Any]]) -> None:
        del of(items, "Pod")["metadata"]["ownerReferences"]

    def going(items: list[dict[str, Any]]) -> None:
        of(items, "Pod")["metadata"]["deletionTimestamp"] = "2026-11-23T19:29:00Z"

    for change in (of_another, of_nobody, going):
        assert lasting(changed(change)) == []


def stateful(revision: str = "web-1", kind: str = "StatefulSet") -> Change:
    """Have the pod owned by a workload of another kind."""

    def change(items: list[dict[str, Any]]) -> None:
        workload, pod = of(items, "Deployment"), of(items, "Pod")
        workload["kind"] = kind
        workload["status"]["updateRevision"] = "web-1"
        pod["metadata"]["ownerReferences"] = [{"kind": kind, "uid": workload["metadata"]["uid"], "controller": True}]
        pod["metadata"]["labels"]["controller-revision-hash"] = revision

    return change


def test_of_a_stateful_set_only_pods_of_its_newest_revision_count() -> None:
    assert lasting(changed(stateful())) == ["image"]
    assert lasting(changed(stateful("web-0"))) == []


def test_of_a_daemon_set_only_pods_of_this_run_count() -> None:
    items = changed(stateful(kind="DaemonSet"))
    assert lasting(items) == ["image"]
    assert lasting(items, since=SINCE + 10_000) == []


def test_hooks_of_this_run_count_and_other_jobs_do_not() -> None:
    """Helm waits for hooks, and only for those that it has made now."""

    def hook(items: list[dict[str, Any]]) -> None:
        stateful(kind="Job")(items)
        del of(items, "Job")["metadata"]["annotations"]["meta.helm.sh/release-name"]
        of(items, "Job")["metadata"]["annotations"]["helm.sh/hook"] = "pre-upgrade"

    assert lasting(changed(hook)) == ["image"]
    assert lasting(changed(hook), since=SINCE + 10_000) == []
    assert lasting(changed(stateful(kind="Job"))) == []


def test_refusals_of_an_earlier_run_do_not_count() -> None:
    assert lasting(recorded("quota")) == ["quota"]
    assert lasting(recorded("quota"), since=SINCE + 10_000) == []
