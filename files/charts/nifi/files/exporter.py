"""Serves NiFi's metrics to Prometheus: logs in, keeps the token while it is good, and hands on what NiFi says.

Settings are variables of the environment: NIFI_URL, CA_FILE, AUTH_DIR (the files username and password), PORT.
Only the standard library, so that any image with Python runs it.
"""

from __future__ import annotations

import os
import ssl
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

METRICS = "/nifi-api/flow/metrics/prometheus"
TOKEN = "/nifi-api/access/token"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: How long NiFi may take for an answer, in seconds; less than Prometheus waits.
PATIENCE_S = 20


class NiFi:
    """The API of one NiFi."""

    def __init__(self, url: str, auth: Path, ca: Path | None) -> None:
        self.url = url.rstrip("/")
        self.auth = auth
        self.ca = ca
        self._token = ""
        self._lock = threading.Lock()

    def metrics(self) -> bytes:
        """The metrics, as text of Prometheus; logs in where there is no token, or it is no longer good.

        Raises:
            urllib.error.URLError: NiFi does not answer, or refuses.
        """
        with self._lock:  # one login for all who ask at a time
            if self._token:
                try:
                    return self._metrics()
                except urllib.error.HTTPError as error:
                    if error.code != 401:
                        raise
            self._token = self._login()
            return self._metrics()

    def _metrics(self) -> bytes:
        request = urllib.request.Request(self.url + METRICS, headers={"Authorization": f"Bearer {self._token}"})
        return self._answer(request)

    def _login(self) -> str:
        # read each time: they may have been replaced
        form = {name: (self.auth / name).read_text(encoding="utf-8").strip() for name in ("username", "password")}
        request = urllib.request.Request(self.url + TOKEN, data=urllib.parse.urlencode(form).encode())
        return self._answer(request).decode("ascii").strip()

    def _answer(self, request: urllib.request.Request) -> bytes:
        # the authority as well: it changes when cert-manager replaces it
        context = ssl.create_default_context(cafile=str(self.ca)) if self.ca else None
        with urllib.request.urlopen(request, timeout=PATIENCE_S, context=context) as answer:
            content: bytes = answer.read()
        return content


def handler(nifi: NiFi) -> type[BaseHTTPRequestHandler]:
    """What answers Prometheus and the kubelet."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._send(200, b"ok\n")
            elif self.path == "/metrics":
                self._send_metrics()
            else:
                self._send(404, b"only /metrics and /healthz\n")

        def _send_metrics(self) -> None:
            try:
                content = nifi.metrics()
            except (OSError, ValueError, HTTPException) as error:
                print(f"NiFi gives no metrics: {_cause(error)}", file=sys.stderr, flush=True)
                # to Prometheus, NiFi itself is down
                self._send(503, b"NiFi gives no metrics\n")
            else:
                self._send(200, content, CONTENT_TYPE)

        def _send(self, status: int, content: bytes, kind: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """A line for each scrape is too many."""

    return Handler


def _cause(error: Exception) -> str:
    """Why, without what was sent or answered: a password and a token."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    return str(error) if isinstance(error, OSError) else type(error).__name__


def main() -> None:
    """Serve until the end."""
    ca = os.environ.get("CA_FILE")
    nifi = NiFi(os.environ["NIFI_URL"], Path(os.environ["AUTH_DIR"]), Path(ca) if ca else None)
    address = ("", int(os.environ.get("PORT", "9092")))
    server = ThreadingHTTPServer(address, handler(nifi))
    print(f"metrics of {nifi.url} on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
