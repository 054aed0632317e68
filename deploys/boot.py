"""What every node boots with: memory cgroup, page size, watchdog, PCIe, bootloader, no swap."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import deploy

from piclusterops.boot_targets import boot_targets
from piclusterops.facts import cache
from piclusterops.facts.node import node_query
from piclusterops.operations import boot as operations
from piclusterops.operations import system
from piclusterops.settings import Cluster


@deploy("Boot")
def boot(cluster: Cluster) -> None:
    """Set what the nodes boot with, then reboot those whose running system lacks any of it: once, for all of it.

    One node is down at a time, in the order of the inventory: every host registers the reboot of every node, and a
    reboot is over when the node is back and has what it was rebooted for. Set `state.config.FAIL_PERCENT` to 0, as
    `deploys/site.py` does, so that the run ends at the first node that is not. Shares the snapshot of `base`.
    """
    cache.install()
    settings, targets = cluster.settings, boot_targets(cluster)
    query = node_query(settings)
    operations.memory_in_cmdline(name="Ask for the memory cgroup in cmdline.txt", query=query)
    operations.config_txt(name="Set the firmware's config.txt", targets=targets, query=query)
    operations.eeprom(name="Set the bootloader's EEPROM", targets=targets, query=query)
    operations.watchdog(name="Let the watchdog restart a hung node", targets=targets, query=query)
    operations.no_swap(name="Switch swap off", targets=targets, query=query)
    for node in host.loop(cluster.nodes):
        operations.running_state(
            name=f"Reboot {node.name} if its running state differs",
            node=node.name,
            targets=targets,
            timeout_s=settings.reboot_timeout_s,
            query=query,
        )
    # A Pi 5 without a battery loses its clock in a reboot.
    system.synchronised_clock(name="Wait for a synchronised clock", timeout_s=settings.time_sync_timeout_s, query=query)
