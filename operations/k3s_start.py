"""(Re)start K3s on a node, and watch until it is Ready or it is clear why it is not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from shlex import quote
from typing import Any

import gevent
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.context import ctx_host

from piclusterops import k3s_causes
from piclusterops.facts.cache import forget
from piclusterops.facts.kube import KubeApi
from piclusterops.k3s_config import unit_name
from piclusterops.kube_nodes import timestamp
from piclusterops.operations.quiet import fail, peer_guard, privileges, run_quietly
from piclusterops.settings import Cluster, Node

_POLL_S = 1.0
_SAY_EVERY_S = 10.0
#: An agent that is refused does not end, it asks for ever: after this long it is not a server that still starts.
_REFUSED_FOR_S = 30.0


def restart(state: State, host: Host, cluster: Cluster, me: Node) -> bool:
    """(Re)start the unit, then watch its journal and the API until the node is Ready."""
    arguments, unit = privileges(host), unit_name(me)
    ok, output = run_quietly(
        host,
        f"systemctl daemon-reload && systemctl enable -q {unit} && systemctl reset-failed {unit} 2>/dev/null; "
        f"date +%s && systemctl --no-block restart {unit}",
        arguments,
    )
    if not ok or not output.stdout_lines:
        return fail(
            host, f"{host.name}: {unit} could not be started: {output.stderr}\nnext: sudo systemctl status {unit}"
        )
    since = int(output.stdout_lines[-1])
    started = said = time.monotonic()
    timeout = cluster.settings.ready_timeout_s
    host.log(f"{unit} is starting, up to {timeout} s until it is Ready")
    while True:
        gevent.sleep(_POLL_S)
        watch = _look(host, unit, since, arguments)
        seen = _seen_ready(state, cluster, me, since) if watch.active == "active" else "K3s is not up yet"
        waited = time.monotonic() - started
        if not seen:
            host.log(f"Ready after {waited:.0f} s")
            forget(host)
            forget(state.inventory.get_host(cluster.first_server.name))
            return True
        hopeless = watch.diagnosis.is_certain and (watch.restarts > 0 or waited >= _REFUSED_FOR_S)
        if waited >= timeout or hopeless:
            return fail(host, _explain(cluster, me, watch, seen, waited))
        if time.monotonic() - said >= _SAY_EVERY_S:
            said = time.monotonic()
            host.log(f"waiting for {waited:.0f} s of {timeout} s: unit {watch.active}, {k3s_causes.brief(seen)}")


@dataclass(frozen=True)
class _Watch:
    active: str
    restarts: int
    diagnosis: k3s_causes.Diagnosis


def _look(target: Host, unit: str, since: int, arguments: dict[str, Any]) -> _Watch:
    _, output = run_quietly(
        target,
        f"systemctl show -p ActiveState,NRestarts --value {unit} | tr '\\n' ' '; echo; "
        f"journalctl -u {unit} --since @{since} -o cat --no-pager -q -n 400 | "
        f"grep -E {quote(k3s_causes.SERIOUS)} | tail -n 40",
        arguments,
    )
    lines = output.stdout_lines or [""]
    words = lines[0].split()
    restarts = next((int(word) for word in words if word.isdigit()), 0)
    active = next((word for word in words if not word.isdigit()), "unknown")
    return _Watch(active, restarts, k3s_causes.diagnose(lines[1:]))


def _seen_ready(state: State, cluster: Cluster, me: Node, since: int) -> str:
    """Empty when the API has seen the node Ready since the restart, else what is missing.

    What the API says may be older than the restart, so the kubelet's heartbeat counts, by the node's own clock.
    """
    viewer = state.inventory.get_host(me.name if me.is_server else cluster.first_server.name)
    try:
        with peer_guard, ctx_host.use(viewer):
            api = viewer.get_fact(KubeApi)
    except ConnectError as error:
        return f"{viewer.name} cannot be asked: {error}"
    if api is None or api.nodes is None:
        return f"the API of {viewer.name} does not answer: {api.fault if api else 'it is not there yet'}"
    node = next((node for node in api.nodes if node.name == me.name), None)
    if node is None:
        return "the node has not registered"
    if not node.ready or not node.heartbeat or timestamp(node.heartbeat) <= since:
        return f"the node is not Ready: {node.reason or 'no reason given'}"
    if node.version != cluster.settings.k3s_version:
        return f"the node still reports {node.version}"
    return ""


def _explain(cluster: Cluster, me: Node, watch: _Watch, seen: str, waited: float) -> str:
    unit, first = unit_name(me), cluster.first_server
    unit_state = f"unit {watch.active}, {watch.restarts} restarts"
    lines = [f"{me.name}: K3s is not Ready after {waited:.0f} s: {k3s_causes.brief(seen)} ({unit_state})"]
    if watch.diagnosis.line:
        lines.append(f"journal: {watch.diagnosis.line}")
    lines.append(watch.diagnosis.advice(me.name, unit, first.name, first.address))
    return "\n".join(lines)
