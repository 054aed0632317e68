"""Addresses and VLANs that nodes set themselves, where the inventory asks for it."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import deploy

from piclusterops.facts import cache
from piclusterops.facts.node import node_query
from piclusterops.operations import network as operations
from piclusterops.settings import Cluster


@deploy("Network")
def network(cluster: Cluster) -> None:
    """Set static addresses and VLANs, one node after the other, each kept only after a new login.

    Every host registers the change of every node, so that they are changed in the order of the inventory. A node that
    does not let us in over a new connection to its address goes back to what it had, and ends the run when
    `state.config.FAIL_PERCENT` is 0, as in `deploys/site.py`. Shares the snapshot of `base`.
    """
    cache.install()
    query = node_query(cluster.settings)
    for node in host.loop(cluster.nodes):
        operations.addresses(name=f"Set the addresses of {node.name}", node=node.name, cluster=cluster, query=query)
