"""The etcd member of a server and what K3s does with it: join, health, members, snapshots, raw keys.

Spoken to over etcd's own JSON gateway (``/v3/...``), so no client program is needed for anything but a restore.
"""

import base64
import hashlib
import http.client
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .log import Fatal

CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381
# Small and quick, for a lab: no fsync (a crash of the machine may lose data), 256 MiB at most, early WAL snapshots.
LAB_ARGUMENTS = [
    "--unsafe-no-fsync",
    "--quota-backend-bytes=268435456",
    "--snapshot-count=2000",
    "--max-wals=1",
    "--max-snapshots=1",
    "--auto-compaction-retention=10m",
    "--log-level=warn",
]
# The server that founds a cluster is mostly its only member, and waits for one election timeout, or nearly two, at each
# start: etcd's default. Those that join are patient, because all of them share the lab's few cores.
FOUNDER = ["--heartbeat-interval=100", "--election-timeout=1000"]
JOINER = ["--heartbeat-interval=300", "--election-timeout=3000"]


class EtcdError(Exception):
    """etcd answered with an error."""


class Client:
    """JSON gateway of one member."""

    def __init__(self, host: str, tls: Path | None, port: int = CLIENT_PORT) -> None:
        self.host = host
        self.port = port
        self.context: ssl.SSLContext | None = None
        if tls:
            self.context = ssl.create_default_context(cafile=str(tls / "server-ca.crt"))
            self.context.check_hostname = False  # members are reached by address, names are not in every certificate
            self.context.load_cert_chain(tls / "client.crt", tls / "client.key")

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.context:
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.context)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def call(self, path: str, body: dict[str, Any] | None = None, timeout: float = 10) -> dict[str, Any]:
        """POST to ``/v3/<path>``. Raises EtcdError, OSError."""
        connection = self._connection(timeout)
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(body or {}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as problem:
            raise ConnectionError(repr(problem)) from problem
        finally:
            connection.close()
        try:
            decoded = json.loads(content or b"{}")
        except ValueError:
            decoded = {"error": content.decode(errors="replace")}
        if answer.status >= 300:
            raise EtcdError(str(decoded.get("message") or decoded.get("error") or content))
        return decoded if isinstance(decoded, dict) else {}

    def healthy(self) -> bool:
        connection = self._connection(5)
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            return answer.status == 200 and json.loads(answer.read()).get("health") == "true"
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()

    def members(self) -> list[dict[str, Any]]:
        return list(self.call("cluster/member/list").get("members", []))

    def get(self, key: str, prefix: bool = False) -> dict[str, bytes]:
        body = {"key": _encode(key)}
        if prefix:
            body["range_end"] = _encode(key[:-1] + chr(ord(key[-1]) + 1))
        found = self.call("kv/range", body).get("kvs", [])
        return {base64.b64decode(kv["key"]).decode(): base64.b64decode(kv.get("value", "")) for kv in found}

    def put(self, key: str, value: bytes) -> None:
        self.call("kv/put", {"key": _encode(key), "value": base64.b64encode(value).decode()})

    def delete(self, key: str) -> None:
        self.call("kv/deleterange", {"key": _encode(key)})

    def snapshot(self, target: Path) -> int:
        """Stream a snapshot into ``target`` (0600); returns its size. Raises EtcdError when its checksum is wrong."""
        connection = self._connection(60)
        size = 0
        digest = hashlib.sha256()
        tail = b""
        try:
            connection.request("POST", "/v3/maintenance/snapshot", "{}", {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status >= 300:
                raise EtcdError(answer.read().decode(errors="replace"))
            with target.open("wb") as stream:
                target.chmod(0o600)
                while line := answer.readline():
                    part = json.loads(line)
                    if "error" in part:
                        raise EtcdError(str(part["error"]))
                    blob = base64.b64decode(part["result"].get("blob", ""))
                    size += len(blob)
                    stream.write(blob)
                    tail += blob  # the last 32 bytes are the SHA-256 of everything before
                    digest.update(tail[:-32])
                    tail = tail[-32:]
        except http.client.HTTPException as problem:
            raise ConnectionError(repr(problem)) from problem
        finally:
            connection.close()
        if digest.digest() != tail:
            target.unlink(missing_ok=True)
            raise EtcdError("snapshot checksum does not match")
        return size


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def arguments(
    name: str, data: Path, tls: Path, address: str, cluster: str, state: str, timing: list[str], extra: list[str]
) -> list[str]:
    """Command line of a member with TLS.

    ``cluster`` is etcd's --initial-cluster, ``state`` is new or existing, ``timing`` is FOUNDER or JOINER.
    """
    peer, client = f"https://{address}:{PEER_PORT}", f"https://{address}:{CLIENT_PORT}"
    return [
        f"--name={name}",
        f"--data-dir={data}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--listen-client-urls={client},https://127.0.0.1:{CLIENT_PORT}",
        f"--advertise-client-urls={client}",
        f"--listen-metrics-urls=http://127.0.0.1:{METRICS_PORT}",
        f"--initial-cluster={cluster}",
        f"--initial-cluster-state={state}",
        f"--cert-file={tls}/server-client.crt",
        f"--key-file={tls}/server-client.key",
        f"--trusted-ca-file={tls}/server-ca.crt",
        "--client-cert-auth=true",
        f"--peer-cert-file={tls}/peer-server-client.crt",
        f"--peer-key-file={tls}/peer-server-client.key",
        f"--peer-trusted-ca-file={tls}/peer-ca.crt",
        "--peer-client-cert-auth=true",
        *LAB_ARGUMENTS,
        *timing,
        *(f"--{argument}" for argument in extra),
    ]


def join(client: Client, name: str, address: str) -> str:
    """Announce this server as a learner; returns --initial-cluster. Raises Fatal, EtcdError, OSError.

    As K3s: a member of our own address that never started is taken over, a foreign one of our node name is refused.
    """
    peer = f"https://{address}:{PEER_PORT}"
    node = name.rpartition("-")[0]
    cluster = [f"{name}={peer}"]
    known = False
    for member in client.members():
        urls = member.get("peerURLs", [])
        if peer in urls:
            if member.get("name") in (None, "", name):
                known = True
                continue
            client.call("cluster/member/remove", {"ID": member["ID"]})  # our former self, its data is gone
            continue
        if str(member.get("name", "")).rpartition("-")[0] == node:
            raise Fatal("etcd cluster join failed: duplicate node name found, please use a unique name for this node")
        cluster += [f"{member.get('name', '')}={url}" for url in urls if member.get("name")]
    if not known:
        client.call("cluster/member/add", {"peerURLs": [peer], "isLearner": True})
    return ",".join(cluster)


def promote(remote: Client, address: str, alive: Callable[[], None], patience: float = 120) -> None:
    """Make our learner a voting member as soon as it is in sync. Raises Fatal after ``patience`` seconds."""
    peer = f"https://{address}:{PEER_PORT}"
    deadline = time.monotonic() + patience
    reason = "not started"
    while time.monotonic() < deadline:
        alive()
        try:
            mine = [m for m in remote.members() if peer in m.get("peerURLs", [])]
            if mine and not mine[0].get("isLearner"):
                return
            if mine:
                remote.call("cluster/member/promote", {"ID": mine[0]["ID"]})
                return
        except (EtcdError, OSError) as problem:
            reason = str(problem)
        time.sleep(0.3)
    raise Fatal(f"etcd learner was not promoted: {reason}")


def wait_healthy(client: Client, alive: Callable[[], None], patience: float | None = None) -> None:
    """Wait until the member serves requests; ``patience`` in seconds, None for ever (as K3s without quorum)."""
    deadline = None if patience is None else time.monotonic() + patience
    while not client.healthy():
        alive()
        if deadline is not None and time.monotonic() > deadline:
            raise Fatal("etcd did not become healthy")
        time.sleep(0.1)
