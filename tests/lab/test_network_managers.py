"""Addresses by NetworkManager and by netplan, as Raspberry Pi OS has them: the real programs on living hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from addressing import MASTER, NODES, WORKER, Fleet, addresses, elsewhere, router, static
from runs import REPOSITORY, Run, out, until

from piclusterops.lab.fleet import Lab, Node

pytestmark = pytest.mark.lab

OURS = {
    MASTER: "/etc/NetworkManager/system-connections/piclusterops-lan.nmconnection",
    WORKER: "/etc/netplan/90-piclusterops.yaml",
}
UNDONE = "/var/lib/piclusterops/armed/network/undone"
#: The connection that counts before us: made up by NetworkManager, and written by netplan.
FORMER = {MASTER: "Wired connection 1", WORKER: "netplan-eth0"}
# As on a Pi, no interface has an address before NetworkManager starts; those that a Pi has not are left alone.
BARE = """\
[Unit]
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip addr flush dev eth0
ExecStart=ip link set dev eth0 down
[Install]
WantedBy=sysinit.target
"""
NETWORKMANAGER = """\
mkdir -p /etc/NetworkManager/conf.d
printf '[keyfile]\\nunmanaged-devices=*,except:interface-name:eth0\\n' >/etc/NetworkManager/conf.d/lab.conf
cat >/etc/systemd/system/bare.service
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y -o DPkg::Options::=--force-unsafe-io -o APT::Install-Recommends=false install network-manager {more}
rm /usr/sbin/policy-rc.d
systemctl daemon-reload
systemctl enable -q bare
"""
# What Raspberry Pi OS trixie has: NetworkManager for everything, and what cloud-init wrote. A container can't trigger
# udev, and netplan would take that for an error.
NETPLAN = """\
printf '#!/bin/sh\\n[ "$1" = trigger ] || exec /usr/bin/udevadm "$@"\\n' >/usr/local/bin/udevadm
chmod 755 /usr/local/bin/udevadm
umask 077
printf 'network:\\n  version: 2\\n  renderer: NetworkManager\\n' >/lib/netplan/00-network-manager-all.yaml
printf 'network:\\n  version: 2\\n  ethernets:\\n    eth0:\\n      dhcp4: true\\n      optional: true\\n' \
    >/etc/netplan/50-cloud-init.yaml
netplan generate
"""
# The router of the lab hands out to every node the address that the lab knows it by.
DHCP = """\
[Match]
Name=eth0
[Network]
Address={operator}/24
DHCPServer=yes
[DHCPServer]
PoolOffset=200
PoolSize=20
EmitRouter=yes
Router={router}
DNS={router}
"""
LEASE = "[DHCPServerStaticLease]\nMACAddress={mac}\nAddress={address}\n"
# All of a host that this part may touch; not the time that a lease still has, nor the number of an interface.
TOUCHED = (
    "for d in /etc/NetworkManager /etc/netplan /lib/netplan /etc/systemd/network; "
    "do find $d -type f -exec sha256sum {} + ; find $d -printf '%p %m %u %l\\n'; done 2>/dev/null | sort; "
    "ls /run/NetworkManager/system-connections; nmcli -t -f NAME,DEVICE,STATE connection show | sort; "
    "ip -4 -o addr show scope global | sed 's/^[0-9]*: //; s/valid_lft.*//'; ip -4 route; "
    "ip -br link | sed 's/[@ ].*//'; grep -v '^#' /etc/resolv.conf; systemctl is-active NetworkManager systemd-networkd"
)


@pytest.fixture(scope="module")
def managers_lab() -> Iterator[Lab]:
    """The first host has NetworkManager as Raspberry Pi OS bookworm, the second netplan over it as trixie."""
    lab = Lab("test-network-managers")
    try:
        lab.up([Node(MASTER, "master"), Node(WORKER, "worker")], packages=["network-manager", "netplan.io"])
        leases = [
            LEASE.format(mac=out(lab, name, "cat /sys/class/net/eth0/address"), address=lab.fleet.host(name).address)
            for name in NODES
        ]
        operator = lab.fleet.host("operator").address
        text = "".join([DHCP.format(operator=operator, router=router(lab)), *leases])
        done = lab.exec(
            "operator",
            ["sh", "-ec", "cat >/etc/systemd/network/dhcp.network; systemctl start systemd-networkd"],
            input=text,
        )
        assert done.returncode == 0, done
        with ThreadPoolExecutor() as pool:
            for shell in pool.map(_install, [lab] * 2, NODES, ["", "netplan.io"], ["", NETPLAN]):
                assert shell.returncode == 0, shell
        lab.wait_ssh(NODES)
        yield lab
    finally:
        lab.down()


def _install(lab: Lab, node: str, more: str, configure: str) -> Any:
    start = "systemctl start bare NetworkManager"
    return lab.exec(node, ["sh", "-ec", NETWORKMANAGER.format(more=more) + configure + start], input=BARE)


@pytest.fixture(scope="module")
def fleet(managers_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(managers_lab, tmp_path_factory.mktemp("inventory"))


class Each:
    """Runs of the deploy for both nodes at once, each in a run of its own."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.fleets = {node: Fleet(lab, folder / node) for node in NODES}

    def run(self, settings: Mapping[str, dict[str, Any]]) -> dict[str, Run]:
        def one(node: str) -> Run:
            return self.fleets[node].run("-y", "--limit", node, **{node.replace("-", "_"): settings[node]})

        with ThreadPoolExecutor() as pool:
            return dict(zip(NODES, pool.map(one, NODES), strict=True))


@pytest.fixture
def each(managers_lab: Lab, tmp_path: Path) -> Each:
    for node in NODES:
        (tmp_path / node).mkdir()
    return Each(managers_lab, tmp_path)


@pytest.fixture(scope="module")
def before(managers_lab: Lab) -> dict[str, list[str]]:
    """What is touched, of each host, when the tests begin."""
    return {node: touched(managers_lab, node) for node in NODES}


def touched(lab: Lab, node: str) -> list[str]:
    return out(lab, node, f"{{ {TOUCHED}; }} | sort").splitlines()


def active(lab: Lab) -> dict[str, str]:
    """The connection of each host's interface in the LAN."""
    return {node: out(lab, node, "nmcli -g GENERAL.CONNECTION device show eth0") for node in NODES}


def boot_id(lab: Lab, node: str) -> str:
    """Empty while the host is off."""
    return lab.exec(node, ["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip()


def killed_before_confirmation(lab: Lab, node: str, folder: Path) -> None:
    """Give a host an address of another network, and end the controller with -9 while it is in force."""
    other = elsewhere(lab)
    settings = {name: {"address": f"{other}.{number}"} for number, name in enumerate(NODES, start=10)}
    settings[node] |= {"static_address": True, "gateway": f"{other}.1", "dns": [f"{other}.1"]}
    folder.mkdir()
    files = Fleet(lab, folder).command(
        {"lan_cidr": f"{other}.0/24"}, pi_master=settings[MASTER], pi_worker_1=settings[WORKER]
    )
    command = [sys.executable, "-m", "pyinfra", "-y", "--limit", node, *files]
    with subprocess.Popen(command, cwd=REPOSITORY, env=os.environ, stderr=subprocess.DEVNULL) as controller:
        until(lambda: addresses(lab, node) == [f"{settings[node]['address']}/24"])
        controller.send_signal(signal.SIGKILL)


def test_without_settings_nothing_is_touched(managers_lab: Lab, fleet: Fleet, before: dict[str, list[str]]) -> None:
    assert active(managers_lab) == FORMER
    assert all("proto dhcp" in "".join(lines) for lines in before.values())
    run = fleet.run("-y", "--json")
    assert run.returncode == 0, run.output
    assert run.changes == {}
    assert run.executions == dict.fromkeys(NODES, 1)
    assert {node: touched(managers_lab, node) for node in NODES} == before


def test_a_wrong_address_is_undone_by_the_host_itself_when_the_controller_is_killed(
    managers_lab: Lab, before: dict[str, list[str]], tmp_path: Path
) -> None:
    """The LAN is another one than the inventory says: nobody can reach the host there."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: killed_before_confirmation(managers_lab, node, tmp_path / node), NODES))
    for node in NODES:
        until(lambda node=node: managers_lab.exec(node, ["test", "-e", UNDONE]).returncode == 0)
        assert touched(managers_lab, node) == before[node]
        assert managers_lab.ssh(node, ["sudo", "true"]).returncode == 0
    assert active(managers_lab) == FORMER


def test_a_power_cut_before_the_confirmation_leaves_what_netplan_had(
    managers_lab: Lab, before: dict[str, list[str]], tmp_path: Path
) -> None:
    """At the next boot netplan's generator has read our file before anything could take it back."""
    killed_before_confirmation(managers_lab, WORKER, tmp_path / WORKER)
    managers_lab.power_cut(WORKER)
    managers_lab.power_on(WORKER)
    managers_lab.wait_ssh([WORKER])
    until(lambda: touched(managers_lab, WORKER) == before[WORKER])


def test_a_vlan_that_the_kernel_can_not_make_is_undone(each: Each, before: dict[str, list[str]]) -> None:
    """As a machine of the lab, whose kernel has no VLANs: the address stays, the rest goes."""
    vlans = {"services": {"id": 10, "address": "10.98.0.10/24"}}
    runs = each.run({node: {"vlans": vlans} for node in NODES})
    assert "Failed to create VLAN interface 'eth0.10'" in runs[MASTER].output
    assert "eth0.10 does not get 10.98.0.10/24" in runs[WORKER].output
    for node, run in runs.items():
        assert run.returncode == 1
        assert "The change was undone: the host is as before" in " ".join(run.output.split())
        assert touched(each.lab, node) == before[node]


def test_right_addresses_stay_also_after_a_reboot(managers_lab: Lab, fleet: Fleet) -> None:
    """The addresses are those that DHCP gave: from now on the hosts set them themselves."""
    both = {"pi_master": static(managers_lab), "pi_worker_1": static(managers_lab)}
    run = fleet.run("-y", "--json", **both)
    assert run.returncode == 0, run.output
    assert run.changes == {f"Network | Set the addresses of {node}": [node] for node in NODES}
    assert active(managers_lab) == {MASTER: "piclusterops-lan", WORKER: "netplan-eth0"}
    for node in NODES:
        assert out(managers_lab, node, f"stat -c '%a %U' {OURS[node]}") == "600 root"

    boots = {node: boot_id(managers_lab, node) for node in NODES}
    for node in NODES:
        managers_lab.exec(node, ["systemctl", "reboot"])
    for node in NODES:
        until(lambda node=node: boot_id(managers_lab, node) not in ("", boots[node]))
    managers_lab.wait_ssh(NODES)
    again = fleet.run("-y", "--json", **both)
    assert again.changes == {}
    assert again.executions == dict.fromkeys(NODES, 1)
    for node in NODES:
        assert addresses(managers_lab, node) == [f"{managers_lab.fleet.host(node).address}/24"]
        gateway = f"default via {router(managers_lab)} proto static"
        assert out(managers_lab, node, "ip -4 route show default dev eth0").startswith(gateway)
        assert f"nameserver {router(managers_lab)}" in out(managers_lab, node, "cat /etc/resolv.conf")


def test_what_is_no_longer_asked_for_is_taken_back(
    managers_lab: Lab, fleet: Fleet, before: dict[str, list[str]]
) -> None:
    """The former connections count again, also the one that NetworkManager makes up and keeps nowhere."""
    run = fleet.run("-y", "--json")
    assert run.returncode == 0, run.output
    assert run.changes == {f"Network | Set the addresses of {node}": [node] for node in NODES}
    assert {node: touched(managers_lab, node) for node in NODES} == before
    assert active(managers_lab) == FORMER


def test_a_node_moves_to_another_address_of_the_lan(each: Each) -> None:
    moved = {node: each.lab.fleet.host(node).address + "0" for node in NODES}
    runs = each.run({node: static(each.lab, address=address) for node, address in moved.items()})
    for node, run in runs.items():
        assert run.returncode == 0, run.output
        assert f'Next: set ssh_hostname = "{moved[node]}" for it in the inventory' in " ".join(run.output.split())
        assert addresses(each.lab, node) == [f"{moved[node]}/24"]
