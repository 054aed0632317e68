"""A kubelet that runs no container: the Node, its Lease and conditions, and the life of its Pods.

A Pod starts when the Secrets and ConfigMaps that it names are there, as with a real kubelet. What else happens to it:
Pod annotations (prefix ``lab/``):
  ready-after: seconds until Ready; fail: one of `FAILURES`;
  exit-after, exit-code: how a Pod ends that is not restarted; term-after: seconds that a deletion takes.
Images, where one cannot annotate: ``fail.invalid/<failure in lower case>`` fails so, and one whose name contains
``no-such-image`` gets ImagePullBackOff. A Node annotated ``lab/down: "true"`` fails: no heartbeat, no Pod moves.
A file `CAPACITY` on the host says what its Node has, in place of what the host says it is.
``kubectl exec`` runs nothing: what it would have run is noted in `EXECS`, and answered as `EXEC_ANSWER` says.
"""

import datetime
import hashlib
import http.server
import ipaddress
import json
import os
import platform
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import log
from .api import MERGE, STRATEGIC, Api, ApiError, Json
from .layout import make_dir
from .needs import needs
from .spdy import Streams

HEARTBEAT = 5.0
TICK = 0.2
READY_DELAY = JOB_DELAY = 0.5
TERM_DELAY = 0.3
PORT = 10250
#: Seconds between two looks for a Secret or ConfigMap that is not there.
SUPPLY_RETRY = 1.0
#: Seconds that the first attempt to pull an image takes to fail.
PULL_FAILS = 1.0
CAPACITY = Path("/opt/piclusterops-lab/capacity.json")
#: Each command that was to be run in a container: a line of JSON, with a digest of its standard input.
EXECS = Path("/opt/piclusterops-lab/execs")
#: How the next commands end: a number is their exit code, 0 when there is no file; with `hold` none ends.
EXEC_ANSWER = Path("/opt/piclusterops-lab/exec-answer")
FAILURES = ("ImagePullBackOff", "ErrImagePull", "CrashLoopBackOff", "OOMKilled", "Failed", "NeverReady")
_FAILING_IMAGE = re.compile(r"^fail\.invalid/([a-z]+)")


@dataclass
class NodeSpec:
    """What the configuration says about this node."""

    name: str
    addresses: list[str]
    external: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    version: str = ""
    max_pods: int = 110
    reserved: list[dict[str, str]] = field(default_factory=list)


def stamp(micro: bool = False) -> str:
    now = datetime.datetime.now(datetime.UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _read(path: str, default: str = "") -> str:
    try:
        return Path(path).read_text(errors="replace").strip().strip("\0")
    except OSError:
        return default


def os_image(text: str | None = None) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read("/etc/os-release") if text is None else text, re.MULTILINE)
    return match[1] if match else "Linux"


def architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(platform.machine(), platform.machine())


def capacity(max_pods: int, given: Path = CAPACITY) -> Json:
    """Of the host; a host that calls itself a Raspberry Pi 5 gets what a Pi 5 with 8 GB has."""
    model = _read("/proc/device-tree/model") or _read("/sys/firmware/devicetree/base/model")
    if model.startswith("Raspberry Pi 5"):
        cpu, memory = "4", "8256240Ki"
    else:
        cpu = str(os.cpu_count() or 1)
        found = re.search(r"MemTotal:\s+(\d+)", _read("/proc/meminfo"))
        memory = f"{found[1]}Ki" if found else "1Gi"
    own: dict[str, str] = json.loads(_read(str(given), "{}"))
    return {"cpu": cpu, "memory": memory, "pods": str(max_pods), "ephemeral-storage": "50Gi", **own}


_UNITS = {"": 1.0, "m": 0.001, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "k": 1e3, "M": 1e6, "G": 1e9}


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def allocatable(resources: Json, reserved: list[dict[str, str]]) -> Json:
    """What is left for Pods after the reservations of the kubelet's configuration, in the units the kubelet uses."""

    def left(name: str) -> float:
        return max(0.0, quantity(resources[name]) - sum(quantity(r.get(name, "0")) for r in reserved))

    return {**resources, "cpu": f"{left('cpu') * 1000:.0f}m", "memory": f"{left('memory') / 1024:.0f}Ki"}


class FakeKubelet:
    """Plays one node against the API; ``start`` returns at once, ``registered`` is set when the Node is there."""

    def __init__(self, api: Api, spec: NodeSpec, tick: float = TICK) -> None:
        self.api = api
        self.spec = spec
        self.tick_every = tick
        self.stop = threading.Event()
        self.registered = threading.Event()
        self.ready = threading.Event()
        self.wake = threading.Event()
        self.lock = threading.RLock()
        self.node: Json = {}
        self.pods: dict[str, Json] = {}
        self.state: dict[str, Json] = {}
        self.next_ip = 0

    # ---- the Node

    def object(self) -> Json:
        host = {
            "beta.kubernetes.io/arch": architecture(),
            "beta.kubernetes.io/instance-type": "k3s",
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture(),
            "kubernetes.io/hostname": self.spec.name,
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": "k3s",
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.spec.name,
                "labels": {**host, **self.spec.labels},
                "annotations": self.annotations(),
            },
            "spec": {
                "providerID": f"k3s://{self.spec.name}",
                **({"taints": self.spec.taints} if self.spec.taints else {}),
            },
        }

    def annotations(self) -> dict[str, str]:
        return {
            "k3s.io/hostname": self.spec.name,
            "k3s.io/internal-ip": ",".join(self.spec.addresses),
            "alpha.kubernetes.io/provided-node-ip": self.spec.addresses[0],
            **self.spec.annotations,
        }

    def register(self) -> None:
        """Create the Node, or bring an existing one up to date as K3s does.

        Labels of ``node-label`` are merged into an existing Node at every start (k3s ``updateMutableLabels``), none
        is ever removed; taints act at creation only.
        """
        found = self.api.find(f"/api/v1/nodes/{self.spec.name}")
        if found is None:
            self.node = self.api.call("POST", "/api/v1/nodes", self.object())
            log.info(f"Successfully registered node {self.spec.name}")
        else:
            wanted = self.object()["metadata"]
            have = found["metadata"]
            change = {
                part: {k: v for k, v in wanted[part].items() if (have.get(part) or {}).get(k) != v}
                for part in ("labels", "annotations")
            }
            if any(change.values()):
                found = self.api.call("PATCH", f"/api/v1/nodes/{self.spec.name}", {"metadata": change}, MERGE)
                log.info(f"Annotations and labels have been set successfully on node: {self.spec.name}")
            self.node = found

    def status(self) -> Json:
        with self.lock:
            node = self.node
        old = {c["type"]: c for c in (node.get("status") or {}).get("conditions") or []}

        def condition(kind: str, value: str, reason: str, message: str) -> Json:
            same = old.get(kind, {}).get("status") == value
            since = old[kind].get("lastTransitionTime") if same else None
            return {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": stamp(),
                "lastTransitionTime": since or stamp(),
            }

        if (node.get("spec") or {}).get("podCIDR"):
            ready = condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")
        else:
            ready = condition(
                "Ready",
                "False",
                "KubeletNotReady",
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
                "message:Network plugin returns error: cni plugin not initialized",
            )
        addresses = [{"type": "InternalIP", "address": a} for a in self.spec.addresses]
        addresses += [{"type": "ExternalIP", "address": a} for a in self.spec.external]
        machine = _read("/etc/machine-id") or hashlib.md5(self.spec.name.encode(), usedforsecurity=False).hexdigest()
        resources = capacity(self.spec.max_pods)
        return {
            "capacity": resources,
            "allocatable": allocatable(resources, self.spec.reserved),
            "addresses": [*addresses, {"type": "Hostname", "address": self.spec.name}],
            "conditions": [
                condition(
                    "MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"
                ),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                ready,
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
            "nodeInfo": {
                "machineID": machine,
                "systemUUID": machine,
                "bootID": _read("/proc/sys/kernel/random/boot_id"),
                "kernelVersion": os.uname().release,
                "osImage": os_image(),
                "containerRuntimeVersion": "standin://no-container-runs",
                "kubeletVersion": self.spec.version,
                "kubeProxyVersion": self.spec.version,
                "operatingSystem": "linux",
                "architecture": architecture(),
            },
        }

    def down(self) -> bool:
        annotations = (self.node.get("metadata") or {}).get("annotations") or {}
        return bool(annotations.get("lab/down") == "true")

    def beat(self) -> None:
        if self.down():
            return
        name = self.spec.name
        status = self.status()
        self.node = self.api.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC)
        if status["conditions"][-1]["status"] == "True":
            self.ready.set()
        else:
            self.ready.clear()
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self.node["metadata"]["uid"]}
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": stamp(micro=True)}
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        try:
            self.api.call("PATCH", f"{leases}/{name}", {"spec": spec}, MERGE)
        except ApiError as problem:
            if problem.status != 404:
                raise
            metadata = {"name": name, "namespace": "kube-node-lease", "ownerReferences": [owner]}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            self.api.call("POST", leases, lease)

    def _heartbeats(self) -> None:
        while not self.stop.is_set():
            pause = HEARTBEAT
            try:
                if not self.registered.is_set():
                    self.register()
                    self.registered.set()
                self.beat()
                if not self.ready.is_set():
                    pause = 0.3
            except (ApiError, OSError) as problem:
                if self.registered.is_set():
                    log.klog_error(
                        "kubelet_node_status.go:549", f'"Error updating node status, will retry" err="{problem}"'
                    )
                pause = 1.0
            self.wake.wait(pause)
            self.wake.clear()

    # ---- watches

    def _follow(self, path: str, reset: Callable[[list[Json]], None], event: Callable[[str, Json], None]) -> None:
        while not self.stop.is_set():
            try:
                listed = self.api.call("GET", path)
                reset(listed.get("items") or [])
                for change in self.api.watch(path, listed["metadata"]["resourceVersion"]):
                    event(change["type"], change["object"])
                    if self.stop.is_set():
                        return
            except (ApiError, OSError):
                self.stop.wait(1)

    def _node_reset(self, items: list[Json]) -> None:
        for item in items:
            self._node_event("MODIFIED", item)

    def _node_event(self, kind: str, node: Json) -> None:
        with self.lock:
            had = (self.node.get("spec") or {}).get("podCIDR")
            if kind != "DELETED":
                self.node = node
        if not had and (node.get("spec") or {}).get("podCIDR"):
            self.wake.set()

    def _pods_reset(self, items: list[Json]) -> None:
        with self.lock:
            self.pods = {p["metadata"]["uid"]: p for p in items}
            self.state = {uid: s for uid, s in self.state.items() if uid in self.pods}

    def _pod_event(self, kind: str, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        with self.lock:
            if kind == "DELETED":
                self.pods.pop(uid, None)
                self.state.pop(uid, None)
            else:
                self.pods[uid] = pod

    # ---- Pods

    def pod_ip(self) -> str | None:
        cidr = (self.node.get("spec") or {}).get("podCIDR")
        if not cidr:
            return None
        network = ipaddress.ip_network(cidr)
        self.next_ip += 1
        return str(network[2 + self.next_ip % max(1, network.num_addresses - 4)])

    def _pods_loop(self) -> None:
        while not self.stop.wait(self.tick_every):
            if self.down():
                continue
            with self.lock:
                work = list(self.pods.items())
            for uid, pod in work:
                try:
                    self.step(uid, pod)
                except ApiError as problem:
                    if problem.status == 404:
                        self._pod_event("DELETED", pod)
                    elif problem.status != 409:
                        log.klog_error(
                            "pod_workers.go:1", f'"Error syncing pod" pod="{pod["metadata"]["name"]}" err="{problem}"'
                        )
                except OSError:
                    break

    def step(self, uid: str, pod: Json) -> None:
        """Move one Pod on, when it is time."""
        meta = pod["metadata"]
        now = time.time()
        state = self.state.get(uid)
        if state is None:
            state = {"seen": now, "sent": None}
            status = pod.get("status") or {}
            if status.get("phase") == "Running" and status.get("podIP"):  # we were restarted: the Pod just goes on
                began = status.get("startTime") or stamp()
                state.update(seen=now - 3600, ip=status["podIP"], start=began, began=began)
            self.state[uid] = state
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        annotations = meta.get("annotations") or {}
        if meta.get("deletionTimestamp"):
            state.setdefault("term", now)
            grace = meta.get("deletionGracePeriodSeconds")
            wait = min(float(annotations.get("lab/term-after", TERM_DELAY)), float(30 if grace is None else grace))
            if now - state["term"] >= wait:
                options = {
                    "apiVersion": "v1",
                    "kind": "DeleteOptions",
                    "gracePeriodSeconds": 0,
                    "preconditions": {"uid": uid},
                }
                self.api.call("DELETE", path, options)
                self._pod_event("DELETED", pod)
            return
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return
        want = pod_target(pod, now - state["seen"], bool((self.node.get("spec") or {}).get("podCIDR")))
        if want != "creating" and not state.get("supplied"):
            lack = self._lack(pod, state, now)
            if lack is None:
                return
            want = lack or pod_target(pod, 0.0, True)
        gates = [g["conditionType"] for g in pod["spec"].get("readinessGates") or []]
        if state["sent"] == want:
            conditions = (pod.get("status") or {}).get("conditions") or []
            seen_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            if want != "ready" or seen_ready or now - state["at"] < 2 or (gates and not gates_open(pod, gates)):
                return  # else the node controller had marked it not ready: say it again
        self.api.call("PATCH", f"{path}/status", {"status": self.pod_status(pod, state, want, gates)}, STRATEGIC)
        state["sent"], state["at"] = want, now
        for event in events_of(pod, want):
            self._tell(pod, state, *event)

    def _lack(self, pod: Json, state: Json, now: float) -> str | None:
        """What the Pod's containers lack: ``mount:X`` or ``config:X``, ``""`` when nothing, None before it's known."""
        if now - state.get("looked", 0.0) < SUPPLY_RETRY:
            return None
        state["looked"] = now
        namespace = pod["metadata"]["namespace"]
        found: dict[tuple[str, str], Json | None] = {}
        for need in needs(pod["spec"]):
            at = need.resource, need.name
            if at not in found:
                try:
                    found[at] = self.api.find(f"/api/v1/namespaces/{namespace}/{need.resource}/{need.name}")
                except ApiError as problem:
                    if problem.status != 403:
                        raise
                    return None  # the API server's authorizer has not yet seen that the Pod is ours
            there = found[at]
            kind = "mount" if need.volume else "config"
            if there is None:
                return f"{kind}:{need.absent()}"
            if need.key and need.key not in {**(there.get("data") or {}), **(there.get("binaryData") or {})}:
                return f"{kind}:{need.lacking(namespace)}"
        self._make_volumes(pod)
        state.update(supplied=True, seen=now)
        return ""

    def _make_volumes(self, pod: Json) -> None:
        """The folders of the Pod's local volumes, which local-path-provisioner makes by a Pod of its own."""
        claims = f"/api/v1/namespaces/{pod['metadata']['namespace']}/persistentvolumeclaims"
        for item in pod["spec"].get("volumes") or []:
            if name := (item.get("persistentVolumeClaim") or {}).get("claimName"):
                claim = self.api.find(f"{claims}/{name}") or {"spec": {}}
                found = self.api.find(f"/api/v1/persistentvolumes/{claim['spec'].get('volumeName')}") or {"spec": {}}
                if path := (found["spec"].get("hostPath") or {}).get("path"):
                    make_dir(Path(path), 0o777)

    def _tell(self, pod: Json, state: Json, kind: str, reason: str, message: str) -> None:
        """One event of the Pod; each is written once."""
        told: set[str] = state.setdefault("told", set())
        if message in told:
            return
        told.add(message)
        meta = pod["metadata"]
        body: Json = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": self.spec.name},
            "firstTimestamp": stamp(),
            "lastTimestamp": stamp(),
            "count": 1,
        }
        try:
            self.api.call("POST", f"/api/v1/namespaces/{meta['namespace']}/events", body)
        except ApiError as problem:
            log.warning(f"event {reason} of {meta['namespace']}/{meta['name']}: {problem}")

    def pod_status(self, pod: Json, state: Json, want: str, gates: list[str]) -> Json:
        kind, _, argument = want.partition(":")
        host_ip = self.spec.addresses[0]
        state.setdefault("start", stamp())
        waiting = kind in ("creating", "pull", "mount", "config")
        if not waiting or kind == "config":
            state.setdefault("ip", host_ip if pod["spec"].get("hostNetwork") else self.pod_ip())
            state.setdefault("began", stamp())
        up = kind == "ready"
        phase = "Pending" if waiting else {"done": "Succeeded", "failed": "Failed"}.get(kind, "Running")
        why = {"done": "PodCompleted", "failed": "PodFailed"}.get(kind, None if up else "ContainersNotReady")
        old = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or []}

        def condition(name: str, value: bool, reason: str | None = None) -> Json:
            word = "True" if value else "False"
            since = old[name].get("lastTransitionTime") if old.get(name, {}).get("status") == word else None
            return {
                "type": name,
                "status": word,
                "lastProbeTime": None,
                "lastTransitionTime": since or stamp(),
                **({"reason": reason} if reason else {}),
            }

        initialized = not waiting or not pod["spec"].get("initContainers")
        status: Json = {
            "phase": phase,
            "hostIP": host_ip,
            "startTime": state["start"],
            "conditions": [
                condition("Initialized", initialized, "PodCompleted" if kind == "done" else None),
                condition("Ready", up and gates_open(pod, gates), why),
                condition("ContainersReady", up, why),
                condition("PodScheduled", True),
            ],
            "containerStatuses": [
                container_status(pod, c, share(pod, c, kind), argument, state, False) for c in pod["spec"]["containers"]
            ],
        }
        if pod["spec"].get("initContainers"):
            init = pod["spec"]["initContainers"]
            status["initContainerStatuses"] = [
                container_status(pod, c, share(pod, c, kind), argument, state, True) for c in init
            ]
        if state.get("ip"):
            status["podIP"], status["podIPs"] = state["ip"], [{"ip": state["ip"]}]
        return status

    # ---- the kubelet's own API

    def serve(self, cert: Path, key: Path, client_ca: Path) -> None:
        """The kubelet port: container logs (one fixed line) for the API server; a client certificate is required."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            server = _KubeletServer(("0.0.0.0", PORT), _KubeletHandler)
        except OSError as problem:
            log.warning(f"kubelet API on port {PORT}: {problem}")
            return
        server.context = context
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def start(self) -> None:
        pods = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.spec.name}"
        node = f"/api/v1/nodes?fieldSelector=metadata.name%3D{self.spec.name}"

        def follow_node() -> None:
            self.registered.wait()
            self._follow(node, self._node_reset, self._node_event)

        def follow_pods() -> None:
            self.registered.wait()
            self._follow(pods, self._pods_reset, self._pod_event)

        for target in (self._heartbeats, follow_node, follow_pods, self._pods_loop):
            threading.Thread(target=target, daemon=True).start()


class _KubeletServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(10)  # the handshake happens here, in the request's own thread
        try:
            with self.context.wrap_socket(request, server_side=True) as tls:
                super().finish_request(tls, client_address)
        except OSError:
            return


class _KubeletHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_POST(self) -> None:
        """``kubectl exec``, over SPDY: note the command and a digest of its input, run nothing, say how it ended."""
        url = urllib.parse.urlsplit(self.path)
        query, parts = urllib.parse.parse_qs(url.query), url.path.strip("/").split("/")
        if parts[0] != "exec" or len(parts) != 4 or self.headers.get("Upgrade") != "SPDY/3.1":
            self.send_error(501, "not implemented by the stand-in kubelet")
            return
        self.send_response(101)
        for name, value in (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")):
            self.send_header(name, value)
        self.send_header("X-Stream-Protocol-Version", "v4.channel.k8s.io")
        self.end_headers()
        self.close_connection = True
        asked = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"))
        wanted = {"error"} | {stream for stream, word in asked if query.get(word) in (["1"], ["true"])}
        streams = Streams(self.rfile, self.wfile)
        content = streams.read("stdin", lambda opened: opened >= wanted)
        note_exec(parts[1], parts[2], parts[3], query.get("command", []), content)
        code = exec_answer()
        for stream in sorted(wanted & {"stdout", "stderr"}):
            streams.write(stream, b"")
        streams.write("error", json.dumps(exec_status(code)).encode())
        while self.rfile.read(1):  # a connection that is closed with something unread loses what was written
            pass

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "containerLogs" and len(parts) == 4:
            code, text = 200, f"stand-in: no log, container {parts[3]} of {parts[1]}/{parts[2]} never ran\n"
        elif parts[0] == "healthz":
            code, text = 200, "ok"
        else:
            code, text = 501, "not implemented by the stand-in kubelet\n"
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def note_exec(namespace: str, pod: str, container: str, command: list[str], content: bytes, to: Path = EXECS) -> None:
    """Note what was to be run in a container."""
    entry = {
        "namespace": namespace,
        "pod": pod,
        "container": container,
        "command": command,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    make_dir(to.parent, 0o755)
    with to.open("a") as stream:
        stream.write(json.dumps(entry) + "\n")


def exec_answer(told: Path = EXEC_ANSWER) -> int:
    """How a command ends, as soon as it may."""
    while (word := _read(str(told), "0")) == "hold":
        time.sleep(TICK)
    return int(word or 0)


def exec_status(code: int) -> Json:
    """The Status that ends a command with this exit code."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def gates_open(pod: Json, gates: list[str]) -> bool:
    have = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or []}
    return all(have.get(g) == "True" for g in gates)


def failure_of(image: str) -> str:
    """How a container of this image fails, ``""`` when it does not."""
    found = _FAILING_IMAGE.match(image)
    if found:
        return next((name for name in FAILURES if name.lower() == found[1]), "ImagePullBackOff")
    return "ImagePullBackOff" if "no-such-image" in image else ""


def pod_target(pod: Json, age: float, has_network: bool) -> str:
    """The state of a Pod of this age (seconds): creating, running, ready, done, failed, pull:X, crash:N or oom:N."""
    meta, spec = pod["metadata"], pod["spec"]
    annotations = meta.get("annotations") or {}
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    fail = annotations.get("lab/fail", "") or next(filter(None, (failure_of(c["image"]) for c in containers)), "")
    if not has_network and not spec.get("hostNetwork"):
        return "creating"
    of_job = any(o.get("kind") == "Job" for o in meta.get("ownerReferences") or [])
    steered = any(k in annotations for k in ("lab/exit-after", "lab/exit-code", "helm.sh/hook"))
    once = spec.get("restartPolicy", "Always") != "Always" and (of_job or steered)
    ready_after = float(annotations.get("lab/ready-after", READY_DELAY))
    if fail in ("ImagePullBackOff", "ErrImagePull"):
        return f"pull:{fail if age >= PULL_FAILS else 'ErrImagePull'}"
    if fail == "Failed":
        return "failed"
    if once and age >= ready_after + float(annotations.get("lab/exit-after", JOB_DELAY)):
        return "done" if annotations.get("lab/exit-code", "0") == "0" else "failed"
    if fail in ("CrashLoopBackOff", "OOMKilled"):
        return f"{'oom' if fail == 'OOMKilled' else 'crash'}:{min(5, int(age // 2))}"
    if age >= ready_after and fail != "NeverReady":
        return "ready"
    return "running" if age >= min(0.2, ready_after) else "creating"


def events_of(pod: Json, state: str) -> list[tuple[str, str, str]]:
    """Type, reason and message of the events that a kubelet writes about a Pod that is in trouble."""
    kind, _, argument = state.partition(":")
    meta = pod["metadata"]
    containers = pod["spec"]["containers"]
    failing = next((c for c in containers if failure_of(c["image"])), containers[0])
    image, name = failing["image"], failing["name"]
    if kind == "mount":
        return [("Warning", "FailedMount", argument)]
    if kind == "config":
        return [("Warning", "Failed", f"Error: {argument}")]
    if kind == "pull":
        failed = [
            ("Warning", "Failed", f"Failed to pull image {pull_error(image)}"),
            ("Warning", "Failed", "Error: " + argument),
        ]
        back_off = (
            [("Normal", "BackOff", f'Back-off pulling image "{image}"')] if argument == "ImagePullBackOff" else []
        )
        return failed + back_off
    if kind in ("crash", "oom"):
        who = f"{name} in pod {meta['name']}_{meta['namespace']}({meta['uid']})"
        return [("Warning", "BackOff", f"Back-off restarting failed container {who}")]
    if kind == "running" and (meta.get("annotations") or {}).get("lab/fail", failure_of(image)) == "NeverReady":
        return [("Warning", "Unhealthy", "Readiness probe failed: the stand-in was told to fail it")]
    return []


def pull_error(image: str) -> str:
    """containerd's words about an image that nobody has."""
    reason = f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": failed to resolve reference'
    return f'"{image}": {reason} "{image}": {image}: not found'


def share(pod: Json, container: Json, kind: str) -> str:
    """What of a Pod's failure is a container's own: only those whose image fails, if it comes from an image."""
    init = pod["spec"].get("initContainers") or []
    if kind not in ("pull", "crash", "oom") or failure_of(container["image"]):
        return kind
    if any(failure_of(c["image"]) for c in init):
        return "running" if container in init else "creating"
    return "ready" if any(failure_of(c["image"]) for c in pod["spec"]["containers"]) else kind


def container_status(pod: Json, container: Json, kind: str, argument: str, state: Json, init: bool) -> Json:
    image = container["image"]
    status: Json = {
        "name": container["name"],
        "image": image,
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "started": False,
    }
    if kind in ("creating", "mount"):
        status["state"] = {"waiting": {"reason": "ContainerCreating"}}
        return status
    if kind == "config":
        status["state"] = {"waiting": {"reason": "CreateContainerConfigError", "message": argument}}
        return status
    if kind == "pull":
        message = pull_error(image) if argument == "ErrImagePull" else f'Back-off pulling image "{image}"'
        status["state"] = {"waiting": {"reason": argument, "message": message}}
        return status
    digest = hashlib.sha256((pod["metadata"]["uid"] + container["name"]).encode()).hexdigest()
    status["containerID"] = f"standin://{digest}"
    status["imageID"] = (
        f"standin.invalid/{image.split('@')[0].split('/')[-1]}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"
    )
    ended = {"startedAt": state["began"], "finishedAt": stamp(), "containerID": status["containerID"]}
    if init or kind in ("done", "failed"):
        code = (
            0 if init or kind == "done" else int((pod["metadata"].get("annotations") or {}).get("lab/exit-code", "1"))
        )
        status["state"] = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed", **ended}}
        status["ready"] = init
    elif kind in ("crash", "oom"):
        status["restartCount"] = int(argument)
        meta = pod["metadata"]
        who = f"container={container['name']} pod={meta['name']}_{meta['namespace']}({meta['uid']})"
        wait = min(300, 10 * 2 ** int(argument))
        message = f"back-off {f'{wait}s' if wait < 60 else f'{wait // 60}m{wait % 60}s'} restarting failed {who}"
        status["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        code, reason = (137, "OOMKilled") if kind == "oom" else (1, "Error")
        status["lastState"] = {"terminated": {"exitCode": code, "reason": reason, **ended}}
    else:
        status["state"] = {"running": {"startedAt": state["began"]}}
        status["started"] = True
        status["ready"] = kind == "ready"
    return status
