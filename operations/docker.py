"""Docker Engine beside K3s, without its hands on the network."""

from __future__ import annotations

from shlex import quote
from typing import Any

from pyinfra import host
from pyinfra.api import operation

from piclusterops.docker import CONF_FILE, CONTAINERD, UNITS, daemon_json, mark
from piclusterops.facts.docker import STAMP
from piclusterops.facts.snapshot import STAMP_DIR, Query, Snapshot, UnitState, snapshot_of
from piclusterops.host_releases import DOCKER, PACKAGES, node_of
from piclusterops.host_report import CONTAINER_ENGINES
from piclusterops.operations.managed import BEGUN, ManagedFile, refuse, set_stamp, unknown_state, write_file
from piclusterops.operations.system import installation
from piclusterops.session import ssh_command
from piclusterops.settings import Cluster

_SERVICE, _SOCKET = UNITS
# The daemon's file stays: who starts Docker by hand later does not cut the pods off.
_REMOVAL = (
    "if command -v docker >/dev/null && systemctl is-active --quiet docker; then "
    "docker ps -q | xargs -r docker stop >/dev/null; fi; "
    f"systemctl disable --quiet --now {_SOCKET} {_SERVICE} {CONTAINERD}; "
    f"! systemctl is-active --quiet {_SERVICE} && rm -f {STAMP_DIR}/{STAMP}"
)


@operation()
def engine(cluster: Cluster, query: Query) -> Any:
    """
    Run Docker Engine on its node, and nowhere else.

    + cluster: the cluster
    + query: the role's query

    Its configuration is there before the package is: with its own defaults Docker drops all forwarded traffic as it
    starts, that of pods too. Nobody is in the group `docker`, who would be root. Where it is turned off, or moved away
    from, containers are stopped and the units disabled; packages, images and configuration stay.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    stamp = snapshot.stamps.get(STAMP)
    if node_of(cluster, DOCKER) != host.name:
        if stamp:
            yield _REMOVAL
        else:
            host.noop("no Docker is wanted here")
        return
    file = ManagedFile(daemon_json())
    same = snapshot.paths.get(CONF_FILE) == file.state
    running = all(snapshot.units.get(unit) == UnitState("active", "enabled") for unit in UNITS)
    if running and same and stamp == mark():
        host.noop("Docker runs")
        return
    if not stamp and (fault := _foreign(snapshot, same)):
        yield refuse(fault)
        return
    yield set_stamp(STAMP, BEGUN)
    if not same:
        yield write_file(CONF_FILE, file)
    if missing := [name for name in PACKAGES[DOCKER] if name not in snapshot.packages]:
        yield installation(missing)
    fault = f"{host.name}: Docker does not run. Next: {ssh_command(host)} sudo journalctl -b -u {_SERVICE}"
    yield (
        f"{{ systemctl enable --quiet --now {CONTAINERD} && systemctl enable --quiet --now {_SOCKET} && "
        f"systemctl enable --quiet {_SERVICE} && systemctl {'start' if same else 'restart'} {_SERVICE}; }} || "
        f"{{ echo {quote(fault)} >&2; exit 1; }}; {set_stamp(STAMP, mark())}"
    )


def _foreign(snapshot: Snapshot, same: bool) -> str | None:
    """Why the Docker that is there is not ours to change."""
    others = [name for name in CONTAINER_ENGINES if name in snapshot.packages and name not in PACKAGES[DOCKER]]
    if others:
        what = f"{' and '.join(others)} is installed already"
        return f"{host.name}: {what}. Next: {ssh_command(host)} sudo apt-get purge {' '.join(others)}, and a reboot"
    if CONF_FILE in snapshot.paths and not same:
        return (
            f"{host.name}: {CONF_FILE} is a file of your own, so Docker was left as it is. "
            f"Next: {ssh_command(host)} sudo mv {CONF_FILE} {CONF_FILE}.old"
        )
    return None
