"""The Helm releases of a cluster, as Helm's own storage tells of them. Pure.

Helm keeps each revision of a release in a Secret with the labels ``owner=helm``, ``name``, ``version`` (the revision)
and ``status`` (Helm's source, pkg/storage/driver/secrets.go); labels given with ``helm upgrade --labels`` are there
too. So everything but the chart of a release that others made is known without its content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

#: Labels of ours on a release; values are label values, so at most 63 of ``[A-Za-z0-9_.-]``.
CHART_LABEL = "piclusterops.io/chart"
DIGEST_LABEL = "piclusterops.io/digest"
SECRETS_LABEL = "piclusterops.io/secrets"
#: On a release whose first revision Helm applied on the server side: only there fields of others can be taken back.
APPLY_LABEL = "piclusterops.io/apply"
SERVER_SIDE = "server-side"

#: What the script of the fact prints before what it read.
RELEASES_MARK = "@@releases"
CHARTS_MARK = "@@charts"
FLUX_MARK = "@@flux"
WORKLOADS_MARK = "@@workloads"
FAULT_MARK = "@@fault "

_STORAGE_TYPE = "helm.sh/release.v1"
_CHART = re.compile(r"(?P<name>.+?)-(?P<version>v?\d+\.\d+\.\d+.*)")
#: What is said of an API group that is not there: a cluster without Flux.
_NO_SUCH_GROUP = "(NotFound)"
_LONGEST_LABEL = 63

#: Namespace and name of a release.
Key = tuple[str, str]


#: What a run can make of a release.
Kind = Literal["installed", "upgraded", "unchanged", "removed", "not ready", "failed", "skipped", "left to Flux"]


@dataclass(frozen=True)
class Outcome:
    """What became of a release in a run; `text` says more, such as the causes of a failure, in lines."""

    release: str
    kind: Kind
    text: str = ""


@dataclass(frozen=True)
class HelmRelease:
    """The newest revision of a release.

    Attributes:
        namespace: where the release is, and its storage.
        name: its name.
        revision: number of the revision.
        status: what Helm says of it: `deployed`, `failed`, `pending-upgrade`, `uninstalled` ...
        chart: name of its chart; empty when it is not known.
        version: version of its chart; empty when it is not known.
        labels: all labels of the revision, Helm's own too.
        last_deployed: number of the revision that was deployed last and could be rolled back to; 0 for none.
    """

    namespace: str
    name: str
    revision: int
    status: str
    chart: str = ""
    version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    last_deployed: int = 0

    @property
    def key(self) -> Key:
        """What identifies it."""
        return (self.namespace, self.name)

    @property
    def digest(self) -> str:
        """What we remembered of its chart and values; empty when it is not ours."""
        return self.labels.get(DIGEST_LABEL, "")

    @property
    def is_ours(self) -> bool:
        """Whether an operation of ours made this revision."""
        return bool(self.digest)

    @property
    def is_server_side(self) -> bool:
        """Whether we installed it with a Helm that applies on the server side."""
        return self.labels.get(APPLY_LABEL) == SERVER_SIDE

    @property
    def is_pending(self) -> bool:
        """Whether Helm is at work on it, or was stopped in the middle of that."""
        return self.status.startswith("pending-") or self.status == "uninstalling"


@dataclass(frozen=True)
class Workload:
    """How many pods a Deployment, StatefulSet or DaemonSet is to have, and how many of them are ready."""

    wanted: int
    ready: int


@dataclass(frozen=True)
class HelmState:
    """All releases of a cluster, by namespace and name.

    `flux` names the Flux HelmRelease (`namespace/name`) that is in charge of a release and not suspended; the release
    itself need not exist yet. `workloads` are by kind, namespace and name. With a `fault` nothing else is known.
    """

    releases: Mapping[Key, HelmRelease] = field(default_factory=dict)
    flux: Mapping[Key, str] = field(default_factory=dict)
    workloads: Mapping[tuple[str, str, str], Workload] = field(default_factory=dict)
    fault: str = ""

    def release(self, namespace: str, name: str) -> HelmRelease | None:
        """The release of that name; None when there is none."""
        return self.releases.get((namespace, name))

    def flux_owner(self, namespace: str, name: str) -> str | None:
        """The active Flux HelmRelease in charge of a release; None when there is none."""
        return self.flux.get((namespace, name))


def chart_label(name: str, version: str) -> str:
    """Chart and version as a label value, written as charts do it in ``helm.sh/chart``."""
    return f"{name}-{version}".replace("+", "_")[:_LONGEST_LABEL].rstrip("-_.")


def split_chart(label: str) -> tuple[str, str]:
    """Chart and version of a label value; the version is empty when there is none in it."""
    found = _CHART.fullmatch(label)
    return (found["name"], found["version"].replace("_", "+")) if found else (label, "")


def parse(output: Sequence[str]) -> HelmState:
    """What the script of the fact printed.

    Raises:
        ValueError: it is not of the expected form.
    """
    sections: dict[str, list[str]] = {RELEASES_MARK: [], CHARTS_MARK: [], FLUX_MARK: [], WORKLOADS_MARK: []}
    lines: list[str] | None = None
    for line in output:
        if line.startswith(FAULT_MARK):
            if lines is sections[FLUX_MARK] and _NO_SUCH_GROUP in line:
                continue
            return HelmState(fault=line.removeprefix(FAULT_MARK).strip() or "no answer")
        if line in sections:
            lines = sections[line]
        elif lines is None:
            raise ValueError(f"unexpected line: {line!r}")
        else:
            lines.append(line)
    charts = dict(_foreign_chart(line) for line in sections[CHARTS_MARK])
    return HelmState(
        _releases(sections[RELEASES_MARK], charts),
        _flux(sections[FLUX_MARK]),
        _workloads(sections[WORKLOADS_MARK]),
    )


def _releases(lines: Sequence[str], charts: Mapping[tuple[str, str], tuple[str, str]]) -> dict[Key, HelmRelease]:
    """Rows of ``kubectl get secrets --show-labels``: namespace, name, type, number of keys, age, labels."""
    newest: dict[Key, tuple[int, str, dict[str, str]]] = {}
    deployed: dict[Key, int] = {}
    for line in lines:
        words = line.split()
        if len(words) != 6 or words[2] != _STORAGE_TYPE:
            continue
        labels = dict(pair.partition("=")[::2] for pair in words[5].split(","))
        key, revision = (words[0], labels["name"]), int(labels["version"])
        if key not in newest or newest[key][0] < revision:
            newest[key] = (revision, words[1], labels)
        if labels.get("status") == "deployed":
            deployed[key] = max(revision, deployed.get(key, 0))
    return {
        key: _release(key, revision, labels, charts.get((key[0], secret)), deployed.get(key, 0))
        for key, (revision, secret, labels) in sorted(newest.items())
    }


def _release(
    key: Key, revision: int, labels: Mapping[str, str], foreign: tuple[str, str] | None, last_deployed: int
) -> HelmRelease:
    chart, version = split_chart(labels[CHART_LABEL]) if CHART_LABEL in labels else foreign or ("", "")
    return HelmRelease(key[0], key[1], revision, labels.get("status", ""), chart, version, labels, last_deployed)


def _foreign_chart(line: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """`namespace secret chart version`, the last two read from the release itself."""
    namespace, secret, chart, version = [*line.split(" "), "", ""][:4]
    return (namespace, secret), (chart, version)


def _workloads(lines: Sequence[str]) -> dict[tuple[str, str, str], Workload]:
    """Rows `kind|namespace|name|wanted|ready` with another pair for DaemonSets; what the API leaves out is none."""
    found: dict[tuple[str, str, str], Workload] = {}
    for line in lines:
        fields = line.split("|")
        if len(fields) != 7:
            continue
        kind, namespace, name, *numbers = fields
        replicas, ready, on_nodes, ready_on_nodes = (int(number or 0) for number in numbers)
        counts = (on_nodes, ready_on_nodes) if kind == "DaemonSet" else (replicas, ready)
        found[kind, namespace, name] = Workload(*counts)
    return found


def _flux(lines: Sequence[str]) -> dict[Key, str]:
    """Rows `namespace|name|suspend|releaseName|targetNamespace|storageNamespace` of Flux' HelmReleases.

    The defaults are helm-controller's: ``[<targetNamespace>-]<name>`` and the namespace of the HelmRelease itself.
    """
    owners: dict[Key, str] = {}
    for line in lines:
        fields = line.split("|")
        if len(fields) != 6:
            continue
        namespace, name, suspend, release, target, storage = fields
        if suspend == "true":
            continue
        release = release or (f"{target}-{name}" if target else name)
        for place in {target or namespace, storage or namespace}:
            owners[place, release] = f"{namespace}/{name}"
    return owners
