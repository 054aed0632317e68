"""``k3s server``: the control plane from real programs, put together the way K3s does it."""

import base64
import contextlib
import hashlib
import ipaddress
import json
import os
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import agent, authenticator, checks, etcd, join, kubeargs, log, pki, tokens
from .api import Api, ApiError, Json, fetch_ca, kubeconfig, split_url
from .baked import VERSION
from .children import Children
from .config import Options, read_secret
from .kubelet import FakeKubelet, NodeSpec
from .layout import KUBE_BINARIES, KUBECONFIG, Layout, make_dir, write_file
from .log import Fatal
from .node import arguments_line, refuse_early
from .notify import Notifier

# What all servers share, relative to server/: K3s calls it the bootstrap data.
SHARED = (
    "tls/server-ca.crt",
    "tls/server-ca.key",
    "tls/client-ca.crt",
    "tls/client-ca.key",
    "tls/request-header-ca.crt",
    "tls/request-header-ca.key",
    "tls/etcd/server-ca.crt",
    "tls/etcd/server-ca.key",
    "tls/etcd/peer-ca.crt",
    "tls/etcd/peer-ca.key",
    "tls/service.key",
    "tls/service.current.key",
    "cred/encryption-config.json",
)
AUTHORITIES = ("server-ca", "client-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca")
PREPARING = "preparing server: failed to bootstrap cluster data: "
BAD_TOKEN = "failed to normalize server token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>"
DIFFERENT_TOKEN = "bootstrap data already found and encrypted with different token"


# ---- settings that must agree


def critical_settings(options: Options) -> dict[str, Any]:
    """The values that K3s compares between servers (docs.k3s.io/cli/server, "Critical Configuration Values")."""
    disabled = options.many("disable")
    service = options.many("service-cidr") or ["10.43.0.0/16"]
    return {
        "cluster-cidr": options.many("cluster-cidr") or ["10.42.0.0/16"],
        "cluster-dns": options.many("cluster-dns") or [str(ipaddress.ip_network(service[0], strict=False)[10])],
        "cluster-domain": options.text("cluster-domain", "cluster.local"),
        "disable-cloud-controller": options.on("disable-cloud-controller"),
        "disable-helm-controller": options.on("disable-helm-controller"),
        "disable-network-policy": options.on("disable-network-policy"),
        "disable-servicelb": "servicelb" in disabled,
        "egress-selector-mode": options.text("egress-selector-mode", "agent"),
        "embedded-registry": options.on("embedded-registry"),
        "flannel-backend": options.text("flannel-backend", "vxlan"),
        "flannel-external-ip": options.on("flannel-external-ip"),
        "flannel-ipv6-masq": options.on("flannel-ipv6-masq"),
        "secrets-encryption": options.on("secrets-encryption"),
        "secrets-encryption-provider": options.text("secrets-encryption-provider", "aescbc"),
        "service-cidr": service,
    }


def critical_mismatches(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return sorted(name for name, value in mine.items() if theirs.get(name) != value)


def refuse_mismatch(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raises Fatal, after one warning for each setting that differs."""
    faults = critical_mismatches(mine, theirs)
    for name in faults:
        log.warning(f"critical configuration mismatched: {name}")
    if faults:
        raise Fatal(
            f"{PREPARING}failed to validate server configuration: critical configuration value mismatch between servers"
        )


def refuse_flags(options: Options) -> None:
    """Combinations and values that K3s refuses before it starts anything. Raises Fatal."""
    if options.text("cluster-reset-restore-path") and not options.on("cluster-reset"):
        raise Fatal("invalid flag use; --cluster-reset required with --cluster-reset-restore-path")
    if options.on("cluster-reset") and options.text("server"):
        raise Fatal(
            "cannot perform cluster-reset while server URL is set - remove server from configuration before resetting"
        )
    if options.text("datastore-endpoint"):
        raise Fatal("stand-in: datastore-endpoint is not supported, use embedded etcd or the default")
    if options.text("egress-selector-mode", "agent") not in ("agent", "cluster", "pod", "disabled"):
        raise Fatal(f"invalid egress-selector-mode {options.text('egress-selector-mode')}")
    if options.text("flannel-backend", "vxlan") not in ("none", "vxlan", "host-gw", "wireguard-native", "tailscale"):
        raise Fatal(f"unknown flannel backend '{options.text('flannel-backend')}'")
    for name in ("cluster-cidr", "service-cidr"):
        for cidr in options.many(name):
            try:
                ipaddress.ip_interface(cidr)
                if "/" not in cidr:
                    raise ValueError
            except ValueError:
                raise Fatal(f"invalid {name} {cidr}: invalid CIDR address: {cidr}") from None
    for address in options.many("cluster-dns"):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise Fatal(f"invalid cluster-dns address {address}") from None


# ---- bootstrap data in the datastore


def storage_key(password: str) -> str:
    return f"/bootstrap/{hashlib.sha256(password.encode()).hexdigest()[:12]}"


def _derived(password: str, salt: bytes) -> AESGCM:
    return AESGCM(hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096, 32))


def encrypt(password: str, data: bytes) -> bytes:
    salt, nonce = secrets.token_bytes(8), secrets.token_bytes(12)
    return salt + nonce + _derived(password, salt).encrypt(nonce, data, None)


def decrypt(password: str, blob: bytes) -> bytes:
    """Raises Fatal when the token is not the one that encrypted it."""
    try:
        return _derived(password, blob[:8]).decrypt(blob[8:20], blob[20:], None)
    except InvalidTag:
        raise Fatal(DIFFERENT_TOKEN) from None


def collect_shared(layout: Layout) -> dict[str, str]:
    return {
        name: base64.b64encode((layout.server / name).read_bytes()).decode()
        for name in SHARED
        if (layout.server / name).is_file()
    }


def write_shared(layout: Layout, files: dict[str, str]) -> None:
    for name, content in files.items():
        if name in SHARED:
            write_file(layout.server / name, base64.b64decode(content), 0o644 if name.endswith(".crt") else 0o600)


def stored_bootstrap(client: etcd.Client, password: str) -> dict[str, str] | None:
    """The shared files from the datastore, None when it has none yet. Raises Fatal for another token."""
    found = client.get("/bootstrap/", prefix=True)
    if not found:
        return None
    blob = found.get(storage_key(password))
    if blob is None:
        raise Fatal(f"{PREPARING}failed to reconcile with local datastore: {DIFFERENT_TOKEN}")
    return dict(json.loads(decrypt(password, blob)))


class Server:
    """One run of ``k3s server``."""

    def __init__(self, options: Options, notifier: Notifier, stop: threading.Event) -> None:
        self.options = options
        self.notifier = notifier
        self.stop = stop
        self.layout = Layout(options.text("data-dir"))
        self.children = Children(self.layout.run, self.layout.data)
        self.spec: NodeSpec
        self.embedded = True
        self.initialized = False
        self.password = ""
        self.agent_password = ""
        self.port = int(options.text("https-listen-port", "6443"))
        self.kubelet: FakeKubelet | None = None

    # ---- before anything runs

    def prepare(self) -> None:
        """Settings, tokens and files; after it the programs can start. Raises Fatal."""
        options, layout = self.options, self.layout
        refuse_flags(options)
        state = layout.etcd_embedded()
        self.initialized = state is not None
        self.embedded = bool(state or options.on("cluster-init") or options.text("server"))
        self.spec = refuse_early(options, layout)
        log.info(
            f"Starting k3s {VERSION} (stand-in of the PiClusterOps lab: Kubernetes 1.20 API, no container ever runs)"
        )
        layout.prepare_server()
        self.children.clear_leftovers()
        self._refuse_second()
        if state is False and self.embedded:
            self._migrate()
        self._tokens()
        if self.initialized:
            log.info(
                "Managed etcd cluster bootstrap already complete and initialized"
                if self.embedded
                else "Using the stand-in's datastore for sqlite"
            )
        elif options.text("server"):
            self._join()
        elif self.embedded:
            log.info("Managed etcd cluster initializing")
        self._authorities()
        self._encryption()
        self._credentials()
        self._token_files()
        if not self.embedded:
            _touch_sqlite(layout.db / "state.db")

    def _refuse_second(self) -> None:
        """Another server on this host: found by its ports, before any file changes."""
        for port in (self.port, etcd.CLIENT_PORT, authenticator.PORT):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("0.0.0.0", port))
                except OSError as problem:
                    reason = (problem.strerror or str(problem)).lower()
                    raise Fatal(
                        f"failed to listen on 0.0.0.0:{port}: listen tcp 0.0.0.0:{port}: bind: {reason}"
                    ) from None

    def _migrate(self) -> None:
        """sqlite to etcd by starting once with cluster-init, as K3s can."""
        log.info("Migrating content from sqlite to etcd")
        self.layout.etcd(False).rename(self.layout.etcd(True))

    def _tokens(self) -> None:
        configured = read_secret(self.options, "token")
        file = self.layout.server / "token"
        if self.options.text("server") and not self.initialized and not configured:
            raise Fatal(
                f"{PREPARING}failed to check if bootstrap data has been initialized: "
                "K3S_TOKEN is required to join a cluster"
            )
        parsed = tokens.parse(configured or (file.read_text().strip() if file.is_file() else tokens.new_secret()))
        if parsed.is_bootstrap:
            raise Fatal(BAD_TOKEN)
        self.password = parsed.password
        given = read_secret(self.options, "agent-token")
        self.agent_password = tokens.parse(given).password if given else self.password

    def _join(self) -> None:
        """Fetch what all servers share from the server at ``server:``."""
        url = self.options.text("server")
        host, port = split_url(url)
        token = tokens.parse(read_secret(self.options, "token"))
        start = f"{PREPARING}failed to check if bootstrap data has been initialized: failed to validate token: "
        try:
            ca = fetch_ca(host, port)
        except OSError as problem:
            raise Fatal(start + agent.ca_failure(problem, (host, port))) from problem
        fault = tokens.check_ca(token, ca)
        if fault:
            raise Fatal(start + fault)
        if not token.ca_hash:
            log.warning(tokens.NO_CA_HASH)
        log.info("Managed etcd cluster not yet initialized")
        try:
            data = join.bootstrap_data(Api([(host, port)], ca, bearer=self.password))
        except join.NotAuthorized:
            raise Fatal(f"{PREPARING}failed to validate server configuration: not authorized") from None
        except OSError as problem:
            raise Fatal(f"{PREPARING}https://{host}:{port}/v1-k3s/server-bootstrap: {problem}") from problem
        if data["agent-token-hash"] != hashlib.sha256(self.agent_password.encode()).hexdigest():
            log.warning("critical configuration mismatched: agent-token")
            raise Fatal(f"{PREPARING}failed to validate server configuration: not authorized")
        refuse_mismatch(critical_settings(self.options), data["critical"])
        if not data["embedded"]:
            raise Fatal(f"{PREPARING}https://{host}:{port}/v1-k3s/server-bootstrap: etcd disabled")
        write_shared(self.layout, data["files"])

    def _authorities(self) -> None:
        for name in AUTHORITIES:
            path = self.layout.tls / name
            pki.ensure_authority(path.parent, path.name)
        service = self.layout.tls / "service.key"
        if not service.is_file():
            write_file(service, pki.new_rsa_key())
        if not (self.layout.tls / "service.current.key").is_file():
            write_file(self.layout.tls / "service.current.key", service.read_bytes())

    def authority(self, name: str) -> pki.Authority:
        base = self.layout.tls / name
        return pki.load_authority(base.with_name(base.name + ".crt"), base.with_name(base.name + ".key"))

    def _encryption(self) -> None:
        """secrets-encryption with a key of its own, made once."""
        file = self.layout.cred / "encryption-config.json"
        if not self.options.on("secrets-encryption") or file.is_file():
            return
        provider = self.options.text("secrets-encryption-provider", "aescbc")
        if provider not in ("aescbc", "secretbox"):
            raise Fatal(f"invalid secrets-encryption-provider {provider}")
        key = {"name": f"{provider}key", "secret": base64.b64encode(secrets.token_bytes(32)).decode()}
        config = {
            "kind": "EncryptionConfiguration",
            "apiVersion": "apiserver.config.k8s.io/v1",
            "resources": [{"resources": ["secrets"], "providers": [{provider: {"keys": [key]}}, {"identity": {}}]}],
        }
        write_file(file, json.dumps(config))

    def sans(self) -> list[str]:
        service = critical_settings(self.options)["service-cidr"][0]
        domain = self.options.text("cluster-domain", "cluster.local")
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{domain}"]
        first = str(ipaddress.ip_network(service, strict=False)[1])
        own = [*self.spec.addresses, *self.spec.external, self.spec.name, "localhost", "127.0.0.1", "::1", first]
        return [*names, *own, *self.options.many("tls-san"), *filter(None, [self.options.text("advertise-address")])]

    def _credentials(self) -> None:
        tls, client, server = self.layout.tls, self.authority("client-ca"), self.authority("server-ca")
        for base, name, group in (
            ("client-admin", "system:admin", "system:masters"),
            ("client-supervisor", "system:k3s-supervisor", "system:masters"),
            ("client-controller", "system:kube-controller-manager", "system:masters"),
            ("client-scheduler", "system:kube-scheduler", ""),
            ("client-kube-apiserver", "system:apiserver", "system:masters"),
        ):
            pki.ensure_leaf(client, tls / base, name, group)
        pki.ensure_leaf(self.authority("request-header-ca"), tls / "client-auth-proxy", "system:auth-proxy")
        serving = tls / "serving-kube-apiserver"
        if pki.ensure_leaf(server, serving, "kube-apiserver", "", True, self.sans(), chain=True):
            log.info(f"certificate CN=kube-apiserver signed by {server.cert.subject.rfc4514_string()}: renewed")
        names = [*self.spec.addresses, self.spec.name, "localhost", "127.0.0.1", "::1"]
        etcd_ca, peer_ca = self.authority("etcd/server-ca"), self.authority("etcd/peer-ca")
        pki.ensure_leaf(etcd_ca, tls / "etcd" / "client", "etcd-client")
        pki.ensure_leaf(etcd_ca, tls / "etcd" / "server-client", "etcd-server", "", True, names)
        pki.ensure_leaf(peer_ca, tls / "etcd" / "peer-server-client", "etcd-peer", "", True, names)
        url, ca = f"https://127.0.0.1:{self.port}", server.pem
        for name, base in (
            ("admin", "client-admin"),
            ("controller", "client-controller"),
            ("scheduler", "client-scheduler"),
            ("supervisor", "client-supervisor"),
        ):
            pair = (tls / f"{base}.crt").read_bytes(), (tls / f"{base}.key").read_bytes()
            write_file(self.layout.cred / f"{name}.kubeconfig", kubeconfig(url, ca, *pair))
        self._user_kubeconfig(url, ca)

    def _user_kubeconfig(self, url: str, ca: bytes) -> None:
        path = Path(self.options.text("write-kubeconfig", str(KUBECONFIG)))
        try:
            mode = int(self.options.text("write-kubeconfig-mode", "600"), 8)
        except ValueError:
            raise Fatal(
                "invalid write-kubeconfig-mode: strconv.ParseInt: parsing "
                f'"{self.options.text("write-kubeconfig-mode")}": invalid syntax'
            ) from None
        tls = self.layout.tls
        make_dir(path.parent, 0o755)
        name = self.options.text("write-kubeconfig-name", "default")
        write_file(
            path,
            kubeconfig(url, ca, (tls / "client-admin.crt").read_bytes(), (tls / "client-admin.key").read_bytes(), name),
            mode,
        )
        group = self.options.text("write-kubeconfig-group")
        if group:
            import grp

            try:
                os.chown(path, -1, grp.getgrnam(group).gr_gid)
            except KeyError:
                raise Fatal(f"group: unknown group {group}") from None

    def _token_files(self) -> None:
        ca = (self.layout.tls / "server-ca.crt").read_bytes()
        server, node = self.layout.server / "token", self.layout.server / "node-token"
        write_file(server, tokens.format_token(ca, f"server:{self.password}") + "\n")
        agent_file = self.layout.server / "agent-token"
        write_file(agent_file, tokens.format_token(ca, f"node:{self.agent_password}") + "\n")
        if not (node.is_symlink() and node.readlink() == server):
            node.unlink(missing_ok=True)
            node.symlink_to(server)
        self.write_passwd()

    def write_passwd(self) -> None:
        """The file of that name in K3s; read at every login."""
        rows = [[self.password, "server", "server", "k3s:server,k3s:agent"]]
        if self.agent_password != self.password:
            rows.append([self.agent_password, "node", "node", "k3s:agent"])
        authenticator.write_rows(self.layout.cred / "passwd", rows)

    # ---- the programs

    def _etcd_name(self) -> str:
        file = self.layout.etcd(self.embedded) / "name"
        if not file.is_file():
            make_dir(file.parent)
            write_file(file, f"{self.spec.name}-{secrets.token_hex(4)}")
        return file.read_text().strip()

    def start_etcd(self) -> etcd.Client:
        tls = self.layout.tls / "etcd"
        address = self.spec.addresses[0]
        name = self._etcd_name()
        data = self.layout.etcd(self.embedded)
        remote = None
        cluster, state = f"{name}=https://{address}:{etcd.PEER_PORT}", "new"
        if self.options.text("server") and not self.initialized:
            remote = etcd.Client(split_url(self.options.text("server"))[0], tls)
            cluster = self._announce(remote, name, address)
            state = "existing"
        extra = [a.lstrip("-") for a in self.options.many("etcd-arg")]
        timing = etcd.JOINER if self.options.text("server") else etcd.FOUNDER
        self.children.start("etcd", etcd.arguments(name, data, tls, address, cluster, state, timing, extra))
        local = etcd.Client("127.0.0.1", tls)
        if remote:
            etcd.promote(remote, address, self.alive)
        waiting = time.monotonic()
        etcd.wait_healthy(local, self.alive)
        if time.monotonic() - waiting > 1:
            log.info("Connected to etcd datastore")
        return local

    def _announce(self, remote: etcd.Client, name: str, address: str) -> str:
        reason = ""
        for _ in range(60):
            try:
                log.info(f"Adding member {name}=https://{address}:{etcd.PEER_PORT} to etcd cluster")
                return etcd.join(remote, name, address)
            except (etcd.EtcdError, OSError) as problem:
                reason = str(problem)
                self.alive()
                time.sleep(1)
        raise Fatal(f"etcd cluster join failed: {reason}")

    def alive(self) -> None:
        """Raises Fatal when a program ended, SystemExit when we are to stop."""
        self.children.check()
        if self.stop.is_set():
            raise SystemExit(0)

    def insist(self, action: Callable[[], None], patience: float = 60) -> None:
        """Again while the datastore or the API fails, e.g. because etcd chooses a leader; ``patience`` in seconds."""
        deadline = time.monotonic() + patience
        while True:
            self.alive()
            try:
                return action()
            except (ApiError, etcd.EtcdError, OSError) as problem:
                if time.monotonic() > deadline:
                    raise Fatal(str(problem)) from problem
                time.sleep(0.5)

    def reconcile_bootstrap(self, client: etcd.Client) -> None:
        """The datastore decides about what servers share; the first server writes it."""
        mine = collect_shared(self.layout)
        stored = stored_bootstrap(client, self.password)
        if stored is not None:
            log.info("Reconciling bootstrap data between datastore and disk")
        merged = {**mine, **(stored or {})}
        if merged != stored:
            client.put(storage_key(self.password), encrypt(self.password, json.dumps(merged).encode()))
        if merged != mine:
            log.warning("Updating bootstrap data on disk from datastore")
            write_shared(self.layout, merged)
            self._credentials()
            self._token_files()

    def flags_of(self, program: str, extra: list[str]) -> list[tuple[str, str]]:
        if not extra:
            return []
        binary = KUBE_BINARIES / program
        return kubeargs.passable(program, kubeargs.ask_program(binary), extra)

    def apiserver_arguments(self) -> list[str]:
        tls, options = self.layout.tls, self.options
        extra = self.flags_of("kube-apiserver", options.many("kube-apiserver-arg"))
        extra = [(n, self._admission(v) if n == "admission-control-config-file" else v) for n, v in extra]
        extra = [(n, _without_pod_security(v) if n == "enable-admission-plugins" else v) for n, v in extra]
        domain = options.text("cluster-domain", "cluster.local")
        defaults = {
            "etcd-servers": f"https://127.0.0.1:{etcd.CLIENT_PORT}",
            "etcd-cafile": f"{tls}/etcd/server-ca.crt",
            "etcd-certfile": f"{tls}/etcd/client.crt",
            "etcd-keyfile": f"{tls}/etcd/client.key",
            "bind-address": options.text("bind-address", "0.0.0.0"),
            "secure-port": str(self.port),
            "advertise-address": options.text("advertise-address") or self.spec.addresses[0],
            "endpoint-reconciler-type": "lease",
            "service-cluster-ip-range": ",".join(critical_settings(options)["service-cidr"]),
            "service-node-port-range": options.text("service-node-port-range", "30000-32767"),
            "tls-cert-file": f"{tls}/serving-kube-apiserver.crt",
            "tls-private-key-file": f"{tls}/serving-kube-apiserver.key",
            "client-ca-file": f"{tls}/client-ca.crt",
            **dict(authenticator.webhook_config(self.layout.run / "authenticator.kubeconfig")),
            "enable-bootstrap-token-auth": "true",
            "anonymous-auth": "false",
            "profiling": "false",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true",
            "service-account-key-file": f"{tls}/service.key",
            "service-account-signing-key-file": f"{tls}/service.current.key",
            "service-account-issuer": f"https://kubernetes.default.svc.{domain}",
            "kubelet-client-certificate": f"{tls}/client-kube-apiserver.crt",
            "kubelet-client-key": f"{tls}/client-kube-apiserver.key",
            "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
            "requestheader-client-ca-file": f"{tls}/request-header-ca.crt",
            "requestheader-allowed-names": "system:auth-proxy",
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": f"{tls}/client-auth-proxy.crt",
            "proxy-client-key-file": f"{tls}/client-auth-proxy.key",
        }
        if options.on("secrets-encryption"):
            defaults["encryption-provider-config"] = f"{self.layout.cred}/encryption-config.json"
        return kubeargs.combine(defaults, extra)

    def _admission(self, path: str) -> str:
        """The configuration without PodSecurity, which 1.20 does not have; relative paths keep their meaning."""
        document, had_pod_security = checks.admission_configuration(path)
        if had_pod_security:
            log.info(
                "stand-in: Kubernetes 1.20 has no PodSecurity admission; "
                "its configuration was checked and is not enforced"
            )
        for plugin in document["plugins"]:
            if plugin.get("path"):
                plugin["path"] = str(Path(path).parent / str(plugin["path"]))
        target = self.layout.run / "admission.yaml"
        write_file(target, yaml.safe_dump(document))
        return str(target)

    def controller_arguments(self) -> list[str]:
        tls, options = self.layout.tls, self.options
        extra = self.flags_of(
            "kube-controller-manager",
            [*options.many("kube-controller-manager-arg"), *options.many("kube-controller-arg")],
        )
        config = f"{self.layout.cred}/controller.kubeconfig"
        defaults = {
            "kubeconfig": config,
            "authentication-kubeconfig": config,
            "authorization-kubeconfig": config,
            "bind-address": "127.0.0.1",
            "secure-port": "10257",
            "port": "0",
            "profiling": "false",
            "controllers": "*,tokencleaner",
            "service-account-private-key-file": f"{tls}/service.current.key",
            "root-ca-file": f"{tls}/server-ca.crt",
            "cluster-signing-cert-file": f"{tls}/client-ca.crt",
            "cluster-signing-key-file": f"{tls}/client-ca.key",
            "allocate-node-cidrs": "true",
            "cluster-cidr": ",".join(critical_settings(options)["cluster-cidr"]),
            "service-cluster-ip-range": ",".join(critical_settings(options)["service-cidr"]),
            "use-service-account-credentials": "false",
            "kube-api-qps": "200",
            "kube-api-burst": "300",
            **self._election(extra),
        }
        return kubeargs.combine(defaults, extra)

    def _election(self, extra: list[tuple[str, str]]) -> dict[str, str]:
        if not self.embedded:
            return {"leader-elect": "false"}
        if any(name.startswith("leader-elect-") for name, _ in extra):
            return {"leader-elect": "true"}
        return {
            "leader-elect": "true",
            "leader-elect-lease-duration": "8s",
            "leader-elect-renew-deadline": "6s",
            "leader-elect-retry-period": "1s",
        }

    def scheduler_arguments(self) -> list[str]:
        extra = self.flags_of("kube-scheduler", self.options.many("kube-scheduler-arg"))
        config = f"{self.layout.cred}/scheduler.kubeconfig"
        defaults = {
            "kubeconfig": config,
            "authentication-kubeconfig": config,
            "authorization-kubeconfig": config,
            "bind-address": "127.0.0.1",
            "secure-port": "10259",
            "port": "0",
            "profiling": "false",
            **self._election(extra),
        }
        return kubeargs.combine(defaults, extra)

    # ---- after the API answers

    def admin(self) -> Api:
        ca = (self.layout.tls / "server-ca.crt").read_bytes()
        base = self.layout.tls / "client-supervisor"
        return Api(
            [("127.0.0.1", self.port)],
            ca,
            cert=base.with_name("client-supervisor.crt"),
            key=base.with_name("client-supervisor.key"),
        )

    def wait_api(self, api: Api) -> None:
        while True:
            self.alive()
            with contextlib.suppress(ApiError, OSError):
                api.call("GET", "/readyz")
                return
            time.sleep(0.1)

    def cluster_dns(self) -> str:
        """Address of the Service for DNS."""
        return str(critical_settings(self.options)["cluster-dns"][0])

    def publish(self, api: Api) -> None:
        """What joining nodes read, and who may read it."""
        for path, body in join.access_objects():
            api.apply(path, body)
        data = {
            "embedded": self.embedded,
            "critical": critical_settings(self.options),
            "agent-token-hash": hashlib.sha256(self.agent_password.encode()).hexdigest(),
            "files": collect_shared(self.layout),
        }
        body = join.secret(join.BOOTSTRAP_SECRET, {"bootstrap": json.dumps(data).encode()})
        api.apply(f"{join.SYSTEM}/secrets/{join.BOOTSTRAP_SECRET}", body)
        settings: Json = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": join.AGENT_CONFIG, "namespace": "kube-system"},
            "data": {
                "client-ca.crt": (self.layout.tls / "client-ca.crt").read_text(),
                "cluster-dns": self.cluster_dns(),
                "cluster-domain": self.options.text("cluster-domain", "cluster.local"),
                "flannel-backend": self.options.text("flannel-backend", "vxlan"),
            },
        }
        api.apply(f"{join.SYSTEM}/configmaps/{join.AGENT_CONFIG}", settings)

    def free_leases(self, api: Api, client: etcd.Client) -> None:
        """A lone server need not wait until its own former leases run out."""
        if not self.embedded or len(client.members()) > 1:
            return
        for name in ("kube-controller-manager", "kube-scheduler"):
            with contextlib.suppress(ApiError):
                api.call("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}")

    def start_node(self, api: Api) -> None:
        if self.options.on("disable-agent"):
            return
        ca = (self.layout.tls / "server-ca.crt").read_bytes()
        write_file(self.layout.agent / "server-ca.crt", ca)
        self.kubelet = agent.start_node(
            self.layout, self.spec, [("127.0.0.1", self.port)], ca, self.password, self.stop
        )
        if self.kubelet is None:
            raise SystemExit(0)
        labels = {"node-role.kubernetes.io/control-plane": "true"}
        annotations: dict[str, str] = {}
        if self.embedded:
            labels["node-role.kubernetes.io/etcd"] = "true"
            annotations = {
                "etcd.k3s.cattle.io/node-name": self._etcd_name(),
                "etcd.k3s.cattle.io/node-address": self.spec.addresses[0],
            }
        self.insist(lambda: join.set_labels(api, self.spec.name, labels, annotations))
        log.info(f"Labels and annotations have been set successfully on node: {self.spec.name}")

    def run(self) -> None:
        """Until asked to stop. Raises Fatal."""
        from . import controllers

        self.prepare()
        try:
            arguments = {
                "kube-apiserver": self.apiserver_arguments(),
                "kube-controller-manager": self.controller_arguments(),
                "kube-scheduler": self.scheduler_arguments(),
            }
            client = self.start_etcd()
            self.insist(lambda: self.reconcile_bootstrap(client))
            log.info("ETCD server is now running")
            authenticator.serve(self.layout.cred / "passwd")
            self._component("kube-apiserver", arguments["kube-apiserver"])
            api = self.admin()
            self.wait_api(api)
            log.info("Kube API server is now running")
            self.layout.reset_flag.unlink(missing_ok=True)
            self.insist(lambda: self.free_leases(api, client))
            for program, disabled in (
                ("kube-controller-manager", "disable-controller-manager"),
                ("kube-scheduler", "disable-scheduler"),
            ):
                if not self.options.on(disabled):
                    self._component(program, arguments[program])
            self.insist(lambda: self.publish(api))
            controllers.start(self)
            self.start_node(api)
            log.info("k3s is up and running")
            self.notifier.ready()
            while not self.stop.wait(0.5):
                self.children.check()
        finally:
            if self.kubelet:
                self.kubelet.stop.set()
            self.children.stop()

    def _component(self, program: str, arguments: list[str]) -> None:
        log.info(arguments_line(program, arguments))
        self.children.start(program, arguments, {"LAB_KUBE_VERSION": VERSION})


def _without_pod_security(plugins: str) -> str:
    return ",".join(
        p
        for p in plugins.split(",")
        if p not in ("PodSecurity", "ValidatingAdmissionPolicy", "ClusterTrustBundleAttest")
    )


def _touch_sqlite(path: Path) -> None:
    """K3s' default datastore is a file that backups look for; it holds one row that says what it is."""
    if path.is_file():
        return
    old = os.umask(0o077)
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT, value BLOB)")
            database.execute("INSERT INTO kine (name, value) VALUES ('stand-in', 'the data is in etcd-standin')")
            database.commit()
    finally:
        os.umask(old)
