"""``picluster plan``: what the next deploy would do to the platform, and whether it fits; changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
from pyinfra.api import Inventory
from pyinfra.api.host import Host
from rich.console import Console

from piclusterops.capacity import budget_of, rooms_of
from piclusterops.facts.capacity import ROOM, stored_mib
from piclusterops.facts.helm import HelmReleases
from piclusterops.facts.k3s import host_facts
from piclusterops.facts.kube import Nodes
from piclusterops.facts.snapshot import HostSnapshot, Query, Snapshot
from piclusterops.helm_charts import Chart
from piclusterops.helm_releases import HelmState
from piclusterops.host_releases import HOST_RELEASES, node_of
from piclusterops.host_steps import Stamps, host_steps
from piclusterops.kube_nodes import KubeNode
from piclusterops.operations.helm_release import Wanted
from piclusterops.plan import Plan, steps_of
from piclusterops.plan_report import show
from piclusterops.platform import Planned, Platform, platform_of
from piclusterops.platform_charts import chart_digests, charts_of
from piclusterops.platform_nodes import settled
from piclusterops.preflight import HostFacts
from piclusterops.secrets import SecretsError, open_store
from piclusterops.session import CommandFailed, HostUnreachable, ask_all, connected_hosts, ssh_command
from piclusterops.verbs import env_option, load, plain_errors


@dataclass(frozen=True)
class Sight:
    """What cluster and hosts said.

    Attributes:
        releases: all Helm releases; None when there is no cluster yet.
        nodes: the nodes of the API; None when there is no cluster yet.
        hosts: what the hosts have, by name; None for one that did not say.
        stored_mib: what volumes take on the hosts already.
        archives: path of a chart's archive on the first server to its SHA-256.
        stamps: name of a host that answered to what it noted of its packages.
        unreachable: name of a host to why it can't be reached.
    """

    releases: HelmState | None = None
    nodes: Sequence[KubeNode] | None = None
    hosts: Mapping[str, HostFacts | None] = field(default_factory=dict)
    stored_mib: Mapping[str, int] = field(default_factory=dict)
    archives: Mapping[str, str] = field(default_factory=dict)
    unreachable: Mapping[str, str] = field(default_factory=dict)
    stamps: Stamps = field(default_factory=dict)


@click.command()
@env_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--detailed-exitcode", "detailed", is_flag=True, help="Exit code 2 when there are changes to make.")
def plan(env: str, as_json: bool, detailed: bool) -> None:
    """Show what the next deploy would install or upgrade, wave by wave, and whether it fits on the nodes.

    Exit code 0: nothing to do, or changes that can be made; 1: it would be refused. With --detailed-exitcode, 2 means
    changes that can be made, and 0 none.
    """
    with plain_errors():
        path, inventory, cluster = load(env)
        platform = platform_of(cluster)
        hosts = any(node_of(cluster, name) for name in HOST_RELEASES)
        if not platform.releases and not hosts and not cluster.settings.platform_prune:
            found = Plan(cluster.settings.cluster_name, (), budget_of(platform, {}))
            note = "No release is selected (platform_profile, platform_releases): nothing to plan."
            click.echo(json.dumps({**found.as_dict(), "notes": [note], "nodes": []}, indent=2) if as_json else note)
            return
        with Console(stderr=True, quiet=as_json).status("asking the cluster and its hosts ..."):
            sight = look(inventory, platform)
        found = plan_of(platform, sight, path)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        show(found, Console())
    raise SystemExit(1 if found.is_refused else 2 if detailed and found.has_changes else 0)


def plan_of(platform: Platform, sight: Sight, inventory_path: Path | None) -> Plan:
    """The plan that follows from what was seen.

    Raises:
        CommandFailed: the cluster is there, and does not say what is installed in it.
    """
    cluster = platform.cluster
    live = sight.releases or HelmState()
    if live.fault:
        first = cluster.first_server.name
        raise CommandFailed(f"{first}: the Kubernetes API does not answer: {live.fault}\nTry: picluster status")
    notes = [f"{name} can't be reached: {why or 'no answer'}" for name, why in sight.unreachable.items()]
    if sight.releases is None:
        notes.insert(0, f"There is no cluster yet: {cluster.first_server.name} has no Kubernetes API.")
    charts = charts_of(platform)
    archives, absent = chart_digests(charts, sight.archives)
    missing, remarks = _missing(platform, inventory_path)
    obstacles = {name: f"by its chart: {why}" for name, why in absent.items()} | missing
    wanted = {name: settled(platform, platform.planned(name), sight.nodes) for name in archives}
    digests = {name: _wanted(wanted[name], charts[name]).digest(found) for name, found in archives.items()}
    budget = budget_of(platform, rooms_of(cluster, sight.hosts, sight.nodes, sight.stored_mib))
    steps = (*host_steps(cluster, sight.stamps), *steps_of(platform, live, digests, obstacles))
    return Plan(cluster.settings.cluster_name, steps, budget, (*notes, *remarks))


def _wanted(planned: Planned, chart: Chart) -> Wanted:
    """A release as the deploy wants it."""
    return Wanted(planned.name, planned.release.namespace or "", chart, planned.values)


def _missing(platform: Platform, inventory_path: Path | None) -> tuple[dict[str, str], list[str]]:
    """Which values of Secrets are not there, by release, in words; and how to make them."""
    selected = platform.selected.values()
    try:
        store = open_store(platform.cluster.settings, inventory_path)
        missing = store.missing(selected)
    except SecretsError as error:
        return {release.name: "by secrets that can't be read" for release in selected if release.secrets}, [str(error)]
    found: dict[str, str] = {}
    for release in selected:
        names = {secret.name for secret in release.secrets}
        if values := [f"{entry.secret}/{entry.key}" for entry in missing if entry.secret in names]:
            found[release.name] = f"by missing secrets: {', '.join(values)}"
    return found, [store.missing_text(missing)] if missing else []


def look(inventory: Inventory, platform: Platform) -> Sight:
    """Ask the first server for the cluster's nodes and releases, and all hosts for what they have.

    Raises:
        HostUnreachable: no connection to the first server, so that nothing can be said of the cluster.
    """
    cluster = platform.cluster
    first = cluster.first_server.name
    archives = Query(paths=tuple(sorted({chart.path for chart in charts_of(platform).values()})), probes=ROOM.probes)
    with connected_hosts(inventory, [node.name for node in cluster.nodes]) as (reached, errors):
        if first in errors:
            cause = errors[first] or "no answer"
            command = ssh_command(inventory.get_host(first))
            raise HostUnreachable(f"{first} can't be reached: {cause}\nTry: {command} true")

        def ask(host: Host) -> Snapshot | None:
            return host.get_fact(HostSnapshot, query=archives if host.name == first else ROOM)

        snapshots = ask_all(reached, ask)
        nodes, releases = ask_all([inventory.get_host(first)], _cluster_facts)[first]
    server = snapshots[first]
    return Sight(
        releases,
        nodes,
        {name: host_facts(snapshot) if snapshot else None for name, snapshot in snapshots.items()},
        {name: stored_mib(snapshot) for name, snapshot in snapshots.items()},
        {path: state.sha256 for path, state in server.paths.items()} if server else {},
        errors,
        {name: snapshot.stamps for name, snapshot in snapshots.items() if snapshot},
    )


def _cluster_facts(host: Host) -> tuple[list[KubeNode] | None, HelmState | None]:
    return host.get_fact(Nodes), host.get_fact(HelmReleases)
