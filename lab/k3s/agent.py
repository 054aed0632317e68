"""``k3s agent``, and the node part of ``k3s server``: get a credential, play the node, tell systemd."""

import json
import random
import ssl
import threading
from pathlib import Path

import yaml

from . import join, log, pki, tokens
from .api import Api, ApiError, fetch_ca, kubeconfig, split_url
from .baked import VERSION
from .config import Options, read_secret
from .kubelet import FakeKubelet, NodeSpec
from .layout import Layout, write_file
from .log import Fatal
from .node import node_password, password_proof, refuse_early
from .notify import Notifier

LOAD_BALANCER = "etc/k3s-agent-load-balancer.json"
RETRY = 5.0


def run(options: Options, notifier: Notifier, stop: threading.Event) -> None:
    """Until ``stop``. Raises Fatal."""
    layout = Layout(options.text("data-dir"))
    url = options.text("server")
    token = read_secret(options, "token")
    has_certificate = (layout.agent / "client-kubelet.crt").is_file()
    if not token and not has_certificate:
        raise Fatal("--token is required")
    if not url:
        raise Fatal("--server is required")
    log.info(f"Starting k3s agent {VERSION} (stand-in)")
    spec = refuse_early(options, layout)
    host, port = split_url(url)
    ca = _validated_ca(host, port, token, layout, url, stop)
    if stop.is_set():
        return
    servers = _remembered(layout, (host, port))
    kubelet = start_node(layout, spec, servers, ca, tokens.parse(token).password if token else "", stop)
    if kubelet is None:
        return
    kubelet.ready.wait(5)
    log.info("k3s agent is up and running")
    notifier.ready()
    api = kubelet.api
    while not stop.wait(10):
        found = join.api_servers(api)
        if found:
            api.servers = [s for s in api.servers if s in found] + [s for s in found if s not in api.servers]
            _remember(layout, api.servers, (host, port))
    kubelet.stop.set()


def _validated_ca(host: str, port: int, token: str, layout: Layout, url: str, stop: threading.Event) -> bytes:
    """The cluster CA, checked against the token's hash; asks again for ever, every 2 s, as K3s does."""
    remembered = layout.agent / "server-ca.crt"
    parsed = tokens.parse(token) if token else None
    if parsed and not parsed.ca_hash:
        log.warning(tokens.NO_CA_HASH)
    while not stop.is_set():
        reason = "no server"
        for server in _remembered(layout, (host, port)):
            try:
                ca = fetch_ca(*server)
            except OSError as problem:
                reason = ca_failure(problem, server)
                continue
            fault = tokens.check_ca(parsed, ca) if parsed else None
            if fault is None:
                write_file(remembered, ca)
                return ca
            reason = fault
            break
        log.error(f"Failed to validate connection to cluster at {url}: {reason}")
        stop.wait(2)
    return b""


def ca_failure(problem: OSError, server: tuple[str, int]) -> str:
    """K3s' complaint about a server that does not hand out its CA."""
    return f'failed to get CA certs: Get "https://{server[0]}:{server[1]}/cacerts": {describe(problem, server)}'


def describe(problem: OSError, server: tuple[str, int]) -> str:
    """A connection failure in the words of Go's net package."""
    if isinstance(problem, ConnectionRefusedError):
        return f"dial tcp {server[0]}:{server[1]}: connect: connection refused"
    if isinstance(problem, TimeoutError):
        return f"dial tcp {server[0]}:{server[1]}: i/o timeout"
    return f"dial tcp {server[0]}:{server[1]}: {(problem.strerror or str(problem)).lower()}"


def start_node(
    layout: Layout, spec: NodeSpec, servers: list[tuple[str, int]], ca: bytes, bearer: str, stop: threading.Event
) -> FakeKubelet | None:
    """The kubelet with its own credential, registered; None when stopped meanwhile. Asks again for ever."""
    proof = password_proof(spec.name, node_password())
    key_file, cert_file = layout.agent / "client-kubelet.key", layout.agent / "client-kubelet.crt"
    while not stop.is_set():
        try:
            settings = _enter(layout, spec, servers, ca, bearer, proof, cert_file, key_file)
            break
        except join.NotAuthorized:
            reason = "failed to retrieve configuration from server: not authorized"
        except Fatal as problem:
            reason = str(problem)
        except (OSError, ApiError) as problem:
            reason = f"failed to retrieve configuration from server: {problem}"
        log.info(f"Waiting to retrieve agent configuration; server is not ready: {reason}")
        stop.wait(RETRY * random.uniform(1, 1.5))
    else:
        return None
    api = Api(servers, ca, cert=cert_file, key=key_file)
    kubelet = FakeKubelet(api, spec)
    _serve(kubelet, layout, settings)
    kubelet.start()
    while not kubelet.registered.wait(0.1):
        if stop.is_set():
            return None
    return kubelet


def _enter(
    layout: Layout,
    spec: NodeSpec,
    servers: list[tuple[str, int]],
    ca: bytes,
    bearer: str,
    proof: str,
    cert: Path,
    key: Path,
) -> dict[str, str]:
    """Settings from the server and a fresh kubelet certificate; by the old certificate first, then by the token."""
    ways = [w for w, usable in (("certificate", cert.is_file() and key.is_file()), ("token", bool(bearer))) if usable]
    for way in ways:
        try:
            api = Api(servers, ca, cert=cert, key=key) if way == "certificate" else Api(servers, ca, bearer=bearer)
            settings = join.agent_settings(api)
            if "client-ca.crt" not in settings:
                raise OSError("https://127.0.0.1:6444/v1-k3s/config: 503 Service Unavailable")
            new_key, new_cert = join.request_certificate(api, spec.name, proof)
        except (join.NotAuthorized, ssl.SSLError):
            if way == ways[-1]:
                raise
            log.info("Node authorization rejected, retrying without client certificate authentication")
            continue
        write_file(key, new_key)
        write_file(cert, new_cert)
        _node_files(layout, spec, servers[0], new_cert, new_key, ca)
        return settings
    raise join.NotAuthorized


def _node_files(layout: Layout, spec: NodeSpec, server: tuple[str, int], cert: bytes, key: bytes, ca: bytes) -> None:
    """Files that K3s leaves on every node and that CIS checks look at."""
    url = f"https://{server[0]}:{server[1]}"
    for name in ("kubelet", "kubeproxy", "k3scontroller"):
        write_file(layout.agent / f"{name}.kubeconfig", kubeconfig(url, ca, cert, key))
    defaults = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{layout.agent}/client-ca.crt"}},
        "authorization": {"mode": "Webhook"},
        "readOnlyPort": 0,
        "makeIPTablesUtilChains": True,
    }
    write_file(layout.agent / "etc" / "kubelet.conf.d" / "00-k3s-defaults.conf", yaml.safe_dump(defaults), 0o600)


def _serve(kubelet: FakeKubelet, layout: Layout, settings: dict[str, str]) -> None:
    """The kubelet's port. Its certificate is self-made: the API server does not verify it (nor does it in K3s 1.20)."""
    base = layout.agent / "serving-kubelet"
    own = pki.ensure_authority(layout.agent, "serving-kubelet-ca")
    pki.ensure_leaf(
        own, base, kubelet.spec.name, server=True, sans=[kubelet.spec.name, "127.0.0.1", *kubelet.spec.addresses]
    )
    client_ca = layout.agent / "client-ca.crt"
    write_file(client_ca, settings["client-ca.crt"])
    kubelet.serve(base.with_name("serving-kubelet.crt"), base.with_name("serving-kubelet.key"), client_ca)


def _remembered(layout: Layout, first: tuple[str, int]) -> list[tuple[str, int]]:
    """The configured server, then those that the cluster had at the last run."""
    try:
        stored = json.loads((layout.agent / LOAD_BALANCER).read_text())["ServerAddresses"]
    except (OSError, ValueError, KeyError):
        return [first]
    others = [(a.rpartition(":")[0], int(a.rpartition(":")[2])) for a in stored]
    return [first] + [s for s in others if s != first]


def _remember(layout: Layout, servers: list[tuple[str, int]], first: tuple[str, int]) -> None:
    data = {
        "ServerURL": f"https://{first[0]}:{first[1]}",
        "ServerAddresses": sorted(f"{host}:{port}" for host, port in servers),
    }
    write_file(layout.agent / LOAD_BALANCER, json.dumps(data, indent=2) + "\n")
