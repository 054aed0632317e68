"""A kubelet that runs no container: the Node, its Lease and conditions, and the life of its Pods.

Pod annotations that steer a Pod (prefix ``lab/``):
  ready-after: seconds until Ready; fail: ImagePullBackOff, ErrImagePull, CrashLoopBackOff, Failed or NeverReady;
  exit-after, exit-code: how a Pod ends that is not restarted; term-after: seconds that a deletion takes.
An image whose name contains ``no-such-image`` gets ImagePullBackOff. A Node annotated ``lab/down: "true"`` fails:
no heartbeat, no Pod moves.
"""

import datetime
import hashlib
import http.server
import ipaddress
import os
import platform
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import log
from .api import MERGE, STRATEGIC, Api, ApiError, Json

HEARTBEAT = 5.0
TICK = 0.2
READY_DELAY = JOB_DELAY = 0.5
TERM_DELAY = 0.3
PORT = 10250


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


def capacity(max_pods: int) -> Json:
    """Of the host; a host that calls itself a Raspberry Pi 5 gets what a Pi 5 with 8 GB has."""
    model = _read("/proc/device-tree/model") or _read("/sys/firmware/devicetree/base/model")
    if model.startswith("Raspberry Pi 5"):
        cpu, memory = "4", "8256240Ki"
    else:
        cpu = str(os.cpu_count() or 1)
        found = re.search(r"MemTotal:\s+(\d+)", _read("/proc/meminfo"))
        memory = f"{found[1]}Ki" if found else "1Gi"
    return {"cpu": cpu, "memory": memory, "pods": str(max_pods), "ephemeral-storage": "50Gi"}


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
            "allocatable": resources,
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
        gates = [g["conditionType"] for g in pod["spec"].get("readinessGates") or []]
        if state["sent"] == want:
            conditions = (pod.get("status") or {}).get("conditions") or []
            seen_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            if want != "ready" or seen_ready or now - state["at"] < 2 or (gates and not gates_open(pod, gates)):
                return  # else the node controller had marked it not ready: say it again
        self.api.call("PATCH", f"{path}/status", {"status": self.pod_status(pod, state, want, gates)}, STRATEGIC)
        state["sent"], state["at"] = want, now

    def pod_status(self, pod: Json, state: Json, want: str, gates: list[str]) -> Json:
        kind, _, argument = want.partition(":")
        host_ip = self.spec.addresses[0]
        state.setdefault("start", stamp())
        if kind not in ("creating", "pull"):
            state.setdefault("ip", host_ip if pod["spec"].get("hostNetwork") else self.pod_ip())
            state.setdefault("began", stamp())
        up = kind == "ready"
        phase = {"creating": "Pending", "pull": "Pending", "done": "Succeeded", "failed": "Failed"}.get(kind, "Running")
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

        initialized = kind not in ("creating", "pull") or not pod["spec"].get("initContainers")
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
                container_status(pod, c, kind, argument, state, False) for c in pod["spec"]["containers"]
            ],
        }
        if pod["spec"].get("initContainers"):
            init = pod["spec"]["initContainers"]
            status["initContainerStatuses"] = [container_status(pod, c, kind, argument, state, True) for c in init]
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


def gates_open(pod: Json, gates: list[str]) -> bool:
    have = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or []}
    return all(have.get(g) == "True" for g in gates)


def pod_target(pod: Json, age: float, has_network: bool) -> str:
    """The state a Pod of this age (seconds) should be in: creating, running, ready, done, failed, pull:X, crash:N."""
    meta, spec = pod["metadata"], pod["spec"]
    annotations = meta.get("annotations") or {}
    fail = annotations.get("lab/fail", "")
    if not fail and any("no-such-image" in c["image"] for c in spec["containers"]):
        fail = "ImagePullBackOff"
    if not has_network and not spec.get("hostNetwork"):
        return "creating"
    of_job = any(o.get("kind") == "Job" for o in meta.get("ownerReferences") or [])
    steered = any(k in annotations for k in ("lab/exit-after", "lab/exit-code", "helm.sh/hook"))
    once = spec.get("restartPolicy", "Always") != "Always" and (of_job or steered)
    ready_after = float(annotations.get("lab/ready-after", READY_DELAY))
    if fail in ("ImagePullBackOff", "ErrImagePull"):
        return f"pull:{fail}"
    if fail == "Failed":
        return "failed"
    if once and age >= ready_after + float(annotations.get("lab/exit-after", JOB_DELAY)):
        return "done" if annotations.get("lab/exit-code", "0") == "0" else "failed"
    if fail == "CrashLoopBackOff":
        return f"crash:{min(5, int(age // 2))}"
    if age >= ready_after and fail != "NeverReady":
        return "ready"
    return "running" if age >= min(0.2, ready_after) else "creating"


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
    if kind == "creating":
        status["state"] = {"waiting": {"reason": "ContainerCreating"}}
        return status
    if kind == "pull":
        status["state"] = {"waiting": {"reason": argument, "message": f'Back-off pulling image "{image}"'}}
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
    elif kind == "crash":
        status["restartCount"] = int(argument)
        message = f"back-off restarting failed container={container['name']}"
        status["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        status["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", **ended}}
    else:
        status["state"] = {"running": {"startedAt": state["began"]}}
        status["started"] = True
        status["ready"] = kind == "ready"
    return status
