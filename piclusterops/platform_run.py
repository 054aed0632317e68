"""A run that installs the platform: what became of each release, and what is told at its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from piclusterops.helm_releases import HelmRelease, HelmState, Kind, Outcome
from piclusterops.platform import Planned, Platform, dependencies

#: In this order they are told.
KINDS: tuple[Kind, ...] = (
    "installed",
    "upgraded",
    "removed",
    "unchanged",
    "left to Flux",
    "not ready",
    "failed",
    "skipped",
)
_GONE = ("uninstalled", "uninstalling")
_WELL = ("installed", "upgraded", "unchanged", "left to Flux")


@dataclass
class Progress:
    """What has become of the releases so far."""

    platform: Platform
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    leftovers: list[HelmRelease] = field(default_factory=list)
    owed: dict[str, str] = field(default_factory=dict)

    def owe(self, release: str, why: str) -> None:
        """Note that a release has failed in the end, even if Helm has its way: a new Secret is not in force yet.

        It is upgraded all the same, because that may be what mends it.
        """
        self.owed.setdefault(release, why)

    def tell(self, outcome: Outcome) -> None:
        """Note an outcome; the first one of a release counts, as it is the cause of the others."""
        if outcome.release in self.owed and outcome.kind in _WELL:
            outcome = Outcome(outcome.release, "failed", self.owed[outcome.release])
        self.outcomes.setdefault(outcome.release, outcome)

    def kind(self, release: str) -> Kind | None:
        """What has become of a release; None when it is not its turn yet."""
        outcome = self.outcomes.get(release)
        return outcome.kind if outcome else None

    def obstacle(self, release: str) -> str:
        """What keeps a release from being changed: those that it depends on, by name; empty for nothing."""
        names = dependencies(self.platform, release)
        return ", ".join(name for name in names if self.kind(name) in ("failed", "skipped"))

    @property
    def failed(self) -> bool:
        """Whether any release failed, was skipped because of that, or is not ready."""
        return any(outcome.kind in ("not ready", "failed", "skipped") for outcome in self.outcomes.values())

    def unready(self, live: HelmState) -> dict[str, list[str]]:
        """Releases that were left unchanged, and whose workloads are not ready: by name, which and how, in lines."""
        found: dict[str, list[str]] = {}
        for planned in self.platform.releases:
            if self.kind(planned.name) == "unchanged":
                lines = [line for entry in planned.release.health if (line := _fault_of(planned, entry, live))]
                if lines:
                    found[planned.name] = lines
        return found

    def told(self, prune_command: str) -> list[str]:
        """The report, in lines."""
        by_kind: dict[Kind, list[Outcome]] = {kind: [] for kind in KINDS}
        for outcome in self.outcomes.values():
            by_kind[outcome.kind].append(outcome)
        counts = ", ".join(f"{len(found)} {kind}" for kind, found in by_kind.items() if found)
        lines = [f"Platform: {counts or 'nothing to do'}"]
        for kind, found in by_kind.items():
            lines += _of_kind(kind, found)
        if self.leftovers:
            names = ", ".join(f"{release.name} ({release.namespace})" for release in self.leftovers)
            lines.append(f"  off, but present: {names}")
            lines.append(f"    next: {prune_command} removes them; their volumes stay")
        return lines


def _fault_of(planned: Planned, entry: str, live: HelmState) -> str:
    """What is wrong with a workload of a release, empty for nothing; one that is to have no pods has what it wants."""
    kind, _, name = entry.partition("/")
    workload = live.workloads.get((kind, planned.release.namespace or "", name))
    if workload is None:
        return f"{kind} {name} is not there"
    if workload.ready >= workload.wanted:
        return ""
    return f"of {kind} {name} {workload.ready} of {workload.wanted} pods are ready"


def _of_kind(kind: Kind, found: list[Outcome]) -> Iterable[str]:
    if kind in ("not ready", "failed", "skipped"):
        for outcome in found:
            first, *rest = outcome.text.splitlines() or [""]
            yield f"  {kind}: {outcome.release}{' ' if kind == 'skipped' else ': '}{first}"
            yield from (f"    {line}" for line in rest)
    elif found and kind != "unchanged":
        yield f"  {kind}: {', '.join(_with_text(outcome) for outcome in found)}"


def _with_text(outcome: Outcome) -> str:
    return f"{outcome.release} ({outcome.text})" if outcome.text else outcome.release


def leftovers(platform: Platform, catalogued: Iterable[str], live: HelmState) -> list[HelmRelease]:
    """Releases of the catalogue that we installed, that are there, and that are selected no more.

    Releases of other names that our operations installed are someone's own; those that Flux is in charge of, too.

    Args:
        platform: what is selected.
        catalogued: names of all releases that there could be.
        live: what there is.
    """
    wanted = {(planned.release.namespace, planned.name) for planned in platform.releases}
    known = set(catalogued)
    return [
        release
        for key, release in live.releases.items()
        if key not in wanted
        and release.name in known
        and release.is_ours
        and release.status not in _GONE
        and live.flux_owner(*key) is None
    ]


def uninstall_order(found: Iterable[HelmRelease], waves: Mapping[str, int]) -> list[HelmRelease]:
    """Releases in the order to remove them: what others may use goes last."""
    return sorted(found, key=lambda release: (-waves.get(release.name, 0), release.name))
