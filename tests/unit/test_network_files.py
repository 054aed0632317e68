"""Files that give a node its addresses, for each of the three that Raspberry Pi OS and Debian have."""

from __future__ import annotations

from configparser import ConfigParser
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest
import yaml

from piclusterops.facts.network import PROBE, NetworkState, network_state
from piclusterops.facts.snapshot import PathState, Snapshot
from piclusterops.network_files import Manager, Network, Present, Tagged, connection_ids, files

SERVICES = Tagged("services", 10, IPv4Interface("10.0.1.121/24"))
ROUTER, OTHER_DNS = IPv4Address("192.168.0.1"), IPv4Address("1.1.1.1")
STATIC = Network("eth0", IPv4Interface("192.168.0.121/24"), ROUTER, (ROUTER, OTHER_DNS), (SERVICES,))
ONLY_VLANS = Network("eth0", vlans=(SERVICES,))
NOTHING = Present()
NETWORKD, KEYFILES = "/etc/systemd/network", "/etc/NetworkManager/system-connections"
MANAGERS: tuple[Manager, ...] = ("networkd", "NetworkManager", "netplan")


def contents(manager: Manager, network: Network, present: Present = NOTHING) -> dict[str, str]:
    return {path: content for path, (content, _) in files(manager, network, "pi-worker-1", present).items()}


def netplan(network: Network, present: Present = NOTHING) -> dict[str, Any]:
    """What is under the one key of netplan's file."""
    content: dict[str, Any] = yaml.safe_load(contents("netplan", network, present).popitem()[1])["network"]
    return content


def sections(content: str) -> dict[str, dict[str, str]]:
    parser = ConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(content)
    return {name: dict(parser[name]) for name in parser.sections()}


def test_networkd_gets_a_file_that_comes_before_all_others() -> None:
    found = contents("networkd", STATIC)
    lan = found[f"{NETWORKD}/05-piclusterops-lan.network"]
    assert "DNS=192.168.0.1\nDNS=1.1.1.1\nVLAN=eth0.10\n" in lan
    assert sections(lan)["Match"] == {"Name": "eth0"}
    assert sections(lan)["Network"]["Address"] == "192.168.0.121/24"
    assert sections(lan)["Network"]["Gateway"] == "192.168.0.1"
    vlan = sections(found[f"{NETWORKD}/05-piclusterops-vlan-services.netdev"])
    assert vlan == {"NetDev": {"Name": "eth0.10", "Kind": "vlan"}, "VLAN": {"Id": "10"}}
    assert sections(found[f"{NETWORKD}/05-piclusterops-vlan-services.network"])["Match"] == {"Name": "eth0.10"}


def test_networkds_own_file_of_the_interface_only_learns_of_the_vlans() -> None:
    found = contents("networkd", ONLY_VLANS, Present("/run/systemd/network/10-netplan-eth0.network"))
    assert sections(found[f"{NETWORKD}/10-netplan-eth0.network.d/90-piclusterops.conf"]) == {
        "Network": {"VLAN": "eth0.10"}
    }
    assert f"{NETWORKD}/05-piclusterops-lan.network" not in found


def test_networkmanager_gets_a_connection_each_that_wins_over_what_it_makes_up() -> None:
    found = contents("NetworkManager", STATIC)
    lan = sections(found[f"{KEYFILES}/piclusterops-lan.nmconnection"])
    assert lan["connection"]["autoconnect-priority"] == "100"
    assert lan["ipv4"] == {
        "method": "manual",
        "address1": "192.168.0.121/24,192.168.0.1",
        "dns": "192.168.0.1;1.1.1.1;",
    }
    vlan = sections(found[f"{KEYFILES}/piclusterops-vlan-services.nmconnection"])
    assert vlan["vlan"] == {"id": "10", "parent": "eth0", "flags": "1"}
    assert vlan["ipv4"]["never-default"] == "true"
    assert vlan["connection"]["uuid"] != lan["connection"]["uuid"]
    assert contents("NetworkManager", STATIC) == found, "the same identity at every run"
    assert connection_ids(STATIC) == ["piclusterops-lan", "piclusterops-vlan-services"]
    assert connection_ids(ONLY_VLANS) == ["piclusterops-vlan-services"]


def test_netplan_gets_one_file_that_is_read_last() -> None:
    ((path, content),) = contents("netplan", STATIC).items()
    assert path == "/etc/netplan/90-piclusterops.yaml"
    network = yaml.safe_load(content)["network"]
    assert network["ethernets"]["eth0"]["dhcp4"] is False
    assert network["ethernets"]["eth0"]["addresses"] == ["192.168.0.121/24"]
    assert network["ethernets"]["eth0"]["routes"] == [{"to": "default", "via": "192.168.0.1"}]
    assert network["vlans"] == {"eth0.10": {"id": 10, "link": "eth0", "addresses": ["10.0.1.121/24"]}}


def test_an_interface_that_netplan_has_already_is_only_named_for_its_vlans() -> None:
    """One with a static address would get another one by DHCP."""
    assert netplan(ONLY_VLANS, Present(in_netplan=True))["ethernets"] == {"eth0": {}}
    assert netplan(ONLY_VLANS)["ethernets"] == {"eth0": {"dhcp4": True}}


def test_netplan_leaves_an_interface_to_networkmanager_where_that_has_it() -> None:
    """Where no file says so, netplan would start systemd-networkd beside it."""
    found = netplan(STATIC, Present(by_networkmanager=True))
    assert found["ethernets"]["eth0"]["renderer"] == found["vlans"]["eth0.10"]["renderer"] == "NetworkManager"
    assert "renderer" not in found, "the other interfaces stay as they are"
    assert "renderer" not in netplan(STATIC)["ethernets"]["eth0"]


@pytest.mark.parametrize("manager", MANAGERS)
def test_connections_are_private_and_say_whose_they_are(manager: Manager) -> None:
    for content, mode in files(manager, STATIC, "pi-worker-1", NOTHING).values():
        assert content.startswith("# Managed by PiClusterOps")
        assert mode == ("644" if manager == "networkd" else "600")
    assert files(manager, Network("eth0"), "pi-worker-1", NOTHING) == {}


def test_the_name_of_a_vlan_fits_into_an_interface_name() -> None:
    assert STATIC.device(SERVICES) == "eth0.10"
    assert Network("enxdca632012345").device(Tagged("x", 4094, SERVICES.address)) == "vlan4094"
    assert STATIC.addresses == {"eth0": STATIC.address, "eth0.10": SERVICES.address}


# -- what is read ---------------------------------------------------------------------------------------------

LAN = IPv4Network("192.168.0.0/24")
MINE = IPv4Address("192.168.0.121")
ADDRESSES = (
    '[{},{"ifname":"lo","addr_info":[{"local":"127.0.0.1","prefixlen":8,"scope":"host"}]},'
    '{"ifname":"eth0","addr_info":[{"local":"192.168.0.57","prefixlen":24,"scope":"global"}]},'
    '{"ifname":"cni0","addr_info":[{"local":"10.42.0.1","prefixlen":24,"scope":"global"}]}]'
)
BOOKWORM = (
    "units active inactive active ",
    "has-networkd",
    f"addresses {ADDRESSES}",
    'routes [{"dst":"default","gateway":"192.168.0.1","dev":"eth0","protocol":"dhcp"}]',
    "device eth0:connected",
    "device cni0:unmanaged",
)


def state(*lines: str) -> NetworkState | None:
    return network_state(Snapshot(probes={PROBE[0]: list(lines)}))


def test_raspberry_pi_os_bookworm_has_networkmanager() -> None:
    found = state(*BOOKWORM)
    assert found is not None
    assert found.addresses["eth0"] == (IPv4Interface("192.168.0.57/24"),)
    assert found.gateways == (("eth0", "192.168.0.1"),)
    assert found.interface(LAN, MINE, None) == "eth0"
    assert found.manager("eth0") == "NetworkManager"


def test_raspberry_pi_os_trixie_has_netplan_over_it() -> None:
    found = state(*BOOKWORM, "netplan", "netplan-names eth0:")
    assert found is not None and found.manager("eth0") == "netplan"
    assert found.is_networkmanagers("eth0") and not found.is_networkmanagers("cni0")
    assert found.in_netplan == {"eth0"}


def test_debian_with_systemd_networkd_says_by_which_file() -> None:
    found = state(
        "units inactive active inactive ",
        f"addresses {ADDRESSES}",
        "routes []",
        'link "Name":"lo"',
        'link "Name":"eth0"',
        'link "NetworkFile":"/etc/systemd/network/20:lan.network"',
        'link "Name":"cni0"',
        f"file 644 root root {'0' * 64} /etc/systemd/network/05-piclusterops-lan.network",
    )
    assert found is not None
    assert found.manager("eth0") == "networkd"
    assert found.network_files == {"eth0": "/etc/systemd/network/20:lan.network"}
    assert found.files == {
        "/etc/systemd/network/05-piclusterops-lan.network": PathState("regular file", "644", "root", "root", "0" * 64)
    }


def test_debian_with_ifupdown_is_not_ours_to_change() -> None:
    lines = ("units inactive inactive active ", "has-networkd", f"addresses {ADDRESSES}", "routes []")
    found = state(*lines, "ifupdown iface eth0 inet dhcp")
    assert found is not None and found.manager("eth0") is None
    nobody = state(*lines)
    assert nobody is not None and nobody.manager("eth0") == "networkd"
    without = state(lines[0], *lines[2:])
    assert without is not None and without.manager("eth0") is None


def test_the_interface_of_the_lan_is_found_in_several_ways() -> None:
    two = NetworkState(
        addresses={
            "eth0": (IPv4Interface("192.168.0.57/24"),),
            "eth1": (IPv4Interface("192.168.0.58/24"), IPv4Interface("172.16.0.1/24")),
        },
        gateways=(("eth1", "192.168.0.1"), ("eth1", "192.168.0.2")),
    )
    assert two.interface(LAN, IPv4Address("192.168.0.57"), None) == "eth0", "it has the node's address"
    assert two.interface(LAN, MINE, IPv4Address("192.168.0.58")) == "eth1", "it is the one that we came by"
    assert two.interface(LAN, MINE, None) == "eth1", "it has the default route"
    assert two.interface(IPv4Network("172.16.0.0/24"), MINE, None) == "eth1", "it alone is in the LAN"
    assert NetworkState(addresses=two.addresses).interface(LAN, MINE, None) is None


@pytest.mark.parametrize(
    "lines", [(), ("units active",), ("units active inactive inactive ", "addresses {", "routes []")]
)
def test_what_is_not_understood_is_unknown(lines: tuple[str, ...]) -> None:
    assert state(*lines) is None
