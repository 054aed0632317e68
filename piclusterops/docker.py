"""Docker Engine on one node, for building images there: so that it leaves the cluster's network alone."""

from __future__ import annotations

from piclusterops.host_releases import mark_of
from piclusterops.templates import render

CONF_FILE = "/etc/docker/daemon.json"
UNITS = ("docker.service", "docker.socket")
#: What Debian's package needs, and K3s, which has its own, does not.
CONTAINERD = "containerd.service"


def daemon_json() -> str:
    """The configuration of the daemon."""
    return render("docker-daemon.json")


def mark() -> str:
    """What the node notes once all is in force."""
    return mark_of(daemon_json())
