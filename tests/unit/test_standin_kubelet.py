"""The stand-in's kubelet: when a Pod is in which state, and what it says about containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from piclusterops.lab.k3s.api import Api, ApiError
from piclusterops.lab.k3s.checks import reservations
from piclusterops.lab.k3s.config import Options
from piclusterops.lab.k3s.kubelet import (
    FakeKubelet,
    NodeSpec,
    allocatable,
    capacity,
    container_status,
    events_of,
    os_image,
    pod_target,
    share,
)
from piclusterops.lab.k3s.node import node_annotations, password_proof


def pod(job: bool = False, image: str = "nginx", restart: str = "Always", **annotations: str) -> dict[str, Any]:
    owners = [{"kind": "Job", "name": "j"}] if job else []
    steering = {f"lab/{k.replace('_', '-')}": v for k, v in annotations.items()}
    return {
        "metadata": {"uid": "u", "name": "p", "namespace": "d", "annotations": steering, "ownerReferences": owners},
        "spec": {"restartPolicy": restart, "containers": [{"name": "c", "image": image}]},
    }


@pytest.mark.parametrize(
    ("the_pod", "age", "state"),
    [
        (pod(), 0.0, "creating"),
        (pod(), 0.3, "running"),
        (pod(), 0.6, "ready"),
        (pod(ready_after="5"), 4.0, "running"),
        (pod(image="no-such-image:1"), 9.0, "pull:ImagePullBackOff"),
        (pod(fail="CrashLoopBackOff"), 5.0, "crash:2"),
        (pod(fail="NeverReady"), 9.0, "running"),
        (pod(fail="Failed"), 1.0, "failed"),
        (pod(job=True, restart="Never"), 2.0, "done"),
        (pod(job=True, restart="Never", exit_code="3"), 2.0, "failed"),
        (pod(restart="Never"), 99.0, "ready"),
    ],
)
def test_states_of_a_pod(the_pod: dict[str, Any], age: float, state: str) -> None:
    assert pod_target(the_pod, age, has_network=True) == state


def test_without_a_pod_network_only_host_network_pods_run() -> None:
    assert pod_target(pod(), 9.0, has_network=False) == "creating"
    own = pod()
    own["spec"]["hostNetwork"] = True
    assert pod_target(own, 9.0, has_network=False) == "ready"


def test_container_states_follow_the_pod() -> None:
    container = {"name": "c", "image": "nginx:1"}
    state = {"began": "2026-01-01T00:00:00Z"}
    assert container_status(pod(), container, "ready", "", state, False)["ready"] is True
    failed = container_status(pod(exit_code="3"), container, "failed", "", state, False)
    assert failed["state"]["terminated"]["exitCode"] == 3
    crashed = container_status(pod(), container, "crash", "2", state, False)
    assert (crashed["restartCount"], crashed["state"]["waiting"]["reason"]) == (2, "CrashLoopBackOff")


def kubelet(node: dict[str, Any]) -> FakeKubelet:
    api = Api.__new__(Api)  # never spoken to here
    made = FakeKubelet(api, NodeSpec("n1", ["10.0.0.1"], version="v1.36.5+k3s1", labels={"a": "b"}))
    made.node = node
    return made


def ready(status: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in status["conditions"] if c["type"] == "Ready")


def test_a_node_is_not_ready_before_it_has_a_pod_network() -> None:
    assert ready(kubelet({}).status())["status"] == "False"
    assert "cni plugin not initialized" in ready(kubelet({}).status())["message"]
    assert ready(kubelet({"spec": {"podCIDR": "10.42.0.0/24"}}).status())["status"] == "True"


def test_the_node_carries_its_labels_version_and_address() -> None:
    made = kubelet({})
    assert made.object()["metadata"]["labels"]["a"] == "b"
    status = made.status()
    assert status["nodeInfo"]["kubeletVersion"] == "v1.36.5+k3s1"
    assert status["addresses"][0] == {"type": "InternalIP", "address": "10.0.0.1"}


def test_the_os_is_read_from_os_release() -> None:
    assert os_image('NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n') == "Debian GNU/Linux 12 (bookworm)"


def test_node_args_hide_secrets() -> None:
    options = Options("server", {"token": "s3cret", "node-label": ["a=b"], "cluster-init": True})
    shown = node_annotations(options)["k3s.io/node-args"]
    assert "s3cret" not in shown
    assert shown == '["server", "--token", "********", "--node-label", "a=b", "--cluster-init", "true"]'


def test_the_proof_of_a_node_password_depends_on_both() -> None:
    proofs = {password_proof(n, p) for n in ("a", "b") for p in ("x", "y")}
    assert len(proofs) == 4


@pytest.mark.parametrize(
    ("image", "age", "state"),
    [
        ("fail.invalid/imagepullbackoff", 0.5, "pull:ErrImagePull"),
        ("fail.invalid/imagepullbackoff:1", 9.0, "pull:ImagePullBackOff"),
        ("fail.invalid/crashloopbackoff", 5.0, "crash:2"),
        ("fail.invalid/oomkilled", 5.0, "oom:2"),
        ("fail.invalid/neverready", 99.0, "running"),
        ("fail.invalid/something", 9.0, "pull:ImagePullBackOff"),
        ("docker.io/fail.invalid/crashloopbackoff", 9.0, "ready"),
    ],
)
def test_an_image_can_fail(image: str, age: float, state: str) -> None:
    assert pod_target(pod(image=image), age, has_network=True) == state


def test_only_the_container_with_the_failing_image_fails() -> None:
    both = pod(image="fail.invalid/oomkilled")
    both["spec"]["containers"].append({"name": "sidecar", "image": "fine"})
    assert [share(both, c, "oom") for c in both["spec"]["containers"]] == ["oom", "ready"]
    first = pod()
    first["spec"]["initContainers"] = [{"name": "i", "image": "no-such-image"}, {"name": "j", "image": "fine"}]
    assert [share(first, c, "pull") for c in first["spec"]["initContainers"]] == ["pull", "running"]
    assert share(first, first["spec"]["containers"][0], "pull") == "creating"


def test_a_container_that_ran_out_of_memory_says_so() -> None:
    status = container_status(pod(), {"name": "c", "image": "x"}, "oom", "3", {"began": "t"}, False)
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert status["state"]["waiting"]["message"] == "back-off 1m20s restarting failed container=c pod=p_d(u)"


@pytest.mark.parametrize(
    ("the_pod", "state", "reasons"),
    [
        (pod(), "ready", []),
        (pod(), "running", []),
        (pod(image="fail.invalid/neverready"), "running", ["Unhealthy"]),
        (pod(image="no-such-image"), "pull:ErrImagePull", ["Failed", "Failed"]),
        (pod(image="no-such-image"), "pull:ImagePullBackOff", ["Failed", "Failed", "BackOff"]),
        (pod(fail="CrashLoopBackOff"), "crash:0", ["BackOff"]),
        (pod(), "mount:no secret", ["FailedMount"]),
        (pod(), "config:no key", ["Failed"]),
    ],
)
def test_a_pod_in_trouble_has_events(the_pod: dict[str, Any], state: str, reasons: list[str]) -> None:
    assert [reason for _, reason, _ in events_of(the_pod, state)] == reasons


def test_what_pods_may_use_is_what_the_node_has_less_what_is_reserved(tmp_path: Path) -> None:
    given = tmp_path / "capacity.json"
    given.write_text('{"cpu": "4", "memory": "8Gi"}')
    has = capacity(110, given)
    assert (has["cpu"], has["memory"], has["pods"]) == ("4", "8Gi", "110")
    left = allocatable(has, [{"cpu": "100m", "memory": "256Mi"}, {"memory": "512Mi"}, {}])
    assert (left["cpu"], left["memory"]) == ("3900m", f"{(8192 - 768) * 1024}Ki")


def test_reservations_are_the_arguments_or_else_the_configurations() -> None:
    settings = {"systemReserved": {"cpu": "50m"}, "kubeReserved": {"memory": "64Mi"}}
    assert reservations({}, settings) == [{"cpu": "50m"}, {"memory": "64Mi"}]
    assert reservations({"kube-reserved": "cpu=1,memory=2Gi"}, settings)[1] == {"cpu": "1", "memory": "2Gi"}


class Objects(Api):
    """An API with Secrets and ConfigMaps by path, which notes what it is told."""

    def __init__(self, there: dict[str, Any]) -> None:
        self.there = there
        self.sent: list[tuple[str, str, Any]] = []

    def call(self, method: str, path: str, body: Any = None, kind: str = "") -> Any:
        self.sent.append((method, path, body))
        if method != "GET":
            return {}
        if path not in self.there:
            raise ApiError(404, path)
        return self.there[path]


def test_a_pod_waits_for_its_secret_and_then_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Objects({})
    made = FakeKubelet(api, NodeSpec("n1", ["10.0.0.1"]))
    made.node = {"spec": {"podCIDR": "10.42.0.0/24"}}
    waiting = pod()
    waiting["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "tls"}}]
    clock = iter((1000.0, 1001.0, 1002.5, 1004.0, 1006.0, 1007.0))
    monkeypatch.setattr("piclusterops.lab.k3s.kubelet.time.time", lambda: next(clock))
    for _ in range(4):
        made.step("u", waiting)
    statuses = [body["status"] for method, path, body in api.sent if path.endswith("/status")]
    assert [status["phase"] for status in statuses] == ["Pending", "Pending"]
    (event,) = [body for method, path, body in api.sent if method == "POST"]
    assert event["message"] == 'MountVolume.SetUp failed for volume "v" : secret "tls" not found'
    api.there["/api/v1/namespaces/d/secrets/tls"] = {"data": {}}
    for _ in range(2):
        made.step("u", waiting)
    last = [body["status"] for method, path, body in api.sent if path.endswith("/status")][-1]
    assert last["containerStatuses"][0]["ready"] is True
