"""The shell that changes addresses and puts them back, run for real under dash with the host's commands replaced."""

from __future__ import annotations

import socket
import subprocess
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import pytest
from hostshell import Host, commands
from pyinfra.api import FunctionCommand

from piclusterops.facts.network import PROBE, network_state
from piclusterops.facts.snapshot import Query, Snapshot, parse, script
from piclusterops.network_files import Manager, Network, Tagged
from piclusterops.operations import network as operations
from piclusterops.operations.armed import ArmedChange
from piclusterops.settings import Cluster
from piclusterops.validation import HostData, cluster_from_hosts

OLD, NEW = "192.168.0.57/24", "192.168.0.121/24"
ROUTER = IPv4Address("192.168.0.1")
STATIC = Network("eth0", IPv4Interface(NEW), ROUTER, (ROUTER,))
WITH_VLAN = Network("eth0", vlans=(Tagged("services", 10, IPv4Interface("10.0.1.121/24")),))

# A host's addresses are the lines of a file: "DEVICE ADDRESS".
IP = """
state=ROOT/addresses
case "$*" in
    *"addr show dev"*) device=$(echo "$*" | sed 's/.*dev \\([^ ]*\\).*/\\1/')
        sed -n "s/^$device /1: $device inet /p" $state | sed 's/$/ brd x/' ;;
    "addr add"*) echo "$7 $3" >>$state ;;
    "addr del"*) grep -vx "$5 $3" $state >$state.new; mv $state.new $state ;;
    "-br link") cut -d' ' -f1 $state | sort -u | sed 's/$/@if7 UP/' ;;
    "-4 route show default"*) cat ROOT/routes 2>/dev/null ;;
    "link delete"*) grep -v "^$3 " $state >$state.new; mv $state.new $state ;;
esac
exit 0
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with an address from DHCP, and a folder for what is noted."""
    host = Host(tmp_path / "root")
    host.fake("ip", IP.replace("ROOT", str(host.root)))
    host.fake("sleep", "exit 0")
    for command in ("systemctl", "networkctl", "nmcli", "netplan", "ping"):
        host.fake(command, "exit 0")
    (host.root / "staged").mkdir()
    (host.root / "addresses").write_text(f"lo 127.0.0.1/8\neth0 {OLD}\n")
    (host.root / "routes").write_text("default via 192.168.0.1 proto dhcp src 192.168.0.57 metric 100 \n")
    return host


def part(host: Host, shell: str, boot: str = "no") -> subprocess.CompletedProcess[str]:
    """Run a part of an armed change as the host would."""
    return host.run(f"set -eu; staged={host.root}/staged new={host.root}/new boot={boot}\n{shell}")


def gives(host: Host, command: str, *lines: str) -> None:
    """Replace a command by one that leaves the host with these addresses."""
    text = "".join(f"{line}\n" for line in ("lo 127.0.0.1/8", *lines))
    host.fake(command, f'case "$*" in *reload*|*show*) exit 0;; esac; printf %s "{text}" >{host.root}/addresses')


def addresses(host: Host) -> list[str]:
    return sorted((host.root / "addresses").read_text().splitlines())


MANAGERS: list[tuple[Manager, str]] = [("networkd", "networkctl"), ("NetworkManager", "nmcli"), ("netplan", "netplan")]


@pytest.mark.parametrize(("manager", "command"), MANAGERS)
def test_a_new_address_comes_and_the_former_state_is_noted(host: Host, manager: Manager, command: str) -> None:
    gives(host, command, f"eth0 {NEW}")
    done = part(host, operations.apply(manager, STATIC, []))
    assert done.returncode == 0, done
    assert addresses(host) == [f"eth0 {NEW}", "lo 127.0.0.1/8"]
    assert (host.root / "staged/addresses").read_text() == f"{OLD}\n"


@pytest.mark.parametrize(("manager", "command"), MANAGERS)
def test_an_address_that_does_not_come_fails(host: Host, manager: Manager, command: str) -> None:
    done = part(host, operations.apply(manager, STATIC, []))
    assert done.returncode != 0
    assert f"eth0 does not get {NEW}" in done.stdout


@pytest.mark.parametrize(("manager", "command"), MANAGERS)
def test_a_manager_that_brings_the_former_address_back_is_left_to_it(
    host: Host, manager: Manager, command: str
) -> None:
    gives(host, command, f"eth0 {NEW}")
    part(host, operations.apply(manager, STATIC, []))
    gives(host, command, f"eth0 {OLD}")
    assert part(host, operations.rollback(manager, STATIC, [])).returncode == 0
    assert addresses(host) == [f"eth0 {OLD}", "lo 127.0.0.1/8"]
    assert not [call for call in host.calls if call.startswith(("ip addr add", "ip route replace"))]


@pytest.mark.parametrize(("manager", "command"), MANAGERS)
@pytest.mark.parametrize("status", [0, 1])
def test_what_the_manager_does_not_bring_back_is_set_by_hand(
    host: Host, manager: Manager, command: str, status: int
) -> None:
    gives(host, command, f"eth0 {NEW}")
    part(host, operations.apply(manager, STATIC, []))
    host.fake(command, f"exit {status}")
    (host.root / "routes").write_text("")
    assert part(host, operations.rollback(manager, STATIC, [])).returncode == 0
    assert addresses(host) == [f"eth0 {OLD}", "lo 127.0.0.1/8"]
    assert any(call.startswith("ip route replace default via 192.168.0.1 proto dhcp") for call in host.calls)
    assert part(host, operations.rollback(manager, STATIC, [])).returncode == 0, "it may run twice"
    assert addresses(host) == [f"eth0 {OLD}", "lo 127.0.0.1/8"]


def test_a_vlan_that_was_made_is_deleted_and_one_that_was_there_stays(host: Host) -> None:
    gives(host, "networkctl", f"eth0 {OLD}", "eth0.10 10.0.1.121/24")
    assert part(host, operations.apply("networkd", WITH_VLAN, [])).returncode == 0
    host.fake("networkctl", "exit 0")
    assert part(host, operations.rollback("networkd", WITH_VLAN, [])).returncode == 0
    assert addresses(host) == [f"eth0 {OLD}", "lo 127.0.0.1/8"]

    gives(host, "networkctl", f"eth0 {OLD}", "eth0.10 10.0.1.121/24")
    part(host, operations.apply("networkd", WITH_VLAN, []))
    part(host, operations.apply("networkd", WITH_VLAN, []))
    part(host, operations.rollback("networkd", WITH_VLAN, []))
    assert "eth0.10 10.0.1.121/24" in addresses(host)


def test_files_of_former_runs_go_and_come_back(host: Host) -> None:
    stale = ["/etc/systemd/network/20-lan.network.d/90-piclusterops.conf", "/etc/systemd/network/05-x.netdev"]
    written = [host.write(path, path) for path in stale]
    network = Network("eth0")
    assert part(host, operations.apply("networkd", network, stale)).returncode == 0
    assert not any(path.exists() for path in written)
    assert not written[0].parent.exists()
    assert part(host, operations.rollback("networkd", network, stale), "yes").returncode == 0
    assert [path.read_text() for path in written] == stale


def test_a_vlan_that_is_no_longer_asked_for_goes_at_once_and_its_file_comes_back(host: Host) -> None:
    stale = [f"/etc/systemd/network/05-piclusterops-vlan-services.{kind}" for kind in ("netdev", "network")]
    host.write(stale[0], "[NetDev]\nName=eth0.10\nKind=vlan\n")
    host.write(stale[1], "[Match]\nName=eth0.10\n")
    (host.root / "addresses").write_text(f"eth0 {NEW}\neth0.10 10.0.1.121/24\n")
    done = part(host, operations.apply("networkd", STATIC, stale))
    assert done.returncode == 0, done
    assert addresses(host) == [f"eth0 {NEW}"]
    assert host.calls.index("ip link delete eth0.10") > host.calls.index("networkctl reconfigure eth0")
    # systemd-networkd makes it anew from its file
    assert part(host, operations.rollback("networkd", STATIC, stale)).returncode == 0
    assert all(host.path(path).is_file() for path in stale)


@pytest.mark.parametrize(("manager", "command"), MANAGERS)
def test_at_the_next_boot_only_files_are_put_back(host: Host, manager: Manager, command: str) -> None:
    part(host, operations.apply(manager, STATIC, []))
    before = len(host.calls)
    assert part(host, operations.rollback(manager, STATIC, []), boot="yes").returncode == 0
    assert host.calls[before:] == (["netplan generate"] if manager == "netplan" else [])


def test_where_no_profile_is_left_networkmanager_makes_up_its_own_before_nmcli_would(host: Host) -> None:
    """What nmcli makes up stays for good, as a file that nobody asked for."""
    profiles = f'case "$*" in *AVAILABLE*) cat {host.root}/profiles 2>/dev/null ;; esac; exit 0'
    host.fake("nmcli", profiles)
    host.fake("systemctl", f'case $1 in restart) echo "1 | Wired connection 1" >{host.root}/profiles ;; esac')
    path = "/etc/NetworkManager/system-connections/piclusterops-lan.nmconnection"
    host.write(path, "")
    assert part(host, operations.apply("NetworkManager", Network("eth0"), [path])).returncode == 0
    restarted = host.calls.index("systemctl restart NetworkManager.service")
    assert host.calls.index("nmcli connection reload") < restarted
    assert host.calls.index("nmcli --wait 8 device connect eth0") > restarted

    host.write(path, "")
    assert part(host, operations.apply("NetworkManager", Network("eth0"), [path])).returncode == 0
    assert host.calls.count("systemctl restart NetworkManager.service") == 1, "there was a profile"


def test_a_manager_that_netplan_stopped_and_did_not_start_again_is_started(host: Host) -> None:
    running = host.root / "running"
    running.write_text("NetworkManager.service\n")
    host.fake(
        "systemctl", f'case $1 in -q) grep -qx "$3" {running} ;; start) echo "$2" >>{running} ;; *) exit 0 ;; esac'
    )
    host.fake("netplan", f"echo >{running}; exit 1")
    part(host, operations.apply("netplan", STATIC, []))
    assert running.read_text() == "\n"
    assert part(host, operations.rollback("netplan", STATIC, [])).returncode == 0
    assert "NetworkManager.service" in running.read_text().splitlines()
    assert "systemctl start systemd-networkd.service" not in host.calls, "it did not run before"


def test_a_change_that_never_began_is_not_undone(host: Host) -> None:
    assert part(host, operations.rollback("networkd", STATIC, [])).returncode == 0
    assert host.calls == []


# -- what is decided ------------------------------------------------------------------------------------------


def cluster(**settings: Any) -> Cluster:
    data = {"ssh_hostname": "192.168.0.121", "lan_cidr": "192.168.0.0/24", "platform_profile": "none", **settings}
    return cluster_from_hosts([HostData("pi-master", ("master",), data)])


def asked(**settings: Any) -> Cluster:
    return cluster(static_address=True, gateway="192.168.0.1", dns=["192.168.0.1"], **settings)


def snapshot(*lines: str, address: str = OLD, **probes: list[str]) -> Snapshot:
    local, _, prefix = address.partition("/")
    found = f'[{{"ifname":"eth0","addr_info":[{{"local":"{local}","prefixlen":{prefix},"scope":"global"}}]}}]'
    network = [f"addresses {found}", "routes []", *(lines or ("units inactive active inactive ",))]
    return Snapshot(probes={PROBE[0]: network, **probes})


def decided(found: Snapshot, members: Cluster, node: str = "pi-master") -> list[Any]:
    return commands(operations.addresses, found, node=node, cluster=members)


def change(found: Snapshot, members: Cluster) -> ArmedChange:
    command = decided(found, members)[0]
    assert isinstance(command, FunctionCommand)
    (change,) = command.args
    assert isinstance(change, ArmedChange)
    return change


def test_nothing_is_done_where_nothing_is_asked_or_another_node_is_meant() -> None:
    assert decided(snapshot(), cluster()) == []
    assert decided(snapshot(), asked(), node="pi-worker-1") == []


def test_a_host_that_could_not_be_read_is_left_alone() -> None:
    assert decided(Snapshot(), cluster())[0].function.__name__ == "fail"


@pytest.mark.parametrize(
    ("lines", "settings"),
    [
        (("units inactive inactive active ", "has-networkd", "ifupdown iface eth0 inet dhcp"), {}),
        (("units inactive inactive inactive ",), {}),
        (("units inactive active inactive ",), {"interface": "eth7"}),
    ],
)
def test_a_host_whose_addresses_others_set_is_refused(lines: tuple[str, ...], settings: dict[str, Any]) -> None:
    (command,) = decided(snapshot(*lines), asked(**settings))
    assert command.function.__name__ == "fail"


def test_vlans_need_a_file_of_networkd_that_is_not_ours() -> None:
    vlans = cluster(vlans={"services": {"id": 10, "address": "10.0.1.121/24"}})
    (command,) = decided(snapshot(), vlans)
    assert command.function.__name__ == "fail"
    lines = (
        "units inactive active inactive ",
        'link "Name":"eth0"',
        'link "NetworkFile":"/etc/systemd/network/x.network"',
    )
    assert "/etc/systemd/network/x.network.d/90-piclusterops.conf" in change(snapshot(*lines), vlans).files


@pytest.mark.parametrize(
    ("reached_at", "path"),
    [("192.168.0.57", ("192.168.0.121", 22)), ("10.8.0.3", None), (None, None)],
    ids=["by the address that goes", "another way", "by a name that only ssh knows"],
)
def test_the_new_address_must_answer_when_the_one_that_we_came_by_goes(
    monkeypatch: pytest.MonkeyPatch, reached_at: str | None, path: tuple[str, int] | None
) -> None:
    def resolve(name: str) -> str:
        if reached_at is None:
            raise OSError(f"{name}: unknown")
        return reached_at

    monkeypatch.setattr(socket, "gethostbyname", resolve)
    moving = change(snapshot(), asked())
    assert moving.paths == (path,)
    assert len(decided(snapshot(), asked())) == (2 if path else 1), "the run goes on at the new address"
    assert "another machine has 192.168.0.121" in moving.check
    staying = change(snapshot(address=NEW), asked())
    assert (staying.paths, staying.check) == ((None,), "")


def test_an_unconfirmed_change_is_made_again_however_right_it_looks(host: Host) -> None:
    files = change(snapshot(address=NEW), asked()).files
    for path, file in files.items():
        host.write(path, file.content)
    ((path, file),) = files.items()
    line = f"file {file.mode} root root {file.state.sha256} {path}"
    lines = ("units inactive active inactive ", line)
    assert decided(snapshot(*lines, address=NEW), asked()) == []
    assert change(snapshot(*lines, address=NEW, armed=["network"]), asked()).name == "network"


def test_what_is_no_longer_asked_for_is_taken_back() -> None:
    path = "/etc/systemd/network/05-piclusterops-lan.network"
    lines = ("units inactive active inactive ", f"file 644 root root {'0' * 64} {path}")
    found = change(snapshot(*lines), cluster())
    assert found.files == {}
    assert f"mv -f {path}" in found.apply
    assert found.paths == (None,)


def test_the_check_refuses_an_address_that_answers(host: Host) -> None:
    moving = change(snapshot(), asked())
    done = part(host, moving.check)
    assert (done.returncode, done.stdout) == (1, "another machine has 192.168.0.121\n")
    host.fake("ping", "exit 1")
    assert part(host, moving.check).returncode == 0


def test_the_probe_is_answered_by_any_host(host: Host) -> None:
    host.fake("systemctl", 'case $1 in is-active) printf "inactive\\ninactive\\ninactive\\n";; *) exit 3;; esac')
    host.fake("ip", "echo '[]'")
    done = host.run(script(Query(probes=(PROBE,))))
    assert (done.returncode, done.stderr) == (0, "")
    assert network_state(parse(done.stdout.splitlines())) is not None


def test_of_netplans_files_the_probe_reads_only_which_interfaces_they_name(host: Host) -> None:
    host.fake("systemctl", 'case $1 in is-active) printf "active\\ninactive\\ninactive\\n";; *) exit 3;; esac')
    host.fake("ip", "echo '[]'")
    for name in ("eth0", "eth1", "wlan0"):
        (host.root / "sys/class/net" / name).mkdir(parents=True)
    host.write("/etc/netplan/50-cloud-init.yaml", 'network:\n  ethernets:\n    "eth0": {dhcp4: true}\n    veth1: {}\n')
    host.write("/etc/netplan/90-NM-1.yaml", "  wifis:\n    wlan0:\n      auth:\n        psk: secret\n")
    host.write("/etc/netplan/90-piclusterops.yaml", "    eth1:\n")
    done = host.run(script(Query(probes=(PROBE,))))
    assert (done.returncode, done.stderr) == (0, "")
    assert "secret" not in done.stdout
    found = network_state(parse(done.stdout.splitlines()))
    assert found is not None and found.netplan
    assert found.in_netplan == {"eth0", "wlan0"}
