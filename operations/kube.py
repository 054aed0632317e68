"""Operations on the cluster through its API, run on its first server."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

import gevent
from pyinfra import host
from pyinfra.api import StringCommand, operation

from piclusterops.facts.cache import cached_fact, forget
from piclusterops.facts.kube import ApiState, KubeApi
from piclusterops.k3s_config import BINARY
from piclusterops.kube_nodes import cluster_faults, extra_nodes, metadata_patch, taint_arguments
from piclusterops.operations.managed import refuse
from piclusterops.settings import Cluster

_KUBECTL = f"{BINARY} kubectl --request-timeout=30s"
_VERIFY_TIMEOUT_S = 60
_POLL_S = 2.0


@dataclass(frozen=True)
class NodeMarks:
    """The labels and taints we keep on a Kubernetes node."""

    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()


def marks_of(cluster: Cluster) -> dict[str, NodeMarks]:
    """What the inventory wants on each node."""
    return {node.name: NodeMarks(node.labels, node.settings.node_taints) for node in cluster.nodes}


@operation()
def node_marks(wanted: dict[str, NodeMarks], server: str) -> Any:
    """
    Put our labels and taints on the nodes, and remove those of ours that are no longer wanted.

    + wanted: map of node name to labels and taints
    + server: name of the host to ask; on others nothing happens

    What is ours is remembered in annotations of the node: labels and taints of others stay.
    """
    if host.name != server:
        host.noop(f"done on {server}")
        return
    api: ApiState | None = cached_fact(KubeApi)
    if api is None or api.nodes is None:
        if host.state.is_executing:
            yield refuse(f"{host.name}: the Kubernetes API gives no nodes. Try: sudo k3s kubectl get nodes")
        else:
            host.noop("there is no cluster yet")
        return
    changed = False
    for node in api.nodes:
        marks = wanted.get(node.name)
        if marks is None:
            continue
        patch = metadata_patch(node, marks.labels, marks.taints)
        taints = taint_arguments(node, marks.taints)
        name = quote(node.name)
        # Taints first: the annotation says what is ours, so it is only written once that is true.
        if taints:
            yield StringCommand(f"{_KUBECTL} taint node {name} --overwrite {' '.join(quote(word) for word in taints)}")
        if patch:
            text = quote(json.dumps(patch, separators=(",", ":")))
            yield StringCommand(f"{_KUBECTL} patch node {name} --type=merge -p {text}")
        changed = changed or bool(taints or patch)
    if not changed:
        host.noop("labels and taints are up to date")


@operation()
def healthy(cluster: Cluster) -> Any:
    """
    Fail unless the API is healthy and every node of the inventory is in the cluster as it should be.

    + cluster: the inventory

    It changes nothing, waits up to a minute, and runs on the first server only.
    """
    if host.name != cluster.first_server.name:
        host.noop(f"done on {cluster.first_server.name}")
        return
    if not host.state.is_executing:
        host.noop("checked at the end of a run")
        return
    # While another host of this run has failed, the cluster cannot become whole: look once.
    patience = 0 if host.state.failed_hosts else min(_VERIFY_TIMEOUT_S, cluster.settings.ready_timeout_s)
    deadline = time.monotonic() + patience
    while faults := _faults(cluster, cached_fact(KubeApi)):
        if time.monotonic() >= deadline:
            lines = "\n  ".join(faults)
            yield refuse(
                f"The cluster is not as it should be:\n  {lines}\n"
                f"next: ssh {host.name} sudo k3s kubectl get nodes -o wide"
            )
            return
        gevent.sleep(_POLL_S)
        forget(host)
    host.noop(f"{len(cluster.nodes)} nodes are Ready")


def _faults(cluster: Cluster, api: ApiState | None) -> list[str]:
    if api is None:
        return ["there is no API server: K3s has not started"]
    if api.fault or api.nodes is None:
        return [f"the API is not healthy: {api.fault or 'it gives no nodes'}"]
    extra = extra_nodes(cluster, api.nodes)
    if extra:
        host.log_styled(f"Not in the inventory, but in the cluster: {', '.join(extra)}", fg="yellow")
    return cluster_faults(cluster, api.nodes)
