"""Clusters whose hosts bring something of the platform."""

from __future__ import annotations

from typing import Any

from piclusterops.settings import ROLES, Cluster, ClusterSettings, Node, NodeSettings

LAPTOP = {"name": "laptop", "public_key": "Hk7mJxP0p1tQy0HkXUu6GdO0v3cJ5cD4c0mU0Tq2bWc=", "address": "10.8.0.2"}
PHONE = {"name": "phone", "public_key": "lk3mJxP0p1tQy0HkXUu6GdO0v3cJ5cD4c0mU0Tq2bWc=", "address": "10.8.0.3"}

NAMES = ("pi-master", "pi-worker-1", "pi-worker-2")


def cluster(**settings: Any) -> Cluster:
    """A master, a worker and a data node; the address of the first ends in .120."""
    nodes = [
        Node(name=name, role=role, settings=NodeSettings(address=f"192.168.0.{120 + number}"))
        for number, (name, role) in enumerate(zip(NAMES, ROLES, strict=True))
    ]
    return Cluster(settings=ClusterSettings(lan_cidr="192.168.0.0/24", **settings), nodes=tuple(nodes))


def with_vpn(*peers: dict[str, Any], node: str | None = None, **more: Any) -> Cluster:
    """A cluster whose VPN these peers may come in by."""
    choice = {"enabled": True, "node": node}
    return cluster(
        **{
            "vpn_cidr": "10.8.0.0/24",
            "vpn_peers": peers or (LAPTOP,),
            "platform_profile": "none",
            "platform_releases": {"wireguard": choice},
            **more,
        }
    )


def with_release(name: str, node: str | None = None, **more: Any) -> Cluster:
    """A cluster with one release of the hosts."""
    choice = {"enabled": True, "node": node}
    return cluster(**{"platform_profile": "none", "platform_releases": {name: choice}, **more})
