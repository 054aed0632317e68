"""What is good and bad about the hosts of a cluster together: pure functions from all subjects to findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from piclusterops.check import CLUSTER, Finding, Severity, Subject
from piclusterops.k3s_config import API_PORT

KUBELET_PORT = 10250

ClusterRule = Callable[[Sequence[Subject]], Iterator[Finding]]


def peer_ports(subject: Subject) -> list[int]:
    """Where the other nodes try to reach a node: sshd, the kubelet, and on servers the API."""
    return [subject.ssh_port, KUBELET_PORT, *([API_PORT] if subject.node.is_server else [])]


def cluster_findings(subjects: Sequence[Subject]) -> list[Finding]:
    """All findings about the hosts together."""
    return [finding for rule in CLUSTER_RULES for finding in rule(subjects)]


def identity(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Every host is a machine of its own, and no copy of another's card."""
    copied = "sudo rm /etc/machine-id /var/lib/dbus/machine-id; sudo systemd-machine-id-setup; sudo reboot"
    new_keys = "sudo rm /etc/ssh/ssh_host_*; sudo ssh-keygen -A; sudo systemctl restart ssh; then ssh-keygen -R ADDRESS"
    twice: set[str] = set()
    for names in _same(subjects, lambda subject: _first(subject, "boot_id")):
        twice |= set(names)
        yield _together(
            *("error", names, "are the same machine (one boot id)"),
            *("an inventory has every machine once", "correct ssh_hostname of one of them"),
        )
    for names in _same(subjects, lambda subject: subject.report.value("machine_id") or "" if subject.report else ""):
        if not twice.issuperset(names):
            yield _together(
                *("error", names, "have the same machine-id: a card was cloned"),
                *("DHCP, the journal and Kubernetes take them for one machine", f"on all but one: {copied}"),
            )
    for names in _same(subjects, lambda subject: subject.connection.host_key):
        if not twice.issuperset(names):
            yield _together(
                *("warning", names, "have the same SSH host key: a card was cloned"),
                *("each can pass for the other", f"on all but one: {new_keys}"),
            )


def hostnames(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """No host has another's name; names that are only not set yet are the deploy's to set."""
    nodes = {subject.node.name for subject in subjects} | {n.name for s in subjects[:1] for n in s.cluster.nodes}
    unset: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        name = _first(subject, "hostname")
        if name in nodes - {subject.node.name}:
            yield Finding(
                "warning",
                subject.node.name,
                "identity",
                f"it calls itself {name}, which is another node",
                "addresses may be swapped in the inventory, and the deploy would rename it",
                "compare ssh_hostname of the two before a deploy",
            )
        elif name and name != subject.node.name:
            unset[name].append(subject.node.name)
    for name, names in unset.items():
        if len(names) > 1:
            yield _together(
                *("info", names, f"call themselves {name}"),
                *("names must differ in a cluster", f"{subjects[0].site} sets the names"),
            )


def reachability(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """The nodes reach each other: somehow, and on the ports of a K3s that runs there."""
    for subject in subjects:
        tried = subject.report.peers if subject.report else {}
        for node in subject.cluster.nodes:
            answers = {
                int(peer.rpartition(":")[2]): answer
                for peer, answer in tried.items()
                if peer.rpartition(":")[0] == node.address
            }
            other = next((candidate for candidate in subjects if candidate.node.name == node.name), None)
            if node.name == subject.node.name or not answers or (other and other.connection.error):
                continue
            if not {"open", "refused"} & set(answers.values()):
                yield Finding(
                    "error",
                    subject.node.name,
                    "nodes",
                    f"it does not reach {node.name} ({node.address}): {', '.join(sorted(set(answers.values())))}",
                    "nodes of a cluster talk to each other directly",
                    f"on it: ping {node.address}; look for client isolation, VLANs and firewalls between them",
                )
                continue
            for port in _running_ports(other):
                if answers.get(port, "open") != "open":
                    yield Finding(
                        "error",
                        subject.node.name,
                        "nodes",
                        f"it does not reach port {port} of {node.name} ({node.address}): {answers[port]}",
                        "K3s runs there and needs this port between nodes",
                        f"on {node.name}: sudo ss -lntp 'sport = :{port}'; sudo nft list ruleset | grep {port}",
                    )


def _running_ports(other: Subject | None) -> list[int]:
    """Ports that K3s listens on at a node, when it is known to run there."""
    if other is None or other.report is None:
        return []
    running = {name for name, unit in other.report.snapshot.units.items() if unit.active == "active"}
    return ([KUBELET_PORT] if {"k3s", "k3s-agent"} & running else []) + ([API_PORT] if "k3s" in running else [])


def _first(subject: Subject, probe: str) -> str:
    return subject.report.first(probe) if subject.report else ""


def _same(subjects: Sequence[Subject], value: Callable[[Subject], str]) -> Iterator[list[str]]:
    """Names of the hosts that share a value, for each value that several have."""
    groups: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        groups[value(subject)].append(subject.node.name)
    yield from (names for shared, names in groups.items() if shared and len(names) > 1)


def _together(severity: Severity, names: Sequence[str], found: str, why: str, fix: str) -> Finding:
    return Finding(severity, CLUSTER, "identity", f"{' and '.join(names)} {found}", why, fix)


CLUSTER_RULES: tuple[ClusterRule, ...] = (identity, hostnames, reachability)
