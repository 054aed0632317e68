"""Operations on the cluster through its API, run on its first server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

import gevent
import yaml
from pyinfra import host
from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.host import Host
from pyinfra.api.state import State

from piclusterops.catalogue import Tell
from piclusterops.facts.cache import cached_fact, forget
from piclusterops.facts.kube import ApiState, KubeApi
from piclusterops.k3s_config import BINARY, KUBECONFIG
from piclusterops.kube_commands import KUBECTL as _KUBECTL
from piclusterops.kube_commands import waiting
from piclusterops.kube_diff import shown
from piclusterops.kube_nodes import cluster_faults, extra_nodes, metadata_patch, taint_arguments
from piclusterops.operations.kube_secrets import Values, WantedSecret, secret_commands
from piclusterops.operations.managed import refuse
from piclusterops.operations.quiet import fail, privileges, run_quietly
from piclusterops.settings import Cluster
from piclusterops.value_digest import canonical

_VERIFY_TIMEOUT_S = 60
_POLL_S = 2.0


@dataclass(frozen=True)
class NodeMarks:
    """The labels and taints we keep on a Kubernetes node."""

    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()


def marks_of(cluster: Cluster) -> dict[str, NodeMarks]:
    """What the inventory wants on each node."""
    return {node.name: NodeMarks(node.labels, node.settings.node_taints) for node in cluster.nodes}


@operation()
def node_marks(wanted: dict[str, NodeMarks], server: str) -> Any:
    """
    Put our labels and taints on the nodes, and remove those of ours that are no longer wanted.

    + wanted: map of node name to labels and taints
    + server: name of the host to ask; on others nothing happens

    What is ours is remembered in annotations of the node: labels and taints of others stay.
    """
    if host.name != server:
        host.noop(f"done on {server}")
        return
    api: ApiState | None = cached_fact(KubeApi)
    if api is None or api.nodes is None:
        if host.state.is_executing:
            yield refuse(f"{host.name}: the Kubernetes API gives no nodes. Try: sudo k3s kubectl get nodes")
        else:
            host.noop("there is no cluster yet")
        return
    changed = False
    for node in api.nodes:
        marks = wanted.get(node.name)
        if marks is None:
            continue
        patch = metadata_patch(node, marks.labels, marks.taints)
        taints = taint_arguments(node, marks.taints)
        name = quote(node.name)
        # Taints first: the annotation says what is ours, so it is only written once that is true.
        if taints:
            yield StringCommand(f"{_KUBECTL} taint node {name} --overwrite {' '.join(quote(word) for word in taints)}")
        if patch:
            text = quote(json.dumps(patch, separators=(",", ":")))
            yield StringCommand(f"{_KUBECTL} patch node {name} --type=merge -p {text}")
        changed = changed or bool(taints or patch)
    if not changed:
        host.noop("labels and taints are up to date")


@operation()
def healthy(cluster: Cluster) -> Any:
    """
    Fail unless the API is healthy and every node of the inventory is in the cluster as it should be.

    + cluster: the inventory

    It changes nothing, waits up to a minute, and runs on the first server only.
    """
    if host.name != cluster.first_server.name:
        host.noop(f"done on {cluster.first_server.name}")
        return
    if not host.state.is_executing:
        host.noop("checked at the end of a run")
        return
    # While another host of this run has failed, the cluster cannot become whole: look once.
    patience = 0 if host.state.failed_hosts else min(_VERIFY_TIMEOUT_S, cluster.settings.ready_timeout_s)
    deadline = time.monotonic() + patience
    while faults := _faults(cluster, cached_fact(KubeApi)):
        if time.monotonic() >= deadline:
            lines = "\n  ".join(faults)
            yield refuse(
                f"The cluster is not as it should be:\n  {lines}\n"
                f"next: ssh {host.name} sudo k3s kubectl get nodes -o wide"
            )
            return
        gevent.sleep(_POLL_S)
        forget(host)
    host.noop(f"{len(cluster.nodes)} nodes are Ready")


def _faults(cluster: Cluster, api: ApiState | None) -> list[str]:
    if api is None:
        return ["there is no API server: K3s has not started"]
    if api.fault or api.nodes is None:
        return [f"the API is not healthy: {api.fault or 'it gives no nodes'}"]
    extra = extra_nodes(cluster, api.nodes)
    if extra:
        host.log_styled(f"Not in the inventory, but in the cluster: {', '.join(extra)}", fg="yellow")
    return cluster_faults(cluster, api.nodes)


# -- objects -------------------------------------------------------------------------------------------------

#: Deleting one of these deletes data.
_WITH_DATA = frozenset(
    {"namespace", "namespaces", "ns", "persistentvolumeclaim", "persistentvolumeclaims", "pvc", "persistentvolume"}
    | {"persistentvolumes", "pv", "customresourcedefinition", "customresourcedefinitions", "crd", "crds"}
)
#: What is printed in place of an answer where there is no API server.
_NO_API = "@@no-api"
_STATUS = "@@status "
_DELETE_TIMEOUT_S = 120


def _is_elsewhere(server: str | None) -> bool:
    """Whether an operation is not for this host."""
    if server is None or host.name == server:
        return False
    host.noop(f"done on {server}")
    return True


def _asked(command: str, stdin: str = "") -> tuple[int | None, str, str]:
    """Exit status, output and errors of kubectl; the status is None where there is no API server.

    Nothing of it is printed, as objects may be secret.
    """
    # The answer may lack its last line break.
    status_line = f"printf '\\n{_STATUS}%s\\n' \"$?\""
    script = f"if [ -x {BINARY} ] && [ -s {KUBECONFIG} ]; then {command}; {status_line}; else echo '{_NO_API}'; fi"
    _, output = run_quietly(host, script, privileges(host), stdin=stdin)
    *lines, last = output.stdout_lines or [""]
    status = int(last.removeprefix(_STATUS)) if last.startswith(_STATUS) else None
    return status, "\n".join(lines).rstrip(), output.stderr.strip()


def _no_api() -> Any:
    """What an operation does where there is no API server: that is an error, unless K3s is still to be installed."""
    if host.state.is_executing:
        yield refuse(f"{host.name}: there is no API server: K3s has not started. Try: sudo k3s kubectl get nodes")
    else:
        host.noop("there is no cluster yet")


def _space(namespace: str | None) -> str:
    return f" -n {quote(namespace)}" if namespace else ""


@operation()
def applied(
    manifests: str | Sequence[Mapping[str, Any]],
    field_manager: str = "piclusterops",
    force_conflicts: bool = False,
    server: str | None = None,
) -> Any:
    """
    Bring objects to what manifests say, with server-side apply; what changes is shown.

    + manifests: YAML of one or more documents, or the objects
    + field_manager: under which name the fields of the manifests are ours
    + force_conflicts: take fields over from others; otherwise a conflict is an error that says who owns what
    + server: name of the host to do it on; on others nothing happens. None: on every host

    The manifests travel on stdin. What only others set stays. The values of Secrets are not shown, but they are
    compared by reading them; `secret` does without that.
    """
    if _is_elsewhere(server):
        return
    objects = _objects(manifests)
    if isinstance(objects, str):
        yield refuse(f"{host.name}: {objects}")
        return
    payload = canonical({"apiVersion": "v1", "kind": "List", "items": objects})
    flags = f"--server-side --field-manager={quote(field_manager)}" + (" --force-conflicts" if force_conflicts else "")
    status, output, errors = _asked(f"{_KUBECTL} diff {flags} -f -", stdin=payload)
    if status is None:
        yield from _no_api()
    elif "conflict" in errors.lower():
        yield refuse(f"{host.name}: {_conflict(errors)}")
    elif status == 0 or (status == 1 and not errors and not shown(output.splitlines())):
        host.noop(f"{len(objects)} objects are up to date")
    else:
        # What cannot be compared yet, as its namespace or kind comes with the same manifests, is new.
        for line in shown(output.splitlines()):
            host.log(line)
        yield FunctionCommand(_apply, (payload, flags), {})


def _objects(manifests: str | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | str:
    """The objects of manifests, or what is wrong with them."""
    if not isinstance(manifests, str):
        return list(manifests)
    try:
        found = [item for item in yaml.safe_load_all(manifests) if item is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return f"the manifests are no YAML{f', line {mark.line + 1}' if mark else ''}"
    wrong = [number for number, item in enumerate(found, 1) if not isinstance(item, dict) or "kind" not in item]
    return f"document {wrong[0]} of the manifests is no object with a kind" if wrong else found


def _conflict(errors: str) -> str:
    return (
        f"others own fields of these objects, so nothing was changed:\n{errors}\n"
        "next: leave these fields out of the manifests, or take them over with force_conflicts=True"
    )


def _apply(state: State, host: Host, payload: str, flags: str) -> bool:
    ok, output = run_quietly(host, f"{_KUBECTL} apply {flags} -f -", privileges(host), stdin=payload)
    if ok:
        return True
    errors = output.stderr.strip()
    text = _conflict(errors) if "conflict" in errors.lower() else f"the API refuses it: {errors}"
    return fail(host, f"{host.name}: {text}")


@operation()
def absent(
    kind: str, resource: str, namespace: str | None = None, with_data: bool = False, server: str | None = None
) -> Any:
    """
    Delete an object of the cluster.

    + kind: its kind, such as `ConfigMap`
    + resource: its name
    + namespace: its namespace
    + with_data: needed for namespaces, volumes, their claims and CRDs: with these, data goes
    + server: name of the host to do it on; on others nothing happens. None: on every host
    """
    if _is_elsewhere(server):
        return
    if kind.lower().partition(".")[0] in _WITH_DATA and not with_data:
        yield refuse(f"{host.name}: {kind} {resource} may hold data: say with_data=True to delete it nevertheless")
        return
    what = f"{quote(kind)} {quote(resource)}{_space(namespace)}"
    status, output, errors = _asked(f"{_KUBECTL} get {what} -o name --ignore-not-found")
    if status is None:
        yield from _no_api()
    elif status and "the server doesn't have a resource type" not in errors:
        yield refuse(f"{host.name}: {kind} {resource} could not be looked for: {errors}")
    elif not output.strip():
        host.noop(f"there is no {kind} {resource}")
    else:
        yield StringCommand(f"{BINARY} kubectl delete {what} --ignore-not-found --wait --timeout={_DELETE_TIMEOUT_S}s")


@operation()
def labels(
    kind: str,
    resource: str,
    labels: Mapping[str, str | None],
    namespace: str | None = None,
    server: str | None = None,
) -> Any:
    """
    Set labels of an object of the cluster; others stay.

    + kind: its kind, such as `Namespace`
    + resource: its name
    + labels: the labels; one that is None is taken away
    + namespace: its namespace
    + server: name of the host to do it on; on others nothing happens. None: on every host
    """
    if _is_elsewhere(server):
        return
    what = f"{quote(kind)} {quote(resource)}{_space(namespace)}"
    status, output, errors = _asked(f"{_KUBECTL} get {what} -o jsonpath='{{.metadata.labels}}'")
    if status is None:
        yield from _no_api()
        return
    if status and (host.state.is_executing or "NotFound" not in errors):
        yield refuse(f"{host.name}: {kind} {resource} can't be labelled: {errors}")
        return
    have: dict[str, str] = json.loads(output) if output.strip() else {}
    words = [f"{key}={value}" for key, value in labels.items() if value is not None and have.get(key) != value]
    words += [f"{key}-" for key, value in labels.items() if value is None and key in have]
    if words:
        yield StringCommand(f"{_KUBECTL} label {what} --overwrite {' '.join(quote(word) for word in words)}")
    else:
        host.noop(f"labels of {kind} {resource} are up to date")


@operation()
def wait(
    kind: str,
    resource: str,
    condition: str = "Ready",
    timeout_s: int = 300,
    namespace: str | None = None,
    server: str | None = None,
) -> Any:
    """
    Wait until an object of the cluster is there and as it should be; it changes nothing.

    + kind: its kind, such as `Deployment`
    + resource: its name
    + condition: a condition of its status that must be true, such as `Ready` or `Established`; `rollout` for all pods
      of a workload; `exists`; `deleted`; or what ``kubectl wait --for`` takes, such as `jsonpath={.status.phase}=Bound`
    + timeout_s: how long to wait, in seconds
    + namespace: its namespace
    + server: name of the host to do it on; on others nothing happens. None: on every host
    """
    if _is_elsewhere(server):
        return
    if not host.state.is_executing:
        host.noop("waited for during a run")
        return
    what = f"{quote(kind)} {quote(resource)}{_space(namespace)}"
    status, _, errors = _asked(waiting(what, condition, timeout_s))
    if status is None:
        yield from _no_api()
    elif status:
        why = errors.splitlines()[-1] if errors else "no reason given"
        yield refuse(
            f"{host.name}: {kind} {resource} is not {condition} after {timeout_s} s: {why}\n"
            f"next: ssh {host.name} sudo k3s kubectl describe {what}"
        )
    else:
        host.noop(f"{kind} {resource} is {condition}")


# -- Secrets -------------------------------------------------------------------------------------------------


@operation()
def secret(
    secret: str,
    namespace: str,
    values: Callable[[], Values],
    type: str = "Opaque",
    restarts: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    kept: Sequence[str] = (),
    timeout_s: int = 300,
    server: str | None = None,
    tells: Sequence[Tell] = (),
) -> Any:
    """
    Keep a Kubernetes Secret, from values that are got only when they are needed.

    + secret: its name
    + namespace: its namespace, which must be there
    + values: gives key and value; text, or `pydantic.SecretStr`
    + type: its type
    + restarts: workloads to restart after a change of it, `namespace/kind/name`; those that are there
    + labels: labels that its users look for
    + kept: keys that data is encrypted with: another value than the cluster has is refused
    + timeout_s: how long a restart may take, in seconds
    + server: name of the host to do it on; on others nothing happens. None: on every host
    + tells: servers that keep a copy of their own, and the programs that tell them of a change, before any restart

    The values travel on stdin and are shown nowhere. What is in the cluster is not read, but for `kept`: an annotation
    with a salted mark of the values, from which they can't be guessed in sensible time, tells whether they are up to
    date. A Secret of that name that is not ours is left alone, and fails the host.
    """
    if _is_elsewhere(server):
        return
    wanted = WantedSecret(secret, namespace, values, type, tuple(restarts), labels or {}, tuple(kept), tuple(tells))
    yield from secret_commands(host, [wanted], timeout_s)


@operation()
def secrets(secrets: Sequence[WantedSecret], timeout_s: int = 300, server: str | None = None) -> Any:
    """
    Keep many Kubernetes Secrets, in one round trip; see `secret`.

    + secrets: the Secrets
    + timeout_s: how long the restarts may take, in seconds
    + server: name of the host to do it on; on others nothing happens. None: on every host
    """
    if _is_elsewhere(server):
        return
    yield from secret_commands(host, secrets, timeout_s)
