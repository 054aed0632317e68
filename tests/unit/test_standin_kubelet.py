"""The stand-in's kubelet: when a Pod is in which state, and what it says about containers."""

from __future__ import annotations

from typing import Any

import pytest

from piclusterops.lab.k3s.api import Api
from piclusterops.lab.k3s.config import Options
from piclusterops.lab.k3s.kubelet import FakeKubelet, NodeSpec, container_status, os_image, pod_target
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
