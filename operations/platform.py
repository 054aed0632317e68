"""The releases of the platform, one after the other, each depending on what became of those before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent
from pydantic import SecretStr
from pyinfra import host
from pyinfra.api import operation

from piclusterops.catalogue import Release, catalogue
from piclusterops.facts.cache import cached_fact, forget
from piclusterops.facts.helm import HelmReleases
from piclusterops.facts.kube import Nodes
from piclusterops.facts.snapshot import Query
from piclusterops.helm_charts import Chart
from piclusterops.operations.helm import chart_commands
from piclusterops.operations.helm_release import Wanted, absent_commands, release_commands, why_unready
from piclusterops.operations.kube_secrets import WantedSecret, secret_commands
from piclusterops.operations.managed import refuse
from piclusterops.platform import Planned
from piclusterops.platform_nodes import asks_for_nodes, settled
from piclusterops.platform_run import Outcome, Progress, leftovers, uninstall_order
from piclusterops.release_causes import Cause, typed
from piclusterops.secrets import made_of

#: All Secrets: name -> key -> value.
SecretValues = Callable[[], Mapping[str, Mapping[str, SecretStr]]]
_RESTART_S = 600
#: How long releases that nothing was done about may take to be ready, in seconds: nodes may have just restarted.
_READY_S = 180
_POLL_S = 5.0
#: Of so many releases that are not ready it is asked why, at an execution each.
_EXPLAINED = 4


@operation()
def charts(progress: Progress, charts: Mapping[str, Chart], query: Query, lock_file: str | None = None) -> Any:
    """
    Put the charts of the platform on the host; a release whose chart can't be had fails, the others go on.

    + progress: what becomes of the releases
    + charts: by name of the release
    + query: the query of all of Helm's operations here
    + lock_file: file that keeps the digests of other people's charts
    """

    def missed(chart: Chart, why: str) -> None:
        for name, wanted in charts.items():
            if wanted == chart:
                progress.tell(Outcome(name, "failed", why))

    yield from chart_commands(tuple(dict.fromkeys(charts.values())), query, missed, lock_file)


@operation()
def secrets(progress: Progress, values: SecretValues) -> Any:
    """
    Keep the Secrets of the platform; a release whose Secret can't be brought fails, the others go on.

    + progress: what becomes of the releases
    + values: gives all their values

    Servers that keep copies of their own are told of what changed, and then its users are restarted. Where that goes
    wrong, the release has failed in the end, after its upgrade.
    """
    releases = [planned.release for planned in progress.platform.releases]

    def owners(wanted: WantedSecret) -> list[str]:
        return [one.name for one in releases if wanted.name in {secret.name for secret in one.secrets}]

    def missed(wanted: WantedSecret, why: str) -> None:
        for name in owners(wanted):
            progress.tell(Outcome(name, "failed", why))

    def unfinished(wanted: WantedSecret, why: str) -> None:
        for name in owners(wanted):
            progress.owe(name, why)

    wanted = wanted_secrets(releases, values)
    yield from secret_commands(host, wanted, _RESTART_S, missed, unfinished, restart_order(releases))


def restart_order(releases: Sequence[Release]) -> list[str]:
    """All workloads of releases as `namespace/kind/name`, in the order of their installation: servers before users."""
    return [
        f"{release.namespace}/{kind.lower()}/{name}"
        for release in releases
        for kind, _, name in (workload.partition("/") for workload in release.health)
    ]


def wanted_secrets(releases: Sequence[Release], values: SecretValues) -> list[WantedSecret]:
    """The Secrets of releases, one for each namespace that needs it."""
    found: dict[tuple[str, str], WantedSecret] = {}
    sources = made_of(releases)
    for release in releases:
        for secret in release.secrets:
            for namespace in (release.namespace or "", *secret.namespaces):
                wanted = WantedSecret(
                    secret.name,
                    namespace,
                    lambda name=secret.name: values()[name],  # type: ignore[misc]
                    secret.type,
                    secret.restarts,
                    secret.labels,
                    tuple(key for key, about in secret.keys.items() if not about.rotates and about.kind != "template"),
                    secret.tells,
                    sources[secret.name],
                )
                found.setdefault(wanted.key, wanted)
    return list(found.values())


@operation()
def release(
    progress: Progress, planned: Planned, chart: Chart, hidden: Callable[[], tuple[str, ...]], query: Query
) -> Any:
    """
    Install or upgrade one release of the platform, unless one that it depends on has failed.

    + progress: what becomes of the releases
    + planned: the release
    + chart: its chart
    + hidden: gives texts that must not be shown, should a log of a pod have them
    + query: the query of all of Helm's operations here

    What fails is noted and told at the end; call it with `_ignore_errors=True`.
    """
    before = progress.outcomes.get(planned.name)
    if before:
        host.noop(f"{planned.name} has {before.kind} already")
        return
    if asks_for_nodes(progress.platform, planned.name):
        planned = settled(progress.platform, planned, cached_fact(Nodes))
    wanted = Wanted(
        planned.name,
        planned.release.namespace or "",
        chart,
        planned.values,
        timeout_s=planned.timeout_s,
        helm_version=progress.platform.cluster.settings.helm_version,
        health=planned.release.health,
        hide=hidden() if host.state.is_executing else (),
    )
    yield from release_commands(host, wanted, query, progress.tell, lambda: progress.obstacle(planned.name))


@operation()
def prune(progress: Progress, remove: bool) -> Any:
    """
    Find releases that are there and selected no more; with `remove`, remove them and leave their volumes.

    + progress: what becomes of the releases
    + remove: whether they are removed
    """
    live = cached_fact(HelmReleases)
    if live is None or live.fault:
        host.noop("there is no cluster yet")
        return
    waves = {name: entry.wave for name, entry in catalogue().items()}
    found = uninstall_order(leftovers(progress.platform, waves, live), waves)
    if not found:
        host.noop("nothing is there that is off")
        return
    if not remove:
        progress.leftovers = found
        host.noop(f"off, but present: {', '.join(entry.name for entry in found)}")
        return
    for entry in found:
        yield from absent_commands(host, entry.name, entry.namespace, report=progress.tell)


@operation()
def report(progress: Progress, prune_command: str, hidden: Callable[[], tuple[str, ...]]) -> Any:
    """
    Tell what became of each release, and fail when one failed, or one that was left unchanged is not ready.

    + progress: what has become of the releases
    + prune_command: what removes releases that are off
    + hidden: gives texts that must not be shown, should a log of a pod have them

    Pods that start have up to three minutes for that. Only then does it cost more than was read already.
    """
    if not host.state.is_executing:
        host.noop("told at the end of a run")
        return
    _look_after_unchanged(progress, hidden)
    lines = progress.told(prune_command)
    if progress.failed:
        yield refuse("\n".join(lines))
        return
    for line in lines:
        host.log(line)
    host.noop("no release failed")


def _look_after_unchanged(progress: Progress, hidden: Callable[[], tuple[str, ...]]) -> None:
    """Correct what is told of releases that were left unchanged and are not ready."""
    deadline = time.monotonic() + min(_READY_S, progress.platform.cluster.settings.ready_timeout_s)
    said = False
    while True:
        live = cached_fact(HelmReleases)
        if live is None or live.fault:
            return  # the releases themselves have failed because of that
        found = progress.unready(live)
        if not found or time.monotonic() >= deadline:
            break
        if not said:
            said = True
            host.log(f"waiting until these are ready: {', '.join(found)}")
        gevent.sleep(_POLL_S)
        forget(host)
    for number, (name, lines) in enumerate(found.items()):
        planned = progress.platform.planned(name)
        current = live.release(planned.release.namespace or "", name)
        known = why_unready(host, name, planned.release.namespace or "", hidden()) if number < _EXPLAINED else []
        text = _told_of_unready(planned, lines, known, current.revision if current else 0)
        progress.outcomes[name] = Outcome(name, "not ready", text)


def _told_of_unready(planned: Planned, lines: Sequence[str], known: Sequence[Cause], revision: int) -> str:
    namespace = planned.release.namespace or ""
    if any(line.endswith("is not there") for line in lines):
        command = typed(host.name, namespace, f"rollback {planned.name} {revision}")
        return "\n".join([*lines, f"next: {command}  # makes anew what is missing"])
    look = f"ssh {host.name} sudo k3s kubectl -n {namespace} get pods,events"
    command = known[0].next_command if known else look
    return "\n".join([*lines, *(f"  {cause.text}" for cause in known), f"next: {command}"])
