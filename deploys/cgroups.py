"""The memory cgroup alone, for hosts whose other boot settings are somebody else's; `boot` includes it."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import deploy

from piclusterops.boot_targets import BootTarget
from piclusterops.facts import cache
from piclusterops.facts.node import node_query
from piclusterops.operations import boot, system
from piclusterops.settings import Cluster


@deploy("Cgroups")
def cgroups(cluster: Cluster) -> None:
    """Enable the memory cgroup on the kernel command line, and reboot the nodes whose kernel runs without it.

    One node is down at a time, in the order of the inventory: every host registers the reboot of every node, and a
    reboot is over when the node is back and has the memory cgroup. Set `state.config.FAIL_PERCENT` to 0, as
    `deploys/site.py` does, so that the run ends at the first node that is not. Shares the snapshot of `base`.
    """
    cache.install()
    settings = cluster.settings
    targets = {node.name: BootTarget() for node in cluster.nodes}
    query = node_query(settings)
    boot.memory_in_cmdline(name="Ask for the memory cgroup in cmdline.txt", query=query)
    for node in host.loop(cluster.nodes):
        boot.running_state(
            name=f"Reboot {node.name} if it runs without the memory cgroup",
            node=node.name,
            targets=targets,
            timeout_s=settings.reboot_timeout_s,
            query=query,
        )
    # A Pi 5 without a battery loses its clock in a reboot.
    system.synchronised_clock(name="Wait for a synchronised clock", timeout_s=settings.time_sync_timeout_s, query=query)
