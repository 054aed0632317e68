"""Kubernetes Secrets from values that exist in memory only: on stdin to the host, and recognised by a mark."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from pydantic import SecretStr
from pyinfra.api import FunctionCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.state import State

from piclusterops.facts.cache import cached_fact, forget
from piclusterops.facts.kube import Objects
from piclusterops.helm_values import secret_texts, without
from piclusterops.k3s_config import BINARY
from piclusterops.kube_commands import KUBECTL
from piclusterops.kube_objects import DIGEST_ANNOTATION, ClusterObjects, Key, SecretState
from piclusterops.operations.managed import Commands, refuse
from piclusterops.operations.quiet import fail, privileges, run_quietly
from piclusterops.value_digest import canonical, is_mark_of, mark_of

MANAGER = "piclusterops"
_APPLY = f"{KUBECTL} apply --server-side --force-conflicts --field-manager={MANAGER} -f - >/dev/null"
#: In place of the mark while workloads that use the Secret are restarted: a run that ends then is repeated.
_UNFINISHED = "unfinished"
_RESTARTED = "@@restarted "

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

    @property
    def key(self) -> Key:
        """What identifies it."""
        return (self.namespace, self.name)

    def marked(self, values: Mapping[str, str]) -> dict[str, Any]:
        """What a mark is made of: all that may change."""
        return {"values": dict(values), "labels": dict(self.labels)}


@dataclass(frozen=True)
class _Change:
    wanted: WantedSecret
    values: dict[str, str] = field(repr=False)
    is_new: bool

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


def secret_commands(
    host: Host, secrets: Sequence[WantedSecret], timeout_s: int, missed: Missed | None = None
) -> Commands:
    """What brings Secrets to what they should be, in one round trip.

    `missed` is told of each that can't be brought, during execution only, and the others are brought all the same;
    without it that fails the host, and nothing is changed.
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
            host.log(f"Secret {change.wanted.namespace}/{change.wanted.name} {verb}: {', '.join(change.values)}")
    if changes:
        yield FunctionCommand(_put, (changes, timeout_s, missed), {})
    else:
        host.noop(f"{len(secrets) - len(faults)} Secrets are up to date")


class _Refusal(Exception):
    """Why a Secret can't be brought; holds no value."""


def _change(host: Host, wanted: WantedSecret, state: SecretState | None) -> _Change | None:
    """What is to be done about a Secret; None for nothing."""
    title = f"Secret {wanted.namespace}/{wanted.name}"
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


def _put(state: State, host: Host, changes: Sequence[_Change], timeout_s: int, missed: Missed | None) -> bool:
    for change in changes:
        loss = _loss(host, change)
        if loss:
            others = [other for other in changes if other is not change]
            told = _give_up(host, [change], loss, missed)
            return told and (not others or _put(state, host, others, timeout_s, missed))
    restarting = [change for change in changes if change.wanted.restarts and not change.is_new]
    first = [change.manifest(finished=change not in restarting) for change in changes]
    reason = _apply(host, first, changes)
    forget(host)
    if reason and missed and len(changes) > 1:
        # One by one, to learn which of them it is.
        done = [_put(state, host, [change], timeout_s, missed) for change in changes]
        return all(done)
    if reason:
        return _give_up(host, changes, reason, missed)
    workloads = sorted({workload for change in restarting for workload in change.wanted.restarts})
    reason = _restart(host, workloads, timeout_s) if workloads else ""
    if workloads and not reason:
        reason = _apply(host, [change.manifest() for change in restarting], restarting)
    return _give_up(host, restarting, reason, missed) if reason else True


def _loss(host: Host, change: _Change) -> str:
    """What would be lost by a change, because the cluster encrypted it with the old value; empty for nothing."""
    wanted = change.wanted
    if change.is_new or not wanted.kept:
        return ""
    read = f"-n {quote(wanted.namespace)} get secret {quote(wanted.name)}"
    ok, output = run_quietly(host, f"{KUBECTL} {read} -o json", privileges(host))
    if not ok:
        return f"Secret {wanted.namespace}/{wanted.name} can't be read: {output.stderr.strip()}"
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
        f"Secret {wanted.namespace}/{wanted.name} has another {key} than it should get, and what was encrypted with it "
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
    names = ", ".join(f"{change.wanted.namespace}/{change.wanted.name}" for change in changes)
    said = without(output.stderr.strip(), secrets) or "no reason given"
    return f"Secrets {names} could not be written: {said}\nnext: ssh {host.name} sudo k3s kubectl get namespaces"


def _restart(host: Host, workloads: Sequence[str], timeout_s: int) -> str:
    """Restart those of the workloads that are there, and wait for them; why not, or nothing."""
    lines = []
    for workload in workloads:
        namespace, kind, name = workload.split("/")
        target = f"-n {quote(namespace)} {{}} {quote(f'{kind}/{name}')}"
        lines.append(
            f"if {KUBECTL} {target.format('get')} >/dev/null 2>&1; then "
            f'{KUBECTL} {target.format("rollout restart")} >/dev/null && echo "{_RESTARTED}{workload}" && '
            f"{BINARY} kubectl {target.format('rollout status')} --timeout={timeout_s}s >/dev/null || exit 1; fi"
        )
    ok, output = run_quietly(host, "\n".join(lines), privileges(host))
    restarted = [line.removeprefix(_RESTARTED) for line in output.stdout_lines if line.startswith(_RESTARTED)]
    if restarted:
        host.log(f"restarted, as their Secret changed: {', '.join(restarted)}")
    if ok:
        return ""
    namespace, kind, name = (restarted or workloads)[-1].split("/")
    return (
        f"{kind} {namespace}/{name} did not restart well after a change of its Secret: {output.stderr.strip()}\n"
        f"next: ssh {host.name} sudo k3s kubectl -n {namespace} describe {kind.lower()} {name}"
    )
