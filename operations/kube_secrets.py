"""Kubernetes Secrets from values that exist in memory only: on stdin to the host, and recognised by a mark."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from pydantic import SecretStr
from pyinfra.api import FunctionCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.state import State

from piclusterops.catalogue import Tell
from piclusterops.facts.cache import cached_fact, forget
from piclusterops.facts.kube import Objects
from piclusterops.helm_values import secret_texts, without
from piclusterops.kube_commands import KUBECTL, PATIENT_KUBECTL
from piclusterops.kube_objects import DIGEST_ANNOTATION, ClusterObjects, Key, SecretState
from piclusterops.operations.managed import Commands, refuse
from piclusterops.operations.quiet import fail, privileges, run_quietly
from piclusterops.value_digest import canonical, is_mark_of, mark_of

MANAGER = "piclusterops"
_APPLY = f"{KUBECTL} apply --server-side --force-conflicts --field-manager={MANAGER} -f - >/dev/null"
#: In place of the mark while servers are told of the Secret and its users restarted: a run that ends then is repeated.
_UNFINISHED = "unfinished"
_RESTARTED = "@@restarted "
_THERE = "@@there "
#: How long a server that is to be told may take to be ready, and then to take it in, in seconds. A longer wait would
#: only hold up the rest of the run, which may be what mends the server.
_READY_S = 120
_TELL_S = 400

Values = Mapping[str, str | SecretStr]
#: Told of a Secret that could not be brought: why.
Missed = Callable[["WantedSecret", str], None]


@dataclass(frozen=True)
class WantedSecret:
    """A Secret as it should be.

    Attributes:
        name: its name.
        namespace: its namespace.
        values: gives key and value, when they are needed.
        type: its type.
        restarts: workloads to restart after a change of it: `namespace/kind/name`.
        tells: servers to tell of a change of it, before any restart.
        made_of: names of the Secrets that its values come from, its own included. Where a server could not be told of
            one Secret, users of others that are made of the same are not restarted.
        labels: labels that its users look for, such as `cnpg.io/reload`.
        kept: keys that data is encrypted with: a value that the cluster has is never replaced by another.
    """

    name: str
    namespace: str
    values: Callable[[], Values] = field(repr=False)
    type: str = "Opaque"
    restarts: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    tells: tuple[Tell, ...] = ()
    made_of: frozenset[str] = frozenset()

    @property
    def key(self) -> Key:
        """What identifies it."""
        return (self.namespace, self.name)

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.namespace}/{self.name}"

    def is_related_to(self, other: WantedSecret) -> bool:
        """Whether both have values of one Secret."""
        return bool({self.name, *self.made_of} & {other.name, *other.made_of})

    def marked(self, values: Mapping[str, str]) -> dict[str, Any]:
        """What a mark is made of: all that may change."""
        return {"values": dict(values), "labels": dict(self.labels)}


@dataclass(frozen=True)
class _Change:
    wanted: WantedSecret
    values: dict[str, str] = field(repr=False)
    is_new: bool

    def said(self, tell: Tell) -> str:
        """What a server reads from its standard input; secret."""
        return "".join(f"{self.values[key].removesuffix(chr(10))}\n" for key in tell.stdin)

    def manifest(self, finished: bool = True) -> dict[str, Any]:
        """The object, secret; its mark says whether all that follows from it is done."""
        mark = mark_of(self.wanted.marked(self.values)) if finished else _UNFINISHED
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": self.wanted.type,
            "metadata": {
                "name": self.wanted.name,
                "namespace": self.wanted.namespace,
                "labels": {**self.wanted.labels, "app.kubernetes.io/managed-by": MANAGER},
                "annotations": {DIGEST_ANNOTATION: mark},
            },
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in self.values.items()},
        }


@dataclass(frozen=True)
class _Way:
    """How changes are made: all that does not depend on the change."""

    timeout_s: int
    missed: Missed | None
    unfinished: Missed | None
    order: Sequence[str]


def secret_commands(
    host: Host,
    secrets: Sequence[WantedSecret],
    timeout_s: int,
    missed: Missed | None = None,
    unfinished: Missed | None = None,
    order: Sequence[str] = (),
) -> Commands:
    """What brings Secrets to what they should be, in one round trip; then tells servers, then restarts their users.

    Args:
        host: the server to run kubectl on.
        secrets: the Secrets.
        timeout_s: how long a restarted workload may take to be ready.
        missed: told of each that can't be brought, during execution only, and the others are brought all the same;
            without it that fails the host, and nothing is changed.
        unfinished: told of each that is brought and not in force everywhere; the next run repeats what is left of it.
            Without it `missed` is told.
        order: workloads in the order of their restart, servers before their users.
    """
    if not secrets:
        host.noop("there are no Secrets to keep")
        return
    objects, executing = cached_fact(Objects), host.state.is_executing
    if executing and (objects is None or objects.fault):
        reason = objects.fault if objects else "there is no API server: K3s has not started"
        yield refuse(f"{host.name}: the Kubernetes API does not answer: {reason}")
        return
    known = objects or ClusterObjects()
    changes: list[_Change] = []
    faults: list[str] = []
    for wanted in secrets:
        state = known.secrets.get(wanted.key)
        try:
            change = _change(host, wanted, state)
        except _Refusal as refusal:
            faults.append(str(refusal))
            if missed and executing:
                missed(wanted, str(refusal))
            continue
        changes += [change] if change else []
    if faults and not missed:
        yield refuse("\n".join(f"{host.name}: {fault}" for fault in faults))
        return
    for change in changes:
        verb = "is made" if change.is_new else "changes"
        if not executing:
            host.log(f"Secret {change.wanted.title} {verb}: {', '.join(change.values)}")
    if changes:
        yield FunctionCommand(_put, (changes, _Way(timeout_s, missed, unfinished or missed, order)), {})
    else:
        host.noop(f"{len(secrets) - len(faults)} Secrets are up to date")


class _Refusal(Exception):
    """Why a Secret can't be brought; holds no value."""


def _change(host: Host, wanted: WantedSecret, state: SecretState | None) -> _Change | None:
    """What is to be done about a Secret; None for nothing."""
    title = f"Secret {wanted.title}"
    look = f"ssh {host.name} sudo k3s kubectl -n {wanted.namespace}"
    if state and not state.mark:
        raise _Refusal(
            f"{title} is there and not ours, so it is left alone\n"
            f"next: delete it, or hand it over: {look} annotate secret {wanted.name} {DIGEST_ANNOTATION}=handed-over"
        )
    if state and state.type != wanted.type:
        raise _Refusal(
            f"{title} is of type {state.type}, and a type can't be changed to {wanted.type}\n"
            f"next: {look} delete secret {wanted.name}, then run again"
        )
    try:
        values = {key: _plain(value) for key, value in wanted.values().items()}
    except PyinfraError as error:
        raise _Refusal(f"{title}: {error}") from error
    except (LookupError, OSError, ValueError) as error:
        # its text may hold a value
        raise _Refusal(f"{title}: its values can't be had ({type(error).__name__})") from error
    if state and is_mark_of(state.mark, wanted.marked(values)):
        return None
    return _Change(wanted, values, state is None)


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _put(state: State, host: Host, changes: Sequence[_Change], way: _Way) -> bool:
    for change in changes:
        loss = _loss(host, change)
        if loss:
            others = [other for other in changes if other is not change]
            told = _give_up(host, [change], loss, way.missed)
            return told and (not others or _put(state, host, others, way))
    there, reason = _running(host, [tell for change in changes for tell in change.wanted.tells])
    if reason:
        return _give_up(host, changes, reason, way.missed)
    pending = [change for change in changes if _restarts(change) or there & _targets(change)]
    absent, well = _write(host, changes, pending, way)
    if absent and not way.missed:
        return False
    return _follow(host, [change for change in pending if change not in absent], absent, there, way) and well


def _write(host: Host, changes: Sequence[_Change], pending: Sequence[_Change], way: _Way) -> tuple[list[_Change], bool]:
    """Write Secrets; returns those that could not be written, and whether the others may go on."""
    manifests = [change.manifest(finished=change not in pending) for change in changes]
    reason = _apply(host, manifests, changes)
    forget(host)
    if not reason:
        return [], True
    if not way.missed or len(changes) == 1:
        return list(changes), _give_up(host, changes, reason, way.missed)
    # One by one, to learn which of them it is.
    absent = []
    for change, manifest in zip(changes, manifests, strict=True):
        if reason := _apply(host, [manifest], [change]):
            absent.append(change)
            _give_up(host, [change], reason, way.missed)
    return absent, True


class _Open:
    """Changes that are written, while their servers are told and their users restarted; and why one went wrong."""

    def __init__(self, changes: Sequence[_Change]) -> None:
        self.changes = list(changes)
        self.failed: dict[str, list[_Change]] = {}

    def __iter__(self) -> Iterator[_Change]:
        return iter(self.changes)

    def fail(self, wanted: Sequence[WantedSecret], reason: str) -> None:
        """Take out what is related to these."""
        related = [change for change in self.changes if any(change.wanted.is_related_to(one) for one in wanted)]
        self.changes = [change for change in self.changes if change not in related]
        if related:
            self.failed.setdefault(reason, []).extend(related)


def _follow(
    host: Host, pending: Sequence[_Change], absent: Sequence[_Change], there: frozenset[str], way: _Way
) -> bool:
    """Do what follows from Secrets that were written: first servers are told, then their users restarted."""
    if not pending:
        return True
    left = _Open(pending)
    for change in absent:
        left.fail([change.wanted], f"it waits for the Secret {change.wanted.title}, which could not be written")
    for tell, said in {(tell, change.said(tell)): None for change in left for tell in change.wanted.tells}:
        users = [change for change in left if tell in change.wanted.tells and change.said(tell) == said]
        if users and tell.workload in there and (reason := _tell(host, tell, said, users)):
            left.fail([change.wanted for change in users], reason)
    for workload in _in_order({workload for change in left for workload in _restarts(change)}, way.order):
        users = [change for change in left if workload in _restarts(change)]
        if users and (reason := _restart(host, workload, way.timeout_s)):
            left.fail([change.wanted for change in users], reason)
    if left.changes and (reason := _apply(host, [change.manifest() for change in left], left)):
        left.failed[reason] = left.changes
    forget(host)
    given_up = [_give_up(host, changes, reason, way.unfinished) for reason, changes in left.failed.items()]
    return all(given_up)


def _restarts(change: _Change) -> tuple[str, ...]:
    """The workloads to restart; a new Secret is what its users wait for."""
    return () if change.is_new else change.wanted.restarts


def _targets(change: _Change) -> set[str]:
    return {tell.workload for tell in change.wanted.tells}


def _in_order(workloads: set[str], order: Sequence[str]) -> list[str]:
    place = {workload: number for number, workload in enumerate(order)}
    return sorted(workloads, key=lambda workload: (place.get(workload, len(place)), workload))


def _loss(host: Host, change: _Change) -> str:
    """What would be lost by a change, because the cluster encrypted it with the old value; empty for nothing."""
    wanted = change.wanted
    if change.is_new or not wanted.kept:
        return ""
    read = f"-n {quote(wanted.namespace)} get secret {quote(wanted.name)}"
    ok, output = run_quietly(host, f"{KUBECTL} {read} -o json", privileges(host))
    if not ok:
        return f"Secret {wanted.title} can't be read: {output.stderr.strip()}"
    live: dict[str, str] = json.loads(output.stdout).get("data") or {}
    for key in wanted.kept:
        new = base64.b64encode(change.values.get(key, "").encode()).decode()
        if live.get(key) and live[key] != new:
            return _about_loss(host, wanted, key)
    return ""


def _about_loss(host: Host, wanted: WantedSecret, key: str) -> str:
    """What one does about a value that differs and must not."""
    template = f"{{{{index .data {json.dumps(key)} | base64decode}}}}"
    kubectl = f"sudo k3s kubectl -n {wanted.namespace}"
    keep = f"{kubectl} get secret {wanted.name} -o go-template={quote(template)}"
    return (
        f"Secret {wanted.title} has another {key} than it should get, and what was encrypted with it "
        "could not be read again: it is left alone\n"
        f"next: ssh {host.name} {quote(keep)} | picluster secrets set {wanted.name} {key}\n"
        f"or, only if that data may be lost: ssh {host.name} {kubectl} delete secret {wanted.name}, then run again"
    )


def _give_up(host: Host, changes: Sequence[_Change], reason: str, missed: Missed | None) -> bool:
    """Fail the host, or tell of each Secret instead, and go on."""
    fail(host, f"{host.name}: {reason}")
    for change in changes if missed else ():
        assert missed
        missed(change.wanted, reason)
    return missed is not None


def _apply(host: Host, manifests: Sequence[Mapping[str, Any]], changes: Iterable[_Change]) -> str:
    """Bring Secrets; why not, or nothing."""
    payload = canonical({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    ok, output = run_quietly(host, _APPLY, privileges(host), stdin=payload)
    if ok:
        return ""
    secrets = [text for change in changes for text in secret_texts(change.values)]
    names = ", ".join(change.wanted.title for change in changes)
    said = without(output.stderr.strip(), secrets) or "no reason given"
    return f"Secrets {names} could not be written: {said}\nnext: ssh {host.name} sudo k3s kubectl get namespaces"


def _target(workload: str) -> tuple[str, str, str]:
    """Namespace, name for kubectl, and what to type to look at a workload."""
    namespace, kind, name = workload.split("/")
    return quote(namespace), quote(f"{kind}/{name}"), f"sudo k3s kubectl -n {namespace} describe {kind.lower()} {name}"


def _running(host: Host, tells: Sequence[Tell]) -> tuple[frozenset[str], str]:
    """Which of the servers are installed, or why that can't be known."""
    if not tells:
        return frozenset(), ""
    lines = []
    for workload in sorted({tell.workload for tell in tells}):
        namespace, target, _ = _target(workload)
        get = f"{KUBECTL} -n {namespace} get {target} --ignore-not-found -o name"
        lines.append(f'found=$({get}) || exit 1; [ -z "$found" ] || echo {quote(_THERE + workload)}')
    ok, output = run_quietly(host, "\n".join(lines), privileges(host))
    if not ok:
        return frozenset(), f"which servers are to be told of their new Secrets can't be seen: {output.stderr.strip()}"
    return frozenset(line.removeprefix(_THERE) for line in output.stdout_lines if line.startswith(_THERE)), ""


def _tell(host: Host, tell: Tell, said: str, users: Sequence[_Change]) -> str:
    """Tell a server of a new value, which it reads from its standard input; why that went wrong, or nothing."""
    namespace, target, look = _target(tell.workload)
    names = ", ".join(change.wanted.title for change in users)
    # The first must not read what the second is to be given.
    ready = f"{PATIENT_KUBECTL} -n {namespace} rollout status {target} --timeout={_READY_S}s </dev/null >/dev/null"
    command = " ".join(quote(word) for word in tell.command)
    run = f"timeout {_TELL_S} {PATIENT_KUBECTL} -n {namespace} exec -i {target} -c {quote(tell.container)} -- {command}"
    ok, output = run_quietly(host, f"{ready} && {run}", privileges(host), stdin=said)
    if ok:
        host.log(f"told {tell.workload} of its new Secret {names}")
        return ""
    secrets = [text for change in users for text in secret_texts(change.values)]
    lines = without(f"{output.stdout}\n{output.stderr}".strip(), secrets).splitlines()
    return (
        f"{tell.workload} could not be told of its new Secret {names}, and works with the old one: "
        f"{'; '.join(line.strip() for line in lines[-3:]) or 'no reason given'}\n"
        f"next: ssh {host.name} {look}; the next run tells it again"
    )


def _restart(host: Host, workload: str, timeout_s: int) -> str:
    """Restart a workload if it is there, and wait for it; why that went wrong, or nothing."""
    namespace, target, look = _target(workload)
    do = f"{KUBECTL} -n {namespace}"
    script = (
        f"if {do} get {target} >/dev/null 2>&1; then "
        f"{do} rollout restart {target} >/dev/null && echo {quote(_RESTARTED)} && "
        f"{PATIENT_KUBECTL} -n {namespace} rollout status {target} --timeout={timeout_s}s >/dev/null || exit 1; fi"
    )
    ok, output = run_quietly(host, script, privileges(host))
    if any(line.startswith(_RESTARTED.strip()) for line in output.stdout_lines):
        host.log(f"restarted, as their Secret changed: {workload}")
    if ok:
        return ""
    namespace, kind, name = workload.split("/")
    return (
        f"{kind} {namespace}/{name} did not restart well after a change of its Secret: {output.stderr.strip()}\n"
        f"next: ssh {host.name} {look}"
    )
