"""Addresses that hosts set themselves: a right one stays, a wrong one is undone by the host that got it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import REPOSITORY, Run, out, pyinfra, until

from piclusterops.lab.fleet import Lab

pytestmark = pytest.mark.lab

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
# All of a host that this part may touch.
TOUCHED = (
    "cd /etc/systemd/network; find . -type f -exec sha256sum {} +; find . -printf '%p %m %u %l\\n' | sort; "
    "ip -4 -o addr show scope global | tr -s ' '; ip -4 route; ip -br link | cut -d' ' -f1; "
    "systemctl is-active systemd-networkd; systemctl is-enabled systemd-networkd"
)


@pytest.fixture(scope="module")
def network_lab(pair: Lab) -> Lab:
    """Nobody manages the addresses of the second host; the first has systemd-networkd."""
    address = pair.fleet.host(MASTER).address
    out(
        pair,
        MASTER,
        f"printf '[Match]\\nName=eth0\\n[Network]\\nAddress={address}/24\\n' >/etc/systemd/network/20-lan.network; "
        "systemctl enable -q --now systemd-networkd",
    )
    return pair


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


@pytest.fixture(scope="module")
def fleet(network_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(network_lab, tmp_path_factory.mktemp("inventory"))


def static(lab: Lab, **more: Any) -> dict[str, Any]:
    """Settings of a node that sets its own address; the lab's bridge is the router."""
    router = str(lab.fleet.subnet.replace(".0/24", ".1"))
    return {"static_address": True, "gateway": router, "dns": [router], **more}


def elsewhere(lab: Lab) -> str:
    """Beginning of addresses that belong to the lab, and that no route leads to."""
    return lab.fleet.subnet.replace(".0.0/24", ".99")


def touched(lab: Lab, node: str) -> str:
    return out(lab, node, f"{{ {TOUCHED}; }} || :")


def addresses(lab: Lab, node: str) -> list[str]:
    return out(lab, node, "ip -4 -o addr show dev eth0 scope global | awk '{print $4}'").split()


def test_without_settings_nothing_is_touched(network_lab: Lab, fleet: Fleet) -> None:
    before = {node: touched(network_lab, node) for node in NODES}
    run = fleet.run("-y", "--json")
    assert run.returncode == 0, run.output
    assert run.changes == {}
    assert run.executions == dict.fromkeys(NODES, 1)
    assert {node: touched(network_lab, node) for node in NODES} == before


def test_a_wrong_address_is_undone_by_the_host_itself_whether_or_not_we_live_to_see_it(
    network_lab: Lab, fleet: Fleet
) -> None:
    """The LAN is another one than the inventory says. On the worker, nobody but us brings the former address back."""
    before = {name: touched(network_lab, name) for name in NODES}
    other = elsewhere(network_lab)
    wrong = {"static_address": True, "gateway": f"{other}.1", "dns": [f"{other}.1"]}
    master, worker, lan = {"address": f"{other}.10"}, {"address": f"{other}.11"}, {"lan_cidr": f"{other}.0/24"}

    command = [sys.executable, "-m", "pyinfra", "-y", *fleet.command(lan, pi_master=master, pi_worker_1=worker | wrong)]
    with subprocess.Popen(command, cwd=REPOSITORY, env=os.environ, stderr=subprocess.DEVNULL) as killed:
        until(lambda: addresses(network_lab, WORKER) == [f"{other}.11/24"])
        killed.send_signal(signal.SIGKILL)
    run = fleet.run("-y", "--limit", MASTER, shared=lan, pi_master=master | wrong, pi_worker_1=worker)
    assert run.returncode == 1
    text = " ".join(run.output.split())
    assert f"{MASTER}: network: a new connection to {other}.10 port 22 failed" in text
    assert "The change was undone: the host is as before" in text
    assert "Next: ssh" in text
    assert "Traceback" not in text

    rollbacks = "systemctl list-units --no-legend 'piclusterops-rollback-*'"
    until(lambda: "active" not in out(network_lab, WORKER, rollbacks))
    assert {name: touched(network_lab, name) for name in NODES} == before
    assert all(network_lab.ssh(name, ["sudo", "true"]).returncode == 0 for name in NODES)


def test_the_run_ends_at_the_first_node_and_the_others_are_untouched(network_lab: Lab, fleet: Fleet) -> None:
    """An address that another machine has is refused beforehand."""
    before = {name: touched(network_lab, name) for name in NODES}
    operator = network_lab.fleet.host("operator").address
    run = fleet.run("-y", pi_master=static(network_lab, address=operator), pi_worker_1=static(network_lab))
    assert run.returncode == 1
    assert f"the check refused it: another machine has {operator}" in run.output
    assert "Set the addresses of pi-worker-1" not in run.output
    assert {name: touched(network_lab, name) for name in NODES} == before


def test_a_vlan_that_the_kernel_can_not_make_is_undone(network_lab: Lab, fleet: Fleet) -> None:
    """As a machine of the lab, whose kernel has no VLANs: the address stays, the rest goes."""
    before = touched(network_lab, MASTER)
    vlans = {"services": {"id": 10, "address": "10.98.0.10/24"}}
    run = fleet.run("-y", pi_master={"vlans": vlans})
    assert run.returncode == 1
    assert "eth0.10 does not get 10.98.0.10/24" in run.output
    assert "The change was undone: the host is as before" in " ".join(run.output.split())
    assert touched(network_lab, MASTER) == before


def test_right_addresses_stay_also_after_a_reboot(network_lab: Lab, fleet: Fleet) -> None:
    """The master keeps its address, the worker moves to another; both set it themselves from now on."""
    moved = network_lab.fleet.host(WORKER).address + "0"
    other = touched(network_lab, MASTER)
    run = fleet.run("-y", "--json", pi_worker_1=static(network_lab, address=moved))
    assert run.returncode == 0, run.output
    assert run.changes == {"Network | Set the addresses of pi-worker-1": [WORKER]}
    assert f'Next: set ssh_hostname = "{moved}" for it in the inventory' in " ".join(run.output.split())
    assert addresses(network_lab, WORKER) == [f"{moved}/24"]
    assert out(network_lab, WORKER, "ip -4 route show default dev eth0").startswith("default via")
    assert touched(network_lab, MASTER) == other

    both = {"pi_master": static(network_lab), "pi_worker_1": static(network_lab, ssh_hostname=moved)}
    run = fleet.run("-y", "--json", **both)
    assert run.returncode == 0, run.output
    assert run.changes == {"Network | Set the addresses of pi-master": [MASTER]}
    again = fleet.run("-y", "--json", **both)
    assert again.changes == {}
    assert again.executions == dict.fromkeys(NODES, 1)

    boot = out(network_lab, WORKER, "cat /proc/sys/kernel/random/boot_id")
    network_lab.exec(WORKER, ["systemctl", "reboot"])
    until(lambda: network_lab.exec(WORKER, ["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip() not in ("", boot))
    # Docker gives it the former one as well.
    until(lambda: f"{moved}/24" in addresses(network_lab, WORKER))
    assert fleet.run("-y", "--json", **both).changes == {}


def test_what_is_no_longer_asked_for_is_taken_back(network_lab: Lab, fleet: Fleet) -> None:
    """The master's former file of systemd-networkd counts again."""
    moved = network_lab.fleet.host(WORKER).address + "0"
    run = fleet.run("-y", "--json", pi_worker_1=static(network_lab, ssh_hostname=moved))
    assert run.returncode == 0, run.output
    assert run.changes == {"Network | Set the addresses of pi-master": [MASTER]}
    assert out(network_lab, MASTER, "ls /etc/systemd/network") == "20-lan.network"
    assert addresses(network_lab, MASTER) == [f"{network_lab.fleet.host(MASTER).address}/24"]
    assert "default" not in out(network_lab, MASTER, "ip -4 route")
