"""Clusters for the tests of K3s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from piclusterops.settings import Cluster, ClusterSettings, Node, NodeSettings

NAMES = ("pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3")


def cluster(roles: Sequence[str] = ("master", "worker", "data_node"), **settings: Any) -> Cluster:
    """A cluster with these roles; the first node is called pi-master, its address ends in .120."""
    nodes = [
        Node(name=name, role=role, settings=NodeSettings(address=f"192.168.0.{120 + number}"))
        for number, (name, role) in enumerate(zip(NAMES, roles, strict=False))
    ]
    return Cluster(settings=ClusterSettings(lan_cidr="192.168.0.0/24", **settings), nodes=tuple(nodes))


def with_node(base: Cluster, name: str, **settings: Any) -> Cluster:
    """The cluster with other settings for one node."""
    nodes = [
        node.model_copy(update={"settings": NodeSettings(address=node.settings.address, **settings)})
        if node.name == name
        else node
        for node in base.nodes
    ]
    return base.model_copy(update={"nodes": tuple(nodes)})
