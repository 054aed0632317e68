"""The join tokens as a credential of the API server: a TokenReview webhook on loopback that reads ``cred/passwd``.

K3s keeps the same file and asks it in its own process; a rotated token counts without a restart in both.
"""

import csv
import hmac
import http.server
import json
import threading
from pathlib import Path
from typing import Any

import yaml

from .layout import write_file

PORT = 6444


def rows(passwd: Path) -> list[list[str]]:
    """``password, user, uid, groups`` of every line."""
    with passwd.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.reader(stream) if len(row) >= 4]


def write_rows(passwd: Path, content: list[list[str]]) -> None:
    lines = [",".join('"' + field.replace('"', '""') + '"' for field in row) for row in content]
    write_file(passwd, "\n".join(lines) + "\n")


def review(passwd: Path, token: str) -> dict[str, Any]:
    """The status of a TokenReview."""
    for password, user, uid, groups in (row[:4] for row in rows(passwd)):
        if hmac.compare_digest(password.encode(), token.encode()):
            return {"authenticated": True, "user": {"username": user, "uid": uid, "groups": groups.split(",")}}
    return {"authenticated": False}


def webhook_config(target: Path) -> list[tuple[str, str]]:
    """Write the webhook's kubeconfig; the API server's arguments for it."""
    url = f"http://127.0.0.1:{PORT}/"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "k3s", "cluster": {"server": url}}],
        "users": [{"name": "k3s", "user": {}}],
        "contexts": [{"name": "k3s", "context": {"cluster": "k3s", "user": "k3s"}}],
        "current-context": "k3s",
    }
    write_file(target, yaml.safe_dump(config))
    return [
        ("authentication-token-webhook-config-file", str(target)),
        ("authentication-token-webhook-version", "v1"),
        ("authentication-token-webhook-cache-ttl", "2s"),
    ]


def serve(passwd: Path) -> None:
    """Answer reviews in threads of their own. Raises OSError when the port is taken."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            return

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            status = review(passwd, str(asked.get("spec", {}).get("token", "")))
            answer = {"apiVersion": asked.get("apiVersion"), "kind": "TokenReview", "status": status}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
