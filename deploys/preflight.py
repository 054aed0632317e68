"""Refuse what cannot work, on all hosts, before any host is changed."""

from __future__ import annotations

import gevent
from gevent.lock import BoundedSemaphore
from pyinfra import state
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.context import ctx_host

from piclusterops.artefacts import ArtefactError
from piclusterops.facts.k3s import host_facts, query
from piclusterops.facts.snapshot import Snapshot, snapshot_of
from piclusterops.k3s_config import BINARY, version_fault
from piclusterops.operations.k3s import wanted_binary
from piclusterops.preflight import HostFacts, Refusal, refusals
from piclusterops.settings import Cluster, Node

_one_at_a_time = BoundedSemaphore(1)


class PreflightError(PyinfraError):
    """Hosts that K3s cannot be put on; the text names each, with every reason."""


def preflight(cluster: Cluster) -> None:
    """Check all connected hosts; to be called from a deploy file, where it stops the run before any change.

    The deploy file runs once per host at the same time: the first call asks all hosts, the others find the answers.

    Raises:
        PreflightError: K3s cannot be put on some host.
    """
    with _one_at_a_time:
        hosts = [host for host in state.inventory if host in state.active_hosts]
        jobs = {host.name: gevent.spawn(_check, host, cluster, cluster.node(host.name)) for host in hosts}
        found = {name: job.get() for name, job in jobs.items()}
    lines = [f"  {name}: {fault}" for name, list_ in found.items() for fault in list_]
    if lines:
        raise PreflightError("Nothing was changed on any host, because K3s cannot run like this:\n" + "\n".join(lines))


def _check(host: Host, cluster: Cluster, node: Node) -> list[str]:
    with ctx_host.use(host):
        snapshot = snapshot_of(query(cluster, node))
    facts = host_facts(snapshot) if snapshot else None
    if snapshot is None or facts is None:
        return [f"its state could not be read. Try: ssh {host.name} sudo true"]
    return [str(refusal) for refusal in refused(snapshot, facts, cluster)]


def refused(snapshot: Snapshot, facts: HostFacts, cluster: Cluster) -> list[Refusal]:
    """Why K3s cannot be put on a host, all rules together; the snapshot has the path of K3s' binary."""
    found = refusals(facts, cluster.settings)
    if found:
        return found
    try:
        binary = wanted_binary(cluster.settings, facts)
    except ArtefactError as error:
        return [_of_k3s(str(error), "without a verified digest nothing is installed", "do as it says; picluster lock")]
    present = snapshot.paths.get(BINARY)
    if present is None or present.sha256 == binary:
        return []
    fault = version_fault(facts.k3s_version or "of an unknown version", cluster.settings.k3s_version)
    return [_of_k3s(fault, "K3s goes neither back nor past a minor version", "change k3s_version")] if fault else []


def _of_k3s(text: str, why: str, fix: str) -> Refusal:
    return Refusal("K3s", text, why, fix, text)
