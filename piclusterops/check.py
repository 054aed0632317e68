"""Findings about a cluster before it is deployed: typed, ordered worst first, and what they are made from.

Everything here is pure; `piclusterops.survey` asks the hosts, `piclusterops.check_rules` judges one host,
`piclusterops.check_cluster` the hosts together and `piclusterops.check_platform` what is to be installed on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from piclusterops.faults import Fault
from piclusterops.host_report import Report
from piclusterops.preflight import Refusal
from piclusterops.settings import Cluster, Node

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
#: The host of a finding about the whole cluster.
CLUSTER = "cluster"
#: Findings of the same severity in this order: first what hides or spoils the rest.
TOPICS = (
    *("settings", "ssh", "sudo", "identity", "power", "temperature"),
    *("architecture", "system", "memory", "disk", "cgroups", "boot", "clock", "ports", "nodes", "route", "dns"),
    *("K3s", "datastore", "page size", "iptables", "docker", "releases", "swap"),
    *("budget", "addresses", "secrets", "licence", "maintenance", "images", "unknown", "host"),
)


class Remark(NamedTuple):
    """What a rule found on a host: how bad, what, why it matters, and the next command or setting."""

    severity: Severity
    found: str
    why: str
    fix: str


@dataclass(frozen=True)
class Finding:
    """A remark with the host (or `cluster`) and the topic that it is about."""

    severity: Severity
    host: str
    topic: str
    found: str
    why: str
    fix: str

    @classmethod
    def of(cls, host: str, topic: str, remark: Remark) -> Finding:
        """The finding that a rule's remark makes."""
        return cls(remark.severity, host, topic, remark.found, remark.why, remark.fix)


@dataclass(frozen=True)
class Connection:
    """How SSH to a host went; all empty strings are unknown.

    Attributes:
        ssh: the command line that a person would type.
        error: why there is no connection; empty when there is one.
        auth: what let us in: `publickey`, `password`, ...
        host_key: type and SHA-256 fingerprint of the host's key.
        is_new_key: whether the controller had not seen that key before.
        checking: the `ssh_strict_host_key_checking` of the inventory.
    """

    ssh: str
    error: str = ""
    auth: str = ""
    host_key: str = ""
    is_new_key: bool = False
    checking: str = ""


@dataclass(frozen=True)
class Subject:
    """A host as the rules see it.

    Attributes:
        node: the host in the inventory.
        cluster: what could be read of the inventory.
        connection: how SSH went.
        report: what the host answered; None when it did not.
        refused: why the site deploy would refuse it.
        clock: how far its clock is ahead of the controller's and the bound of that measurement, in seconds.
        ssh_port: where its sshd listens.
        site: the command that deploys this inventory.
    """

    node: Node
    cluster: Cluster
    connection: Connection
    report: Report | None = None
    refused: tuple[Refusal, ...] = ()
    clock: tuple[float, float] | None = None
    ssh_port: int = 22
    site: str = "pyinfra -y INVENTORY deploys/site.py"


@dataclass(frozen=True)
class Result:
    """All findings, worst first, and the hosts that were asked, in the order of the inventory."""

    name: str
    hosts: tuple[str, ...]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def counts(self) -> dict[Severity, int]:
        """How many findings there are of each severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    @property
    def has_errors(self) -> bool:
        """Whether something must be mended first."""
        return self.counts["error"] > 0

    @property
    def summary(self) -> str:
        """One line."""
        counts = ", ".join(f"{number} {name}{_s(name, number)}" for name, number in self.counts.items())
        verdict = "mend the errors first" if self.has_errors else "nothing stands in the way"
        return f"{len(self.hosts)} host{'s' if len(self.hosts) != 1 else ''}: {counts}; {verdict}."

    def as_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        return {
            "cluster": self.name,
            "hosts": list(self.hosts),
            "summary": dict(self.counts),
            "findings": [asdict(finding) for finding in self.findings],
        }


def _s(name: str, number: int) -> str:
    return "s" if number != 1 and name != "info" else ""


def settings_findings(faults: Iterable[Fault]) -> list[Finding]:
    """The faults of an inventory as findings."""
    return [
        Finding(
            "error",
            fault.host or CLUSTER,
            "settings",
            f"{fault.key} = {fault.value}" if fault.value else fault.key,
            fault.why,
            fault.fix,
        )
        for fault in faults
    ]


def worst_first(findings: Iterable[Finding], hosts: Sequence[str]) -> tuple[Finding, ...]:
    """Findings by severity, then topic, then host in the order given, each once."""

    def rank(finding: Finding) -> tuple[int, int, int]:
        topic = TOPICS.index(finding.topic) if finding.topic in TOPICS else len(TOPICS)
        host = hosts.index(finding.host) if finding.host in hosts else -1
        return SEVERITIES.index(finding.severity), topic, host

    return tuple(sorted(dict.fromkeys(findings), key=rank))
