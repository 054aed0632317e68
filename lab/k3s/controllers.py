"""What K3s' own controllers do while a server runs: let nodes in, clean up after deleted ones, apply manifests."""

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import etcd, join, log, operators, snapshots
from .api import Api, ApiError, Json
from .layout import KUBE_BINARIES

if TYPE_CHECKING:
    from .server import Server


def start(server: "Server") -> None:
    for work in (_requests, _nodes, _manifests, *((_schedule,) if server.embedded else ())):
        threading.Thread(target=work, args=(server,), daemon=True).start()
    operators.start(server)


def _requests(server: "Server") -> None:
    """Answer the requests of nodes that join or restart."""
    api, ca = server.admin(), server.authority("client-ca")

    def one(request: Json) -> None:
        try:
            join.answer(api, ca, request)
        except ApiError as problem:
            if problem.status not in (404, 409):  # another server was quicker
                log.error(f"Unable to answer {request['metadata']['name']}: {problem}")

    while not server.stop.is_set():
        try:
            join.forget_old_requests(api)
            listed = api.call("GET", join.REQUESTS)
            for item in listed.get("items") or []:
                one(item)
            for event in api.watch(join.REQUESTS, listed["metadata"]["resourceVersion"], 60):
                if event["type"] in ("ADDED", "MODIFIED"):
                    one(event["object"])
        except (ApiError, OSError):
            server.stop.wait(0.5)


def _nodes(server: "Server") -> None:
    """A deleted Node loses its node password and its etcd membership."""
    api = server.admin()
    while not server.stop.is_set():
        try:
            listed = api.call("GET", "/api/v1/nodes")
            for event in api.watch("/api/v1/nodes", listed["metadata"]["resourceVersion"]):
                if event["type"] == "DELETED":
                    _forget(server, api, event["object"]["metadata"])
        except (ApiError, OSError):
            server.stop.wait(1)


def _forget(server: "Server", api: Api, meta: Json) -> None:
    node = meta["name"]
    with contextlib.suppress(ApiError):
        api.call("DELETE", f"{join.SYSTEM}/secrets/{join.password_secret(node)}")
    if "node-role.kubernetes.io/etcd" not in (meta.get("labels") or {}) or node == server.spec.name:
        return
    client = etcd.Client("127.0.0.1", server.layout.tls / "etcd")
    with contextlib.suppress(etcd.EtcdError, OSError):
        for member in client.members():
            if str(member.get("name", "")).rpartition("-")[0] == node:
                log.info(f"Removing name={member['name']} id={member['ID']} address={meta.get('name')} from etcd")
                client.call("cluster/member/remove", {"ID": member["ID"]})


def due_manifests(folder: Path, seen: dict[Path, tuple[int, int]]) -> list[Path]:
    """Manifests that are new or changed since ``seen``, which is brought up to date; ``<name>.skip`` leaves one out."""
    due = []
    for file in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml"), *folder.rglob("*.json")]):
        if file.with_name(file.name + ".skip").exists() or not file.is_file():
            continue
        state = file.stat()
        stamp = (state.st_mtime_ns, state.st_size)
        if seen.get(file) != stamp:
            seen[file] = stamp
            due.append(file)
    return due


def _manifests(server: "Server") -> None:
    seen: dict[Path, tuple[int, int]] = {}
    environment = {**os.environ, "KUBECONFIG": str(server.layout.cred / "supervisor.kubeconfig")}
    while not server.stop.is_set():
        for file in due_manifests(server.layout.manifests, seen):
            command = [str(KUBE_BINARIES / "kubectl"), "apply", "-f", str(file)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                seen.pop(file, None)
                log.error(f"Failed to process config: failed to process {file}: {' '.join(done.stderr.split())[:500]}")
            else:
                log.info(f"Applied manifest at {file}")
        server.stop.wait(5)


def _schedule(server: "Server") -> None:
    """etcd-snapshot-schedule-cron with retention, as K3s keeps it."""
    options = server.options
    if options.on("etcd-disable-snapshots"):
        return
    expression = options.text("etcd-snapshot-schedule-cron", "0 */12 * * *")
    folder = Path(options.text("etcd-snapshot-dir", str(server.layout.snapshots)))
    name = options.text("etcd-snapshot-name", "etcd-snapshot")
    client = etcd.Client("127.0.0.1", server.layout.tls / "etcd")
    last = -1
    while not server.stop.wait(5):
        now = time.localtime()
        if now.tm_min == last or not snapshots.cron_due(expression, now):
            continue
        last = now.tm_min
        try:
            saved = snapshots.save(client, folder, name, server.spec.name, options.on("etcd-snapshot-compress"))
            log.info(f"Snapshot {saved.name} saved.")
            snapshots.prune(folder, f"{name}-{server.spec.name}-", int(options.text("etcd-snapshot-retention", "5")))
        except (etcd.EtcdError, OSError) as problem:
            log.error(f"failed to take etcd snapshot: {problem}")
