"""The nodes of a cluster, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from piclusterops.kube_nodes import KubeNode, extra_nodes
from piclusterops.settings import Cluster

_COLUMNS = ("Node", "Role", "Ready", "Age", "Version", "Address")
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def missing_nodes(cluster: Cluster, nodes: Sequence[KubeNode]) -> list[str]:
    """Names of nodes of the inventory that the cluster does not have."""
    return sorted({node.name for node in cluster.nodes} - {node.name for node in nodes})


def age_text(seconds: int) -> str:
    """A time in the largest unit that it fills twice, as kubectl does it: `47h`, `2d`."""
    return next((f"{seconds // size}{unit}" for unit, size in _UNITS if seconds >= 2 * size), f"{max(seconds, 0)}s")


def status_table(cluster: Cluster, nodes: Sequence[KubeNode]) -> Table:
    """A row for each node of the cluster, and for each that the inventory has and the cluster lacks.

    It fits a terminal of 80 columns as long as no node has taints; these have a line each.
    """
    table = Table(title=f"Cluster {cluster.settings.cluster_name}")
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True)
    if any(node.taints for node in nodes):
        table.add_column("Taints", overflow="fold")
    unknown = extra_nodes(cluster, nodes)
    for node in nodes:
        table.add_row(
            f"{node.name} (not in the inventory)" if node.name in unknown else node.name,
            node.labels.get("piclusterops.io/role", "-"),
            "[green]yes[/]" if node.ready else "[red]no[/]",
            age_text(node.age_s),
            node.version,
            node.address,
            *(["\n".join(node.taints)] if node.taints else []),
        )
    for name in missing_nodes(cluster, nodes):
        absent = cluster.node(name)
        table.add_row(name, absent.role, "[red]missing[/]", "-", "-", absent.address)
    return table
