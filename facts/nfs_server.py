"""The NFS server that a host has."""

from __future__ import annotations

from piclusterops.facts.snapshot import Query
from piclusterops.host_releases import NFS_SERVER, PACKAGES
from piclusterops.nfs_server import CONF_FILE, EXPORTS_FILE, UNIT, share
from piclusterops.settings import ClusterSettings

#: What a host notes of it.
STAMP = NFS_SERVER


def query(settings: ClusterSettings) -> Query:
    """What to read of every node when the NFS server is on."""
    return Query(paths=(EXPORTS_FILE, CONF_FILE, share()), packages=PACKAGES[NFS_SERVER], units=(UNIT,))
