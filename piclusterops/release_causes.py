"""Why a Helm release did not become ready: from what Helm and the Kubernetes API say to causes and next commands. Pure.

The texts are Kubernetes' and Helm's own: kubelet reasons (pkg/kubelet/images/types.go, kuberuntime), the scheduler's
``PodScheduled`` condition, events of the controllers, and errors of Helm 4 (pkg/action, pkg/kube).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from piclusterops.k3s_causes import brief
from piclusterops.k3s_config import KUBECONFIG

_OWNER = "meta.helm.sh/release-name"
_OWNER_NAMESPACE = "meta.helm.sh/release-namespace"
_INSTANCE_LABELS = ("app.kubernetes.io/instance", "release")
#: What owns the pods of a release, directly or through each other.
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")
_IMAGE_REASONS = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_MOST = 5

#: In this order causes are told: what the rest follows from comes first.
_RANKS = (
    "crd",
    "conflict",
    "owner",
    "schema",
    "refused",
    "webhook",
    "namespace",
    "quota",
    "create",
    "image",
    "config",
    "mount",
    "job",
    "crash",
    "oom",
    "volume",
    "unschedulable",
    "unready",
    "helm",
)


@dataclass(frozen=True)
class Cause:
    """One reason, in a line, and the command that tells more; `kind` is one of a fixed set of words."""

    kind: str
    text: str
    next_command: str


@dataclass(frozen=True)
class Evidence:
    """What is known of a release that failed.

    Attributes:
        release: its name.
        namespace: its namespace.
        host: the server that Helm ran on, for commands.
        error: what Helm wrote to its standard error.
        objects: pods, jobs, workloads, claims and events of the namespace, as ``kubectl get -o json`` has them.
        logs: last lines of pods, by name of the pod.
    """

    release: str
    namespace: str
    host: str
    error: str = ""
    objects: Sequence[Mapping[str, Any]] = ()
    logs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def kubectl(self, arguments: str) -> str:
        """A command to type on the controller."""
        return f"ssh {self.host} sudo k3s kubectl -n {self.namespace} {arguments}"


def typed(host: str, namespace: str, arguments: str) -> str:
    """A command of Helm to type on the controller."""
    return f"ssh {host} sudo helm --kubeconfig {KUBECONFIG} -n {namespace} {arguments}"


def causes(evidence: Evidence) -> list[Cause]:
    """The reasons, those that others follow from first; at most five, and at least one."""
    objects = _Objects(evidence)
    found = [
        *_of_helm(evidence),
        *_of_controllers(evidence, objects),
        *_of_jobs(evidence, objects),
        *_of_pods(evidence, objects),
        *_of_claims(evidence, objects),
    ]
    if not found:
        found = list(_of_idle_claims(evidence, objects)) or list(_not_ready_for_helm(evidence)) or [_unknown(evidence)]
    distinct = list(dict.fromkeys(found))
    return sorted(distinct, key=lambda cause: _RANKS.index(cause.kind))[:_MOST]


# -- what Helm itself says -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Saying:
    kind: str
    pattern: re.Pattern[str]
    text: str
    next_command: str


def _saying(kind: str, pattern: str, text: str, next_command: str) -> _Saying:
    return _Saying(kind, re.compile(pattern, re.IGNORECASE | re.DOTALL), text, next_command)


#: Groups of the pattern fill the texts; the first that matches of a kind counts.
_SAYINGS = (
    _saying(
        "crd",
        r'no matches for kind "(?P<what>[^"]+)" in version "(?P<where>[^"]+)"',
        "the cluster does not know {what} ({where}): its CRDs are not installed",
        "get crds; the release that brings them comes first",
    ),
    _saying(
        "crd",
        r"resource mapping not found|ensure CRDs are installed first",
        "CRDs that the chart needs are not installed",
        "get crds",
    ),
    _saying(
        "conflict",
        r'applying object (?:[^/\s]+/)?(?P<name>\S+) \S+, Kind=(?P<kind>\w+): [^"]*'
        r'conflict with "(?P<what>[^"]+)"(?: using [^:]+)?: (?P<where>\S+)',
        "{where} of {kind} {name} is owned by {what}, who changed it outside of Helm",
        "get {kind} {name} --show-managed-fields -o yaml; undo that change, or leave the release to its other owner",
    ),
    _saying(
        "owner",
        r'(?P<what>\w+) "(?P<where>[^"]+)" in namespace "[^"]*" exists and cannot be imported',
        "{what} {where} exists already and is not of this release",
        "get {what} {where} -o yaml; delete or rename it if nothing needs it",
    ),
    _saying(
        "owner",
        r'(?P<what>\w+) "(?P<where>[^"]+)" exists and cannot be imported',
        "{what} {where} exists already and is not of this release",
        "get {what} {where} -o yaml; delete or rename it if nothing needs it",
    ),
    _saying(
        "schema",
        r"values don't meet the specifications of the schema.*?\n- (?P<what>[^\n]+)",
        "its values are not what the chart's schema wants: {what}",
        "",
    ),
    _saying(
        "schema",
        r"execution error at \((?P<where>[^)]+)\): (?P<what>[^\n]+)",
        "the chart refuses its values: {what} ({where})",
        "",
    ),
    _saying(
        "schema",
        r"Error: (?:UPGRADE FAILED: )?(?P<where>\S+/templates/\S+)\n\s*executing [^\n]*\n\s*(?P<what>[^\n]+)",
        "the chart can't be rendered: {what} ({where})",
        "",
    ),
    _saying(
        "schema",
        r"(?P<what>(parse error at|YAML parse error on|error converting YAML)[^\n]+)",
        "the chart can't be rendered: {what}",
        "",
    ),
    _saying(
        "schema",
        r"(?P<what>chart requires kubeVersion: [^\n]+)",
        "{what}",
        "version",
    ),
    _saying(
        "refused",
        r'(?P<what>\w+)(\.\w+)? "(?P<where>[^"]+)" is invalid: '
        r"(?P<why>[^\n]*(field is immutable|forbidden: updates to)[^\n]*)",
        "{what} {where} can't be changed in place: {why}",
        "get {what} {where} -o yaml; if it holds no data, delete it with --cascade=orphan and run again",
    ),
    _saying(
        "webhook",
        r'failed calling webhook "(?P<what>[^"]+)": (?P<why>[^\n]+)',
        "the admission webhook {what} does not answer: {why}",
        "get validatingwebhookconfigurations,mutatingwebhookconfigurations; its pods must be ready first",
    ),
    _saying(
        "refused",
        r'admission webhook "(?P<what>[^"]+)" denied the request: (?P<why>[^\n]+)',
        "the admission webhook {what} refuses it: {why}",
        "",
    ),
    _saying(
        "quota",
        r"exceeded quota: (?P<what>[^,\n]+)(?P<why>[^\n]*)",
        "the quota {what} of the namespace is used up{why}",
        "describe resourcequotas",
    ),
    _saying(
        "refused",
        r'violates PodSecurity "(?P<what>[^"]+)": (?P<why>[^\n]+)',
        "Pod Security ({what}) of the namespace forbids its pods: {why}",
        "get namespace {namespace} --show-labels",
    ),
    _saying(
        "namespace",
        r'namespaces "(?P<what>[^"]+)" not found',
        "there is no namespace {what}",
        "get namespaces",
    ),
    _saying(
        "refused",
        r'(?P<what>\w+)(\.[\w.]+)? "(?P<where>[^"]+)" is invalid: (?P<why>[^\n]+)',
        "the API refuses {what} {where}: {why}",
        "",
    ),
    _saying(
        "helm",
        r"(connection refused|i/o timeout|connection reset|the connection to the server)(?P<why>[^\n]*)",
        "the Kubernetes API does not answer",
        "get nodes",
    ),
)


def _of_helm(evidence: Evidence) -> Iterator[Cause]:
    seen: set[str] = set()
    for saying in _SAYINGS:
        match = saying.pattern.search(evidence.error)
        if match is None or saying.kind in seen:
            continue
        seen.add(saying.kind)
        words = {name: (value or "").strip().rstrip(".") for name, value in match.groupdict().items()}
        words["namespace"] = evidence.namespace
        command, _, remark = saying.next_command.partition(";")
        text = brief(saying.text.format_map(words))
        yield Cause(saying.kind, text, _next(evidence, command.format_map(words), remark))


def _next(evidence: Evidence, command: str, remark: str = "") -> str:
    """A kubectl command with what to do after it; of faults in values and charts, a look at the values."""
    if not command:
        return typed(evidence.host, evidence.namespace, f"get values {evidence.release}")
    return evidence.kubectl(command) + (f"  #{remark}" if remark else "")


def _not_ready_for_helm(evidence: Evidence) -> Iterator[Cause]:
    """What Helm waited for, when the API does not tell why."""
    pattern = r"resource (\w+)/[^/\s]*/(\S+) not ready\. status: \w+, message: ([^\n]+)"
    for kind, name, message in re.findall(pattern, evidence.error):
        yield Cause(
            "unready", brief(f"{kind} {name} is not ready: {message}"), evidence.kubectl(f"describe {kind} {name}")
        )


def _unknown(evidence: Evidence) -> Cause:
    said = [line for line in evidence.error.splitlines() if line.strip()]
    text = re.sub(r"^Error: ", "", said[-1]) if said else "Helm ended without saying why"
    return Cause("helm", brief(text), evidence.kubectl("get pods,events"))


# -- what the API says ---------------------------------------------------------------------------------------


class _Objects:
    """The objects of a release among those of its namespace."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._by_uid = {_meta(item).get("uid", ""): item for item in evidence.objects}

    def of(self, *kinds: str) -> list[Mapping[str, Any]]:
        """Objects of these kinds that belong to the release."""
        return [item for item in self._evidence.objects if item.get("kind") in kinds and self._is_ours(item)]

    def events(self, item: Mapping[str, Any], kind: str = "Warning") -> list[Mapping[str, Any]]:
        """The events about an object, the newest last."""
        meta = _meta(item)
        found = [
            event
            for event in self._evidence.objects
            if event.get("kind") == "Event"
            and event.get("type") == kind
            and _is_about(event.get("involvedObject") or {}, str(item.get("kind")), meta)
        ]
        return sorted(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))

    def _is_ours(self, item: Mapping[str, Any], depth: int = 0) -> bool:
        meta, evidence = _meta(item), self._evidence
        notes, labels = meta.get("annotations") or {}, meta.get("labels") or {}
        if _OWNER in notes:
            same_namespace = notes.get(_OWNER_NAMESPACE, evidence.namespace) == evidence.namespace
            return bool(notes[_OWNER] == evidence.release and same_namespace)
        for owner in meta.get("ownerReferences") or []:
            above = self._by_uid.get(owner.get("uid", ""))
            if above is not None and depth < 5:
                return self._is_ours(above, depth + 1)
        for label in _INSTANCE_LABELS:
            if label in labels:
                return bool(labels[label] == evidence.release)
        name = str(meta.get("name", ""))
        return name == evidence.release or name.startswith(f"{evidence.release}-")


def _is_about(target: Mapping[str, Any], kind: str, meta: Mapping[str, Any]) -> bool:
    if target.get("uid") and meta.get("uid"):
        return bool(target["uid"] == meta["uid"])
    return target.get("kind") == kind and target.get("name") == meta.get("name")


def _meta(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return item.get("metadata") or {}


def _name(item: Mapping[str, Any]) -> str:
    return str(_meta(item).get("name", ""))


def _of_controllers(evidence: Evidence, objects: _Objects) -> Iterator[Cause]:
    """Pods that could not even be made: quotas, Pod Security, missing service accounts."""
    for item in objects.of(*_WORKLOADS):
        failed = [event for event in objects.events(item) if event.get("reason") == "FailedCreate"]
        if not failed or _is_satisfied(item):
            continue
        message = str(failed[-1].get("message", ""))
        command = evidence.kubectl(f"describe {item['kind'].lower()} {_name(item)}")
        if quota := re.search(r"exceeded quota: ([^,]+), (.*)", message):
            text = f"the quota {quota[1]} of the namespace is used up: {quota[2]}"
            yield Cause("quota", brief(text), evidence.kubectl("describe resourcequotas"))
        elif policy := re.search(r'violates PodSecurity "([^"]+)": (.*)', message):
            yield Cause("refused", brief(f"Pod Security ({policy[1]}) forbids its pods: {policy[2]}"), command)
        else:
            yield Cause("create", brief(f"{item['kind']} {_name(item)} can't make its pods: {message}"), command)


def _is_satisfied(item: Mapping[str, Any]) -> bool:
    """Whether a workload has its pods in the end: an early refusal is past then."""
    spec, status = item.get("spec") or {}, item.get("status") or {}
    if item.get("kind") == "Job":
        return bool(status.get("succeeded") or status.get("active"))
    if item.get("kind") == "DaemonSet":
        return int(status.get("numberReady") or 0) >= int(status.get("desiredNumberScheduled") or 0) > 0
    wanted = spec.get("replicas", 1)
    return int(status.get("replicas") or 0) >= int(1 if wanted is None else wanted)


def _of_jobs(evidence: Evidence, objects: _Objects) -> Iterator[Cause]:
    pods = objects.of("Pod")
    for job in objects.of("Job"):
        failed = _job_failure(job)
        if failed is None:
            continue
        own = [pod for pod in pods if _meta(job).get("uid") in _owners(pod)]
        said = next((line for pod in reversed(own) if (line := _last_line(evidence, _name(pod)))), "")
        hook = " (a hook)" if "helm.sh/hook" in (_meta(job).get("annotations") or {}) else ""
        why = str(failed.get("message") or failed.get("reason") or "")
        text = f"Job {_name(job)}{hook} failed: {why}" + (f"; its log ends with: {said}" if said else "")
        yield Cause("job", brief(text), evidence.kubectl(f"logs job/{_name(job)} --all-containers"))


def _job_failure(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The condition that says that a Job failed."""
    for entry in (job.get("status") or {}).get("conditions") or []:
        if entry.get("type") == "Failed" and entry.get("status") == "True":
            return dict(entry)
    return None


def _owners(item: Mapping[str, Any]) -> list[str]:
    return [str(owner.get("uid")) for owner in _meta(item).get("ownerReferences") or []]


def _last_line(evidence: Evidence, pod: str) -> str:
    lines = [line for line in evidence.logs.get(pod, ()) if line.strip()]
    return brief(lines[-1].strip())[:300] if lines else ""


def _of_pods(evidence: Evidence, objects: _Objects) -> Iterator[Cause]:
    told = {_meta(job).get("uid") for job in objects.of("Job") if _job_failure(job)}
    for pod in objects.of("Pod"):
        is_past = (pod.get("status") or {}).get("phase") == "Succeeded" or _meta(pod).get("deletionTimestamp")
        if is_past or told & set(_owners(pod)):
            continue
        found = list(_of_containers(evidence, pod))
        yield from found
        if not found:
            yield from _of_pod(evidence, objects, pod)


def _of_containers(evidence: Evidence, pod: Mapping[str, Any]) -> Iterator[Cause]:
    status, name = pod.get("status") or {}, _name(pod)
    describe = evidence.kubectl(f"describe pod {name}")
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
        if reason in _IMAGE_REASONS:
            yield Cause("image", brief(f"pod {name}: image {container.get('image')} can't be had ({reason})"), describe)
        elif reason in _CONFIG_REASONS:
            text = f"pod {name}: container {container.get('name')}: {message or reason}"
            yield Cause("config", brief(text), describe)
        elif ended.get("reason") == "OOMKilled":
            text = f"pod {name}: container {container.get('name')} needs more memory than its limit (OOMKilled)"
            yield Cause("oom", text, describe)
        elif reason == "CrashLoopBackOff" or (ended.get("exitCode") and not container.get("ready")):
            yield _crash(evidence, name, container, ended)


def _crash(evidence: Evidence, pod: str, container: Mapping[str, Any], ended: Mapping[str, Any]) -> Cause:
    said = _last_line(evidence, pod)
    code = f"exit code {ended['exitCode']}" if "exitCode" in ended else "no exit code"
    text = f"pod {pod}: container {container.get('name')} ends again and again ({code})"
    command = f"logs {pod} -c {container.get('name')} --previous"
    return Cause("crash", brief(text + (f"; its log ends with: {said}" if said else "")), evidence.kubectl(command))


def _of_pod(evidence: Evidence, objects: _Objects, pod: Mapping[str, Any]) -> Iterator[Cause]:
    """A pod none of whose containers tells why: not scheduled, volumes not mounted, or just not ready."""
    name, conditions = _name(pod), (pod.get("status") or {}).get("conditions") or []
    by_type = {entry.get("type"): entry for entry in conditions}
    describe = evidence.kubectl(f"describe pod {name}")
    scheduled = by_type.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        text = f"pod {name} finds no node: {scheduled.get('message') or scheduled.get('reason') or 'no reason given'}"
        yield Cause("unschedulable", brief(text), describe)
        return
    events = objects.events(pod)
    mounts = [event for event in events if event.get("reason") in ("FailedMount", "FailedAttachVolume")]
    if mounts:
        yield Cause("mount", brief(f"pod {name}: {mounts[-1].get('message')}"), describe)
        return
    if by_type.get("Ready", {}).get("status") == "True":
        return
    probes = [event for event in events if event.get("reason") == "Unhealthy"]
    if probes:
        yield Cause("unready", brief(f"pod {name} runs, but {_probe(str(probes[-1].get('message')))}"), describe)
    elif by_type.get("Ready"):
        yield Cause("unready", f"pod {name} is not ready: {_not_ready(pod)}", describe)


def _probe(message: str) -> str:
    return message[:1].lower() + message[1:]


def _not_ready(pod: Mapping[str, Any]) -> str:
    status = pod.get("status") or {}
    waiting = [
        f"{entry.get('name')} ({((entry.get('state') or {}).get('waiting') or {}).get('reason') or 'not ready'})"
        for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
        if not entry.get("ready")
    ]
    return f"waiting for {', '.join(waiting)}" if waiting else "its containers are, its readiness gates are not"


def _of_idle_claims(evidence: Evidence, objects: _Objects) -> Iterator[Cause]:
    """Claims that wait for a pod when there is none that uses them: Helm waits for these, too."""
    for claim in objects.of("PersistentVolumeClaim"):
        if (claim.get("status") or {}).get("phase") == "Pending":
            text = f"volume claim {_name(claim)} waits for a pod that uses it, and there is none"
            yield Cause("volume", text, evidence.kubectl(f"describe pvc {_name(claim)}"))


def _of_claims(evidence: Evidence, objects: _Objects) -> Iterator[Cause]:
    for claim in objects.of("PersistentVolumeClaim"):
        if (claim.get("status") or {}).get("phase") != "Pending":
            continue
        events = [*objects.events(claim), *objects.events(claim, "Normal")]
        # It waits for its pod, which tells its own reason.
        if any(event.get("reason") == "WaitForFirstConsumer" for event in events[-1:]):
            continue
        storage = (claim.get("spec") or {}).get("storageClassName")
        wanted = f"storage class {storage}" if storage else "no storage class, and there is no default one"
        why = str(events[-1].get("message")) if events else "nothing provisions it"
        text = f"volume claim {_name(claim)} ({wanted}) is not bound: {why}"
        yield Cause("volume", brief(text), evidence.kubectl(f"describe pvc {_name(claim)}"))


def objects_of(items: Iterable[Any]) -> list[Mapping[str, Any]]:
    """What of parsed JSON are objects of the API; lists are taken apart."""
    found: list[Mapping[str, Any]] = []
    for item in items:
        if isinstance(item, Mapping):
            found += objects_of(item["items"]) if isinstance(item.get("items"), list) else [item]
    return found
