"""Runs of the deploy that sets addresses, with inventories of a test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runs import Run, out, pyinfra

from piclusterops.lab.fleet import Lab

MASTER, WORKER = NODES = ("pi-master", "pi-worker-1")
TIMER_S = 20
DEPLOY = """
from pyinfra import inventory

from piclusterops.deploys.network import network
from piclusterops.deploys.stop import stop_at_first_failure
from piclusterops.validation import cluster_from_inventory

stop_at_first_failure()
network(cluster=cluster_from_inventory(inventory))
"""


class Fleet:
    """Runs of the deploy with an inventory of the test's own."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        (folder / "network.py").write_text(DEPLOY)
        (folder / "known_hosts").write_text(Path(lab.fleet.known_hosts).read_text())

    def command(self, shared: dict[str, Any], **nodes: dict[str, Any]) -> tuple[str, str]:
        """Inventory and deploy file; `nodes` has what differs, by name with an underscore."""
        fleet = self.lab.fleet
        settings = {
            "_sudo": True,
            "ssh_user": "pi",
            "ssh_key": fleet.ssh_key,
            "ssh_known_hosts_file": str(self.folder / "known_hosts"),
            "lan_cidr": fleet.subnet,
            "platform_profile": "none",
            "armed_timeout_s": TIMER_S,
            **shared,
        }
        lines = []
        for group, name in (("master", MASTER), ("worker", WORKER)):
            data = {"ssh_hostname": fleet.host(name).address, **nodes.get(name.replace("-", "_"), {})}
            lines.append(f"{group} = [({name!r}, {data!r})]")
        inventory = self.folder / "inventory.py"
        inventory.write_text("\n".join([*lines, f"cluster = ({list(NODES)!r}, {settings!r})", ""]))
        return str(inventory), str(self.folder / "network.py")

    def run(self, *args: str, shared: dict[str, Any] | None = None, **nodes: dict[str, Any]) -> Run:
        inventory, deploy = self.command(shared or {}, **nodes)
        return pyinfra(*args, lab=self.lab.name, inventory=inventory, deploy=deploy)


def router(lab: Lab) -> str:
    """The lab's bridge."""
    return str(lab.fleet.subnet.replace(".0/24", ".1"))


def static(lab: Lab, **more: Any) -> dict[str, Any]:
    """Settings of a node that sets its own address."""
    return {"static_address": True, "gateway": router(lab), "dns": [router(lab)], **more}


def elsewhere(lab: Lab) -> str:
    """Beginning of addresses that belong to the lab, and that no route leads to."""
    return lab.fleet.subnet.replace(".0.0/24", ".99")


def addresses(lab: Lab, node: str) -> list[str]:
    """IPv4 addresses in the LAN's interface of a node."""
    return out(lab, node, "ip -4 -o addr show dev eth0 scope global | awk '{print $4}'").split()
