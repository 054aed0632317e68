"""The NFS server of the kernel on one node: what it exports, to whom, and how it speaks."""

from __future__ import annotations

from dataclasses import dataclass

from piclusterops.catalogue import catalogue
from piclusterops.host_releases import NFS_SERVER, mark_of, node_of
from piclusterops.settings import Cluster
from piclusterops.templates import render

EXPORTS_FILE = "/etc/exports.d/piclusterops.exports"
CONF_FILE = "/etc/nfs.conf.d/piclusterops.conf"
UNIT = "nfs-server.service"
#: Directories of volumes are made in it by root; others may pass through, and not look around.
SHARE_MODE = "711"


def share() -> str:
    """The exported directory: what the catalogue tells those who use the contract."""
    return catalogue()[NFS_SERVER].provides["nfs"]["share"]


@dataclass(frozen=True)
class NfsServer:
    """The NFS server of a cluster, as it should be."""

    node: str
    exports: str
    conf: str

    @property
    def mark(self) -> str:
        """What the node notes once all is in force."""
        return mark_of(self.exports, self.conf)


def nfs_server_of(cluster: Cluster) -> NfsServer | None:
    """The NFS server that the settings ask for; None when they do not."""
    node = node_of(cluster, NFS_SERVER)
    if node is None:
        return None
    addresses = [other.address for other in cluster.nodes]
    exports = render("nfs-exports.j2", share=share(), addresses=addresses)
    return NfsServer(node, exports, render("nfs.conf"))
