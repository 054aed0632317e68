"""K3s on every node."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import deploy

from piclusterops.facts import cache
from piclusterops.operations import k3s as operations
from piclusterops.operations import kube
from piclusterops.settings import Cluster


@deploy("K3s")
def k3s(cluster: Cluster) -> None:
    """Install, configure, start and label: staged on all hosts, then servers one by one, new agents, other agents.

    It must be called from the same source line for every host: pyinfra tells operations apart by line numbers,
    and every host has to take part in the turn of every node (see `operations.k3s.activate`).
    """
    cache.install()
    operations.stage(name="Stage the K3s release", cluster=cluster)
    for server in host.loop(cluster.servers):
        operations.activate(name=f"Run K3s on {server.name}", cluster=cluster, node=server.name)
    operations.join(name="Join new agents", cluster=cluster)
    for agent in host.loop(cluster.agents):
        operations.activate(name=f"Run K3s on {agent.name}", cluster=cluster, node=agent.name)
    kube.node_marks(name="Label and taint the nodes", wanted=kube.marks_of(cluster), server=cluster.first_server.name)
