"""Elasticsearch, OpenSearch and their dashboards, as far as the loader of logs' objects speaks to them.

What they accept, refuse and add follows their documented APIs: Elasticsearch's ILM, index template and settings APIs;
OpenSearch's Index State Management (with optimistic locking by `_seq_no`); the saved objects API of Kibana, which
OpenSearch Dashboards has kept, with its header against cross-site requests.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER, PASSWORD = "platform-admin", "pass:wörd-only-in-the-secret"
_LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass
class State:
    """What the servers hold, and what has been asked of them."""

    kind: str
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Indices by name, with the name of their policy.
    indices: dict[str, str | None] = field(default_factory=dict)
    saved: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    #: How often to answer that it is not ready yet.
    starting: int = 0
    changes: list[str] = field(default_factory=list)
    sequence: int = 0


class Handler(BaseHTTPRequestHandler):
    """Both servers in one: their paths differ."""

    server: Server

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = self._answer(body)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/ndjson" if isinstance(answer, str) else "application/json")
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_PUT = do_POST = _handle

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _answer(self, body: bytes) -> tuple[int, Any]:
        state = self.server.state
        if self.headers.get("Authorization") != _LOGIN:
            return 401, {"error": "missing authentication credentials"}
        path, _, query = self.path.partition("?")
        if state.starting:
            state.starting -= 1
            return 503, {"error": "starting"}
        if path.startswith("/api/"):
            return self._dashboards(path, query, body)
        given = json.loads(body) if body else {}
        if body and self.headers.get("Content-Type") != "application/json":
            return 406, {"error": "Content-Type header is not supported"}
        if self.command != "GET":
            state.changes.append(f"{self.command} {path}")
        return self._search(path, query, given)

    def _search(self, path: str, query: str, given: Any) -> tuple[int, Any]:
        state = self.server.state
        if path == "/_cluster/health":
            return 200, {"status": "yellow"}
        if found := re.fullmatch(r"/_index_template/([\w-]+)", path):
            return self._template(found[1], given)
        if state.kind == "elasticsearch":
            if found := re.fullmatch(r"/_ilm/policy/([\w-]+)", path):
                return self._lifecycle(found[1], given)
            if found := re.fullmatch(r"/([^/]+)/_settings", path):
                return self._settings(found[1], given)
        else:
            if found := re.fullmatch(r"/_plugins/_ism/policies/([\w-]+)", path):
                return self._state_management(found[1], query, given)
            if found := re.fullmatch(r"/_plugins/_ism/(explain|add|change_policy)/([^/]+)", path):
                return self._managed(found[1], found[2], given)
        return 400, {"error": f"no handler found for uri [{path}] and method [{self.command}]"}

    def _template(self, name: str, given: Any) -> tuple[int, Any]:
        templates = self.server.state.templates
        if self.command == "PUT":
            templates[name] = {**given, "composed_of": []}
            return 200, {"acknowledged": True}
        if name not in templates:
            return 404, {"error": {"type": "resource_not_found_exception"}, "status": 404}
        return 200, {"index_templates": [{"name": name, "index_template": templates[name]}]}

    def _lifecycle(self, name: str, given: Any) -> tuple[int, Any]:
        policies = self.server.state.policies
        if self.command == "PUT":
            stored = copy.deepcopy(given["policy"])
            stored["phases"]["delete"]["actions"]["delete"].setdefault("delete_searchable_snapshot", True)
            version = policies.get(name, {"version": 0})["version"] + 1
            policies[name] = {"version": version, "modified_date": "2026-11-23T00:00:00.000Z", "policy": stored}
            return 200, {"acknowledged": True}
        if name not in policies:
            return 404, {"error": {"type": "resource_not_found_exception"}, "status": 404}
        return 200, {name: {**policies[name], "in_use_by": {"indices": [], "data_streams": []}}}

    def _matching(self, pattern: str) -> list[str]:
        expression = re.escape(pattern).replace(r"\*", ".*")
        return [name for name in self.server.state.indices if re.fullmatch(expression, name)]

    def _settings(self, pattern: str, given: Any) -> tuple[int, Any]:
        indices = self.server.state.indices
        if self.command == "PUT":
            for name in self._matching(pattern):
                indices[name] = given["index.lifecycle.name"]
            return 200, {"acknowledged": True}
        return 200, {
            name: {
                "settings": {"index": {"number_of_shards": "1", **({"lifecycle": {"name": policy}} if policy else {})}}
            }
            for name in self._matching(pattern)
            for policy in [indices[name]]
        }

    def _state_management(self, name: str, query: str, given: Any) -> tuple[int, Any]:
        state = self.server.state
        there = state.policies.get(name)
        if self.command == "GET":
            return (200, there) if there else (404, {"error": {"reason": "Policy not found"}, "status": 404})
        wanted = f"if_seq_no={there['_seq_no']}&if_primary_term={there['_primary_term']}" if there else ""
        if query != wanted:
            return 409, {"error": {"type": "version_conflict_engine_exception"}, "status": 409}
        stored = copy.deepcopy(given["policy"])
        for one in stored["states"]:
            retry = {"count": 3, "backoff": "exponential", "delay": "1m"}
            one["actions"] = [{"retry": retry, **action} for action in one["actions"]]
        for template in stored["ism_template"]:
            template["last_updated_time"] = 1764000000000
        state.sequence += 1
        policy = {"policy_id": name, "schema_version": 21, "error_notification": None, **stored}
        state.policies[name] = {
            "_id": name,
            "_version": 1,
            "_seq_no": state.sequence,
            "_primary_term": 1,
            "policy": policy,
        }
        return 201, state.policies[name]

    def _managed(self, verb: str, pattern: str, given: Any) -> tuple[int, Any]:
        indices = self.server.state.indices
        names = self._matching(pattern)
        if verb == "explain":
            key = "index.plugins.index_state_management.policy_id"
            managed = {name: {key: indices[name], "enabled": None} for name in names}
            return 200, {**managed, "total_managed_indices": sum(1 for name in names if indices[name])}
        assert given["policy_id"] in self.server.state.policies
        for name in names:
            indices[name] = given["policy_id"]
        return 200, {"updated_indices": len(names), "failures": False, "failed_indices": []}

    def _dashboards(self, path: str, query: str, body: bytes) -> tuple[int, Any]:
        state = self.server.state
        header = "kbn-xsrf" if state.kind == "elasticsearch" else "osd-xsrf"
        if path == "/api/status":
            return 200, {"status": {"overall": {"level": "available"}}}
        if header not in self.headers:
            return 400, {"message": f"Request must contain a {header} header."}
        if path == "/api/saved_objects/_export":
            return self._export(json.loads(body))
        if path == "/api/saved_objects/_import" and query == "overwrite=true":
            state.changes.append("import")
            return self._import(body)
        return 404, {"message": "Not Found"}

    def _export(self, asked: Any) -> tuple[int, Any]:
        saved = self.server.state.saved
        names = [(one["type"], one["id"]) for one in asked["objects"]]
        if missing := [name for name in names if name not in saved]:
            return 400, {"message": "Bad Request", "attributes": {"objects": missing}}
        return 200, "\n".join(json.dumps({**saved[name], "version": "WzEsMV0="}) for name in names)

    def _import(self, body: bytes) -> tuple[int, Any]:
        kind = self.headers["Content-Type"]
        boundary = re.fullmatch(r"multipart/form-data; boundary=(\S+)", kind)
        if not boundary:
            return 415, {"message": "Unsupported Media Type"}
        part = body.decode().split(f"--{boundary[1]}")[1]
        head, _, content = part.partition("\r\n\r\n")
        if 'name="file"' not in head or not re.search(r'filename="[^"]+\.ndjson"', head):
            return 400, {"message": "Invalid file extension"}
        objects = [json.loads(line) for line in content.splitlines() if line.strip()]
        known = {(one["type"], one["id"]) for one in objects} | set(self.server.state.saved)
        missing = [one for one in objects for ref in one["references"] if (ref["type"], ref["id"]) not in known]
        if missing:
            return 200, {"success": False, "successCount": 0, "errors": [{"error": {"type": "missing_references"}}]}
        self.server.state.saved |= {(one["type"], one["id"]): one for one in objects}
        return 200, {"success": True, "successCount": len(objects)}


class Server(ThreadingHTTPServer):
    """Search and dashboards on one port."""

    daemon_threads = True

    def __init__(self, state: State, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = state
        self.scheme = "http"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server_address[1]}"


@contextmanager
def serving(state: State, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """The servers while the block runs."""
    server = Server(state, context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
