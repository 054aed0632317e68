"""Why a release did not become ready: causes from what Helm and the API of a lab said.

`release_evidence/*.json` are recordings: one release that fails in one way, as Helm 4.1.4 and kubectl told of it, cut
down to the fields that are there; `errors.json` holds what Helm wrote alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from piclusterops.release_causes import Cause, Evidence, causes, objects_of

RECORDED = Path(__file__).with_name("release_evidence")
KUBECTL = "ssh pi-master sudo k3s kubectl"


def recorded(name: str) -> list[Cause]:
    said = json.loads((RECORDED / f"{name}.json").read_text())
    return causes(Evidence("web", f"rec-{name}", "pi-master", said["error"], said["items"], said["logs"]))


def of_error(error: str) -> Cause:
    (cause,) = causes(Evidence("web", "demo", "pi-master", error))
    return cause


@pytest.mark.parametrize(
    ("name", "kind", "text", "command"),
    [
        (
            "image",
            "image",
            "pod web-5475497486-b7kmh: image fail.invalid/imagepullbackoff:1 can't be had (ImagePullBackOff)",
            "describe pod web-5475497486-b7kmh",
        ),
        (
            "crash",
            "crash",
            "pod web-849cd768dd-rjnqr: container app ends again and again (exit code 1); its log ends with: "
            "stand-in: no log, container app of rec-crash/web-849cd768dd-rjnqr never ran",
            "logs web-849cd768dd-rjnqr -c app --previous",
        ),
        (
            "oom",
            "oom",
            "pod web-879df5c7-gb6fm: container app needs more memory than its limit (OOMKilled)",
            "describe pod web-879df5c7-gb6fm",
        ),
        (
            "config",
            "config",
            'pod web-56699c7cf4-wg76f: container app: secret "missing" not found',
            "describe pod web-56699c7cf4-wg76f",
        ),
        (
            "mount",
            "mount",
            'pod web-5f5b45478d-5z8km: MountVolume.SetUp failed for volume "v" : secret "missing" not found',
            "describe pod web-5f5b45478d-5z8km",
        ),
        (
            "unschedulable",
            "unschedulable",
            "pod web-7dbb97655f-mjbq8 finds no node: 0/2 nodes are available: 2 Insufficient cpu.",
            "describe pod web-7dbb97655f-mjbq8",
        ),
        (
            "volume",
            "volume",
            "volume claim web-data (storage class no-such-class) is not bound: storageclass.storage.k8s.io "
            '"no-such-class" not found',
            "describe pvc web-data",
        ),
        (
            "quota",
            "quota",
            "the quota tiny of the namespace is used up: requested: pods=1, used: pods=0, limited: pods=0",
            "describe resourcequotas",
        ),
        (
            "job",
            "job",
            "Job web-migrate (a hook) failed: Job has reached the specified backoff limit; its log ends with: "
            "stand-in: no log, container migrate of rec-job/web-migrate-kbwdm never ran",
            "logs job/web-migrate --all-containers",
        ),
        (
            "unready",
            "unready",
            "pod web-58b65988fd-c5l4g runs, but readiness probe failed: the stand-in was told to fail it",
            "describe pod web-58b65988fd-c5l4g",
        ),
        (
            "crd",
            "crd",
            "the cluster does not know Widget (example.org/v1): its CRDs are not installed",
            "get crds  # the release that brings them comes first",
        ),
    ],
)
def test_the_first_cause_of_a_recorded_failure(name: str, kind: str, text: str, command: str) -> None:
    first = recorded(name)[0]
    assert (first.kind, first.text, first.next_command) == (kind, text, f"{KUBECTL} -n rec-{name} {command}")


def test_what_follows_from_a_cause_is_told_after_it() -> None:
    assert [cause.kind for cause in recorded("volume")] == ["volume", "unschedulable"]


@pytest.mark.parametrize("name", ["image", "crash", "job", "quota"])
def test_a_cause_is_told_once(name: str) -> None:
    assert len(recorded(name)) == 1


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        (
            "conflict",
            "conflict",
            '.spec.template.spec.containers[name="app"].image of Deployment web is owned by somebody, who changed it '
            "outside of Helm",
        ),
        ("owner", "owner", "Deployment other exists already and is not of this release"),
        ("namespace", "namespace", "there is no namespace rec-none"),
        (
            "webhook",
            "webhook",
            "the admission webhook check.rec.example does not answer: "
            'Post "https://nothing.rec-e.svc:443/?timeout=10s": service "nothing" not found',
        ),
        (
            "schema",
            "schema",
            "its values are not what the chart's schema wants: at '/replicas': got string, want integer",
        ),
        ("fail", "schema", "the chart refuses its values: give a password (demo/templates/a.yaml:1:3)"),
        (
            "template",
            "schema",
            "the chart can't be rendered: nil pointer evaluating interface {}.b (demo/templates/a.yaml:1:10)",
        ),
        (
            "kube",
            "schema",
            "chart requires kubeVersion: >=1.90 which is incompatible with Kubernetes v1.36.5+k3s1",
        ),
        (
            "statefulset",
            "refused",
            "StatefulSet sts can't be changed in place: spec: Forbidden: updates to statefulset spec for fields other "
            "than 'replicas', 'template', and 'updateStrategy' are forbidden",
        ),
        (
            "invalid",
            "refused",
            "the API refuses Service bad: [spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, "
            "inclusive, spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive]",
        ),
    ],
)
def test_what_helm_refuses(name: str, kind: str, text: str) -> None:
    cause = of_error(json.loads((RECORDED / "errors.json").read_text())[name])
    assert (cause.kind, cause.text) == (kind, text)
    assert cause.next_command.startswith("ssh pi-master sudo ")


def test_a_field_that_never_changes() -> None:
    cause = of_error(json.loads((RECORDED / "errors.json").read_text())["immutable"])
    assert cause.text.startswith("Deployment imm can't be changed in place: spec.selector: Invalid value")
    assert "get Deployment imm" in cause.next_command


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            'Error: pods "web" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
            "refused",
            "Pod Security (restricted:latest) of the namespace forbids its pods: runAsNonRoot != true",
        ),
        (
            'Error: admission webhook "validate.metallb" denied the request: overlapping pools',
            "refused",
            "the admission webhook validate.metallb refuses it: overlapping pools",
        ),
        (
            "Error: Kubernetes cluster unreachable: dial tcp 127.0.0.1:6443: connect: connection refused",
            "helm",
            "the Kubernetes API does not answer",
        ),
        (
            "level=WARN msg=x\nError: resource Widget/demo/x not ready. status: InProgress, message: still busy\n"
            "context deadline exceeded",
            "unready",
            "Widget x is not ready: still busy",
        ),
        ("Error: something new", "helm", "something new"),
        ("", "helm", "Helm ended without saying why"),
    ],
)
def test_other_texts_of_helm(error: str, kind: str, text: str) -> None:
    cause = of_error(error)
    assert (cause.kind, cause.text) == (kind, text)


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    status = {"containerStatuses": [{"name": "app", "image": "x:1", "state": {"waiting": {"reason": "ErrImagePull"}}}]}
    return {"kind": "Pod", "metadata": {"name": name, "uid": name, **metadata}, "status": status}


def named(*items: dict[str, Any], release: str = "web") -> list[str]:
    found = causes(Evidence(release, "demo", "pi-master", "Error: x", items))
    return [cause.text.partition(":")[0] for cause in found if cause.kind == "image"]


def test_pods_of_other_releases_in_the_namespace_are_not_its_causes() -> None:
    other = pod("a", labels={"app.kubernetes.io/instance": "other"})
    annotated = pod("b", annotations={"meta.helm.sh/release-name": "other"})
    assert named(other, annotated, pod("c")) == []


def test_pods_are_its_own_by_owner_label_or_name() -> None:
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "d", "uid": "d", "annotations": {"meta.helm.sh/release-name": "web"}},
    }
    replicas = {"kind": "ReplicaSet", "metadata": {"name": "r", "uid": "r", "ownerReferences": [{"uid": "d"}]}}
    owned = pod("p", ownerReferences=[{"uid": "r"}], labels={"release": "confusing"})
    labelled = pod("q", labels={"app.kubernetes.io/instance": "web"})
    # made by an operator: its owner is not among the objects
    made = pod("web-1", ownerReferences=[{"uid": "cluster"}])
    assert named(deployment, replicas, owned, labelled, made) == ["pod p", "pod q", "pod web-1"]


def test_pods_that_go_are_no_cause() -> None:
    assert named(pod("web-1", deletionTimestamp="2026-11-23T19:00:00Z")) == []


def test_at_most_five_causes_are_told() -> None:
    assert len(named(*(pod(f"web-{number}") for number in range(9)))) == 5


def test_tokens_in_logs_are_not_told() -> None:
    crashed = pod("web-1")
    crashed["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    logs = {"web-1": ["starting", f"cannot join with K10{'ab' * 32}::server:hunter2"]}
    (cause,) = causes(Evidence("web", "demo", "pi-master", "", [crashed], logs))
    assert "hunter2" not in cause.text and "K10..." in cause.text


def test_a_claim_that_nothing_uses() -> None:
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "web-data"}, "status": {"phase": "Pending"}}
    waits = {
        "kind": "Event",
        "type": "Normal",
        "reason": "WaitForFirstConsumer",
        "involvedObject": {"kind": "PersistentVolumeClaim", "name": "web-data"},
    }
    (cause,) = causes(Evidence("web", "demo", "pi-master", "context deadline exceeded", [claim, waits]))
    assert cause.text == "volume claim web-data waits for a pod that uses it, and there is none"


def test_lists_of_objects_are_taken_apart() -> None:
    assert objects_of([{"kind": "List", "items": [{"kind": "Pod"}]}, {"kind": "Job"}, None]) == [
        {"kind": "Pod"},
        {"kind": "Job"},
    ]
