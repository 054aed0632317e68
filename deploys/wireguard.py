"""The VPN into the home network; alone: ``pyinfra -y inventories/prod.py deploys/wireguard.py``."""

from __future__ import annotations

from pyinfra import inventory
from pyinfra.api import deploy

from piclusterops.deploys.stop import refuse_unreachable, stop_at_first_failure
from piclusterops.facts import cache
from piclusterops.facts.node import node_query
from piclusterops.operations import wireguard as operations
from piclusterops.settings import Cluster
from piclusterops.validation import cluster_from_inventory


@deploy("WireGuard")
def wireguard(cluster: Cluster) -> None:
    """The VPN on the node of the release `wireguard`, and the way back to it on the others; nothing where it is off.

    Alone it opens no port: that is the firewall's part, `deploys/firewall.py`. Shares the snapshot of `base`.
    """
    cache.install()
    query = node_query(cluster.settings)
    operations.vpn_end(name="End the VPN on its node", cluster=cluster, query=query)
    operations.way_back(name="Keep the way back to the VPN", cluster=cluster, query=query)


# pyinfra executes a deploy file under another name than Python imports it by.
if __name__ != "piclusterops.deploys.wireguard":
    stop_at_first_failure()
    refuse_unreachable()
    wireguard(cluster=cluster_from_inventory(inventory))
