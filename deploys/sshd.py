"""The SSH server of every node."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import deploy

from piclusterops.facts import cache
from piclusterops.facts.node import node_query
from piclusterops.operations import sshd as operations
from piclusterops.settings import Cluster


@deploy("SSH server")
def sshd(cluster: Cluster) -> None:
    """Log in by key only, with modern algorithms and as a known user; one node after the other.

    Every host registers the change of every node, so that they are changed in the order of the inventory. A node that
    does not let us in over a new connection goes back to what it had, and ends the run when
    `state.config.FAIL_PERCENT` is 0, as in `deploys/site.py`. Shares the snapshot of `base`.
    """
    cache.install()
    settings = cluster.settings
    query = node_query(settings)
    operations.keys(name="Keep sshd's keys strong", query=query)
    for node in host.loop(cluster.nodes):
        operations.configure(name=f"Configure sshd on {node.name}", node=node.name, settings=settings, query=query)
