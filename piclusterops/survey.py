"""Ask the hosts of an inventory, all at once, what `picluster check` and ``deploys/check.py`` judge.

Nothing is changed: on a host, one shell that only reads (but for the file that measures fsync, removed at once), on
the controller not even `known_hosts`, as long as the connection is made here.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import gevent
from pyinfra import logger
from pyinfra.api import Config, Inventory, State
from pyinfra.api.host import Host
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from piclusterops.check import CLUSTER, Connection, Finding, Result, Subject, settings_findings, worst_first
from piclusterops.check_cluster import cluster_findings, peer_ports
from piclusterops.check_platform import platform_findings
from piclusterops.check_rules import host_findings
from piclusterops.deploys.preflight import refused
from piclusterops.facts.check import HostCheck, check_query
from piclusterops.host_report import Report, clock_offset
from piclusterops.inventory import inventory_file
from piclusterops.platform_rules import selected_releases
from piclusterops.secrets import SecretsError, open_store
from piclusterops.session import ssh_command
from piclusterops.settings import Cluster, Node
from piclusterops.validation import find_faults, hosts_of, readable_cluster

#: Everything on a host is bounded far below; a host whose disk hangs answers never.
_ANSWER_S = 60
#: For the TCP connection alone, in a LAN.
_CONNECT_S = 5
_KNOWN_HOSTS = "~/.ssh/known_hosts"


def check_inventory(inventory: Inventory, site: str, only: Sequence[str] = ()) -> Result:
    """Everything there is to say about an inventory, with connections of our own.

    Args:
        inventory: as `piclusterops.inventory.load_inventory` gives it.
        site: the command that deploys it.
        only: names of the hosts to ask; all when empty.
    """
    faults = find_faults(hosts_of(inventory))
    findings = settings_findings(faults)
    cluster = readable_cluster(hosts_of(inventory))
    nodes = [node for node in cluster.nodes if not only or node.name in only]
    # pyinfra makes nothing of SSH data of a wrong type, and would say so of the first host only.
    if any(fault.key.startswith("ssh_") for fault in faults):
        nodes = []
    if not nodes:
        return _judged(cluster, findings, [])
    findings += _controller_findings([inventory.get_host(node.name) for node in nodes])
    with _quiet(), _known_hosts_kept([inventory.get_host(node.name) for node in nodes]) as commands:
        state = State(inventory, Config(CONNECT_TIMEOUT=_CONNECT_S))
        with ctx_state.use(state):
            state.set_stage(StateStage.Connect)
            state.set_stage(StateStage.Prepare)
            subjects = _ask_all(state, cluster, nodes, site, commands)
            state.set_stage(StateStage.Disconnect)
            for host in state.inventory:
                if host.connected:
                    host.disconnect()
    return _judged(cluster, findings + secret_findings(cluster, inventory_file(inventory)), subjects)


def check_connected(state: State, site: str) -> Result:
    """The same for the hosts of a run of pyinfra, over its connections; those that failed are tried once more."""
    hosts = hosts_of(state.inventory)
    cluster = readable_cluster(hosts)
    nodes = [node for node in cluster.nodes if state.is_host_in_limit(state.inventory.get_host(node.name))]
    commands = {node.name: ssh_command(state.inventory.get_host(node.name)) for node in nodes}
    subjects = _ask_all(state, cluster, nodes, site, commands)
    findings = settings_findings(find_faults(hosts)) + secret_findings(cluster, inventory_file(state.inventory))
    return _judged(cluster, findings, subjects)


def _judged(cluster: Cluster, findings: Iterable[Finding], subjects: Sequence[Subject]) -> Result:
    everything = [*findings, *cluster_findings(subjects), *platform_findings(cluster, subjects)]
    for subject in subjects:
        everything += host_findings(subject)
    names = tuple(subject.node.name for subject in subjects)
    return Result(cluster.settings.cluster_name, names, worst_first(everything, names))


def secret_findings(cluster: Cluster, inventory_path: Path | None) -> list[Finding]:
    """Values that Secrets of the selected releases need and that are not there; none is read."""
    releases = selected_releases(cluster.settings)
    if not releases:
        return []
    try:
        store = open_store(cluster.settings, inventory_path)
        missing = store.missing(releases.values())
    except SecretsError as error:
        cause, _, fix = str(error).partition("\nNext: ")
        return [Finding("error", CLUSTER, "secrets", cause, "releases can't be installed without", fix)]
    given = {
        (secret.name, name)
        for release in releases.values()
        for secret in release.secrets
        for name, key in secret.keys.items()
        if key.kind == "given"
    }
    random = [f"{entry.secret}/{entry.key}" for entry in missing if (entry.secret, entry.key) not in given]
    findings = []
    if random:
        found = f"secrets are not made yet: {', '.join(random)}"
        findings.append(
            Finding("error", CLUSTER, "secrets", found, "releases can't be installed without", store.command)
        )
    for entry in missing:
        if (entry.secret, entry.key) in given:
            fix = f"{store.command.replace(' init', ' set', 1)} {entry.secret} {entry.key}"
            findings.append(
                Finding("error", CLUSTER, "secrets", f"{entry.secret}/{entry.key} is missing", entry.why, fix)
            )
    return findings


# -- asking --------------------------------------------------------------------------------------------------


def _ask_all(
    state: State, cluster: Cluster, nodes: Sequence[Node], site: str, commands: dict[str, str]
) -> list[Subject]:
    """Each host by a greenlet of its own."""
    ports = {host.name: int(host.data.get("ssh_port") or 22) for host in state.inventory}

    def ask(node: Node) -> Subject:
        host = state.inventory.get_host(node.name)
        subject = Subject(node, cluster, Connection(commands[node.name]), ssh_port=ports[node.name], site=site)
        with ctx_state.use(state), ctx_host.use(host):
            return _ask(host, subject, ports)

    jobs = [gevent.spawn(ask, node) for node in nodes]
    return [job.get() for job in jobs]


def _ask(host: Host, subject: Subject, ports: dict[str, int]) -> Subject:
    node, cluster = subject.node, subject.cluster
    command = subject.connection.ssh
    try:
        if not host.connected:
            host.connect(show_errors=False, raise_exceptions=True)
    except Exception as error:  # pyinfra lets errors of keys, proxies and paramiko through as they are
        cause = " ".join(str(error).split()) or type(error).__name__
        return Subject(node, cluster, Connection(command, error=cause), ssh_port=subject.ssh_port, site=subject.site)
    others = [other for other in cluster.nodes if other.name != node.name]
    peers = [
        f"{other.address}:{port}"
        for other in others
        for port in peer_ports(Subject(other, cluster, Connection(""), ssh_port=ports[other.name]))
    ]
    query = check_query(cluster.settings, [other.name for other in others], peers)
    sent = time.time()
    report: Report | None = host.get_fact(HostCheck, query=query, _sudo=False, _ignore_errors=True, _timeout=_ANSWER_S)
    received = time.time()
    return Subject(
        node=node,
        cluster=cluster,
        connection=_connection(host, command),
        report=report,
        refused=tuple(refused(report.snapshot, report.facts, cluster)) if report and report.facts else (),
        clock=clock_offset(sent, report.began_s, report.ended_s, received) if report else None,
        ssh_port=subject.ssh_port,
        site=subject.site,
    )


def _connection(host: Host, command: str) -> Connection:
    """How paramiko got in; a connector that is not SSH has nothing to tell."""
    checking = str(host.data.get("ssh_strict_host_key_checking") or "accept-new")
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client else None
    if transport is None:
        return Connection(command, checking=checking)
    key = transport.get_remote_server_key()
    digest = b64encode(sha256(key.asbytes()).digest()).decode().rstrip("=")
    path = Path(str(host.data.get("ssh_known_hosts_file") or _KNOWN_HOSTS)).expanduser()
    added = path.with_name(path.name + ".before")
    is_new = added.is_file() and key.get_base64() not in added.read_text(errors="replace")
    auth = getattr(transport.auth_handler, "auth_method", "") or ""
    return Connection(command, "", auth, f"{key.get_name()} SHA256:{digest}", is_new, checking)


# -- the controller stays as it is -------------------------------------------------------------------------------


@contextmanager
def _known_hosts_kept(hosts: Sequence[Host]) -> Iterator[dict[str, str]]:
    """Have pyinfra note new host keys in a copy, and never ask; gives the ssh command of each host as it was."""
    commands = {host.name: ssh_command(host) for host in hosts}
    with tempfile.TemporaryDirectory(prefix="picluster-check-") as folder:
        copies: dict[Path, Path] = {}
        for host in hosts:
            original = Path(str(host.data.get("ssh_known_hosts_file") or _KNOWN_HOSTS)).expanduser()
            copy = copies.setdefault(original, Path(folder) / f"known_hosts-{len(copies)}")
            if not copy.exists():
                if original.is_file():
                    shutil.copyfile(original, copy)
                else:
                    copy.touch()
                shutil.copyfile(copy, f"{copy}.before")
            host.data.ssh_known_hosts_file = str(copy)
            if host.data.get("ssh_strict_host_key_checking") == "ask":
                host.data.ssh_strict_host_key_checking = "accept-new"
        yield commands


def _controller_findings(hosts: Sequence[Host]) -> list[Finding]:
    """What stands in the way on this machine."""
    found = []
    for text in dict.fromkeys(str(host.data.get("ssh_known_hosts_file") or _KNOWN_HOSTS) for host in hosts):
        if not Path(text).expanduser().parent.is_dir():
            found.append(
                Finding(
                    "error",
                    CLUSTER,
                    "ssh",
                    f"the folder of {text} does not exist on this machine",
                    "pyinfra can't remember the keys of hosts and ends",
                    f"mkdir -m 700 {Path(text).parent}",
                )
            )
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """What pyinfra logs of connections is in the findings."""
    was = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = was
