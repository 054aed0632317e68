"""A vault in memory that answers as HashiCorp Vault and OpenBao do, as far as we ask them.

Statuses, bodies and error texts are those of their API documentation and of OpenBao's http/sys_init.go and
http/sys_seal.go. What it is not: encrypted, persistent, or asked by Kubernetes who someone is.
"""

from __future__ import annotations

import base64
import http.server
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from secrets import token_bytes, token_urlsafe
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from piclusterops.vault import AUDIT_DEVICE, Request, Response

Json = dict[str, Any]
Answer = tuple[int, Json | None]
_UNAUTHENTICATED = ("sys/init", "sys/unseal", "sys/seal-status", "sys/health")


class FakeVault:
    """The state of a vault, and its answers."""

    def __init__(self, kind: str = "shamir", openbao: bool = False) -> None:
        self.kind = kind
        self.keys: list[str] = []
        self.root_token = ""
        self.threshold = 0
        self.sealed = True
        self.given: list[str] = []
        #: How many times it says that it is not active yet, after an unseal.
        self.electing = 0
        #: How many writes a new KV engine refuses.
        self.upgrading = 0
        self.mounts: Json = {"sys/": {"type": "system"}, "cubbyhole/": {"type": "cubbyhole"}}
        self.logins: Json = {"token/": {"type": "token"}}
        self.written: Json = {}
        #: Audit devices; OpenBao has one in its configuration, and takes none from its API.
        self.audit: Json = {"stdout/": {"type": "file", **AUDIT_DEVICE}} if openbao else {}
        self.openbao = openbao
        self.kv: dict[str, list[Json | None]] = {}
        #: Every request but reads: method and path.
        self.log: list[str] = []

    def send(self, request: Request) -> Response:
        """Answer without a network."""
        token = request.token.get_secret_value() if request.token else ""
        body = json.loads(json.dumps(request.body)) if request.body is not None else {}
        status, found = self.answer(request.method, request.path, token, body)
        return Response(status, found or {})

    def restart(self) -> None:
        """It is sealed after every start, unless it unseals itself."""
        self.sealed, self.given = self.kind == "shamir", []

    def answer(self, method: str, path: str, token: str, body: Json) -> Answer:
        if method != "GET":
            self.log.append(f"{method} {path}")
        if path not in _UNAUTHENTICATED:
            if self.sealed:
                return 503, {"errors": ["Vault is sealed"]}
            if token != self.root_token or not token:
                return 403, {"errors": ["permission denied"]}
        if path == "sys/seal-status":
            return 200, self._status()
        if path == "sys/health":
            return self._health()
        if path == "sys/init":
            return self._init(body)
        if path == "sys/unseal":
            return self._unseal(body)
        if path in ("sys/mounts", "sys/auth"):
            found = self.mounts if path == "sys/mounts" else self.logins
            return 200, {**found, "data": found, "request_id": "1", "lease_duration": 0}
        if made := re.fullmatch(r"sys/(mounts|auth)/(.+)", path):
            return self._mount(self.mounts if made[1] == "mounts" else self.logins, f"{made[2]}/", body)
        if path == "sys/audit":
            return 200, {**self.audit, "data": self.audit, "request_id": "1"}
        if device := re.fullmatch(r"sys/audit/(.+)", path):
            return self._audit(f"{device[1]}/", body)
        if stored := re.fullmatch(r"([^/]+)/data/(.+)", path):
            return self._stored(method, stored[1], stored[2], body)
        return self._setting(method, path, body)

    def _status(self) -> Json:
        return {
            "type": self.kind,
            "initialized": bool(self.root_token),
            "sealed": self.sealed,
            "t": self.threshold,
            "n": len(self.keys),
            "progress": len(self.given),
            "nonce": "",
            "version": "2.0.4",
            "migration": False,
            "recovery_seal": self.kind != "shamir",
            "storage_type": "raft",
        }

    def _health(self) -> Answer:
        if not self.root_token:
            return 501, {"initialized": False, "sealed": True}
        if self.sealed:
            return 503, {"initialized": True, "sealed": True}
        if self.electing:
            self.electing -= 1
            return 429, {"initialized": True, "sealed": False, "standby": True}
        return 200, {"initialized": True, "sealed": False, "standby": False}

    def _init(self, body: Json) -> Answer:
        word, other = ("secret", "recovery") if self.kind == "shamir" else ("recovery", "secret")
        wrong = [name for name in (f"{other}_shares", f"{other}_threshold") if body.get(name)]
        if wrong:
            return 400, {"errors": [f"parameters {','.join(wrong)} not applicable to seal type {self.kind}"]}
        if self.root_token:
            return 400, {"errors": ["Vault is already initialized"]}
        shares, self.threshold = body[f"{word}_shares"], body[f"{word}_threshold"]
        if shares > 1 and self.threshold == 1:
            return 400, {
                "errors": ["invalid seal configuration: threshold must be greater than one for multiple shares"]
            }
        self.keys = [base64.b64encode(token_bytes(33)).decode() for _ in range(shares)]
        self.root_token = f"hvs.{token_urlsafe(18)}"
        hexadecimal = [base64.b64decode(key).hex() for key in self.keys]
        found: Json = {"keys": [], "keys_base64": [], "root_token": self.root_token}
        prefix = "" if self.kind == "shamir" else "recovery_"
        self.sealed = self.kind == "shamir"
        return 200, {**found, f"{prefix}keys": hexadecimal, f"{prefix}keys_base64": self.keys}

    def _unseal(self, body: Json) -> Answer:
        if body.get("reset"):
            if not self.sealed:
                return 400, {"errors": ["vault is unsealed"]}
            self.given = []
            return 200, self._status()
        if not self.root_token:
            return 400, {"errors": ["Vault is not initialized"]}
        if not body.get("key"):
            return 400, {"errors": ["'key' must be specified in request body as JSON, or 'reset' set to true"]}
        if self.sealed and body["key"] not in self.given:
            self.given.append(body["key"])
        if self.sealed and len(self.given) == self.threshold:
            given, self.given = self.given, []
            if not set(given) <= set(self.keys):
                return 400, {"errors": ["Unseal failed, invalid key"]}
            self.sealed = False
        return 200, self._status()

    def _mount(self, mounts: Json, path: str, body: Json) -> Answer:
        if path in mounts:
            return 400, {"errors": [f"path is already in use at {path}"]}
        mounts[path] = body
        return 204, None

    def _audit(self, path: str, body: Json) -> Answer:
        if self.openbao:
            why = "cannot enable audit device via API; use declarative, config-based audit device management instead"
            return 400, {"errors": [why]}
        return self._mount(self.audit, path, body)

    def _stored(self, method: str, mount: str, name: str, body: Json) -> Answer:
        if f"{mount}/" not in self.mounts:
            return 404, {"errors": [f'no handler for route "{mount}/data/{name}". route entry not found.']}
        versions = self.kv.setdefault(name, [])
        metadata = {"version": len(versions), "destroyed": False, "deletion_time": ""}
        if method == "GET":
            if not versions:
                return 404, {"errors": []}
            return 200 if versions[-1] else 404, {"data": {"data": versions[-1], "metadata": metadata}}
        if self.upgrading:
            self.upgrading -= 1
            return 400, {"errors": ["Upgrading from non-versioned to versioned data. This backend will be unavailable"]}
        if body.get("options", {}).get("cas", len(versions)) != len(versions):
            return 400, {"errors": ["check-and-set parameter did not match the current version"]}
        versions.append(body["data"])
        return 200, {"data": {"version": len(versions)}}

    def _setting(self, method: str, path: str, body: Json) -> Answer:
        login = re.match(r"auth/([^/]+)/", path)
        if login and f"{login[1]}/" not in self.logins:
            return 404, {"errors": [f'no handler for route "{path}". route entry not found.']}
        if method != "GET":
            self.written[path] = body
            return 204, None
        if path not in self.written:
            return 404, {"errors": []}
        return 200, {"data": self.written[path]}


@contextmanager
def serving(
    vault: FakeVault, address: str, context: ssl.SSLContext, prefix: str = "/v1/", port: int = 0
) -> Iterator[int]:
    """The vault at a port of an address, any for 0, by HTTPS; what comes before the path of its API is `prefix`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            if self.path.startswith(prefix):
                path = self.path.removeprefix(prefix)
                status, found = vault.answer(self.command, path, self.headers.get("X-Vault-Token", ""), body)
            else:
                status, found = 404, {"kind": "Status", "message": f"no such path {self.path}"}
            self.send_response(status)
            content = b"" if found is None else json.dumps(found).encode() + b"\n"
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer((address, port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def write_certificates(folder: Path) -> Path:
    """An authority, a certificate for 127.0.0.1 and one of an admin, named as K3s names its own; returns the folder."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("server-ca", "serving", "client-admin")}
    now = datetime.now(UTC)
    for name, key in keys.items():
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server-ca")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=name == "server-ca", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        )
        certificate = builder.sign(keys["server-ca"], hashes.SHA256())
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(private)
    return folder


def server_context(certificates: Path) -> ssl.SSLContext:
    """TLS of a server with the certificate in the folder of `write_certificates`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "serving.crt", certificates / "serving.key")
    return context
