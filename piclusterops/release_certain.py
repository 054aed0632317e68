"""What a release waits for in vain while Helm is at work: causes that waiting can't mend, and no others. Pure.

It errs on the side of waiting. Only pods of what Helm itself waits for count, of the revision that it has made now, and
a cause must last for a while: images may still come over a slow line, Secrets from operators, room from pods that end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from piclusterops.kube_nodes import timestamp
from piclusterops.release_causes import Cause, Evidence, causes

#: How long a cause must last before it is certain, in seconds.
LASTING_S = 60
#: The same for what others than the release may still bring: a Secret that an operator makes, room in a quota.
PATIENT_S = 180
#: After so many restarts the kubelet waits for minutes between two (10, 20, 40, 80, 160 s).
CRASHES = 5

_IMAGE_REASONS = ("InvalidImageName", "ErrImageNeverPull")
_OWNER = "meta.helm.sh/release-name"
_REVISION = "deployment.kubernetes.io/revision"
_MISSING_KEY = "couldn't find key "
_MISSING = re.compile(r'(secret|configmap) "[^"]+" not found')
_NOWHERE = re.compile(r"0/(\d+) nodes are available: (.*?)\.(?: preemption: .*)?$")
#: Reasons of the scheduler that do not pass: neither does a label come by itself, nor a volume to another node.
_LASTING_REASONS = re.compile(
    r"(\d+) node\(s\) (?:didn't match Pod's node affinity/selector|didn't match node selector"
    r"|had volume node affinity conflict)"
)
_QUOTA = re.compile(r"exceeded quota: ")


@dataclass(frozen=True)
class Sight:
    """A release while Helm is at work on it.

    Attributes:
        evidence: pods, jobs, workloads and events of its namespace.
        since: when Helm began, in seconds since the epoch.
        now: when this was seen, by the same clock.
        nodes: the CPU and memory of each node that pods can have, as the API writes it.
    """

    evidence: Evidence
    since: int
    now: int
    nodes: Sequence[tuple[str, str]] = ()


@dataclass
class Doubt:
    """What has been seen of a release so far: since when each cause lasts."""

    since: dict[tuple[str, str], int] = field(default_factory=dict)

    def certain(self, sight: Sight) -> list[Cause]:
        """The causes that have lasted long enough; one that was gone in between begins anew."""
        found = {(cause.kind, cause.next_command): (cause, lasting_s) for cause, lasting_s in _suspected(sight)}
        self.since = {key: self.since.get(key, sight.now) for key in found}
        return [cause for key, (cause, lasting_s) in found.items() if sight.now - self.since[key] >= lasting_s]


def _suspected(sight: Sight) -> Iterator[tuple[Cause, int]]:
    """Causes that waiting can't mend if they last, each with how long it has to, in seconds."""
    objects = _Awaited(sight)
    for pod in objects.pods():
        lasting_s = _of_containers(pod) or _of_scheduling(pod, sight.nodes)
        if lasting_s:
            yield from ((cause, lasting_s) for cause in _told(sight, pod))
    for item in objects.makers():
        events = objects.refusals(item)
        if events and (lasting_s := _of_refusal(str(events[-1].get("message", "")))):
            yield from ((cause, lasting_s) for cause in _told(sight, item, events[-1]))


def _told(sight: Sight, *objects: Mapping[str, Any]) -> list[Cause]:
    """The cause in words, of these objects alone; its name tells which they are."""
    own = [_of_release(item, sight.evidence.release) for item in objects]
    return [cause for cause in causes(replace(sight.evidence, error="", objects=own)) if cause.kind != "helm"]


def _of_release(item: Mapping[str, Any], release: str) -> Mapping[str, Any]:
    """An object that says itself which release it is of, as its owner does who is not there."""
    if item.get("kind") == "Event":
        return item
    meta = _meta(item)
    return {**item, "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), _OWNER: release}}}


# -- which objects -------------------------------------------------------------------------------------------


class _Awaited:
    """The objects that Helm waits for now."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._objects = sight.evidence.objects
        self._by_uid = {_meta(item).get("uid"): item for item in self._objects}

    def pods(self) -> Iterator[Mapping[str, Any]]:
        """Pods whose readiness Helm needs."""
        for pod in self._objects:
            if pod.get("kind") == "Pod" and not _meta(pod).get("deletionTimestamp") and self._is_awaited(pod):
                yield pod

    def makers(self) -> Iterator[Mapping[str, Any]]:
        """What makes such pods."""
        for item in self._objects:
            if item.get("kind") in ("ReplicaSet", "StatefulSet") and self._is_current(item):
                yield item

    def refusals(self, item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Events of this run by which the API refused pods, the newest last."""
        uid = _meta(item).get("uid")
        found = [
            event
            for event in self._objects
            if event.get("kind") == "Event"
            and event.get("reason") == "FailedCreate"
            and (event.get("involvedObject") or {}).get("uid") == uid
            and self._is_of_this_run(event.get("lastTimestamp"))
        ]
        return sorted(found, key=lambda event: str(event.get("lastTimestamp")))

    def _is_awaited(self, pod: Mapping[str, Any]) -> bool:
        owner = self._owner(pod)
        if owner is None:
            return False
        kind = owner.get("kind")
        if kind == "ReplicaSet":
            return self._is_current(owner)
        if kind == "StatefulSet":
            revision = (owner.get("status") or {}).get("updateRevision")
            is_newest = (_meta(pod).get("labels") or {}).get("controller-revision-hash") == revision is not None
            return is_newest and self._is_ours(owner) and _is_seen(owner)
        if kind == "DaemonSet":
            return self._is_ours(owner) and self._is_new(pod)
        is_hook = kind == "Job" and "helm.sh/hook" in (_meta(owner).get("annotations") or {})
        return is_hook and self._is_named(owner) and self._is_new(owner)

    def _is_current(self, item: Mapping[str, Any]) -> bool:
        """Whether a workload is one of the release, and a ReplicaSet the newest of its Deployment."""
        if item.get("kind") != "ReplicaSet":
            return self._is_ours(item)
        deployment = self._owner(item)
        if deployment is None or deployment.get("kind") != "Deployment" or not self._is_ours(deployment):
            return False
        newest = (_meta(deployment).get("annotations") or {}).get(_REVISION)
        return (_meta(item).get("annotations") or {}).get(_REVISION) == newest is not None and _is_seen(deployment)

    def _is_ours(self, item: Mapping[str, Any]) -> bool:
        return (_meta(item).get("annotations") or {}).get(_OWNER) == self._sight.evidence.release

    def _is_named(self, item: Mapping[str, Any]) -> bool:
        """Whether a hook, which Helm does not mark, is one of the release by what it is called."""
        release, labels = self._sight.evidence.release, _meta(item).get("labels") or {}
        label = labels.get("app.kubernetes.io/instance") or labels.get("release")
        name = str(_meta(item).get("name", ""))
        return label == release if label else name == release or name.startswith(f"{release}-")

    def _is_new(self, item: Mapping[str, Any]) -> bool:
        return self._is_of_this_run(_meta(item).get("creationTimestamp"))

    def _is_of_this_run(self, time: Any) -> bool:
        return bool(time) and timestamp(str(time)) >= self._sight.since

    def _owner(self, item: Mapping[str, Any]) -> Mapping[str, Any] | None:
        owners = [owner for owner in _meta(item).get("ownerReferences") or [] if owner.get("controller")]
        return self._by_uid.get(owners[0].get("uid")) if owners else None


def _meta(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return item.get("metadata") or {}


def _is_seen(item: Mapping[str, Any]) -> bool:
    """Whether the controller of a workload has seen it as it is now."""
    return bool((item.get("status") or {}).get("observedGeneration") == _meta(item).get("generation"))


# -- which causes --------------------------------------------------------------------------------------------


def _of_containers(pod: Mapping[str, Any]) -> int:
    """How long what a pod's containers say has to last; 0 for what may pass."""
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return next((lasting_s for container in containers if (lasting_s := _of_container(container))), 0)


def _of_container(container: Mapping[str, Any]) -> int:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason"), str(waiting.get("message", ""))
    if reason in _IMAGE_REASONS:
        return LASTING_S
    if reason == "CrashLoopBackOff" and int(container.get("restartCount") or 0) >= CRASHES:
        return LASTING_S
    if reason == "CreateContainerConfigError":
        return LASTING_S if message.startswith(_MISSING_KEY) else PATIENT_S if _MISSING.search(message) else 0
    return 0


def _of_scheduling(pod: Mapping[str, Any], nodes: Sequence[tuple[str, str]]) -> int:
    """The same of a pod that no node will ever take."""
    conditions = {entry.get("type"): entry for entry in (pod.get("status") or {}).get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return 0
    return LASTING_S if _is_nowhere(str(scheduled.get("message", ""))) or _is_too_large(pod, nodes) else 0


def _is_nowhere(message: str) -> bool:
    """Whether no node has what the pod asks for by name, whatever room there is."""
    found = _NOWHERE.match(message)
    if found is None:
        return False
    reasons = [_LASTING_REASONS.fullmatch(reason.strip()) for reason in found[2].split(", ")]
    return all(reasons) and sum(int(reason[1]) for reason in reasons if reason) == int(found[1])


def _is_too_large(pod: Mapping[str, Any], nodes: Sequence[tuple[str, str]]) -> bool:
    """Whether a pod asks for more than any node has when it is empty."""
    containers = (pod.get("spec") or {}).get("containers") or []
    requests = [(container.get("resources") or {}).get("requests") or {} for container in containers]
    try:
        cpu = sum(_quantity(str(request.get("cpu", "0"))) for request in requests)
        memory = sum(_quantity(str(request.get("memory", "0"))) for request in requests)
        rooms = [(_quantity(node_cpu), _quantity(node_memory)) for node_cpu, node_memory in nodes]
    except ValueError:
        return False
    return bool(rooms) and all(cpu > node_cpu or memory > node_memory for node_cpu, node_memory in rooms)


_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def _quantity(text: str) -> float:
    """A quantity of the API as a number.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(text)
    return float(found[1]) * _UNITS[found[2]]


def _of_refusal(message: str) -> int:
    """How long a refusal of the API to make pods has to last; 0 for one that may pass."""
    if 'violates PodSecurity "' in message:
        return LASTING_S
    return PATIENT_S if _QUOTA.search(message) else 0
