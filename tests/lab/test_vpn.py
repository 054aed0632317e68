"""The VPN: a device that comes in by WireGuard reaches what the firewall says, and nobody else does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import REPOSITORY, Run, out, pyinfra, until

from piclusterops.lab.fleet import Lab
from piclusterops.lab.state import address

pytestmark = pytest.mark.lab

MASTER, WORKER = NODES = ("pi-master", "pi-worker-1")
DEPLOY = """
from pyinfra import inventory

from piclusterops.deploys.base import base
from piclusterops.deploys.firewall import firewall
from piclusterops.deploys.stop import stop_at_first_failure
from piclusterops.deploys.wireguard import wireguard
from piclusterops.validation import cluster_from_inventory

stop_at_first_failure()
cluster = cluster_from_inventory(inventory)
base(cluster=cluster)
firewall(cluster=cluster)
wireguard(cluster=cluster)
"""
KEY = "/etc/wireguard/wg0.key"
#: All that the VPN has on a host, apart from what its traffic changes.
STATE = (
    "for f in /etc/wireguard/* /etc/systemd/system/wg-quick@wg0.service.d/* /etc/systemd/system/piclusterops-vpn*; do "
    'stat -c "%n %a %U" "$f"; sha256sum <"$f"; done 2>/dev/null; cat /var/lib/piclusterops/stamps/wireguard '
    "/var/lib/piclusterops/stamps/vpn-route 2>/dev/null; systemctl is-active wg-quick@wg0 piclusterops-vpn-route; "
    "systemctl show -p ActiveEnterTimestampMonotonic wg-quick@wg0 piclusterops-vpn-route; "
    "wg show wg0 allowed-ips 2>/dev/null; ip -4 route show; :"
)


class Home:
    """The lab as a home network, its inventory in a folder of its own, and devices that are away from home."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.inventory = folder / "inventories" / "lab.py"
        shutil.copytree(REPOSITORY / "inventories", self.inventory.parent)
        self._group = (self.inventory.parent / "group_data" / "lab.py").read_text()
        self.deploy = folder / "vpn.py"
        self.deploy.write_text(DEPLOY)
        self.block = lab.fleet.block

    def settle(self, on: bool = True, **more: Any) -> None:
        """Write what the inventory says of the VPN; the node is found at its address in the network beside the LAN."""
        network = f"10.{self.block}.9.0/24"
        settings = {
            "vpn_cidr": network,
            "vpn_endpoint": address(self.block, "vpn", self.lab.fleet.host(MASTER).octet),
            "platform_releases": {"wireguard": {"enabled": on}},
            "firewall": {
                "controllers": [f"10.{self.block}.0.1"],
                "zones": {"vpn": {"interfaces": "wg0", "sources": [network]}},
            },
            **more,
        }
        lines = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
        (self.inventory.parent / "group_data" / "lab.py").write_text(f"{self._group}\n{lines}")

    def run(self, *args: str) -> Run:
        done = pyinfra(
            "-y", *(args or ("--json",)), lab=self.lab.name, inventory=str(self.inventory), deploy=str(self.deploy)
        )
        assert done.returncode == 0, done.output
        return done

    def picluster(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "piclusterops.cli", *words, "--env", str(self.inventory)],
            cwd=REPOSITORY,
            env={**os.environ, "PICLUSTEROPS_LAB": self.lab.name, "COLUMNS": "200"},
            text=True,
            capture_output=True,
            timeout=120,
        )

    def vpn(self, host: str) -> str:
        """The address of a device in the VPN."""
        return f"10.{self.block}.9.{ {'operator': 2, 'phone': 3, 'stranger': 66}[host] }"

    def peer(self, name: str, key: str) -> dict[str, object]:
        return {"name": name, "public_key": key, "address": self.vpn(name), "keepalive_s": 1}

    def state(self) -> dict[str, str]:
        return {node: out(self.lab, node, STATE) for node in NODES}

    def login(self, host: str, node: str) -> str:
        """Where a node sees a login come from that a device makes to its address in the LAN; empty without one."""
        command = (
            "ssh -F none -i /root/key -o BatchMode=yes -o ConnectTimeout=4 -o StrictHostKeyChecking=no "
            f"-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR pi@{self.lab.fleet.host(node).address} "
            "'echo $(uname -n) $SSH_CONNECTION'"
        )
        return self.lab.exec(host, ["sh", "-c", command]).stdout.strip()

    def reaches_all(self, host: str) -> bool:
        seen = [self.login(host, node).split()[:2] for node in NODES]
        return seen == [[node, self.vpn(host)] for node in NODES]


def device(lab: Lab, host: str) -> str:
    """Make a client of the lab a device for the VPN; returns its public key."""
    install = "apt-get -q update && apt-get -q -y install --no-install-recommends wireguard-tools"
    out(lab, host, f"{install}; umask 077; wg genkey >/root/{host}.key")
    key = Path(lab.fleet.ssh_key).read_text()
    assert lab.exec(host, ["sh", "-c", "umask 077; cat >/root/key"], input=key).returncode == 0
    return out(lab, host, f"wg pubkey </root/{host}.key")


def connect(lab: Lab, host: str, config: str) -> None:
    """What a person does with a client's configuration."""
    done = lab.exec(host, ["sh", "-c", "umask 077; cat >/etc/wireguard/wg0.conf"], input=config)
    assert done.returncode == 0, done
    out(lab, host, f'sed -i "s|<the content of .*>|$(cat /root/{host}.key)|" /etc/wireguard/wg0.conf')
    out(lab, host, "wg-quick up wg0 2>&1")


@pytest.fixture(scope="module")
def home(pair: Lab, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two nodes with their firewall and no VPN yet."""
    home = Home(pair, tmp_path_factory.mktemp("vpn"))
    home.settle(on=False)
    home.run()
    return home


@pytest.fixture(scope="module")
def key(home: Home) -> str:
    """The public key of the operator, who is away from home: out of the LAN."""
    key = device(home.lab, "operator")
    out(home.lab, "operator", "ip link set eth0 down")
    return key


@pytest.fixture(scope="module")
def connected(home: Home, key: str) -> Iterator[Run]:
    """The run that set the VPN up; the operator has come in."""
    home.settle(vpn_peers=[home.peer("operator", key)])
    run = home.run("-vvv", "--debug")
    client = home.picluster("vpn", "client", "operator")
    assert client.returncode == 0, client.stderr
    connect(home.lab, "operator", client.stdout)
    yield run


def test_off_it_costs_and_changes_nothing(home: Home) -> None:
    again = home.run()
    assert again.changes == {}
    assert "wireguard-tools" not in out(home.lab, MASTER, "dpkg-query -W; ls /var/lib/piclusterops/stamps")


def test_a_device_reaches_all_nodes_by_the_vpn_and_is_known_as_one_of_it(home: Home, connected: Run) -> None:
    until(lambda: home.reaches_all("operator"), 30)


def test_the_key_of_the_node_is_nowhere_but_there(home: Home, connected: Run) -> None:
    key = out(home.lab, MASTER, f"stat -c '%a %U %G' {KEY}; cat {KEY}").splitlines()
    assert key[0] == "600 root root" and len(key[1]) == 44
    assert key[1] not in connected.output
    assert key[1] not in out(home.lab, MASTER, "journalctl -b --no-pager; cat /proc/*/cmdline | tr '\\0' ' '; exit 0")
    assert out(home.lab, MASTER, f"grep -rlF -f {KEY} /etc /var/lib /var/log /home /root /tmp || :") == KEY
    assert out(home.lab, MASTER, "stat -c '%a %U' /etc/wireguard/wg0.conf") == "600 root"


def test_a_second_run_changes_nothing_and_costs_no_more_than_without(home: Home, connected: Run) -> None:
    before = home.state()
    again = home.run()
    assert again.changes == {} and home.state() == before
    assert set(again.executions.values()) == {1}, again.trips


def test_a_stranger_gets_no_answer(home: Home, connected: Run) -> None:
    device(home.lab, "stranger")
    node = address(home.block, "public", home.lab.fleet.host(MASTER).octet)
    client = home.picluster("vpn", "client", "operator").stdout
    config = client.replace(home.vpn("operator"), home.vpn("stranger"))
    connect(home.lab, "stranger", re.sub(r"Endpoint = .*", f"Endpoint = {node}:51900", config))
    assert not home.lab.exec("stranger", ["ping", "-c", "3", "-W", "1", f"10.{home.block}.9.1"]).stdout.count("ttl=")
    assert [home.login("stranger", name) for name in NODES] == ["", ""]
    assert out(home.lab, "stranger", "wg show wg0 latest-handshakes").split()[-1] == "0"
    assert home.lab.exec("stranger", ["nc", "-z", "-w", "2", node, "22"]).returncode == 1


def test_its_port_is_open_where_it_ends_and_nowhere_else(home: Home, connected: Run) -> None:
    listing = "nft list table inet piclusterops"
    assert "udp dport 51900 accept" in out(home.lab, MASTER, listing)
    assert "51900" not in out(home.lab, WORKER, listing)


def test_status_says_who_is_in(home: Home, connected: Run) -> None:
    until(lambda: home.reaches_all("operator"), 30)
    done = home.picluster("vpn", "status", "--json")
    assert done.returncode == 0, done.stderr
    (peer,) = json.loads(done.stdout)["peers"]
    assert (peer["name"], peer["address"], peer["fault"]) == ("operator", home.vpn("operator"), "")
    assert 0 <= peer["handshake_s"] < 200 and peer["received"] > 0
    assert peer["endpoint"].startswith(address(home.block, "vpn", 5))
    table = home.picluster("vpn", "status").stdout
    assert re.search(r"operator .* ago ", table), table


def test_one_more_peer_comes_without_a_break_for_the_first(home: Home, key: str, connected: Run) -> None:
    phone = out(home.lab, "operator", "wg genkey | wg pubkey")
    before = home.state()[MASTER]
    home.settle(vpn_peers=[home.peer("operator", key), home.peer("phone", phone)])
    assert home.picluster("vpn", "status").returncode == 1
    worker = home.lab.fleet.host(WORKER).address
    out(home.lab, "operator", f"nohup ping -i 0.2 -w 60 {worker} >/root/ping 2>&1 & echo $! >/root/ping.pid")
    time.sleep(1)
    run = home.run()
    time.sleep(1)
    out(home.lab, "operator", "kill -INT $(cat /root/ping.pid); sleep 0.5")
    pings = out(home.lab, "operator", "cat /root/ping")
    assert " 0% packet loss" in pings and int(re.findall(r"(\d+) received", pings)[0]) > 5, pings
    assert run.changes == {"WireGuard | End the VPN on its node": [MASTER]}
    after = home.state()[MASTER]
    assert phone in after
    started = re.compile(r"ActiveEnterTimestampMonotonic=\d+")
    assert started.findall(before) == started.findall(after), "it was restarted"


def test_a_reload_by_hand_keeps_the_key(home: Home, connected: Run) -> None:
    own = out(home.lab, MASTER, f"wg pubkey <{KEY}")
    out(home.lab, MASTER, "systemctl reload wg-quick@wg0")
    assert out(home.lab, MASTER, "wg show wg0 public-key") == own
    assert home.reaches_all("operator")


def test_what_was_changed_by_hand_is_mended(home: Home, key: str, connected: Run) -> None:
    out(home.lab, MASTER, f"wg set wg0 peer {key} remove")
    assert home.run().changes == {"WireGuard | End the VPN on its node": [MASTER]}
    until(lambda: home.reaches_all("operator"), 30)
    out(home.lab, WORKER, f"systemctl stop piclusterops-vpn-route; ip route del 10.{home.block}.9.0/24 || :")
    assert home.run().changes == {"WireGuard | Keep the way back to the VPN": [WORKER]}
    until(lambda: home.reaches_all("operator"), 30)


def test_a_route_that_is_taken_away_comes_back_by_itself(home: Home, connected: Run) -> None:
    out(home.lab, WORKER, f"ip route del 10.{home.block}.9.0/24")
    until(lambda: f"10.{home.block}.9.0/24" in out(home.lab, WORKER, "ip route"), 30)


def test_it_is_there_again_after_a_reboot(home: Home, connected: Run) -> None:
    def boots() -> dict[str, str]:
        return {node: home.lab.exec(node, ["cat", "/proc/sys/kernel/random/boot_id"]).stdout for node in NODES}

    before = boots()
    for node in NODES:
        home.lab.exec(node, ["systemctl", "reboot"])
    until(lambda: all(boot not in ("", before[node]) for node, boot in boots().items()))
    home.lab.wait_ssh(NODES)
    until(lambda: home.reaches_all("operator"), 60)
    assert home.run().changes == {}


def test_another_port_is_a_restart(home: Home, key: str, connected: Run) -> None:
    home.settle(vpn_peers=[home.peer("operator", key)], vpn_port=51999)
    assert set(home.run().changes) >= {"WireGuard | End the VPN on its node"}
    assert out(home.lab, MASTER, "wg show wg0 listen-port") == "51999"
    client = home.picluster("vpn", "client", "operator").stdout
    out(home.lab, "operator", "wg-quick down wg0 2>&1")
    connect(home.lab, "operator", client)
    until(lambda: home.reaches_all("operator"), 30)
    assert home.run().changes == {}


def test_a_file_of_somebody_else_is_left_alone(home: Home, connected: Run) -> None:
    home.settle(firewall={"vpn_interface": "wg7", "controllers": [f"10.{home.block}.0.1"]})
    out(home.lab, MASTER, "echo '# mine' >/etc/wireguard/wg7.conf")
    done = pyinfra("-y", lab=home.lab.name, inventory=str(home.inventory), deploy=str(home.deploy))
    assert done.returncode == 1
    assert "/etc/wireguard/wg7.conf is a file of your own" in done.output
    assert out(home.lab, MASTER, "cat /etc/wireguard/wg7.conf; rm /etc/wireguard/wg7.conf") == "# mine"


def test_turned_off_it_leaves_the_key_and_nothing_else(home: Home, connected: Run) -> None:
    home.settle(on=False)
    home.run()
    assert home.run().changes == {}
    assert out(home.lab, MASTER, "ls /etc/wireguard") == "wg0.key"
    for node in NODES:
        left = "ip -4 route; ls /etc/systemd/system; wg show interfaces 2>/dev/null; ls /var/lib/piclusterops/stamps; :"
        assert not re.search(r"\.9\.0/24|wg-quick|vpn|wg0|wireguard", out(home.lab, node, left))
    off = home.picluster("vpn", "status")
    assert off.returncode == 1 and "is off" in off.stderr
