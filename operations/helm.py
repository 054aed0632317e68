"""Helm on a server of the cluster: Helm itself, charts, releases.

They need nothing of our platform: see docs/how-to/use-the-helm-operations.md. Helm runs on the host with K3s' own
kubeconfig; all that is read of the cluster takes one round trip (`piclusterops.facts.helm`).
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import FunctionCommand, StringCommand, operation
from pyinfra.api.host import Host
from pyinfra.api.state import State

from piclusterops import chart_lock, helm_artefacts, lock
from piclusterops import helm_commands as shell
from piclusterops.artefacts import ArtefactError
from piclusterops.facts.snapshot import Query, Snapshot, snapshot_of
from piclusterops.helm_charts import Archive, Chart, archive_of, own_chart
from piclusterops.helm_commands import HELM
from piclusterops.operations.helm_release import Wanted, absent_commands, release_commands
from piclusterops.operations.managed import Commands, refuse, set_stamp, unknown_state
from piclusterops.operations.quiet import fail, privileges, run_quietly
from piclusterops.operations.upload import install, uploaded

__all__ = ["Chart", "absent", "chart", "charts", "installed", "own_chart", "query_for", "release", "repository"]

#: Under this name a host remembers the digests of Helm's archive and of the program from it.
_STAMP = "helm"
_REPOSITORIES = Query(probes=(("repositories", shell.REPOSITORIES),))


def query_for(charts: Sequence[Chart] = ()) -> Query:
    """What Helm's operations want to know of their host; one query for all of them takes one round trip."""
    paths = (HELM, *sorted({chart.path for chart in charts}))
    return Query(paths=paths, probes=(("machine", "uname -m"),))


def _is_elsewhere(server: str | None) -> bool:
    """Whether an operation is not for this host."""
    if server is None or host.name == server:
        return False
    host.noop(f"done on {server}")
    return True


# -- Helm itself ---------------------------------------------------------------------------------------------


@operation()
def installed(
    version: str,
    mirror: str = helm_artefacts.DEFAULT_MIRROR,
    lock_file: str | None = None,
    server: str | None = None,
    query: Query | None = None,
) -> Any:
    """
    Put the pinned and verified Helm on the host.

    + version: Helm's version, such as `v4.1.4`
    + mirror: directory of this machine or URL, laid out like get.helm.sh
    + lock_file: file that keeps the digest from the first use on; without it the mirror's checksum file decides
    + server: name of the host to do it on; on others nothing happens. None: on every host
    + query: the query of all of Helm's operations here, see `query_for`
    """
    if _is_elsewhere(server):
        return
    snapshot = snapshot_of(query or query_for())
    if snapshot is None:
        yield unknown_state()
        return
    machine = next(iter(snapshot.probes.get("machine", [])), "")
    path = Path(lock_file).expanduser() if lock_file else None
    try:
        pinned = lock.read(path).get((version, helm_artefacts.archive_name(version, machine))) if path else None
        if _has(snapshot, version, pinned.sha256 if pinned else None):
            host.noop(f"Helm {version} is there")
            return
        entry = pinned or helm_artefacts.expected(mirror, version, machine, path)
    except ArtefactError as error:
        yield refuse(f"{host.name}: {error}")
        return
    yield FunctionCommand(_install_helm, (mirror, entry, machine, path), {})


def _has(snapshot: Snapshot, version: str, digest: str | None) -> bool:
    """Whether Helm is what we put there: of this version, from the pinned archive if one is, and unchanged since."""
    have, archive, program = [*snapshot.stamps.get(_STAMP, "").split(), "", "", ""][:3]
    found = snapshot.paths.get(HELM)
    return bool(program) and have == version and digest in (None, archive) and bool(found and found.sha256 == program)


def _install_helm(
    state: State, host: Host, mirror: str, entry: lock.LockEntry, machine: str, path: Path | None
) -> bool:
    authority = str(path) if path and entry.key in lock.read(path) else entry.source
    try:
        archive = helm_artefacts.fetch(
            mirror,
            entry,
            authority,
            progress=lambda done, size: host.log(
                f"{entry.file}: {done >> 20} of {(size or 0) >> 20 or '?'} MB fetched"
            ),
        )
        member, program = helm_artefacts.program_in(archive, machine)
        for new in lock.write(path, [entry]) if path else []:
            host.log(f"{new.file} {new.version} is pinned in {path} from now on")
    except ArtefactError as error:
        return fail(host, f"{host.name}: {error}")
    sent = uploaded(host, archive, entry.file)
    if sent is None:
        return False
    script = shell.install_helm(sent, entry.sha256, member, program, entry.version)
    stamp = set_stamp(_STAMP, f"{entry.version} {entry.sha256} {program}")
    return install(host, sent, entry.file, f"{{ {script}\n}} && {stamp}")


# -- charts --------------------------------------------------------------------------------------------------


@operation()
def chart(chart: Chart, server: str | None = None, query: Query | None = None, lock_file: str | None = None) -> Any:
    """
    Put the archive of a chart on the host: packed here from a folder, from a mirror, or pulled by the host.

    + chart: the chart
    + server: name of the host to do it on; on others nothing happens. None: on every host
    + query: the query of all of Helm's operations here, see `query_for`
    + lock_file: file that keeps the digest of a chart that is not in a folder, from the first use on
    """
    if _is_elsewhere(server):
        return
    yield from chart_commands((chart,), query or query_for([chart]), lock_file=lock_file)


@operation()
def charts(
    charts: Sequence[Chart], server: str | None = None, query: Query | None = None, lock_file: str | None = None
) -> Any:
    """
    Put the archives of many charts on the host, those from here in one upload.

    + charts: the charts
    + server: name of the host to do it on; on others nothing happens. None: on every host
    + query: the query of all of Helm's operations here, see `query_for`
    + lock_file: file that keeps the digests of charts that are not in a folder, from the first use on
    """
    if _is_elsewhere(server):
        return
    yield from chart_commands(charts, query or query_for(charts), lock_file=lock_file)


Missed = Callable[[Chart, str], None]


def chart_commands(
    charts: Sequence[Chart], query: Query, missed: Missed | None = None, lock_file: str | None = None
) -> Commands:
    """What puts charts on the host.

    `missed` is told of each that can't be had, during execution only, and the others are brought all the same;
    without it that fails the host. Charts are held to the lock file, and it remembers those that it did not have.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    path = Path(lock_file).expanduser() if lock_file else None
    try:
        known = lock.read(path) if path else {}
        charts = [chart_lock.held(chart, known, path) for chart in charts]
    except ArtefactError as error:
        yield refuse(f"{host.name}: {error}")
        return
    used: dict[Chart, str] = {}
    send: list[tuple[Chart, Archive]] = []
    pull: list[Chart] = []
    faults: list[str] = []
    for chart in charts:
        found = snapshot.paths.get(chart.path)
        there = found.sha256 if found else ""
        if not chart.is_local:
            if not there or (chart.digest and there != chart.digest):
                pull.append(chart)
            else:
                used[chart] = there
            continue
        try:
            archive = archive_of(chart)
        except ArtefactError as error:
            faults.append(str(error))
            if missed and host.state.is_executing:
                missed(chart, str(error))
            continue
        used[chart] = archive.digest
        if archive.digest != there:
            send.append((chart, archive))
    if faults and not missed:
        yield refuse("\n".join(f"{host.name}: {fault}" for fault in faults))
        return
    try:
        if host.state.is_executing:
            _remember(host, path, used)
    except ArtefactError as error:
        yield refuse(f"{host.name}: {error}")
        return
    if send:
        yield FunctionCommand(_send_charts, (send,), {})
    for chart in pull:
        yield FunctionCommand(_pull_chart, (chart, missed, path), {})
    if not send and not pull:
        host.noop(f"{len(charts) - len(faults)} charts are up to date")


def _remember(host: Host, path: Path | None, used: Mapping[Chart, str]) -> None:
    """Record the first use of charts.

    Raises:
        ArtefactError: a digest differs from the one recorded.
    """
    for entry in chart_lock.remember(path, used) if path else []:
        host.log(f"{entry.file} is pinned in {path} from now on")


def _send_charts(state: State, host: Host, send: Sequence[tuple[Chart, Archive]]) -> bool:
    name = "charts.tar"
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / name
        with tarfile.open(bundle, "w") as tar:
            for number, (chart, archive) in enumerate(send):
                file = Path(folder) / str(number)
                file.write_bytes(archive.content)
                tar.add(file, chart.archive)
        sent = uploaded(host, bundle, name)
    if sent is None:
        return False
    digests = {chart.archive: archive.digest for chart, archive in send}
    return install(host, sent, f"{len(send)} charts", shell.install_charts(sent, digests))


def _pull_chart(state: State, host: Host, chart: Chart, missed: Missed | None, path: Path | None) -> bool:
    host.log(f"pulling {chart.archive} from {chart.source}")
    ok, output = run_quietly(host, shell.pull(chart), privileges(host))
    if ok:
        try:
            _remember(host, path, {chart: output.stdout_lines[-1]})
            return True
        except ArtefactError as error:
            return fail(host, f"{host.name}: {error}")
    said = output.stderr.strip().splitlines()
    why = said[-1] if said else "it did not come in five minutes"
    is_other = why.startswith("its SHA-256 is ")
    ways = f"put it into a mirror and set chart_mirror, or see ssh {host.name} curl -I {chart.repository}"
    text = f"chart {chart.archive} can't be had from {chart.source}: {why}\nnext: {chart.remedy if is_other else ways}"
    if missed:
        missed(chart, text)
        host.log_styled(f"{host.name}: {text}", fg="red")
        return True
    return fail(host, f"{host.name}: {text}")


# -- releases ------------------------------------------------------------------------------------------------


@operation()
def release(
    release: str,
    chart: Chart,
    namespace: str,
    values: Mapping[str, Any] | None = None,
    secret_values: Mapping[str, Any] | None = None,
    timeout_s: int = 600,
    wait: bool = True,
    create_namespace: bool = False,
    helm_version: str = "v4",
    server: str | None = None,
    query: Query | None = None,
) -> Any:
    """
    Install or upgrade a Helm release, and wait until it is ready.

    + release: name of the release
    + chart: its chart, which `chart` or `charts` has put on the host
    + namespace: its namespace
    + values: its values; a change of them is shown
    + secret_values: values over those, shown nowhere: they travel on stdin, and are recognised by a salted mark
    + timeout_s: how long it may take to become ready, in seconds
    + wait: whether to wait for that
    + create_namespace: whether to make the namespace
    + helm_version: version of the Helm on the host
    + server: name of the host to do it on; on others nothing happens. None: on every host
    + query: the query of all of Helm's operations here, see `query_for`

    Nothing happens when chart (by digest), values and status are right, or when an active HelmRelease of Flux is in
    charge. What waiting can't mend is not waited for (see `piclusterops.release_certain`). An upgrade that fails is
    rolled back to the revision before, and the causes are told; a first installation that fails is kept, and the next
    run goes on from there. A release that a killed run left pending is unlocked.
    Give the operation a name: without one pyinfra prints its arguments.
    """
    if _is_elsewhere(server):
        return
    wanted = Wanted(
        release,
        namespace,
        chart,
        values or {},
        secret_values or {},
        timeout_s,
        wait,
        create_namespace,
        helm_version,
    )
    yield from release_commands(host, wanted, query or query_for([chart]))


@operation()
def absent(release: str, namespace: str, timeout_s: int = 300, server: str | None = None) -> Any:
    """
    Remove a Helm release, and leave its volumes.

    + release: name of the release
    + namespace: its namespace
    + timeout_s: how long that may take, in seconds
    + server: name of the host to do it on; on others nothing happens. None: on every host

    Volume claims of the chart stay, and a release of the same name takes them over again. So that no other claim's
    data goes either (operators remove those that they made), the volumes of the namespace get the reclaim policy
    Retain. A release that an active HelmRelease of Flux is in charge of is left alone.
    """
    if _is_elsewhere(server):
        return
    yield from absent_commands(host, release, namespace, timeout_s)


@operation()
def repository(repository: str, url: str = "", present: bool = True, server: str | None = None) -> Any:
    """
    Make a chart repository known to the Helm of the host, or forget it.

    + repository: name of the repository
    + url: its address; needed when it is to be present
    + present: whether it is to be known
    + server: name of the host to do it on; on others nothing happens. None: on every host

    `chart` and `release` don't need it: it is for people, who search it with the `HELM_CONFIG_HOME` of the operations.
    """
    if _is_elsewhere(server):
        return
    snapshot = snapshot_of(_REPOSITORIES)
    if snapshot is None:
        yield unknown_state()
        return
    known = shell.parse_repositories(snapshot.probes.get("repositories", []))
    if present and known.get(repository) != url:
        yield StringCommand(shell.repository_add(repository, url))
    elif not present and repository in known:
        yield StringCommand(shell.repository_remove(repository))
    else:
        host.noop(f"repository {repository} is {'known' if present else 'not known'}")
