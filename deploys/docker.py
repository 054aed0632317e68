"""Docker Engine on a node; alone: ``pyinfra -y inventories/prod.py deploys/docker.py``."""

from __future__ import annotations

from pyinfra import inventory
from pyinfra.api import deploy

from piclusterops.deploys.stop import refuse_unreachable, stop_at_first_failure
from piclusterops.facts import cache
from piclusterops.facts.node import node_query
from piclusterops.operations import docker as operations
from piclusterops.settings import Cluster
from piclusterops.validation import cluster_from_inventory


@deploy("Docker")
def docker(cluster: Cluster) -> None:
    """Docker Engine on the node of the release `docker`; nothing where it is off. Shares the snapshot of `base`."""
    cache.install()
    operations.engine(name="Run Docker on its node", cluster=cluster, query=node_query(cluster.settings))


# pyinfra executes a deploy file under another name than Python imports it by.
if __name__ != "piclusterops.deploys.docker":
    stop_at_first_failure()
    refuse_unreachable()
    docker(cluster=cluster_from_inventory(inventory))
