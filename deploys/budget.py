"""Refuse a platform that does not fit on its nodes, before any host is changed."""

from __future__ import annotations

import gevent
from gevent.lock import BoundedSemaphore
from pyinfra import state
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.context import ctx_host

from piclusterops.capacity import refusals, rooms_of
from piclusterops.facts.cache import cached_fact
from piclusterops.facts.k3s import host_facts, query
from piclusterops.facts.kube import KubeApi
from piclusterops.facts.snapshot import snapshot_of
from piclusterops.kube_nodes import KubeNode
from piclusterops.platform import Platform
from piclusterops.preflight import HostFacts
from piclusterops.settings import Cluster

_one_at_a_time = BoundedSemaphore(1)


class BudgetError(PyinfraError):
    """The platform asks for more than its nodes have; the text names each node, and what to change."""


def refuse_overfull(platform: Platform) -> None:
    """Compare what the platform asks for with what the nodes have; to be called from a deploy file.

    The deploy file runs once per host at the same time: the first call asks all hosts, the others find the answers.
    A run without the first server installs no release, and nothing is compared.

    Raises:
        BudgetError: something does not fit, or is not known of a node.
    """
    hosts = {host.name: host for host in state.inventory if host in state.active_hosts}
    first = hosts.get(platform.cluster.first_server.name)
    if first is None or not platform.releases:
        return
    with _one_at_a_time:
        kube = gevent.spawn(_nodes, first)
        jobs = {name: gevent.spawn(_facts, host, platform.cluster) for name, host in hosts.items()}
        rooms = rooms_of(platform.cluster, {name: job.get() for name, job in jobs.items()}, kube.get())
    lines = [f"  {line}" for line in refusals(platform, rooms)]
    if lines:
        raise BudgetError(
            "Nothing was changed on any host, because the platform does not fit on its nodes:\n"
            + "\n".join(lines)
            + "\nNext: change the inventory, and see what it comes to: picluster plan"
        )


def _nodes(host: Host) -> list[KubeNode] | None:
    # what the label and verify parts of a deploy ask, too
    with ctx_host.use(host):
        api = cached_fact(KubeApi)
    return api.nodes if api else None


def _facts(host: Host, cluster: Cluster) -> HostFacts | None:
    """What the preflight check has asked already."""
    with ctx_host.use(host):
        snapshot = snapshot_of(query(cluster, cluster.node(host.name)))
    return host_facts(snapshot) if snapshot else None
