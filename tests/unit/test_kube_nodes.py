"""Nodes of a cluster: parsing, and the difference to what the inventory wants."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from k3s_samples import cluster, with_node

from piclusterops.kube_nodes import (
    MANAGED_LABELS,
    MANAGED_TAINTS,
    KubeNode,
    cluster_faults,
    extra_nodes,
    metadata_patch,
    parse_nodes,
    taint_arguments,
)

VERSION = "v1.36.5+k3s1"


def item(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": "2026-11-23T15:00:00Z",
            "labels": {
                "node-role.kubernetes.io/control-plane": "true",
                "node-role.kubernetes.io/etcd": "true",
                "a": "b",
            },
        },
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}, {"key": "l", "value": "v", "effect": "NoExecute"}]},
        "status": {
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-23T15:01:00Z", "message": "ok"},
            ],
            "addresses": [
                {"type": "InternalIP", "address": "192.168.0.120"},
                {"type": "InternalIP", "address": "fd00::1"},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {"kubeletVersion": VERSION, "osImage": "Debian GNU/Linux 12 (bookworm)"},
        },
        **changes,
    }


def live(name: str, **changes: Any) -> KubeNode:
    roles = ("control-plane",) if name == "pi-master" else ()
    address = {"pi-master": "192.168.0.120", "pi-worker-1": "192.168.0.121", "pi-worker-2": "192.168.0.122"}.get(
        name, ""
    )
    role = {"pi-master": "master", "pi-worker-1": "worker"}.get(name, "data_node")
    labels = {"piclusterops.io/role": role}
    if role != "master":
        labels[f"node-role.kubernetes.io/{role.replace('_', '-')}"] = "true"
    return replace(KubeNode(name, True, VERSION, address, roles=roles, labels=labels), **changes)


LIVE = [live("pi-master"), live("pi-worker-1"), live("pi-worker-2")]


def test_a_node_is_read_from_what_kubectl_prints() -> None:
    (node,) = parse_nodes(json.dumps({"items": [item("pi-1")]}))
    assert (node.name, node.ready, node.version, node.address) == ("pi-1", True, VERSION, "192.168.0.120")
    assert node.roles == ("control-plane", "etcd")
    assert node.taints == ("k:NoSchedule", "l=v:NoExecute")
    assert node.heartbeat == "2026-11-23T15:01:00Z"
    assert node.as_dict()["os_image"] == "Debian GNU/Linux 12 (bookworm)"
    json.dumps(node.as_dict())


def test_a_node_without_conditions_is_not_ready() -> None:
    (node,) = parse_nodes(json.dumps({"items": [item("pi-1", status={"nodeInfo": {"kubeletVersion": VERSION}})]}))
    assert not node.ready and node.heartbeat == "" and node.address == ""


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"items": [{}]}', "The connection to the server was refused"])
def test_what_is_not_a_list_of_nodes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"list of nodes|Expecting value"):
        parse_nodes(text)


def test_only_differences_are_patched_and_foreign_labels_stay() -> None:
    node = live("n", labels={"ours": "1", "old": "1", "foreign": "1"}, annotations={MANAGED_LABELS: "old,ours"})
    assert metadata_patch(node, {"ours": "1", "new": "1"}, ()) == {
        "metadata": {"labels": {"new": "1", "old": None}, "annotations": {MANAGED_LABELS: "new,ours"}}
    }


def test_a_label_that_is_ours_already_is_only_remembered() -> None:
    node = live("n", labels={"ours": "1"})
    assert metadata_patch(node, {"ours": "1"}, ()) == {"metadata": {"annotations": {MANAGED_LABELS: "ours"}}}


def test_a_node_that_is_right_gets_no_patch() -> None:
    node = live("n", labels={"ours": "1", "f": "2"}, annotations={MANAGED_LABELS: "ours"})
    assert metadata_patch(node, {"ours": "1"}, ()) == {}


def test_taints_are_compared_by_key_and_effect() -> None:
    node = live(
        "n",
        taints=("ours=1:NoSchedule", "gone=1:NoExecute", "node.kubernetes.io/not-ready:NoExecute", "same:NoSchedule"),
        annotations={MANAGED_TAINTS: "gone:NoExecute,ours:NoSchedule,same:NoSchedule,never:NoSchedule"},
    )
    wanted = ("ours=2:NoSchedule", "same=:NoSchedule", "new:NoExecute")
    assert taint_arguments(node, wanted) == ["ours=2:NoSchedule", "new:NoExecute", "gone:NoExecute-"]
    assert metadata_patch(node, node.labels, wanted)["metadata"]["annotations"][MANAGED_TAINTS] == (
        "new:NoExecute,ours:NoSchedule,same:NoSchedule"
    )


def test_a_whole_cluster_has_no_faults() -> None:
    assert cluster_faults(cluster(), LIVE) == []


@pytest.mark.parametrize(
    ("nodes", "fault"),
    [
        (LIVE[:2], "pi-worker-2 is not in the cluster"),
        ([*LIVE[:2], live("pi-worker-2", ready=False, reason="cni")], "pi-worker-2 is not Ready: cni"),
        ([*LIVE[:2], live("pi-worker-2", version="v1.35.1+k3s1")], "runs v1.35.1+k3s1 instead of v1.36.5+k3s1"),
        ([*LIVE[:2], live("pi-worker-2", roles=("control-plane",))], "pi-worker-2 is part of the control plane"),
        ([live("pi-master", roles=()), *LIVE[1:]], "pi-master is not part of the control plane"),
        ([*LIVE[:2], live("pi-worker-2", address="10.0.0.1")], "has the address 10.0.0.1 instead of 192.168.0.122"),
        (
            [*LIVE[:2], live("pi-worker-2", labels={})],
            "lacks the labels node-role.kubernetes.io/data-node=true, piclusterops.io/role=data_node",
        ),
    ],
)
def test_what_is_wrong_with_a_cluster_is_named(nodes: list[KubeNode], fault: str) -> None:
    found = cluster_faults(cluster(), nodes)
    assert len(found) == 1 and fault in found[0]


def test_labels_of_the_inventory_are_checked() -> None:
    wanted = with_node(cluster(), "pi-worker-1", node_labels={"disk": "nvme"})
    assert cluster_faults(wanted, LIVE) == ["pi-worker-1 lacks the labels disk=nvme"]


def test_nodes_that_the_inventory_does_not_have_are_reported_apart() -> None:
    assert extra_nodes(cluster(), [*LIVE, live("old-pi")]) == ["old-pi"]
    assert cluster_faults(cluster(), [*LIVE, live("old-pi")]) == []
