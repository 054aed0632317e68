"""Whether the selected releases fit on their nodes: memory, CPU and disk, node by node.

What pods ask for are the static numbers of the catalogue (requests and limits of its `pods`, sizes of its `volumes`);
what a node has for them is what its kubelet says (`allocatable`), or, before there is one, the memory of the host less
what is reserved. Nothing here connects to a host.

Sources of the numbers: Kubernetes, "Node-pressure Eviction" (default hard thresholds `memory.available<100Mi`,
`imagefs.available<15%`) and "Reserve Compute Resources" (allocatable is the capacity less the reservations and that
threshold); https://docs.k3s.io/reference/resource-profiling (a server with a workload takes about 1.6 GB).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from piclusterops.catalogue import Release
from piclusterops.check import Finding
from piclusterops.k3s_config import DATA_DIR
from piclusterops.kube_nodes import KubeNode
from piclusterops.platform import Platform, dependencies, place
from piclusterops.preflight import HostFacts
from piclusterops.quantities import mebibytes, millicores
from piclusterops.settings import Cluster, ClusterSettings, Node, ReleaseChoice

Resource = Literal["memory", "cpu"]

#: The kubelet's default threshold below which it evicts pods, in MiB.
EVICTION_MIB = 100
#: Part of a file system that images and volumes may fill before the kubelet evicts pods.
DISK_USABLE = 0.85
#: Memory that K3s takes on a server with the platform's API objects, in MiB; what is reserved is part of it.
K3S_SERVER_MIB = 1600
#: Under this name it stands in a budget.
K3S = "K3s itself"
#: How many sets of releases are compared for the smallest one, at most, once there is one.
_COMPARED = 20_000

#: Shell that prints what volumes of the storage class local-path take already, in kB; nothing when that takes too long.
STORED_PROBE = f"timeout 10 du -xsk {DATA_DIR}/storage 2>/dev/null | cut -f1"


def parse_stored(lines: Sequence[str]) -> int:
    """The answer of `STORED_PROBE`, in MiB; 0 when there is none."""
    text = next(iter(lines), "").strip()
    return int(text) // 1024 if text.isdigit() else 0


@dataclass(frozen=True)
class NodeRoom:
    """What a node has for pods and their volumes; None is unknown.

    Attributes:
        memory_mib: allocatable memory.
        cpu_m: allocatable CPU, in thousandths of a core.
        free_mib: what volumes can take of the disk, what they have already included.
        is_estimate: whether there is no kubelet yet that says so itself.
    """

    memory_mib: int
    cpu_m: int
    free_mib: int | None = None
    is_estimate: bool = False


def room_of(
    settings: ClusterSettings, host: HostFacts | None, kube: KubeNode | None, stored: int = 0
) -> NodeRoom | None:
    """What a node has, as the Kubernetes API says, else estimated from its host; None when neither is known.

    Args:
        settings: of the cluster.
        host: what the host has.
        kube: the node of the API.
        stored: what volumes take already, in MiB.
    """
    free = None
    if host and host.volumes_mb:
        free = max(0, host.volumes_free_mb + stored - round(host.volumes_mb * (1 - DISK_USABLE)))
    if kube and kube.memory_mib and kube.cpu_m:
        return NodeRoom(kube.memory_mib, kube.cpu_m, free)
    if host is None or not host.cpus:
        return None
    kept = (settings.system_reserved, settings.kube_reserved)
    memory = host.memory_mb - sum(mebibytes(part.memory) for part in kept) - EVICTION_MIB
    cpu = host.cpus * 1000 - sum(millicores(part.cpu) for part in kept)
    return NodeRoom(max(0, memory), max(0, cpu), free, is_estimate=True)


def rooms_of(
    cluster: Cluster,
    hosts: Mapping[str, HostFacts | None],
    kube: Sequence[KubeNode] | None,
    stored: Mapping[str, int] | None = None,
) -> dict[str, NodeRoom]:
    """What the nodes of a cluster have, by name; those that nothing is known of are missing."""
    live, sums = {node.name: node for node in kube or ()}, stored or {}
    rooms = {
        name: room_of(cluster.settings, hosts.get(name), live.get(name), sums.get(name, 0))
        for name in (node.name for node in cluster.nodes)
    }
    return {name: room for name, room in rooms.items() if room}


# -- what is asked for ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """Memory (request and limit), CPU (request) and disk that something takes; MiB and thousandths of a core."""

    memory_mib: int = 0
    memory_limit_mib: int = 0
    cpu_m: int = 0
    disk_mib: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(
            self.memory_mib + other.memory_mib,
            self.memory_limit_mib + other.memory_limit_mib,
            self.cpu_m + other.cpu_m,
            self.disk_mib + other.disk_mib,
        )

    def of(self, resource: Resource) -> int:
        """What it takes of a resource that can run out."""
        return self.memory_mib if resource == "memory" else self.cpu_m


Loads = Mapping[str, Mapping[str, Use]]


def loads(cluster: Cluster, releases: Iterable[Release]) -> Loads:
    """What each release takes of each node: by name of the node, then of the release, K3s of a server included."""
    found: dict[str, dict[str, Use]] = {node.name: _k3s(cluster.settings, node) for node in cluster.nodes}
    for release in releases:
        for node, use in _uses(cluster, release):
            found[node][release.name] = found[node].get(release.name, Use()) + use
    return found


def _k3s(settings: ClusterSettings, node: Node) -> dict[str, Use]:
    kept = mebibytes(settings.system_reserved.memory) + mebibytes(settings.kube_reserved.memory)
    more = max(0, K3S_SERVER_MIB - kept)
    return {K3S: Use(more, more)} if node.is_server and more else {}


def _uses(cluster: Cluster, release: Release) -> Iterator[tuple[str, Use]]:
    nodes = place(cluster, release)
    where = {"node": nodes[:1], "role": nodes, "every": tuple(node.name for node in cluster.nodes)}
    choice = cluster.settings.platform_releases.get(release.name) or ReleaseChoice()
    for pods in release.pods:
        memory = choice.memory_mib.get(pods.name, pods.memory_mib)
        for node in where[pods.on]:
            # without a limit it may take anything; the least of that is what it asks for
            yield node, Use(memory, max(memory, pods.memory_limit_mib), pods.cpu_m)
    for volume in release.volumes:
        yield nodes[0], Use(disk_mib=volume.size_gib * 1024)


@dataclass(frozen=True)
class Shortage:
    """What a node lacks of a resource: MiB, or thousandths of a core."""

    node: str
    resource: Resource
    wanted: int
    there: int

    @property
    def missing(self) -> int:
        """By how much it is too little."""
        return self.wanted - self.there


@dataclass(frozen=True)
class NodeBudget:
    """A node, what it has, and what is asked of it, by release; `room` is None when unknown."""

    name: str
    room: NodeRoom | None
    uses: Mapping[str, Use]

    @cached_property
    def used(self) -> Use:
        """All together."""
        return sum(self.uses.values(), Use())

    def shortages(self) -> Iterator[Shortage]:
        """What the node has too little of."""
        if self.room is None:
            return
        there: dict[Resource, int] = {"memory": self.room.memory_mib, "cpu": self.room.cpu_m}
        for resource, has in there.items():
            wanted = self.used.of(resource)
            if wanted > has:
                yield Shortage(self.name, resource, wanted, has)

    def as_dict(self) -> dict[str, Any]:
        """The budget for JSON."""
        return {
            "name": self.name,
            "has": asdict(self.room) if self.room else None,
            "used": asdict(self.used),
            "releases": {name: asdict(use) for name, use in self.uses.items()},
        }


@dataclass(frozen=True)
class Budget:
    """The budgets of all nodes, in the order of the inventory."""

    platform: Platform
    nodes: tuple[NodeBudget, ...]

    @property
    def shortages(self) -> list[Shortage]:
        """All that does not fit."""
        return [shortage for node in self.nodes for shortage in node.shortages()]

    @property
    def is_estimate(self) -> bool:
        """Whether some node has no kubelet yet."""
        return any(node.room is not None and node.room.is_estimate for node in self.nodes)

    @cached_property
    def remedy(self) -> Remedy:
        """What would make it fit."""
        return _remedy(self)

    def without(self, names: Iterable[str]) -> list[Shortage]:
        """What still would not fit if these releases were off."""
        kept = [release for name, release in self.platform.selected.items() if name not in set(names)]
        return self._with(self.platform.cluster, kept).shortages

    def beside(self, others: Iterable[Release]) -> Budget:
        """The same with other releases, that are not selected, there too."""
        return self._with(self.platform.cluster, [*self.platform.selected.values(), *others])

    def moved(self, name: str, node: str) -> Budget:
        """The same with one release on another node."""
        cluster = self.platform.cluster
        choice = cluster.settings.platform_releases.get(name) or ReleaseChoice()
        choices = {**cluster.settings.platform_releases, name: choice.model_copy(update={"node": node})}
        settings = cluster.settings.model_copy(update={"platform_releases": choices})
        return self._with(cluster.model_copy(update={"settings": settings}), self.platform.selected.values())

    def _with(self, cluster: Cluster, releases: Iterable[Release]) -> Budget:
        there = {node.name: node.room for node in self.nodes}
        uses = loads(cluster, releases)
        return Budget(self.platform, tuple(NodeBudget(name, room, uses[name]) for name, room in there.items()))


def budget_of(platform: Platform, rooms: Mapping[str, NodeRoom]) -> Budget:
    """What the platform takes of each node, beside what each has."""
    uses = loads(platform.cluster, platform.selected.values())
    nodes = (NodeBudget(node.name, rooms.get(node.name), uses[node.name]) for node in platform.cluster.nodes)
    return Budget(platform, tuple(nodes))


# -- what would make it fit ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Remedy:
    """The smallest set of releases that would have to be off, and, where that is enough, one to move instead.

    Attributes:
        off: names, dependents included; empty when no set that may be off is large enough.
        move: release and node; None when no single move is enough.
    """

    off: tuple[str, ...] = ()
    move: tuple[str, str] | None = None


def _remedy(budget: Budget) -> Remedy:
    shortages = budget.shortages
    return Remedy(_smallest(budget, shortages), _move(budget, shortages)) if shortages else Remedy()


def dependents(platform: Platform) -> dict[str, frozenset[str]]:
    """Each selected release with all that need it, directly or not, and itself."""
    needed_by: dict[str, set[str]] = defaultdict(set)
    for name in platform.selected:
        for needed in dependencies(platform, name):
            needed_by[needed].add(name)

    def closure(name: str) -> frozenset[str]:
        found, todo = {name}, [name]
        while todo:
            new = needed_by[todo.pop()] - found
            found |= new
            todo += sorted(new)
        return frozenset(found)

    return {name: closure(name) for name in platform.selected}


def _smallest(budget: Budget, shortages: Sequence[Shortage]) -> tuple[str, ...]:
    """Fewest releases, then those that ask for least memory, then by name; what every profile has stays on."""
    platform = budget.platform
    may_go = {name for name, release in platform.selected.items() if _may_go(release)}
    sets = {name: all_ for name, all_ in dependents(platform).items() if all_ <= may_go}
    nodes = {node.name: node.uses for node in budget.nodes}
    gains = {
        name: tuple(nodes[short.node].get(name, Use()).of(short.resource) for short in shortages) for name in may_go
    }
    memory = {name: sum(node.uses[name].memory_mib for node in budget.nodes if name in node.uses) for name in may_go}
    useful = sorted(name for name, all_ in sets.items() if any(any(gains[other]) for other in all_))
    search = _Search([sets[name] for name in useful], gains, tuple(short.missing for short in shortages), memory)
    return search.smallest()


def _may_go(release: Release) -> bool:
    return release.installable and "minimal" not in release.profiles


class _Search:
    """The smallest union of some sets of releases whose gains cover what is missing."""

    def __init__(
        self,
        sets: Sequence[frozenset[str]],
        gains: Mapping[str, tuple[int, ...]],
        missing: tuple[int, ...],
        memory: Mapping[str, int],
    ) -> None:
        self.sets, self.gains, self.missing, self.memory = sets, gains, missing, memory
        self.best: tuple[int, tuple[str, ...]] | None = None
        self.compared = 0

    def smallest(self) -> tuple[str, ...]:
        everything = frozenset().union(*self.sets)
        if not self._covers(everything):
            return ()
        for size in range(1, len(everything) + 1):
            self._descend(frozenset(), 0, size)
            if self.best:
                return self.best[1]
        return ()

    def _covers(self, names: frozenset[str]) -> bool:
        return all(
            sum(self.gains[name][index] for name in names) >= missing for index, missing in enumerate(self.missing)
        )

    def _descend(self, chosen: frozenset[str], start: int, size: int) -> None:
        self.compared += 1
        if self._covers(chosen):
            found = (sum(self.memory[name] for name in chosen), tuple(sorted(chosen)))
            self.best = min(self.best or found, found)
            return
        if not self._can_cover(chosen, start, size - len(chosen)):
            return
        for index in range(start, len(self.sets)):
            union = chosen | self.sets[index]
            if len(chosen) < len(union) <= size and not (self.best and self.compared > _COMPARED):
                self._descend(union, index + 1, size)

    def _can_cover(self, chosen: frozenset[str], start: int, more: int) -> bool:
        """Whether the largest of what is left could be enough."""
        left = frozenset().union(*self.sets[start:]) - chosen
        for index, missing in enumerate(self.missing):
            most = sorted((self.gains[name][index] for name in left), reverse=True)[:more]
            if sum(self.gains[name][index] for name in chosen) + sum(most) < missing:
                return False
        return True


def _move(budget: Budget, shortages: Sequence[Shortage]) -> tuple[str, str] | None:
    """One release and the node where it and all others fit; without volumes first, then the smallest."""
    overfull = {short.node for short in shortages}
    selected = budget.platform.selected.values()
    movable = [
        release
        for release in selected
        if release.installable
        and any(pods.on == "node" for pods in release.pods)
        and place(budget.platform.cluster, release)[0] in overfull
    ]
    memory = {
        release.name: sum(node.uses.get(release.name, Use()).memory_mib for node in budget.nodes) for release in movable
    }
    for release in sorted(movable, key=lambda release: (bool(release.volumes), memory[release.name], release.name)):
        fitting: list[tuple[int, int, str]] = []
        for node in budget.nodes:
            if node.name not in overfull:
                moved = budget.moved(release.name, node.name)
                if not moved.shortages:
                    fitting.append((-_free(moved, node.name), len(fitting), node.name))
        if fitting:
            return release.name, min(fitting)[2]
    return None


def _free(budget: Budget, name: str) -> int:
    """Memory that is left on a node, in MiB; nothing on one that nothing is known of."""
    node = next(node for node in budget.nodes if node.name == name)
    return node.room.memory_mib - node.used.memory_mib if node.room else 0


# -- the verdict ---------------------------------------------------------------------------------------------

_WORDS: Mapping[Resource, str] = {"memory": "memory", "cpu": "CPU"}


def refusals(platform: Platform, rooms: Mapping[str, NodeRoom]) -> list[str]:
    """Why the platform can't be put on these nodes, a line each; empty when it can.

    A node that nothing is known of is a reason, too: nothing is guessed.
    """
    budget = budget_of(platform, rooms)
    unknown = [node.name for node in budget.nodes if node.room is None]
    lines = [f"{name}: what it has is not known: neither its kubelet nor its host answered" for name in unknown]
    return lines + [f"{finding.host}: {finding.found}; {finding.fix}" for finding in findings(budget, ("error",))]


def findings(budget: Budget, severities: Sequence[str] = ("error", "warning")) -> list[Finding]:
    """What does not fit (errors), and what may not when everything takes what it may (warnings)."""
    found = [_shortage(budget, short) for short in budget.shortages]
    for node in budget.nodes:
        found += _limits(node)
        found += _growth(node)
    return [finding for finding in found if finding.severity in severities]


def _shortage(budget: Budget, short: Shortage) -> Finding:
    what = _WORDS[short.resource]
    node = next(node for node in budget.nodes if node.name == short.node)
    estimate = " (estimated)" if node.room and node.room.is_estimate else ""
    return Finding(
        "error",
        short.node,
        "budget",
        f"the platform asks for {amount(short.wanted, short.resource)} of {what}, and there are "
        f"{amount(short.there, short.resource)}{estimate}: {amount(short.missing, short.resource)} too little",
        f"the scheduler would leave pods Pending; most is taken by {_largest(node, short.resource)}",
        remedy_text(budget),
    )


def amount(number: int, resource: Resource) -> str:
    """A number with its unit: MiB of memory, cores of CPU."""
    return f"{number / 1000:.2f} cores" if resource == "cpu" else f"{number} MiB"


def _largest(node: NodeBudget, resource: Resource, count: int = 3) -> str:
    ranked = sorted(node.uses.items(), key=lambda item: (-item[1].of(resource), item[0]))
    return ", ".join(f"{name} ({amount(use.of(resource), resource)})" for name, use in ranked[:count])


def remedy_text(budget: Budget) -> str:
    """What to write into the inventory so that the platform fits."""
    remedy = budget.remedy
    ways = []
    if remedy.off:
        choices = ", ".join(f'"{name}": {{"enabled": False}}' for name in remedy.off)
        fewest = "the smallest set that is enough" if len(remedy.off) > 1 else "the smallest release that is enough"
        ways.append(f"turn off {' and '.join(remedy.off)}, {fewest}: platform_releases = {{{choices}}}")
    if remedy.move:
        name, node = remedy.move
        ways.append(f'move {name}: platform_releases = {{"{name}": {{"node": "{node}"}}}}')
    if not ways:
        return "not even the smallest choice fits: use nodes with more of it, or add one to the inventory"
    return "; or ".join(ways)


def _limits(node: NodeBudget) -> Iterator[Finding]:
    if node.room is None or node.used.memory_limit_mib <= node.room.memory_mib:
        return
    percent = round(100 * node.used.memory_limit_mib / max(1, node.room.memory_mib))
    slack = sorted(node.uses.items(), key=lambda item: (item[1].memory_mib - item[1].memory_limit_mib, item[0]))
    most = ", ".join(f"{name} ({use.memory_mib} to {use.memory_limit_mib} MiB)" for name, use in slack[:3])
    yield Finding(
        "warning",
        node.name,
        "budget",
        f"the limits of its pods are {node.used.memory_limit_mib} MiB of memory, {percent} % of "
        f"{node.room.memory_mib} MiB (requests: {node.used.memory_mib} MiB)",
        "when many pods take what they may at once, the kernel ends some of them",
        f"watch its memory; lower limits by values in platform_releases, most is between request and limit of {most}",
    )


def leftover_findings(budget: Budget, leftovers: Iterable[Release]) -> list[Finding]:
    """Nodes that what is selected fits on, but not beside what is there still and selected no more."""
    old = list(leftovers)
    together = budget.beside(old)
    found = []
    for short in together.shortages:
        if short.node in {other.node for other in budget.shortages}:
            continue
        uses = next(node.uses for node in together.nodes if node.name == short.node)
        names = ", ".join(release.name for release in old if release.name in uses)
        found.append(
            Finding(
                "warning",
                short.node,
                "budget",
                f"beside {names}, which is there still and selected no more, the platform asks for "
                f"{amount(short.wanted, short.resource)} of {_WORDS[short.resource]}, and there are "
                f"{amount(short.there, short.resource)}",
                "new pods would stay Pending until the old ones are gone",
                "keep some of the new ones off (platform_releases) until a deploy with --data platform_prune=true",
            )
        )
    return found


def _growth(node: NodeBudget) -> Iterator[Finding]:
    """Volumes of local-path reserve nothing, so that too little disk is no reason for Kubernetes to refuse them."""
    room = node.room
    if room is None or room.free_mib is None or node.used.disk_mib <= room.free_mib:
        return
    largest = sorted(node.uses.items(), key=lambda item: (-item[1].disk_mib, item[0]))
    most = ", ".join(f"{name} ({gibibytes(use.disk_mib)})" for name, use in largest[:3] if use.disk_mib)
    yield Finding(
        "warning",
        node.name,
        "budget",
        f"its volumes may grow to {gibibytes(node.used.disk_mib)}, and {gibibytes(room.free_mib)} are left for them",
        f"a disk that is {DISK_USABLE:.0%} full makes the kubelet evict pods; most is for {most}",
        "a larger disk; or smaller volumes by values in platform_releases; or make room: sudo apt-get clean",
    )


def gibibytes(mib: int) -> str:
    """A number of MiB in GiB."""
    return f"{mib / 1024:.0f} GiB"
