"""A small client of the Kubernetes API over the standard library: JSON in, JSON out, watches by line."""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .log import Fatal

Json = dict[str, Any]
JSON, STRATEGIC, MERGE = "application/json", "application/strategic-merge-patch+json", "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class ApiError(Exception):
    """The server answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


def server_chain(host: str, port: int, timeout: float = 10) -> list[bytes]:
    """The certificates that the server presents, DER, leaf first, unverified. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((host, port), timeout) as raw, context.wrap_socket(raw, server_hostname=host) as tls:
        if hasattr(tls, "get_unverified_chain"):  # Python 3.13
            return [bytes(c) for c in tls.get_unverified_chain()]
        inner: Any = tls._sslobj  # type: ignore[attr-defined]  # 3.10 to 3.12 have it one level down
        return [ssl.PEM_cert_to_DER_cert(c.public_bytes()) for c in inner.get_unverified_chain()]


def fetch_ca(host: str, port: int) -> bytes:
    """PEM of the cluster CA, i.e. the last certificate of the presented chain. Raises OSError."""
    from cryptography import x509

    from . import pki

    return pki.pem(x509.load_der_x509_certificate(server_chain(host, port)[-1]))


class Api:
    """One API server (or several that stand for each other), one identity.

    Keeps one connection per thread. Raises ApiError for a refusal and OSError when no server answers.
    """

    def __init__(
        self,
        servers: list[tuple[str, int]],
        ca_pem: bytes,
        bearer: str = "",
        cert: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self.servers = servers
        self.context = ssl.create_default_context(cadata=ca_pem.decode())
        if cert and key:
            self.context.load_cert_chain(cert, key)
        self.headers = {"Accept": JSON, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}
        self.local = threading.local()

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        problem: OSError = ConnectionError("no server known")
        for server in list(self.servers):
            connection = http.client.HTTPSConnection(*server, timeout=timeout, context=self.context)
            try:
                connection.connect()
            except OSError as reason:
                problem = reason
                continue
            if self.servers[0] != server:  # the one that answers goes first from now on
                self.servers = [server] + [s for s in self.servers if s != server]
            return connection
        raise problem

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        for attempt in (1, 2):
            connection: http.client.HTTPSConnection | None = getattr(self.local, "connection", None)
            fresh = connection is None
            if connection is None:
                connection = self.local.connection = self._connect(10)
                if connection.sock:
                    connection.sock.settimeout(30)
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as problem:
                self.close()
                if fresh or attempt == 2:
                    raise problem if isinstance(problem, OSError) else ConnectionError(repr(problem)) from problem
        raise AssertionError("unreachable")

    def close(self) -> None:
        connection = getattr(self.local, "connection", None)
        self.local.connection = None
        if connection:
            connection.close()

    def call(self, method: str, path: str, body: Json | None = None, kind: str = JSON) -> Json:
        headers = dict(self.headers)
        data = None
        if body is not None:
            headers["Content-Type"] = kind
            data = json.dumps(body).encode()
        status, content = self._send(method, path, data, headers)
        if status >= 300:
            raise ApiError(status, message_of(content))
        if not content:
            return {}
        try:
            decoded = json.loads(content)
        except ValueError:
            return {"text": content.decode(errors="replace")}
        return decoded if isinstance(decoded, dict) else {"value": decoded}

    def find(self, path: str) -> Json | None:
        """The object, or None when there is none."""
        try:
            return self.call("GET", path)
        except ApiError as problem:
            if problem.status == 404:
                return None
            raise

    def apply(self, path: str, body: Json, manager: str = "k3s") -> Json:
        """Server-side apply: create or change to the given fields."""
        return self.call("PATCH", f"{path}?fieldManager={manager}&force=true", body, APPLY)

    def watch(self, path: str, version: str, seconds: int = 290) -> Iterator[Json]:
        """Events of a watch until the server ends it. Own connection."""
        mark = "&" if "?" in path else "?"
        connection = self._connect(10)
        try:
            if connection.sock:
                connection.sock.settimeout(seconds + 20)
            connection.request(
                "GET",
                f"{path}{mark}watch=true&resourceVersion={version}&timeoutSeconds={seconds}",
                headers=self.headers,
            )
            answer = connection.getresponse()
            if answer.status >= 300:
                raise ApiError(answer.status, message_of(answer.read()))
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(int(event["object"].get("code", 500)), str(event["object"].get("message")))
                yield event
        except http.client.HTTPException as problem:
            raise ConnectionError(repr(problem)) from problem
        finally:
            connection.close()


def message_of(content: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(content)["message"])
    return content.decode(errors="replace").strip()[:300]


def kubeconfig(server: str, ca_pem: bytes, cert: bytes, key: bytes, name: str = "default") -> str:
    """A kubeconfig with everything embedded; cluster, context and user are called ``name``."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "clusters": [{"cluster": {"certificate-authority-data": encoded(ca_pem), "server": server}, "name": name}],
            "contexts": [{"context": {"cluster": name, "user": name}, "name": name}],
            "current-context": name,
            "kind": "Config",
            "users": [
                {"name": name, "user": {"client-certificate-data": encoded(cert), "client-key-data": encoded(key)}}
            ],
        },
        sort_keys=True,
    )


def split_url(url: str) -> tuple[str, int]:
    """Host and port of a ``server:`` setting. Raises Fatal in K3s' words."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme != "https":
        raise Fatal(f"only https:// URLs are supported, invalid scheme: {url}")
    if not parts.hostname:
        raise Fatal(f"Invalid server url, failed to parse: {url}")
    return parts.hostname, parts.port or 443
