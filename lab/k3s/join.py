"""How nodes get in: the node's request and the server's answer.

Real K3s has its own endpoints on port 6443. Here the API server itself holds that port, so a node asks with a
CertificateSigningRequest that carries a proof of its node password, and a server answers it. What a joining server
may read lies in one Secret that only the server token opens.
"""

import base64
import contextlib
import hashlib
import json
import time
from typing import Any

from . import log, pki
from .api import STRATEGIC, Api, ApiError, Json
from .log import Fatal
from .node import NODE_PASSWORD

SYSTEM = "/api/v1/namespaces/kube-system"
BOOTSTRAP_SECRET = "k3s-standin-server-bootstrap"
AGENT_CONFIG = "k3s-standin-agent-config"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
PROOF, PURPOSE = "k3s-standin/node-password-proof", "k3s-standin/purpose"
AGENT_GROUPS = ("k3s:agent", "k3s:server", "system:bootstrappers:k3s:default-node-token", "system:nodes")
REJECTED = (
    f"Node password rejected, duplicate hostname or contents of '{NODE_PASSWORD}' may not match server node-passwd "
    "entry, try enabling a unique node name with the --with-node-id flag"
)
RBAC = "/apis/rbac.authorization.k8s.io/v1"


class NotAuthorized(Exception):
    """The credential is not good for this."""


# ---- the server's side


def _role(name: str, namespaced: bool, rules: list[Json], groups: tuple[str, ...]) -> list[tuple[str, Json]]:
    kind = "Role" if namespaced else "ClusterRole"
    base = f"{RBAC}/namespaces/kube-system/" if namespaced else f"{RBAC}/"
    metadata: Json = {"name": name, **({"namespace": "kube-system"} if namespaced else {})}
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": kind, "name": name},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": g} for g in groups],
    }
    plural = "roles" if namespaced else "clusterroles"
    return [(f"{base}{plural}/{name}", role), (f"{base}{plural.replace('roles', 'rolebindings')}/{name}", binding)]


def access_objects() -> list[tuple[str, Json]]:
    """Path and object of every rule that lets nodes in."""
    requests = {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests"],
        "verbs": ["create", "get"],
    }
    bootstrap = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [BOOTSTRAP_SECRET], "verbs": ["get"]}
    settings = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [AGENT_CONFIG], "verbs": ["get"]}
    servers = {"apiGroups": [""], "resources": ["endpoints"], "verbs": ["get"]}
    return [
        *_role("k3s-standin:join", False, [requests], AGENT_GROUPS),
        *_role("k3s-standin:agent-config", True, [settings], AGENT_GROUPS),
        *_role("k3s-standin:server-bootstrap", True, [bootstrap], ("k3s:server",)),
        *_role("k3s-standin:servers", False, [servers], AGENT_GROUPS),
    ]


def secret(name: str, data: dict[str, bytes], kind: str = "Opaque") -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "kube-system"},
        "type": kind,
        "data": {k: base64.b64encode(v).decode() for k, v in data.items()},
    }


def password_secret(node: str) -> str:
    return f"{node}.node-password.k3s"


def check_password(api: Api, node: str, proof: str) -> bool:
    """Whether the proof fits the node's Secret; the first proof makes it. Raises ApiError, OSError."""
    name = password_secret(node)
    wanted = hashlib.sha256(proof.encode()).hexdigest().encode()
    found = api.find(f"{SYSTEM}/secrets/{name}")
    if found is None:
        with contextlib.suppress(ApiError):
            api.call("POST", f"{SYSTEM}/secrets", {**secret(name, {"hash": b"$standin:" + wanted}), "immutable": True})
            return True
        found = api.call("GET", f"{SYSTEM}/secrets/{name}")
    return base64.b64decode(found["data"].get("hash", "")) == b"$standin:" + wanted


def answer(api: Api, ca: pki.Authority, request: Json) -> None:
    """Sign or deny one node's request. Raises ApiError, OSError."""
    annotations = request["metadata"].get("annotations") or {}
    status = request.get("status") or {}
    if PROOF not in annotations or status.get("certificate") or status.get("conditions"):
        return
    path = f"{REQUESTS}/{request['metadata']['name']}"
    try:
        common_name, group, cert = pki.sign_request(ca, base64.b64decode(request["spec"]["request"]))
    except ValueError:
        common_name, group, cert = "", "", b""
    node = common_name.removeprefix("system:node:")
    allowed = set(request["spec"].get("groups", [])) & set(AGENT_GROUPS)
    mine = request["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    good = bool(allowed) and mine and group == "system:nodes" and common_name == f"system:node:{node}"
    if good and not check_password(api, node, annotations[PROOF]):
        log.error(f"Unable to verify node password for '{node}': hash does not match")
        good = False
    reason = "NodePasswordAccepted" if good else "NodePasswordRejected"
    kind = "Approved" if good else "Denied"
    condition = {"type": kind, "status": "True", "reason": reason, "message": "answered by the stand-in k3s"}
    body: Json = {**request, "status": {"conditions": [condition]}}
    approved = api.call("PUT", f"{path}/approval", body)
    if good:
        approved["status"]["certificate"] = base64.b64encode(cert).decode()
        api.call("PUT", f"{path}/status", approved)


def forget_old_requests(api: Api, seconds: int = 60) -> None:
    """Delete answered requests of nodes older than that."""
    limit = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))
    for item in api.call("GET", REQUESTS).get("items") or []:
        meta = item["metadata"]
        if PROOF in (meta.get("annotations") or {}) and meta["creationTimestamp"] < limit:
            with contextlib.suppress(ApiError):
                api.call("DELETE", f"{REQUESTS}/{meta['name']}")


# ---- the node's side


def request_certificate(api: Api, node: str, proof: str, patience: float = 15) -> tuple[bytes, bytes]:
    """Key and client certificate of this node's kubelet. Raises NotAuthorized, Fatal (password rejected), OSError."""
    key, request = pki.new_request(f"system:node:{node}", "system:nodes")
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": f"node-{node}-", "annotations": {PROOF: proof, PURPOSE: "kubelet"}},
        "spec": {
            "request": base64.b64encode(request).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "key encipherment", "client auth"],
        },
    }
    try:
        made = api.call("POST", REQUESTS, body)
        path = f"{REQUESTS}/{made['metadata']['name']}"
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            status: dict[str, Any] = api.call("GET", path).get("status") or {}
            if status.get("certificate"):
                return key, base64.b64decode(status["certificate"])
            if any(c["type"] == "Denied" for c in status.get("conditions") or []):
                raise Fatal(REJECTED)
            time.sleep(0.1)
    except ApiError as problem:
        if problem.status in (401, 403):
            raise NotAuthorized from problem
        raise OSError(str(problem)) from problem
    raise OSError("https://127.0.0.1:6444/v1-k3s/client-kubelet.crt: 503 Service Unavailable")


def agent_settings(api: Api) -> dict[str, str]:
    """What a server tells its agents. Raises NotAuthorized, OSError."""
    try:
        return dict(api.call("GET", f"{SYSTEM}/configmaps/{AGENT_CONFIG}").get("data") or {})
    except ApiError as problem:
        if problem.status in (401, 403):
            raise NotAuthorized from problem
        raise OSError(f"https://127.0.0.1:6444/v1-k3s/config: {problem.status} {problem.message}") from problem


def api_servers(api: Api) -> list[tuple[str, int]]:
    """Addresses of all API servers of the cluster, empty when unknown."""
    try:
        found = api.call("GET", "/api/v1/namespaces/default/endpoints/kubernetes")
    except (ApiError, OSError):
        return []
    return [
        (a["ip"], p["port"]) for s in found.get("subsets") or [] for a in s.get("addresses") or [] for p in s["ports"]
    ]


def bootstrap_data(api: Api) -> dict[str, Any]:
    """What a joining server needs. Raises NotAuthorized, Fatal, OSError."""
    try:
        found = api.call("GET", f"{SYSTEM}/secrets/{BOOTSTRAP_SECRET}")
    except ApiError as problem:
        if problem.status in (401, 403):
            raise NotAuthorized from problem
        raise OSError(str(problem)) from problem
    content = json.loads(base64.b64decode(found["data"]["bootstrap"]))
    return dict(content)


def set_labels(api: Api, node: str, labels: dict[str, str], annotations: dict[str, str]) -> None:
    """Labels of a Node that only a server may set."""
    api.call("PATCH", f"/api/v1/nodes/{node}", {"metadata": {"labels": labels, "annotations": annotations}}, STRATEGIC)
