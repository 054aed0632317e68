"""The Docker Engine that a host has."""

from __future__ import annotations

from piclusterops.docker import CONF_FILE, UNITS
from piclusterops.facts.snapshot import Query
from piclusterops.host_releases import DOCKER
from piclusterops.host_report import CONTAINER_ENGINES
from piclusterops.settings import ClusterSettings

#: What a host notes of it.
STAMP = DOCKER


def query(settings: ClusterSettings) -> Query:
    """What to read of every node when Docker is on."""
    return Query(paths=(CONF_FILE,), packages=CONTAINER_ENGINES, units=UNITS)
