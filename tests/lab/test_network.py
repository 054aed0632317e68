"""Addresses that hosts set themselves: a right one stays, a wrong one is undone by the host that got it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from addressing import MASTER, NODES, WORKER, Fleet, addresses, elsewhere, static
from runs import REPOSITORY, out, until

from piclusterops.lab.fleet import Lab

pytestmark = pytest.mark.lab

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


@pytest.fixture(scope="module")
def fleet(network_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(network_lab, tmp_path_factory.mktemp("inventory"))


def touched(lab: Lab, node: str) -> str:
    return out(lab, node, f"{{ {TOUCHED}; }} || :")


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
