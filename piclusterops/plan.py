"""What the next deploy would do to the releases of a cluster: pure functions from wanted and live state to steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from piclusterops.capacity import Budget, findings, leftover_findings
from piclusterops.catalogue import catalogue
from piclusterops.check import Finding
from piclusterops.helm_releases import HelmState
from piclusterops.platform import Planned, Platform, dependencies
from piclusterops.platform_run import leftovers

Action = Literal["install", "upgrade", "unchanged", "remove", "flux", "blocked", "disable"]
ACTIONS: tuple[Action, ...] = get_args(Action)
#: What the deploy does by itself.
CHANGES: tuple[Action, ...] = ("install", "upgrade", "disable")


@dataclass(frozen=True)
class Step:
    """What happens to one release.

    Attributes:
        release: its name.
        namespace: where it is.
        wave: when it is installed; None for one that is selected no more, and for packages of a host.
        action: what happens; `disable` is for packages of a host that are selected no more.
        installed: version of the chart that is there; empty when there is none, or it is not known.
        version: version of the chart that is wanted; empty for one that is selected no more.
        why: the reason, for people; empty when there is nothing to say.
        node: the host whose packages bring it; empty for what Helm installs.
    """

    release: str
    namespace: str
    wave: int | None
    action: Action
    installed: str = ""
    version: str = ""
    why: str = ""
    node: str = ""


@dataclass(frozen=True)
class Plan:
    """All steps in the order of the installation, what it comes to on the nodes, and remarks on both.

    `notes` say what the plan rests on, such as that there is no cluster yet.
    """

    cluster: str
    steps: tuple[Step, ...]
    budget: Budget
    notes: tuple[str, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """What does not fit, or may not."""
        known = catalogue()
        left = [known[step.release] for step in self.steps if step.action == "remove" and step.release in known]
        return findings(self.budget) + leftover_findings(self.budget, left)

    @property
    def unknown(self) -> list[str]:
        """Names of nodes that nothing is known of."""
        return [node.name for node in self.budget.nodes if node.room is None]

    @property
    def is_refused(self) -> bool:
        """Whether the deploy would end before it changed anything: it does not fit, or something is missing."""
        overfull = any(finding.severity == "error" for finding in self.findings)
        return overfull or bool(self.unknown) or any(step.action == "blocked" for step in self.steps)

    @property
    def has_changes(self) -> bool:
        """Whether the deploy would install, upgrade or remove something."""
        prunes = self.budget.platform.cluster.settings.platform_prune
        return any(step.action in CHANGES or (prunes and step.action == "remove") for step in self.steps)

    @property
    def counts(self) -> dict[Action, int]:
        """How many releases there are of each action."""
        found = Counter(step.action for step in self.steps)
        return {action: found[action] for action in ACTIONS}

    @property
    def summary(self) -> str:
        """One line."""
        words: Mapping[Action, str] = {
            "install": "to install",
            "upgrade": "to upgrade",
            "unchanged": "unchanged",
            "remove": "selected no more",
            "flux": "owned by Flux",
            "blocked": "blocked",
            "disable": "to disable",
        }
        counts = ", ".join(f"{count} {words[action]}" for action, count in self.counts.items() if count)
        verdict = "; it would be refused" if self.is_refused else ""
        return f"{counts or 'nothing to do'}{verdict}."

    def as_dict(self) -> dict[str, Any]:
        """The plan for JSON."""
        return {
            "cluster": self.cluster,
            "notes": list(self.notes),
            "summary": {**self.counts, "refused": self.is_refused},
            "releases": [asdict(step) for step in self.steps],
            "nodes": [node.as_dict() for node in self.budget.nodes],
            "findings": [asdict(finding) for finding in self.findings],
        }


def steps_of(
    platform: Platform,
    live: HelmState,
    digests: Mapping[str, str],
    obstacles: Mapping[str, str],
    catalogued: Collection[str] | None = None,
) -> tuple[Step, ...]:
    """What happens to each release: the selected ones in their order, then those that are selected no more.

    Args:
        platform: what is wanted.
        live: what there is.
        digests: name of a release to the mark of its chart and values that the deploy would leave; a release without
            one is compared by the version of its chart alone.
        obstacles: name of a release to why it can't be installed or upgraded now.
        catalogued: names of all releases that there could be, the project's own when it is None; others that were
            installed with our operations are not the platform's.
    """
    steps: list[Step] = []
    blocked: dict[str, str] = {}
    for planned in platform.releases:
        step = _step(planned, live, digests.get(planned.name))
        reason = _blocked(platform, planned, live, obstacles, blocked) if step.action in CHANGES else ""
        if reason:
            blocked[planned.name] = reason
            step = Step(step.release, step.namespace, step.wave, "blocked", step.installed, step.version, reason)
        steps.append(step)
    return (*steps, *_removed(platform, live, catalogue() if catalogued is None else catalogued))


def _step(planned: Planned, live: HelmState, digest: str | None) -> Step:
    release = planned.release
    namespace = release.namespace or ""
    there = live.release(namespace, planned.name)
    if there and there.status == "uninstalled":
        there = None
    installed = there.version if there else ""

    def step(action: Action, why: str = "") -> Step:
        return Step(planned.name, namespace, release.wave, action, installed, planned.version, why)

    if owner := live.flux_owner(namespace, planned.name):
        return step("flux", f"by its HelmRelease {owner}; suspend that to change it here")
    if there is None:
        return step("install")
    if not there.is_ours:
        return step("upgrade", "it was installed by somebody else, and is taken over")
    if there.is_pending:
        return step("upgrade", f"a run was stopped in the middle of revision {there.revision} ({there.status})")
    if there.status != "deployed":
        return step("upgrade", f"its last revision, {there.revision}, is {there.status}")
    if there.version != planned.version:
        return step("upgrade", "another version of its chart")
    if digest is not None and there.digest != digest:
        return step("upgrade", "its chart or its values have changed")
    return step("unchanged")


def _blocked(
    platform: Platform,
    planned: Planned,
    live: HelmState,
    obstacles: Mapping[str, str],
    blocked: Mapping[str, str],
) -> str:
    """Why a release can't be changed; empty when it can."""
    if planned.name in obstacles:
        return obstacles[planned.name]
    there = live.release(planned.release.namespace or "", planned.name)
    if there and there.is_pending and not there.is_ours:
        return f"by a Helm that is not ours and works on revision {there.revision}, or was stopped ({there.status})"
    waiting = [name for name in dependencies(platform, planned.name) if name in blocked]
    return f"by {', '.join(waiting)}" if waiting else ""


def _removed(platform: Platform, live: HelmState, catalogued: Collection[str]) -> Iterable[Step]:
    why = "selected no more; its volumes stay"
    if not platform.cluster.settings.platform_prune:
        why = "selected no more; it stays until a deploy with --data platform_prune=true"
    for release in leftovers(platform, catalogued, live):
        yield Step(release.name, release.namespace, None, "remove", release.version, "", why)
