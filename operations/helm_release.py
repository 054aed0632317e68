"""Install, upgrade and remove one Helm release on the server, and say why when that fails.

Values travel on stdin; what Helm and the API answer is looked at in memory, and shown without secret values.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Any

import gevent
import yaml
from gevent.event import Event
from paramiko import SSHException
from pyinfra.api import FunctionCommand
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.connectors.util import CommandOutput

from piclusterops import helm_commands as shell
from piclusterops.artefacts import ArtefactError
from piclusterops.facts.cache import cached_fact, forget
from piclusterops.facts.helm import HelmReleases
from piclusterops.facts.snapshot import Query, Snapshot, snapshot_of
from piclusterops.helm_charts import Chart, archive_of
from piclusterops.helm_releases import (
    APPLY_LABEL,
    CHART_LABEL,
    DIGEST_LABEL,
    SECRETS_LABEL,
    SERVER_SIDE,
    HelmRelease,
    HelmState,
    Kind,
    Outcome,
    parse,
)
from piclusterops.helm_storage import keep_claims
from piclusterops.helm_values import difference, secret_texts, without
from piclusterops.kube_commands import operated, waiting
from piclusterops.operations.managed import Commands, refuse, unknown_state
from piclusterops.operations.quiet import fail, privileges, run_quietly
from piclusterops.platform import merged
from piclusterops.release_causes import Cause, Evidence, causes, objects_of, typed
from piclusterops.release_certain import Doubt, Sight
from piclusterops.value_digest import canonical, digest_of, is_mark_of, mark_of

#: How long a rollback waits for the old revision to be ready again, in seconds, at most.
_ROLLBACK_S = 300
_SAY_EVERY_S = 30.0
#: How often it is looked whether Helm waits in vain, in seconds.
_LOOK_EVERY_S = 15.0
_LOOK_AT_MOST_S = 100.0


Report = Callable[[Outcome], None]


@dataclass(frozen=True)
class Wanted:
    """A release as it should be."""

    release: str
    namespace: str
    chart: Chart
    values: Mapping[str, Any] = field(default_factory=dict)
    secret_values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    timeout_s: int = 600
    wait: bool = True
    create_namespace: bool = False
    helm_version: str = "v4"
    health: tuple[str, ...] = ()
    hide: tuple[str, ...] = field(default=(), repr=False)

    @property
    def all_values(self) -> dict[str, Any]:
        """What Helm is given; secret."""
        return merged(self.values, self.secret_values)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The texts that are shown to nobody."""
        return (*secret_texts(self.secret_values), *self.hide)

    def digest(self, chart: str) -> str:
        """What identifies chart (by the SHA-256 of its archive) and values."""
        return digest_of({"chart": chart, "values": self.values})

    def is_met_by(self, current: HelmRelease, digest: str) -> bool:
        """Whether a release is as it should be."""
        if current.status != "deployed" or current.digest != digest:
            return False
        mark = current.labels.get(SECRETS_LABEL, "")
        return is_mark_of(mark, self.secret_values) if self.secret_values else not mark


def _nothing(outcome: Outcome) -> None:
    """For those who want no report."""


# -- deciding ------------------------------------------------------------------------------------------------


def _no_obstacle() -> str:
    return ""


def release_commands(
    host: Host,
    wanted: Wanted,
    query: Query,
    report: Report = _nothing,
    obstacle: Callable[[], str] = _no_obstacle,
) -> Commands:
    """What brings a release to what it should be.

    Args:
        host: the server that Helm runs on.
        wanted: the release.
        query: the query of all of Helm's operations on that host.
        report: is told the outcome, during execution only.
        obstacle: says because of what else it must not be changed now; asked only if there is something to change.
    """
    executing = host.state.is_executing
    tell: Report = report if executing else _nothing
    state, snapshot = cached_fact(HelmReleases), snapshot_of(query)
    if snapshot is None:
        tell(Outcome(wanted.release, "failed", "the state of the host could not be read"))
        yield unknown_state()
        return
    if executing and (state is None or state.fault):
        reason = state.fault if state else "there is no API server: K3s has not started"
        yield refused(host, wanted.release, f"the Kubernetes API does not answer: {reason}", tell)
        return
    known = state or HelmState()
    owner = known.flux_owner(wanted.namespace, wanted.release)
    if owner:
        tell(Outcome(wanted.release, "left to Flux", f"HelmRelease {owner}"))
        host.noop(f"release {wanted.release} is left to Flux (HelmRelease {owner})")
        return
    try:
        chart = _chart_digest(wanted.chart, snapshot, executing)
    except ArtefactError as error:
        yield refused(host, wanted.release, str(error), tell)
        return
    current = known.release(wanted.namespace, wanted.release)
    digest = wanted.digest(chart)
    if current and wanted.is_met_by(current, digest):
        tell(Outcome(wanted.release, "unchanged"))
        host.noop(f"release {wanted.release} is up to date: {wanted.chart.label}, revision {current.revision}")
        return
    if current and current.is_pending and not current.is_ours:
        yield refused(host, wanted.release, _someone_elses(host, current), tell)
        return
    because = obstacle()
    if because:
        tell(Outcome(wanted.release, "skipped", f"because of {because}"))
        host.noop(f"release {wanted.release} is skipped because of {because}")
        return
    if current and not executing:
        show_difference(host, wanted, current)
    yield FunctionCommand(_apply, (wanted, current, digest, tell), {})


def refused(host: Host, release: str, reason: str, report: Report) -> FunctionCommand:
    """The refusal of a release, told to the report too."""
    report(Outcome(release, "failed", reason))
    return refuse(f"{host.name}: release {release}: {reason}")


def _someone_elses(host: Host, current: HelmRelease) -> str:
    secret = f"sh.helm.release.v1.{current.name}.v{current.revision}"
    return (
        f"it is {current.status} by a Helm that is not ours. Wait for that; if it was stopped, forget its revision:\n"
        f"next: ssh {host.name} sudo k3s kubectl -n {current.namespace} delete secret {secret}"
    )


def _chart_digest(chart: Chart, snapshot: Snapshot, executing: bool) -> str:
    """The SHA-256 of the archive that is used; before the execution that may be one that is not on the host yet.

    Raises:
        ArtefactError: the archive can't be had, or is not on the host.
    """
    found = snapshot.paths.get(chart.path)
    there = found.sha256 if found else ""
    wanted = archive_of(chart).digest if chart.is_local else chart.digest or there
    if executing and (not there or there != wanted):
        raise ArtefactError(
            f"its chart {chart.path} is not on this host. Next: run helm.chart(...) before helm.release(...)"
        )
    return wanted


def show_difference(host: Host, wanted: Wanted, current: HelmRelease) -> None:
    """Show what changes in chart and values."""
    before = f"{current.chart} {current.version}".strip()
    after = f"{wanted.chart.name} {wanted.chart.version}"
    if before and before != after:
        host.log(f"chart of {wanted.release}: {before} -> {after}")
    ok, output = run_quietly(host, shell.values(current.name, current.namespace), privileges(host))
    try:
        old = json.loads(output.stdout) if ok else None
    except ValueError:
        old = None
    if old is None:
        old = {}
    had_secrets = SECRETS_LABEL in current.labels
    lines = difference(old, wanted.values, wanted.secret_values, had_secrets) if isinstance(old, dict) else []
    for line in lines:
        colour = {"+": "green", "-": "red"}.get(line[:1])
        text = without(f"  {line}", wanted.hidden)
        host.log_styled(text, fg=colour) if colour else host.log(text)


# -- doing ---------------------------------------------------------------------------------------------------


def _apply(state: State, host: Host, wanted: Wanted, current: HelmRelease | None, digest: str, report: Report) -> bool:
    kind: Kind = "upgraded" if current else "installed"
    if current:
        show_difference(host, wanted, current)
    action = "upgrading" if current else "installing"
    host.log(f"{action} {wanted.release} ({wanted.chart.label}), up to {wanted.timeout_s} s")
    word = secrets.token_hex(8) if wanted.wait and _is_helm_4(wanted) else ""
    command = shell.upgrade(
        wanted.release,
        wanted.namespace,
        wanted.chart.path,
        _labels(wanted, current, digest),
        wanted.timeout_s,
        wanted.wait,
        wanted.create_namespace,
        force_conflicts=_may_force(wanted, current),
        word=word,
    )
    hopeless = _Hopeless()
    try:
        with _patience(host, wanted), _watch(host, wanted, word, hopeless):
            ok, output = run_quietly(host, command, privileges(host), stdin=canonical(wanted.all_values))
    except (OSError, EOFError, SSHException) as error:
        reason = f"the connection broke off while Helm was at work: {error}; the next run waits for it"
        return _failed(host, wanted, kind, reason, report)
    finally:
        forget(host)
    _tell_unlocked(host, wanted, output)
    if not ok:
        return _failed(host, wanted, kind, _explain(host, wanted, output.stderr, hopeless), report)
    unready = _unready(host, wanted) if wanted.wait else None
    if unready:
        return _failed(host, wanted, kind, _explain_unready(host, wanted, unready), report)
    report(Outcome(wanted.release, kind, f"{wanted.chart.name} {wanted.chart.version}"))
    return True


@contextmanager
def _patience(host: Host, wanted: Wanted) -> Iterator[None]:
    """Say now and then that Helm is still at work."""

    def say() -> None:
        started = time.monotonic()
        while True:
            gevent.sleep(_SAY_EVERY_S)
            host.log(f"{wanted.release}: waiting for {time.monotonic() - started:.0f} s of {wanted.timeout_s} s")

    saying = gevent.spawn(say)
    try:
        yield
    finally:
        saying.kill()


@dataclass
class _Hopeless:
    """Why Helm was not waited for any longer, and after how many seconds; no causes while it is."""

    causes: tuple[Cause, ...] = ()
    waited_s: int = 0


@contextmanager
def _watch(host: Host, wanted: Wanted, word: str, hopeless: _Hopeless) -> Iterator[None]:
    """End Helm once it is certain that it waits in vain: it marks the release as failed, as after its timeout."""
    arguments, over = privileges(host), Event()

    def look() -> None:
        doubt = Doubt()
        while not hopeless.causes and not over.wait(_LOOK_EVERY_S):
            try:
                sight = _sight(host, wanted, word, arguments)
                if sight is None:
                    doubt = Doubt()
                elif found := doubt.certain(sight):
                    hopeless.causes, hopeless.waited_s = tuple(found), sight.now - sight.since
                    run_quietly(host, shell.end(word), arguments)
            except (OSError, EOFError, SSHException, ValueError, KeyError, TypeError, AttributeError):
                doubt = Doubt()  # Helm's own timeout decides while nothing can be seen

    if not word:
        yield
        return
    looking = gevent.spawn(look)
    try:
        yield
    finally:
        over.set()
        looking.join(_LOOK_AT_MOST_S)  # rather than to stop it in the middle of an execution
        looking.kill()


def _unready(host: Host, wanted: Wanted) -> str | None:
    """What of a release is not ready, though Helm is content: what operators make of it takes its own time."""
    ok, output = run_quietly(host, shell.manifest(wanted.release, wanted.namespace), privileges(host))
    try:
        items = [item for item in yaml.safe_load_all(output.stdout) if isinstance(item, dict)] if ok else []
    except yaml.YAMLError:
        items = []
    awaited = [found for item in items if (found := operated(item))]
    awaited += [(kind, name, "rollout") for kind, _, name in (entry.partition("/") for entry in wanted.health)]
    if not awaited:
        return None
    space = f"-n {quote(wanted.namespace)}"
    lines = [
        f"{{ {waiting(f'{quote(kind)} {quote(name)} {space}', condition, wanted.timeout_s)}; }} || "
        f"{{ echo {quote(_not_ready(kind, name))} >&2; exit 1; }}"
        for kind, name, condition in awaited
    ]
    ok, output = run_quietly(host, "\n".join(lines), privileges(host))
    return None if ok else output.stderr.strip()


def _not_ready(kind: str, name: str) -> str:
    return f"{kind.partition('.')[0]} {name} is not ready"


def _explain_unready(host: Host, wanted: Wanted, unready: str) -> str:
    """Causes and the next command. What operators work on is not rolled back: data may have been changed already."""
    evidence, _ = _gather(host, wanted.release, wanted.namespace, "")
    found = [cause for cause in causes(evidence) if cause.kind != "helm"]
    run_quietly(host, shell.mark_unready(wanted.release, wanted.namespace), privileges(host))
    lines = [unready.splitlines()[-1], *(f"  {cause.text}" for cause in found)]
    lines.append("it is left as it is, and the next run looks again")
    command = found[0].next_command if found else evidence.kubectl("get pods,events")
    return without("\n".join([*lines, f"next: {command}"]), wanted.hidden)


def _labels(wanted: Wanted, current: HelmRelease | None, digest: str) -> dict[str, str | None]:
    """Labels of the new revision. Helm keeps those of the one before, so one that is no longer true is taken away."""
    labels: dict[str, str | None] = {CHART_LABEL: wanted.chart.label, DIGEST_LABEL: digest}
    if wanted.secret_values:
        labels[SECRETS_LABEL] = mark_of(wanted.secret_values)
    elif current and SECRETS_LABEL in current.labels:
        labels[SECRETS_LABEL] = None
    if _is_helm_4(wanted) and (current is None or current.is_server_side):
        labels[APPLY_LABEL] = SERVER_SIDE
    return labels


def _is_helm_4(wanted: Wanted) -> bool:
    return not wanted.helm_version.startswith("v3")


def _may_force(wanted: Wanted, current: HelmRelease | None) -> bool:
    """Whether fields that others changed are taken back: only of releases that we installed with server-side apply."""
    return bool(current and current.is_server_side and _is_helm_4(wanted))


def _tell_unlocked(host: Host, wanted: Wanted, output: CommandOutput) -> None:
    if any(line.startswith(shell.UNLOCKED_MARK) for line in output.stdout_lines):
        host.log(f"release {wanted.release} was left pending by a run that was stopped: that revision is forgotten")


def _failed(host: Host, wanted: Wanted, kind: Kind, text: str, report: Report) -> bool:
    report(Outcome(wanted.release, "failed", text))
    return fail(host, f"{host.name}: release {wanted.release} was not {kind}: {text}")


def _explain(host: Host, wanted: Wanted, error: str, hopeless: _Hopeless) -> str:
    """Causes, what became of the release, and the next command. The causes are gathered before a rollback ends them."""
    hidden = wanted.hidden
    evidence, after = _gather(host, wanted.release, wanted.namespace, without(error, hidden))
    found = _first(hopeless.causes, causes(evidence))
    ending = _roll_back(host, wanted, after)
    if hopeless.causes:
        given_up = f"it was waited for {hopeless.waited_s} s of {wanted.timeout_s} s only: waiting can't mend that"
        ending.insert(0, given_up)
    lines = [found[0].text, *(f"  also: {cause.text}" for cause in found[1:]), *ending]
    lines.append(f"next: {found[0].next_command}")
    return without("\n".join(lines), hidden)


def _first(certain: Sequence[Cause], found: Sequence[Cause]) -> list[Cause]:
    """Causes with the certain ones before the others, each once and as it was told last."""
    if not certain:
        return list(found)
    known = {(cause.kind, cause.next_command): cause for cause in found}
    first = [known.pop((cause.kind, cause.next_command), cause) for cause in certain]
    return [*first, *(cause for cause in known.values() if cause.kind != "helm")]


def why_unready(host: Host, release: str, namespace: str, hidden: Sequence[str]) -> list[Cause]:
    """Why a release that nothing was done about is not ready, in one execution; empty when nothing tells."""
    evidence, _ = _gather(host, release, namespace, "")
    return [
        replace(cause, text=without(cause.text, tuple(hidden))) for cause in causes(evidence) if cause.kind != "helm"
    ]


def _gather(host: Host, release: str, namespace: str, error: str) -> tuple[Evidence, HelmRelease | None]:
    """What tells why, in one execution, and the release as it is now."""
    _, output = run_quietly(host, shell.evidence(release, namespace), privileges(host))
    storage, logs, objects = _sections(output.stdout_lines)
    try:
        after = parse(storage).release(namespace, release)
    except (KeyError, ValueError):
        after = None
    try:
        items = objects_of([json.loads(objects)]) if objects.strip() else []
    except ValueError:
        items = []
    return Evidence(release, namespace, host.name, error, items, logs), after


def _sight(host: Host, wanted: Wanted, word: str, arguments: dict[str, Any]) -> Sight | None:
    """The release as it is while Helm is at work on it, in one execution; None when it is not, or that can't be seen.

    Raises:
        ValueError: the answer is not of the expected form.
    """
    ok, output = run_quietly(host, shell.watch(wanted.namespace, word), arguments)
    times, _, rest = output.stdout.partition(f"{shell.NODES_MARK}\n")
    if not ok or not rest:
        return None
    nodes, *objects = rest.split(f"{shell.OBJECTS_MARK}\n")
    now, since = (int(time) for time in times.split())
    items = objects_of([json.loads(text) for text in objects])
    rooms = [(cpu, memory) for cpu, memory in (line.split() for line in nodes.splitlines())]
    return Sight(Evidence(wanted.release, wanted.namespace, host.name, objects=items), since, now, rooms)


def _sections(lines: list[str]) -> tuple[list[str], dict[str, list[str]], str]:
    """Rows of Helm's storage, logs by pod, and the JSON of objects, from what `evidence` printed."""
    storage: list[str] = []
    logs: dict[str, list[str]] = {}
    current = storage
    for number, line in enumerate(lines):
        if line == shell.OBJECTS_MARK:
            return storage, logs, "\n".join(lines[number + 1 :])
        if line.startswith(shell.LOG_MARK):
            current = logs.setdefault(line.removeprefix(shell.LOG_MARK), [])
        else:
            current.append(line)
    return storage, logs, ""


def _roll_back(host: Host, wanted: Wanted, after: HelmRelease | None) -> list[str]:
    """Back to the revision that was deployed last, if Helm made a new one that failed; said in lines.

    A first installation that failed is kept: what it lacks, such as an image on a slow line, may still come, and the
    next run goes on from there.
    """
    if after is None or after.status == "deployed":
        return ["nothing was changed in the cluster"]
    if after.is_pending:
        return [f"it is {after.status}: another Helm is at work on it"]
    if not after.last_deployed:
        return ["it is left as it is, and the next run goes on from there"]
    command = shell.rollback(
        wanted.release,
        wanted.namespace,
        after.last_deployed,
        min(wanted.timeout_s, _ROLLBACK_S),
        force_conflicts=_may_force(wanted, after),
    )
    ok, output = run_quietly(host, command, privileges(host))
    if ok:
        return [f"it was rolled back to revision {after.last_deployed}, which is ready"]
    said = without(output.stderr.strip(), wanted.hidden).splitlines()
    return [f"the rollback to revision {after.last_deployed} failed: {said[-1] if said else 'no reason given'}"]


# -- removing ------------------------------------------------------------------------------------------------


def absent_commands(
    host: Host, release: str, namespace: str, timeout_s: int = 300, report: Report = _nothing
) -> Commands:
    """What removes a release and leaves its volumes; `report` is told the outcome, during execution only."""
    tell: Report = report if host.state.is_executing else _nothing
    state = cached_fact(HelmReleases)
    if state is None or state.fault:
        if host.state.is_executing and state:
            yield refused(host, release, f"the Kubernetes API does not answer: {state.fault}", tell)
        else:
            host.noop("there is no cluster")
        return
    current = state.release(namespace, release)
    if current is None:
        host.noop(f"there is no release {release} in {namespace}")
        return
    owner = state.flux_owner(namespace, release)
    if owner:
        tell(Outcome(release, "left to Flux", f"HelmRelease {owner}"))
        host.noop(f"release {release} is left to Flux (HelmRelease {owner})")
        return
    if current.is_pending and not current.is_ours:
        yield refused(host, release, _someone_elses(host, current), tell)
        return
    yield FunctionCommand(_remove, (current, timeout_s, tell), {})


def _remove(state: State, host: Host, current: HelmRelease, timeout_s: int, report: Report) -> bool:
    arguments = privileges(host)

    def failed(reason: str) -> bool:
        text = f"{reason}\nnext: {typed(host.name, current.namespace, f'status {current.name}')}"
        report(Outcome(current.name, "failed", text))
        return fail(host, f"{host.name}: release {current.name} was not removed: {text}")

    ok, output = run_quietly(host, shell.retain_volumes(current.name, current.namespace, current.revision), arguments)
    if not ok:
        return failed(f"its volumes could not be protected: {output.stderr.strip() or 'no reason given'}")
    *volumes, record = output.stdout_lines or [""]
    try:
        kept_record, claims = keep_claims(record)
    except ValueError as error:
        return failed(str(error))
    if claims:
        patch = canonical({"data": {"release": base64.b64encode(kept_record.encode()).decode()}})
        command = shell.patch_record(current.name, current.namespace, current.revision)
        ok, output = run_quietly(host, command, arguments, stdin=patch)
        if not ok:
            return failed(f"its volume claims could not be marked as kept: {output.stderr.strip()}")
    ok, output = run_quietly(host, shell.uninstall(current.name, current.namespace, timeout_s), arguments)
    forget(host)
    if not ok:
        return failed(output.stderr.strip() or "Helm ended without saying why")
    host.log(f"release {current.name} is removed; {_kept(current.namespace, claims, volumes)}")
    report(Outcome(current.name, "removed", _kept(current.namespace, claims, volumes)))
    return True


def _kept(namespace: str, claims: list[str], volumes: list[str]) -> str:
    """What stays, for people."""
    parts = [f"volume claims {', '.join(claims)} stay"] if claims else []
    names = [line.removeprefix(shell.VOLUME_MARK) for line in volumes if line.startswith(shell.VOLUME_MARK)]
    parts += [f"volumes of {namespace} are kept (reclaim policy Retain): {', '.join(names)}"] if names else []
    return "; ".join(parts) or "it had no volumes"
