"""The nodes of a Kubernetes cluster: what they are, what they should be, and the difference. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from piclusterops.quantities import mebibytes, millicores
from piclusterops.settings import Cluster

#: Annotations that remember which labels and taints are ours, so that foreign ones stay.
MANAGED_LABELS = "piclusterops.io/managed-labels"
MANAGED_TAINTS = "piclusterops.io/managed-taints"
_ROLE = "node-role.kubernetes.io/"


@dataclass(frozen=True)
class KubeNode:
    """A node as the API describes it. `heartbeat` and `created` are RFC 3339 times.

    `memory_mib` and `cpu_m` (thousandths of a core) are what it has for pods; 0 when its kubelet did not say.
    `pod_cidrs` are the networks that its pods get addresses of.
    """

    name: str
    ready: bool
    version: str
    address: str = ""
    os_image: str = ""
    reason: str = ""
    heartbeat: str = ""
    created: str = ""
    roles: tuple[str, ...] = ()
    taints: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    memory_mib: int = 0
    cpu_m: int = 0
    pod_cidrs: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What a program would like to read, as JSON types."""
        return {
            "name": self.name,
            "ready": self.ready,
            "roles": list(self.roles),
            "version": self.version,
            "address": self.address,
            "os_image": self.os_image,
            "age_s": self.age_s,
            "labels": dict(self.labels),
            "taints": list(self.taints),
        }

    @property
    def age_s(self) -> int:
        """Seconds since the node registered."""
        return int(datetime.now(UTC).timestamp() - timestamp(self.created)) if self.created else 0


def timestamp(time: str) -> float:
    """Seconds since the epoch of an RFC 3339 time.

    Raises:
        ValueError: it is not one.
    """
    return datetime.fromisoformat(time).timestamp()


def parse_nodes(text: str) -> list[KubeNode]:
    """The nodes of ``kubectl get nodes -o json``, by name.

    Raises:
        ValueError: the text is not of that form.
    """
    try:
        nodes = [_node(item) for item in json.loads(text)["items"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"unexpected list of nodes: {error!r}") from error
    return sorted(nodes, key=lambda node: node.name)


def _node(item: Any) -> KubeNode:
    meta, status = item["metadata"], item["status"]
    labels = meta.get("labels") or {}
    ready: dict[str, Any] = next((entry for entry in status.get("conditions") or [] if entry["type"] == "Ready"), {})
    allocatable = status.get("allocatable") or {}
    addresses = {entry["type"]: entry["address"] for entry in reversed(status.get("addresses") or [])}
    return KubeNode(
        name=meta["name"],
        ready=ready.get("status") == "True",
        reason=ready.get("message", ""),
        heartbeat=ready.get("lastHeartbeatTime") or "",
        created=meta.get("creationTimestamp") or "",
        version=status["nodeInfo"]["kubeletVersion"],
        os_image=status["nodeInfo"].get("osImage", ""),
        address=addresses.get("InternalIP", ""),
        roles=tuple(sorted(key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE))),
        taints=tuple(_taint_text(taint) for taint in item["spec"].get("taints") or []),
        labels=labels,
        annotations=meta.get("annotations") or {},
        memory_mib=mebibytes(allocatable.get("memory", "0")),
        cpu_m=millicores(allocatable.get("cpu", "0")),
        pod_cidrs=tuple(item["spec"].get("podCIDRs") or []),
    )


def _taint_text(taint: Mapping[str, Any]) -> str:
    value = taint.get("value")
    return f"{taint['key']}={value}:{taint['effect']}" if value else f"{taint['key']}:{taint['effect']}"


def taint_id(taint: str) -> str:
    """What identifies a taint: `key:Effect`, without the value."""
    key, _, effect = taint.rpartition(":")
    return f"{key.partition('=')[0]}:{effect}"


def metadata_patch(node: KubeNode, labels: Mapping[str, str], taints: Sequence[str]) -> dict[str, Any]:
    """The merge patch that gives a node our labels and remembers what is ours; empty when all is right."""
    ours = _remembered(node, MANAGED_LABELS)
    patch_labels: dict[str, str | None] = {
        key: value for key, value in sorted(labels.items()) if node.labels.get(key) != value
    }
    patch_labels |= {key: None for key in sorted(ours - set(labels)) if key in node.labels}
    annotations = {
        name: value
        for name, value in (
            (MANAGED_LABELS, _remember(labels)),
            (MANAGED_TAINTS, _remember(taint_id(taint) for taint in taints)),
        )
        if node.annotations.get(name, "") != value
    }
    metadata = {"labels": patch_labels, "annotations": annotations}
    return {"metadata": {key: value for key, value in metadata.items() if value}} if any(metadata.values()) else {}


def taint_arguments(node: KubeNode, taints: Sequence[str]) -> list[str]:
    """The arguments of ``kubectl taint --overwrite`` that give a node our taints; empty when all is right."""
    present = {taint_id(taint): _normal(taint) for taint in node.taints}
    wanted = {taint_id(taint): _normal(taint) for taint in taints}
    arguments = [taint for name, taint in wanted.items() if present.get(name) != taint]
    gone = _remembered(node, MANAGED_TAINTS) - set(wanted)
    return arguments + [f"{name}-" for name in sorted(gone) if name in present]


def _normal(taint: str) -> str:
    return taint.replace("=:", ":")


def _remembered(node: KubeNode, annotation: str) -> set[str]:
    return {name for name in node.annotations.get(annotation, "").split(",") if name}


def _remember(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def cluster_faults(cluster: Cluster, nodes: Sequence[KubeNode]) -> list[str]:
    """What the live nodes lack of the inventory's; empty when every node is there and as it should be."""
    live = {node.name: node for node in nodes}
    found: list[str] = []
    for wanted in cluster.nodes:
        node = live.get(wanted.name)
        if node is None:
            found.append(f"{wanted.name} is not in the cluster")
            continue
        if not node.ready:
            found.append(f"{node.name} is not Ready: {node.reason or 'no reason given'}")
        if node.version != cluster.settings.k3s_version:
            found.append(f"{node.name} runs {node.version} instead of {cluster.settings.k3s_version}")
        if ("control-plane" in node.roles) != wanted.is_server:
            found.append(f"{node.name} is {'not ' if wanted.is_server else ''}part of the control plane")
        if node.address != wanted.address:
            found.append(f"{node.name} has the address {node.address or '(none)'} instead of {wanted.address}")
        wrong = [f"{key}={value}" for key, value in wanted.labels.items() if node.labels.get(key) != value]
        if wrong:
            found.append(f"{node.name} lacks the labels {', '.join(wrong)}")
    return found


def extra_nodes(cluster: Cluster, nodes: Sequence[KubeNode]) -> list[str]:
    """Names of live nodes that the inventory does not have."""
    known = {node.name for node in cluster.nodes}
    return [node.name for node in nodes if node.name not in known]
