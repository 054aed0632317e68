"""The NFS server; alone: ``pyinfra -y inventories/prod.py deploys/nfs_server.py``."""

from __future__ import annotations

from pyinfra import inventory
from pyinfra.api import deploy

from piclusterops.deploys.stop import refuse_unreachable, stop_at_first_failure
from piclusterops.facts import cache
from piclusterops.facts.node import node_query
from piclusterops.operations import nfs_server as operations
from piclusterops.settings import Cluster
from piclusterops.validation import cluster_from_inventory


@deploy("NFS server")
def nfs_server(cluster: Cluster) -> None:
    """The NFS server on the node of the release `nfs-server`; nothing where it is off.

    Alone it opens no port: that is the firewall's part, `deploys/firewall.py`. Shares the snapshot of `base`.
    """
    cache.install()
    operations.exported(name="Export to the nodes by NFS", cluster=cluster, query=node_query(cluster.settings))


# pyinfra executes a deploy file under another name than Python imports it by.
if __name__ != "piclusterops.deploys.nfs_server":
    stop_at_first_failure()
    refuse_unreachable()
    nfs_server(cluster=cluster_from_inventory(inventory))
