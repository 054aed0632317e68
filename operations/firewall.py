"""The firewall of a node, changed so that nobody is locked out by it and nothing of others is lost."""

from __future__ import annotations

from typing import Any

from pyinfra import host
from pyinfra.api import operation

from piclusterops.facts.armed import ARMED_DIR, is_pending
from piclusterops.facts.firewall import (
    DIGEST,
    FILE,
    FILES,
    LISTING,
    OTHER_UNIT,
    UNIT,
    UNIT_FILE,
    FirewallState,
    firewall_state,
)
from piclusterops.facts.node import sshd_state
from piclusterops.facts.snapshot import STAMP_DIR, Query, Snapshot, snapshot_of
from piclusterops.firewall import firewall_of
from piclusterops.k3s_config import BINARY
from piclusterops.operations.armed import ArmedChange, NewConnection, armed
from piclusterops.operations.managed import ManagedFile, digest_of, refuse, unknown_state
from piclusterops.ruleset import compile_ruleset, rollback_ruleset
from piclusterops.settings import Cluster, Node
from piclusterops.templates import render

NAME = "firewall"
_STAGED = f"{ARMED_DIR}/{NAME}/staged"
#: A server of K3s that answers within this is healthy, in seconds.
_HEALTHY_S = 5

_OTHER_FILE = f"/etc/systemd/system/{OTHER_UNIT}"
_CHECK = f"""\
command -v nft >/dev/null || {{ echo "nft is not installed: it comes with deploys/site.py (packages)"; exit 1; }}
if [ -e {_OTHER_FILE} ] && [ ! -L {_OTHER_FILE} ] && [ -s {_OTHER_FILE} ]; then
    echo "{_OTHER_FILE} is a file of your own, so that the unit can't be masked: remove it"
    exit 1
fi
nft -c -f "$staged/firewall.nft"
"""
_K3S_IS_HEALTHY = (
    'healthy() { systemctl is-active -q "$1.service" || return 1; '
    f'[ "$1" != k3s ] || timeout {_HEALTHY_S} {BINARY} kubectl get --raw /readyz >/dev/null 2>&1; }}'
)
# What is in force is noted first, and must be loadable: it is what comes back.
_APPLY = f"""\
{_K3S_IS_HEALTHY}
for unit in k3s k3s-agent; do
    if healthy "$unit"; then echo "$unit"; fi
done >"$staged/healthy"
{{
    cat "$staged/remove.nft"
    {LISTING}
}} >"$staged/previous"
nft -c -f "$staged/previous"
mv "$staged/previous" "$staged/previous.nft"
nft -f "$staged/firewall.nft"
"""
_ROLLBACK = 'if [ "$boot" = no ] && [ -e "$staged/previous.nft" ]; then nft -f "$staged/previous.nft"; fi'
_CONFIRM = f"""{_K3S_IS_HEALTHY}
while read -r unit; do
    healthy "$unit" || {{ echo "$unit.service was healthy and no longer is"; exit 1; }}
done <{_STAGED}/healthy"""


def wanted_files(cluster: Cluster, node: Node) -> dict[str, ManagedFile]:
    """The files of a node's firewall: the ruleset, which tells of the network and is root's only, and its unit."""
    return {
        FILE: ManagedFile(compile_ruleset(firewall_of(cluster).at(node.name), node.role), "600"),
        UNIT_FILE: ManagedFile(render(UNIT)),
    }


def change(cluster: Cluster, node: Node) -> ArmedChange:
    """The change that puts a node's firewall into force; only once it is confirmed it is there for the next boot."""
    files = wanted_files(cluster, node)
    return ArmedChange(
        name=NAME,
        staged={
            "firewall.nft": files[FILE],
            "firewall.service": files[UNIT_FILE],
            "remove.nft": ManagedFile(rollback_ruleset(None)),
        },
        check=_CHECK,
        fingerprint=DIGEST,
        apply=_APPLY,
        rollback=_ROLLBACK,
        persist=_persist(digest_of(files)),
        keep=cluster.settings.firewall.ways_in(node.name),
        confirm=(_k3s_is_well,),
        timeout_s=cluster.settings.armed_timeout_s,
    )


def _persist(digest: str) -> str:
    """Shell that makes the next boot load what is in force, and notes what that looks like.

    nftables.service is masked but not stopped: stopping it would flush the tables of kube-proxy as well.
    """
    stamp = f"{STAMP_DIR}/{NAME}"
    return f"""\
put() {{
    mkdir -p -m 755 "${{2%/*}}"
    cp -p "$staged/$1" "$2.new"
    sync "$2.new"
    mv -f "$2.new" "$2"
    sync "${{2%/*}}"
}}
put firewall.nft {FILE}
put firewall.service {UNIT_FILE}
systemctl daemon-reload
systemctl enable --quiet {UNIT}
systemctl mask --quiet {OTHER_UNIT}
systemctl start {UNIT}
mkdir -p -m 755 {STAMP_DIR}
printf '%s:%s\\n' {digest} "$({DIGEST})" >{stamp}.new
mv -f {stamp}.new {stamp}
"""


def _k3s_is_well(connection: NewConnection) -> str | None:
    answer = connection.run(_CONFIRM, 2 * _HEALTHY_S)
    return None if answer.ok else answer.stdout.strip() or answer.stderr.strip() or "K3s could not be asked"


@operation()
def configure(node: str, cluster: Cluster, query: Query) -> Any:
    """
    Put a node's firewall into force. Kept only after a new login and with K3s as healthy as before, else undone.

    + node: name of the node; the operation does nothing on any other host
    + cluster: the cluster; its settings say what the firewall is
    + query: the role's query

    To be called on every host for every node, in the same order: so one node changes at a time, and the next is only
    touched when this one has let us in again. A table that was changed or removed by others is put right.
    """
    if host.name != node:
        host.noop(f"this is about {node}")
        return
    snapshot = snapshot_of(query)
    state = firewall_state(snapshot) if snapshot else None
    if snapshot is None or state is None:
        yield unknown_state()
        return
    if not cluster.settings.firewall.enabled:
        yield from _without(snapshot, state)
        return
    member = cluster.node(node)
    if _in_force(snapshot, state, wanted_files(cluster, member)):
        host.noop("the firewall is in force")
        return
    fault = _unreachable_sshd(cluster, snapshot)
    yield refuse(fault) if fault else armed(change(cluster, member))


def _without(snapshot: Snapshot, state: FirewallState) -> Any:
    """Take away what an earlier run has set up."""
    if not any(path in snapshot.paths for path in FILES) and NAME not in snapshot.stamps:
        host.noop("no firewall is wanted, and there is none of ours")
        return
    yield (
        f"systemctl disable --quiet --now {UNIT}; rm -f {' '.join(FILES)} && systemctl daemon-reload && "
        f"{{ ! nft list table inet piclusterops >/dev/null 2>&1 || nft delete table inet piclusterops; }} && "
        f"systemctl unmask --quiet {OTHER_UNIT} && rm -f {STAMP_DIR}/{NAME}"
    )


def _in_force(snapshot: Snapshot, state: FirewallState, files: dict[str, ManagedFile]) -> bool:
    return (
        not is_pending(snapshot, NAME)
        and all(snapshot.paths.get(path) == file.state for path, file in files.items())
        and (state.active, state.enabled, state.other) == ("active", "enabled", "masked")
        and snapshot.stamps.get(NAME) == f"{digest_of(files)}:{state.digest}"
    )


def _unreachable_sshd(cluster: Cluster, snapshot: Snapshot) -> str | None:
    """Why nobody could log in: the firewall opens another port than the one that sshd has."""
    state = sshd_state(snapshot)
    lines = state.effective[0] if state and state.effective else ()
    ports = [line.split()[1] for line in lines if line.startswith("port ")]
    opened = str(cluster.settings.firewall.ssh_port)
    if not ports or opened in ports:
        return None
    return (
        f"{host.name}: the firewall was left as it is: it opens port {opened} for SSH, and sshd listens on "
        f'{", ".join(ports)}. Next: set firewall = {{"ssh_port": {ports[0]}}}'
    )
