"""Install, configure and start K3s: staged everywhere first, then one node at a time.

Secrets travel in memory from the first server to the node that needs them, on stdin, and are printed nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from shlex import quote
from typing import Any

import gevent
from pyinfra import host, state
from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.context import ctx_host

from piclusterops import artefacts, lock, preflight
from piclusterops.artefacts import RELEASES, ArtefactError, Release
from piclusterops.facts.cache import forget
from piclusterops.facts.k3s import (
    IMAGES_DIR,
    STAGED,
    STAMP,
    TOOLS,
    has_joined,
    host_facts,
    is_starting,
    query,
    token_digests,
)
from piclusterops.facts.snapshot import STAMP_DIR, PathState, Snapshot, snapshot_of
from piclusterops.k3s_config import (
    AGENT_K10_TOKEN,
    AGENT_TOKEN,
    AUDIT_LOG_DIR,
    BINARY,
    CONFIG_DIR,
    REGISTRIES,
    SERVER_K10_TOKEN,
    STORAGE_DIR,
    TOKEN,
    environment_path,
    is_managed,
    registration_files,
    restart_files,
    unit_name,
    version_fault,
)
from piclusterops.operations.k3s_start import restart
from piclusterops.operations.managed import (
    UNFINISHED,
    Commands,
    ManagedFile,
    digest_of,
    refuse,
    set_stamp,
    unknown_state,
    write_file,
)
from piclusterops.operations.quiet import fail, peer_guard, privileges, run_quietly
from piclusterops.operations.upload import install, uploaded
from piclusterops.settings import Cluster, ClusterSettings, Node

_POLL_S = 1.0

# -- staging ------------------------------------------------------------------------------------------------


@operation()
def stage(cluster: Cluster) -> Any:
    """
    Put the verified K3s binary, and the image archive if wanted, on the host, beside what is in use.

    + cluster: the inventory

    Nothing that runs is touched, so that all hosts can be prepared at once before the first one changes.
    """
    node = cluster.node(host.name)
    snapshot = snapshot_of(query(cluster, node))
    facts = host_facts(snapshot) if snapshot else None
    if snapshot is None or facts is None:
        yield unknown_state()
        return
    release = RELEASES.get(facts.arch)
    if release is None:
        yield refuse(f"{host.name}: there is no K3s for {facts.arch}. Use a 64-bit image")
        return
    try:
        wanted = _wanted(cluster.settings, release)
        present = {
            place: entry
            for place, entry in wanted.items()
            if entry.sha256 in {_sha256(snapshot, place), _sha256(snapshot, STAGED if place == BINARY else place)}
        }
        if host.state.is_executing:
            _remember(cluster.settings, *present.values())
    except ArtefactError as error:
        yield refuse(f"{host.name}: {error}")
        return
    for place, entry in wanted.items():
        if place in present:
            host.noop(f"{entry.file} {entry.version} is there")
        else:
            yield FunctionCommand(_upload, (cluster.settings, entry, STAGED if place == BINARY else place), {})


def _wanted(settings: ClusterSettings, release: Release) -> dict[str, lock.LockEntry]:
    """Path on the host to the artefact that belongs there.

    Raises:
        ArtefactError: a digest is not known.
    """
    files = {BINARY: release.binary}
    if settings.airgap_images:
        files[f"{IMAGES_DIR}/{release.images}"] = release.images
    path = lock.lock_path(settings)
    return {
        place: lock.expected(settings.k3s_mirror, settings.k3s_version, release, file, path)
        for place, file in files.items()
    }


def _remember(settings: ClusterSettings, *entries: lock.LockEntry) -> None:
    """Record the first use of digests, once files that have them were seen.

    Raises:
        ArtefactError: a digest differs from the one recorded.
    """
    path = lock.lock_path(settings)
    for entry in lock.write(path, entries):
        host.log(f"{entry.file} {entry.version} is pinned in {path} from now on")


def wanted_binary(settings: ClusterSettings, facts: preflight.HostFacts) -> str:
    """The SHA-256 that the K3s binary of a host must have.

    Raises:
        ArtefactError: it is not known.
    """
    return _wanted(settings, RELEASES[facts.arch])[BINARY].sha256


def _upload(state: State, host: Host, settings: ClusterSettings, entry: lock.LockEntry, dest: str) -> bool:
    """Upload as the login user into a private directory; the copy that root makes is the one that is verified."""
    path = lock.lock_path(settings)
    try:
        source = artefacts.fetch(
            settings.k3s_mirror,
            entry.version,
            entry.file,
            entry.sha256,
            authority=str(path) if entry.key in lock.read(path) else entry.source,
            progress=lambda done, size: host.log(
                f"{entry.file}: {done >> 20} of {(size or 0) >> 20 or '?'} MB fetched"
            ),
        )
        _remember(settings, entry)
    except ArtefactError as error:
        return fail(host, f"{host.name}: {error}")
    sent = uploaded(host, source, entry.file)
    mode = "755" if dest == STAGED else "644"
    return sent is not None and install(host, sent, entry.file, install_upload(sent, entry.sha256, dest, mode))


def install_upload(upload: str, digest: str, dest: str, mode: str = "644") -> str:
    """Shell that moves an upload to its place: root's own copy is verified, then renamed."""
    source, target = quote(upload), quote(dest)
    return (
        f'd=$(dirname {target}); mkdir -p "$d" && umask 077 && t={target}{UNFINISHED} && '
        f'trap \'rm -f "$t" {source}\' EXIT && cat {source} >"$t" && '
        f"printf '%s  %s\\n' {digest} \"$t\" | sha256sum -c --status && "
        f'chown 0:0 "$t" && chmod {mode} "$t" && sync "$t" && rm -f {source} && mv -f "$t" {target}'
    )


# -- deciding -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What one node needs. Empty and false everywhere means nothing."""

    binary: str = ""
    files: tuple[tuple[str, ManagedFile], ...] = ()
    remove: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    restart: bool = False
    starting: bool = False
    digest: str = ""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(
            self.binary or self.files or self.remove or self.private or self.tools or self.tokens or self.restart
        )


def make_plan(cluster: Cluster, node: Node, snapshot: Snapshot, first: Snapshot | None, binary: str) -> Plan:
    """Compare a node with what it should be.

    Args:
        cluster: the inventory.
        node: the node.
        snapshot: the node as it is.
        first: the first server as it is, None when that is not known.
        binary: the SHA-256 that the K3s binary must have.
    """
    lasting = _managed(restart_files(cluster, node))
    changed = _changed(snapshot, lasting)
    digest = sha256(f"{digest_of(lasting)} {binary}".encode()).hexdigest()
    replace = _sha256(snapshot, BINARY) != binary
    stale = REGISTRIES not in lasting and is_managed("".join(snapshot.probes.get("registries", [])[:1]))
    unit = snapshot.units.get(unit_name(node))
    starting = is_starting(snapshot, node)
    running = unit is not None and (unit.active == "active" or starting) and unit.enabled == "enabled"
    return Plan(
        binary=binary if replace else "",
        files=(*changed, *_changed(snapshot, _managed(registration_files(node)))),
        remove=(REGISTRIES,) if stale else (),
        private=_not_private(node, snapshot),
        tools=tuple(name for name in snapshot.probes.get("tools", []) if name in TOOLS),
        tokens=_wrong_tokens(cluster, node, snapshot, first),
        restart=bool(replace or changed or stale or not running or snapshot.stamps.get(STAMP) != digest),
        starting=starting,
        digest=digest,
    )


def _managed(texts: dict[str, str]) -> dict[str, ManagedFile]:
    return {path: ManagedFile(text, "644" if path.endswith(".service") else "600") for path, text in texts.items()}


def _changed(snapshot: Snapshot, files: dict[str, ManagedFile]) -> tuple[tuple[str, ManagedFile], ...]:
    return tuple((path, file) for path, file in files.items() if snapshot.paths.get(path) != file.state)


def _sha256(snapshot: Snapshot, path: str) -> str:
    found = snapshot.paths.get(path)
    return found.sha256 if found else ""


def _not_private(node: Node, snapshot: Snapshot) -> tuple[str, ...]:
    """Paths that must be root's alone and are not, or are missing."""
    wrong = []
    environment = snapshot.paths.get(environment_path(node))
    if environment is None or (environment.mode, environment.user) != ("600", "root"):
        wrong.append(environment_path(node))
    for folder in (*([AUDIT_LOG_DIR] if node.is_server else []), STORAGE_DIR):
        if snapshot.paths.get(folder) != PathState("directory", "700", "root", "root"):
            wrong.append(folder)
    return tuple(wrong)


def token_sources(cluster: Cluster, node: Node) -> dict[str, str]:
    """Token file of a node to the file of the first server whose content it must have; empty for that server."""
    if node.name == cluster.first_server.name:
        return {}
    if node.is_server:
        return {TOKEN: SERVER_K10_TOKEN, AGENT_TOKEN: AGENT_TOKEN}
    return {TOKEN: AGENT_K10_TOKEN}


def _wrong_tokens(cluster: Cluster, node: Node, snapshot: Snapshot, first: Snapshot | None) -> tuple[str, ...]:
    """Token files that are missing, readable by others, or not the first server's."""
    sources = token_sources(cluster, node)
    here = token_digests(snapshot)
    there = token_digests(first) if first else {}
    wrong = []
    for path in (TOKEN, AGENT_TOKEN) if node.is_server else (TOKEN,):
        found = snapshot.paths.get(path)
        private = found is not None and (found.mode, found.user) == ("600", "root")
        source = there.get(sources[path]) if path in sources else None
        if not private or path not in here or (source is not None and here[path] != source):
            wrong.append(path)
    return tuple(wrong)


# -- doing --------------------------------------------------------------------------------------------------


@operation()
def activate(cluster: Cluster, node: str) -> Any:
    """
    Install, configure and start K3s on one node, and wait until it is Ready.

    + cluster: the inventory
    + node: name of the node; on other hosts nothing happens

    Every host takes part in the operation of every node, so that pyinfra finishes one node before the next. An
    agent that has never joined is left to `join`.
    """
    if host.name != node:
        host.noop(f"it is the turn of {node}")
        return
    me = cluster.node(node)
    snapshot = snapshot_of(query(cluster, me))
    if snapshot is not None and not me.is_server and not has_joined(snapshot, me):
        host.noop("it joins with the other new agents")
        return
    yield from _bring_up(cluster, me, snapshot)


@operation()
def join(cluster: Cluster) -> Any:
    """
    Install K3s on the agents that have never run it, all at once: no pod runs there yet.

    + cluster: the inventory
    """
    me = cluster.node(host.name)
    snapshot = None if me.is_server else snapshot_of(query(cluster, me))
    if me.is_server or (snapshot is not None and has_joined(snapshot, me)):
        host.noop("it is part of the cluster")
        return
    yield from _bring_up(cluster, me, snapshot)


def _bring_up(cluster: Cluster, me: Node, snapshot: Snapshot | None) -> Commands:
    facts = host_facts(snapshot) if snapshot else None
    if snapshot is None or facts is None:
        yield unknown_state()
        return
    try:
        binary = wanted_binary(cluster.settings, facts)
    except ArtefactError as error:
        yield refuse(f"{host.name}: {error}")
        return
    first = _first_snapshot(cluster, me, snapshot)
    plan = make_plan(cluster, me, snapshot, first, binary)
    if plan.starting and not plan.is_needed and host.state.is_executing:
        snapshot = _once_started(cluster, me, snapshot)
        plan = make_plan(cluster, me, snapshot, first, binary)
        plan = replace(plan, restart=plan.restart or plan.starting)
    if not plan.is_needed:
        host.noop("K3s is up to date and runs")
        return
    reason = _obstacle(cluster, me, snapshot, facts, plan)
    if reason:
        yield refuse(f"{host.name}: {reason}")
        return
    yield from _apply(cluster, me, plan)


def _once_started(cluster: Cluster, me: Node, snapshot: Snapshot) -> Snapshot:
    """What a node is like once the start that is under way has ended or took too long: after a boot it takes time."""
    host.log(f"{unit_name(me)} is starting: waiting for it, up to {cluster.settings.ready_timeout_s} s")
    end = time.monotonic() + cluster.settings.ready_timeout_s
    while is_starting(snapshot, me) and time.monotonic() < end:
        gevent.sleep(_POLL_S)
        forget(host)
        snapshot = snapshot_of(query(cluster, me)) or snapshot
    return snapshot


def _peer_snapshot(cluster: Cluster, node: Node, connect: bool) -> Snapshot | None:
    """The snapshot of another node, None when it cannot be had; without `connect` a connection is not made for it."""
    peer = state.inventory.get_host(node.name)
    if peer in state.failed_hosts or not (peer.connected or connect):
        return None
    try:
        with peer_guard, ctx_host.use(peer):
            return snapshot_of(query(cluster, node))
    except ConnectError:
        return None


def _first_snapshot(cluster: Cluster, me: Node, snapshot: Snapshot) -> Snapshot | None:
    """The first server as it is; a connection is made for it only when this node needs a token from it."""
    if me.name == cluster.first_server.name:
        return snapshot
    have = token_digests(snapshot)
    needs = any(path not in have for path in token_sources(cluster, me))
    return _peer_snapshot(cluster, cluster.first_server, connect=needs and state.is_executing)


def _obstacle(cluster: Cluster, me: Node, snapshot: Snapshot, facts: preflight.HostFacts, plan: Plan) -> str | None:
    """Why the plan must not be carried out now."""
    if plan.binary and facts.installed:
        fault = version_fault(facts.k3s_version or "of an unknown version", cluster.settings.k3s_version)
        if fault:
            return fault
    if not plan.restart:
        return None
    names = {node.name for node in cluster.nodes}
    failed = sorted(other.name for other in state.failed_hosts if other.name in names)
    if not has_joined(snapshot, me):
        servers = {server.name for server in cluster.servers}
        failed = [name for name in failed if name in servers]
    if failed:
        return f"left as it is, because {', '.join(failed)} failed before it. Repair that, then run again"
    if me.name == cluster.first_server.name and SERVER_K10_TOKEN not in snapshot.paths:
        return _second_cluster(cluster)
    return None


def _second_cluster(cluster: Cluster) -> str | None:
    """Starting an empty first server beside servers that have a cluster would make a second cluster."""
    for other in cluster.servers[1:]:
        there = _peer_snapshot(cluster, other, connect=False)
        if there is not None and SERVER_K10_TOKEN in there.paths:
            return (
                f"it has no cluster, but {other.name} has: starting it would make a second one. "
                f"Put {other.name} first in the group of the servers; this one then joins it"
            )
    return None


def _apply(cluster: Cluster, me: Node, plan: Plan) -> Generator[StringCommand | FunctionCommand, None, None]:
    # What is in force is unknown from here on: a run that is killed leaves no stamp, and the next one repairs.
    forget_stamp = f"rm -f {STAMP_DIR}/{STAMP} && " if plan.restart else ""
    yield StringCommand(f"{forget_stamp}mkdir -p {CONFIG_DIR}")
    if plan.private:
        yield StringCommand(make_private(plan.private))
    if plan.binary:
        yield StringCommand(replace_binary(plan.binary))
    if plan.tools:
        yield StringCommand(" && ".join(f"ln -sf k3s /usr/local/bin/{tool}" for tool in plan.tools))
    for path, file in plan.files:
        yield write_file(path, file)
    if plan.remove:
        yield StringCommand("rm -f " + " ".join(quote(path) for path in plan.remove))
    if plan.tokens and me.name == cluster.first_server.name:
        yield StringCommand(make_tokens())
    elif plan.tokens:
        yield FunctionCommand(_fetch_tokens, (cluster, me, plan.tokens), {})
    if plan.restart:
        yield FunctionCommand(restart, (cluster, me), {})
        yield StringCommand(set_stamp(STAMP, plan.digest))


def make_private(paths: Sequence[str]) -> str:
    """Shell that makes files and directories exist and be root's alone, content untouched."""
    lines = []
    for path in paths:
        name = quote(path)
        create, mode = ("mkdir -p", "700") if path in (AUDIT_LOG_DIR, STORAGE_DIR) else ("touch", "600")
        lines.append(f"{{ [ -e {name} ] || {create} {name}; }} && chown 0:0 {name} && chmod {mode} {name}")
    return " && ".join(lines)


def replace_binary(digest: str) -> str:
    """Shell that puts the staged binary into use; what is not the verified file stays where it is."""
    return (
        f"printf '%s  %s\\n' {digest} {STAGED} | sha256sum -c --status && mv -f {STAGED} {BINARY} && "
        f"sync {BINARY} {Path(BINARY).parent}"
    )


def make_tokens(prefix: str = "") -> str:
    """Shell that makes the tokens on the first server, unless they exist; those of a datastore that exists are kept.

    K3s' own copy has the form ``K10<hash>::<user>:<password>``; a first server starts with the password alone.
    """
    lines = ["umask 077"]
    for path, known in ((TOKEN, SERVER_K10_TOKEN), (AGENT_TOKEN, AGENT_K10_TOKEN)):
        dest, source = quote(prefix + path), quote(prefix + known)
        lines.append(
            f"[ -s {dest} ] || {{ t={dest}{UNFINISHED} && "
            f"if [ -s {source} ]; then sed 's/^K10[^:]*::[^:]*://' {source}; "
            f"else od -An -N32 -tx1 /dev/urandom | tr -d ' \\n'; echo; fi >\"$t\" && "
            f'sync "$t" && mv -f "$t" {dest}; }}'
        )
        lines.append(f"chown 0:0 {dest} && chmod 600 {dest}")
    return " && ".join(lines)


def _fetch_tokens(state: State, host: Host, cluster: Cluster, me: Node, paths: Sequence[str]) -> bool:
    """From the first server to this host, through memory only."""
    arguments = privileges(host)
    first = state.inventory.get_host(cluster.first_server.name)
    for path in paths:
        source = token_sources(cluster, me)[path]
        try:
            with peer_guard:
                if not first.connected:
                    first.connect(raise_exceptions=True)
                ok, output = run_quietly(first, f"cat {quote(source)}", arguments)
        except ConnectError as error:
            return fail(host, f"{host.name}: cannot join without {first.name}, which is not reached: {error}")
        token = output.stdout.strip() if ok else ""
        if not token:
            return fail(
                host,
                f"{host.name}: {first.name} has no {source} to join with: its K3s has not started. "
                f"Try: ssh {first.name} systemctl status k3s",
            )
        ok, output = run_quietly(host, write_file(path, ManagedFile(f"{token}\n", "600")), arguments)
        if not ok:
            return fail(host, f"{host.name}: cannot write {path}: {output.stderr}")
    return True
