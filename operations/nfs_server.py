"""The NFS server of the kernel, for volumes that nodes share."""

from __future__ import annotations

from shlex import quote
from typing import Any

from pyinfra import host
from pyinfra.api import operation

from piclusterops.facts.nfs_server import STAMP
from piclusterops.facts.snapshot import STAMP_DIR, PathState, Query, UnitState, snapshot_of
from piclusterops.host_releases import NFS_SERVER, PACKAGES
from piclusterops.nfs_server import CONF_FILE, EXPORTS_FILE, SHARE_MODE, UNIT, NfsServer, nfs_server_of, share
from piclusterops.operations.managed import BEGUN, ManagedFile, set_stamp, unknown_state, write_file
from piclusterops.operations.system import installation
from piclusterops.session import ssh_command
from piclusterops.settings import Cluster

# What somebody else exports there stays, and the server with it.
_REMOVAL = (
    f"rm -f {EXPORTS_FILE} {CONF_FILE} && {{ ! command -v exportfs >/dev/null || exportfs -ra || :; }} && "
    f'if ! command -v exportfs >/dev/null || [ -z "$(exportfs -s)" ]; then '
    f"systemctl disable --quiet --now {UNIT} || ! systemctl is-active --quiet {UNIT}; "
    f"else systemctl restart {UNIT}; fi && rm -f {STAMP_DIR}/{STAMP}"
)


def wanted_files(server: NfsServer) -> dict[str, ManagedFile]:
    """The files of the server, beside Debian's own."""
    return {CONF_FILE: ManagedFile(server.conf), EXPORTS_FILE: ManagedFile(server.exports)}


@operation()
def exported(cluster: Cluster, query: Query) -> Any:
    """
    Export a directory to the cluster's nodes from one of them, and from nowhere else.

    + cluster: the cluster
    + query: the role's query

    Its files are there before the package is, so that it never runs in another way. Where it is turned off, or moved
    away from, nothing is exported any more, and the directory and all in it stay.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    server, stamp = nfs_server_of(cluster), snapshot.stamps.get(STAMP)
    if server is None or server.node != host.name:
        if stamp:
            yield _REMOVAL
        else:
            host.noop("no NFS server is wanted here")
        return
    files = wanted_files(server)
    differing = [path for path, file in files.items() if snapshot.paths.get(path) != file.state]
    directory = snapshot.paths.get(share()) == PathState("directory", SHARE_MODE, "root", "root")
    running = snapshot.units.get(UNIT) == UnitState("active", "enabled")
    if running and directory and not differing and stamp == server.mark:
        host.noop(f"{share()} is exported to {len(cluster.nodes)} nodes")
        return
    yield set_stamp(STAMP, BEGUN)
    if not directory:
        yield f"mkdir -p {share()} && chown root:root {share()} && chmod {SHARE_MODE} {share()}"
    for path in differing:
        yield write_file(path, files[path])
    if missing := [name for name in PACKAGES[NFS_SERVER] if name not in snapshot.packages]:
        yield installation(missing)
    # Clients wait while the server starts anew; a change of the exports alone does not need that.
    how = "restart" if CONF_FILE in differing or not running or stamp in (None, BEGUN) else "reload"
    yield f"{_start(how)} && {set_stamp(STAMP, server.mark)}"


def _start(how: str) -> str:
    fault = (
        f"{host.name}: the NFS server does not run. Next: {ssh_command(host)} sudo journalctl -b -u {UNIT}; without "
        "the kernel's module nfsd, restart the node into the kernel that is installed"
    )
    return (
        f"{{ exportfs -ra && systemctl enable --quiet {UNIT} && systemctl {how} {UNIT} && "
        f"systemctl is-active --quiet {UNIT}; }} || {{ echo {quote(fault)} >&2; exit 1; }}"
    )
