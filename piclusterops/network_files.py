"""Files that give a node its addresses: for systemd-networkd, for NetworkManager, and for netplan."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import PurePosixPath
from typing import Literal

import yaml

Manager = Literal["networkd", "NetworkManager", "netplan"]

NETPLAN_FILE = "/etc/netplan/90-piclusterops.yaml"
#: All that this module writes, for a shell to list what an earlier run has left.
OWN_FILES = (
    "/etc/systemd/network/05-piclusterops-*",
    "/etc/systemd/network/*.network.d/90-piclusterops.conf",
    "/etc/NetworkManager/system-connections/piclusterops-*.nmconnection",
    NETPLAN_FILE,
)
_HEADER = "# Managed by PiClusterOps: changes are overwritten.\n"
#: Longest name of a Linux interface (IFNAMSIZ less its end).
_NAME_LENGTH = 15


@dataclass(frozen=True)
class Tagged:
    """A VLAN on the interface of the LAN."""

    name: str
    id: int
    address: IPv4Interface


@dataclass(frozen=True)
class Network:
    """How a node should be addressed.

    Attributes:
        interface: the one that is in the LAN.
        address: to be set there; None where DHCP or somebody else does that.
        gateway: router of the LAN, with `address`.
        dns: name servers, with `address`.
        vlans: VLANs tagged on the interface.
    """

    interface: str
    address: IPv4Interface | None = None
    gateway: IPv4Address | None = None
    dns: tuple[IPv4Address, ...] = ()
    vlans: tuple[Tagged, ...] = ()

    def device(self, vlan: Tagged) -> str:
        """Name of the interface of a VLAN."""
        name = f"{self.interface}.{vlan.id}"
        return name if len(name) <= _NAME_LENGTH else f"vlan{vlan.id}"

    @property
    def addresses(self) -> dict[str, IPv4Interface]:
        """The addresses that the node should have, by interface."""
        own = {self.interface: self.address} if self.address else {}
        return own | {self.device(vlan): vlan.address for vlan in self.vlans}


@dataclass(frozen=True)
class Present:
    """What a manager has of the interface already, from others than us.

    Attributes:
        network_file: the file by which systemd-networkd configures it.
        in_netplan: whether netplan has it.
        by_networkmanager: whether NetworkManager sets its addresses, for netplan or not.
    """

    network_file: str | None = None
    in_netplan: bool = False
    by_networkmanager: bool = False


def files(manager: Manager, network: Network, node: str, present: Present) -> dict[str, tuple[str, str]]:
    """The files for a manager: path to content and octal mode.

    Args:
        manager: who sets addresses on the node.
        network: what they should be.
        node: name of the node.
        present: how the interface is configured already.
    """
    if not network.address and not network.vlans:
        return {}
    if manager == "netplan":
        return {NETPLAN_FILE: (_netplan(network, present), "600")}
    if manager == "NetworkManager":
        return {
            f"/etc/NetworkManager/system-connections/{name}.nmconnection": (content, "600")
            for name, content in _keyfiles(network, node).items()
        }
    return {
        f"/etc/systemd/network/{name}": (text, "644") for name, text in _networkd(network, present.network_file).items()
    }


def _ini(sections: Mapping[str, Iterable[tuple[str, object]]]) -> str:
    blocks = [
        "".join([f"[{title}]\n", *(f"{key}={value}\n" for key, value in rows)]) for title, rows in sections.items()
    ]
    return _HEADER + "\n".join(blocks)


def _networkd(network: Network, network_file: str | None) -> dict[str, str]:
    vlans: list[tuple[str, object]] = [("VLAN", network.device(vlan)) for vlan in network.vlans]
    found = {}
    if network.address:
        rows: list[tuple[str, object]] = [("Address", network.address), ("Gateway", network.gateway)]
        rows += [("DNS", address) for address in network.dns]
        found["05-piclusterops-lan.network"] = _ini({"Match": [("Name", network.interface)], "Network": rows + vlans})
    elif vlans and network_file:
        # The interface is configured by somebody's file, which stays: it only learns of the VLANs.
        found[f"{PurePosixPath(network_file).name}.d/90-piclusterops.conf"] = _ini({"Network": vlans})
    for vlan in network.vlans:
        device, stem = network.device(vlan), f"05-piclusterops-vlan-{vlan.name}"
        found[f"{stem}.netdev"] = _ini({"NetDev": [("Name", device), ("Kind", "vlan")], "VLAN": [("Id", vlan.id)]})
        found[f"{stem}.network"] = _ini(
            {
                "Match": [("Name", device)],
                # Without it, the boot would wait for a VLAN that the switch does not carry.
                "Link": [("RequiredForOnline", "no")],
                "Network": [("Address", vlan.address), ("IPv6AcceptRA", "no")],
            }
        )
    return found


def connection_ids(network: Network) -> list[str]:
    """Names of the NetworkManager connections, the LAN's first."""
    lan = ["piclusterops-lan"] if network.address else []
    return [*lan, *(f"piclusterops-vlan-{vlan.name}" for vlan in network.vlans)]


def _keyfiles(network: Network, node: str) -> dict[str, str]:
    found = {}
    if network.address:
        found["piclusterops-lan"] = _ini(
            {
                # Wins over the profile that NetworkManager makes up for a wired interface, and over an image's.
                "connection": [
                    *_identity("piclusterops-lan", node, "ethernet", network.interface),
                    ("autoconnect-priority", 100),
                ],
                "ipv4": [
                    ("method", "manual"),
                    ("address1", f"{network.address},{network.gateway}"),
                    ("dns", "".join(f"{address};" for address in network.dns)),
                ],
                "ipv6": [("method", "auto")],
            }
        )
    for vlan in network.vlans:
        name = f"piclusterops-vlan-{vlan.name}"
        found[name] = _ini(
            {
                "connection": _identity(name, node, "vlan", network.device(vlan)),
                "vlan": [("id", vlan.id), ("parent", network.interface), ("flags", 1)],
                "ipv4": [("method", "manual"), ("address1", vlan.address), ("never-default", "true")],
                "ipv6": [("method", "link-local")],
            }
        )
    return found


def _identity(name: str, node: str, kind: str, interface: str) -> list[tuple[str, object]]:
    # The same at every run, and another on every node.
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{node}.piclusterops")
    return [("id", name), ("uuid", identity), ("type", kind), ("interface-name", interface)]


def _netplan(network: Network, present: Present) -> str:
    # netplan adds up what its files say of an interface: where it stays as it is, it is only named, for its VLANs.
    lan: dict[str, object] = {} if present.in_netplan else {"dhcp4": True}
    if network.address:
        lan = {
            "dhcp4": False,
            "addresses": [str(network.address)],
            "routes": [{"to": "default", "via": str(network.gateway)}],
            "nameservers": {"addresses": [str(address) for address in network.dns]},
            # As in the keyfile; systemd-networkd, where netplan writes for that, takes no notice.
            "networkmanager": {"passthrough": {"connection.autoconnect-priority": "100"}},
        }
    # Unless it is told, netplan has systemd-networkd set what no file gives to NetworkManager.
    renderer: dict[str, object] = {"renderer": "NetworkManager"} if present.by_networkmanager else {}
    content: dict[str, object] = {"version": 2, "ethernets": {network.interface: renderer | lan}}
    if network.vlans:
        content["vlans"] = {
            network.device(vlan): {
                **renderer,
                "id": vlan.id,
                "link": network.interface,
                "addresses": [str(vlan.address)],
            }
            for vlan in network.vlans
        }
    return _HEADER + yaml.safe_dump({"network": content}, sort_keys=False)
