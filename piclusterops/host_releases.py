"""Releases of the catalogue that are packages of the hosts: whether they are on, and on which node.

Each is on one node: the first of its place. What it consists of there is said by a module of its own, such as
`piclusterops.wireguard`.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from piclusterops.catalogue import catalogue
from piclusterops.platform import is_on, place
from piclusterops.settings import Cluster, ClusterSettings

WIREGUARD = "wireguard"
NFS_SERVER = "nfs-server"
DOCKER = "docker"
#: In the order of their deploys.
HOST_RELEASES = (WIREGUARD, NFS_SERVER, DOCKER)
#: The Debian packages of each.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    WIREGUARD: ("wireguard-tools",),
    NFS_SERVER: ("nfs-kernel-server",),
    DOCKER: ("docker.io",),
}
#: What the kernel must have for each, by the name of its module.
KERNEL_MODULES: Mapping[str, tuple[str, ...]] = {WIREGUARD: ("wireguard",), NFS_SERVER: ("nfsd",)}


def is_selected(settings: ClusterSettings, name: str) -> bool:
    """Whether the settings turn a release of the hosts on."""
    release = catalogue().get(name)
    return release is not None and is_on(release, settings)


def node_of(cluster: Cluster, name: str) -> str | None:
    """The node that a release of the hosts is on; None when it is off, or its node does not exist (a fault)."""
    if not is_selected(cluster.settings, name):
        return None
    first = place(cluster, catalogue()[name])[0]
    return first if any(node.name == first for node in cluster.nodes) else None


def mark_of(*texts: str) -> str:
    """What a host notes of what is in force there, to be compared with what is wanted."""
    return sha256("\0".join(texts).encode()).hexdigest()[:16]
