"""The firewall of every node; alone: ``pyinfra -y inventories/prod.py deploys/firewall.py``."""

from __future__ import annotations

from pyinfra import host, inventory
from pyinfra.api import deploy

from piclusterops.deploys.stop import refuse_unreachable, stop_at_first_failure
from piclusterops.facts import cache
from piclusterops.facts.node import node_query
from piclusterops.operations import firewall as operations
from piclusterops.settings import Cluster
from piclusterops.validation import cluster_from_inventory


@deploy("Firewall")
def firewall(cluster: Cluster) -> None:
    """Zones and openings of the inventory, one node after the other, each kept only after a new login.

    Every host registers the change of every node, so that they are changed in the order of the inventory. A node that
    does not let us in over a new connection goes back to what it had, and ends the run when
    `state.config.FAIL_PERCENT` is 0, as in `deploys/site.py`. Shares the snapshot of `base`.
    """
    cache.install()
    query = node_query(cluster.settings)
    for node in host.loop(cluster.nodes):
        operations.configure(
            name=f"Configure the firewall of {node.name}", node=node.name, cluster=cluster, query=query
        )


# pyinfra executes a deploy file under another name than Python imports it by.
if __name__ != "piclusterops.deploys.firewall":
    stop_at_first_failure()
    refuse_unreachable()
    firewall(cluster=cluster_from_inventory(inventory))
