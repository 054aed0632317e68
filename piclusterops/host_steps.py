"""What the next deploy does about the packages of the hosts: from what is wanted and what hosts noted to steps."""

from __future__ import annotations

from collections.abc import Mapping

from piclusterops import docker
from piclusterops.host_releases import DOCKER, HOST_RELEASES, NFS_SERVER, WIREGUARD, node_of
from piclusterops.nfs_server import nfs_server_of
from piclusterops.plan import Action, Step
from piclusterops.settings import Cluster
from piclusterops.wireguard import vpn_of

#: Name of a host to the stamps on it, by name of a release among others; see `piclusterops.facts.snapshot`.
Stamps = Mapping[str, Mapping[str, str]]


def wanted_marks(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """The selected releases of the hosts by name, each with its node and what that notes when all is in force."""
    found: dict[str, tuple[str, str]] = {}
    if vpn := vpn_of(cluster):
        found[WIREGUARD] = (vpn.node, vpn.mark)
    if server := nfs_server_of(cluster):
        found[NFS_SERVER] = (server.node, server.mark)
    if node := node_of(cluster, DOCKER):
        found[DOCKER] = (node, docker.mark())
    return found


def host_steps(cluster: Cluster, stamps: Stamps) -> tuple[Step, ...]:
    """What happens to each release of the hosts; nothing is said of a host that did not answer."""
    wanted, steps = wanted_marks(cluster), []
    for name, (node, mark) in wanted.items():
        there = stamps.get(node, {}).get(name)
        if node not in stamps:
            steps.append(_step(name, node, "install", "the node did not answer, so that it may be there"))
        elif there is None:
            steps.append(_step(name, node, "install", f"on {node}"))
        elif there == mark:
            steps.append(_step(name, node, "unchanged", f"on {node}"))
        else:
            steps.append(_step(name, node, "upgrade", f"on {node}: its settings have changed, or a run was stopped"))
    for host, noted in stamps.items():
        for name in HOST_RELEASES:
            if name in noted and wanted.get(name, ("", ""))[0] != host:
                steps.append(_step(name, host, "disable", f"on {host}: its data and keys stay"))
    return tuple(steps)


def _step(name: str, node: str, action: Action, why: str) -> Step:
    return Step(name, "", None, action, why=why, node=node)
