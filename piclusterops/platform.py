"""The platform of a cluster: which releases of the catalogue it gets, in what order, where, and with which values.

The catalogue (`piclusterops.catalogue`) knows no cluster; the settings of a cluster say what it selects of it. Nothing
here connects to a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from traceback import walk_tb
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateError, TemplateNotFound

from piclusterops.catalogue import Release, UniqueKeyLoader, catalogue, platform_folder, providers
from piclusterops.faults import Fault, SettingsError, closest, literal
from piclusterops.settings import Cluster, ClusterSettings, ReleaseChoice, Role

#: Where the pods of a role go in a cluster without a node of it, most suitable first; a server is always there.
_STAND_INS: Mapping[Role | None, tuple[Role, ...]] = {
    "worker": ("worker", "data_node", "master"),
    "data_node": ("data_node", "worker", "master"),
    "master": ("master",),
}
#: What `k3s_disable` calls a release of K3s, where the names differ.
_K3S_NAMES = {"local-path": "local-storage"}


class PlatformError(SettingsError):
    """The platform that an inventory asks for can't work; lists all faults."""


class _MissingContract(LookupError):
    """A template wants to know about a contract that no selected release fulfils."""


@dataclass(frozen=True)
class Planned:
    """A release as Helm is to install it."""

    release: Release
    version: str
    """Version of its chart."""
    nodes: tuple[str, ...]
    """The nodes of its role; the first one is the node of the release itself."""
    values: dict[str, Any]
    """Its Helm values, those of the inventory included."""
    timeout_s: int
    """How long it may take to become ready, in seconds."""

    @property
    def name(self) -> str:
        """Name of the Helm release."""
        return self.release.name

    @property
    def node(self) -> str:
        """The node of those pods of it that have one place."""
        return self.nodes[0]


@dataclass(frozen=True)
class Platform:
    """What a cluster gets on top of K3s."""

    cluster: Cluster
    releases: tuple[Planned, ...]
    """What Helm installs, in the order of the installation: by wave, then what others depend on, then by name."""
    others: tuple[Release, ...]
    """What K3s and the packages of the hosts bring, by name."""

    @cached_property
    def selected(self) -> dict[str, Release]:
        """All selected releases by name, whoever installs them."""
        return {release.name: release for release in (*(planned.release for planned in self.releases), *self.others)}

    def planned(self, name: str) -> Planned:
        """The planned release of that name.

        Raises:
            KeyError: Helm installs none of that name.
        """
        for planned in self.releases:
            if planned.name == name:
                return planned
        raise KeyError(name)

    def nodes(self, name: str) -> tuple[str, ...]:
        """The nodes of a selected release, whoever installs it; see `place`.

        Raises:
            KeyError: no such release is selected.
        """
        return place(self.cluster, self.selected[name])


def platform_of(
    cluster: Cluster, releases: Mapping[str, Release] | None = None, templates: Path | None = None
) -> Platform:
    """The platform that the settings of a cluster ask for.

    `releases` is the catalogue that they choose from, and `templates` the folder with the values of its releases; the
    project's own when they are None.

    Raises:
        PlatformError: it can't work; lists every fault.
        piclusterops.catalogue.CatalogueError: the project's catalogue itself is wrong.
    """
    available = dict(catalogue() if releases is None else releases)
    chosen, faults = _chosen(available, cluster.settings)
    faults += _node_faults(cluster, available)
    try:
        ordered = _ordered(chosen)
    except PlatformError as error:
        raise PlatformError([*faults, *error.faults]) from None
    planned: list[Planned] = []
    if not faults:
        environment = _environment(templates or platform_folder() / "values")
        planned, faults = _planned(cluster, chosen, ordered, environment)
    if faults:
        raise PlatformError(faults)
    return Platform(cluster, tuple(planned), tuple(release for release in ordered if not release.installable))


def choose(releases: Mapping[str, Release], settings: ClusterSettings) -> dict[str, Release]:
    """The releases that settings select of a catalogue, by name: those of their profile, and as they say themselves.

    Raises:
        PlatformError: these do not go together; lists every fault.
    """
    chosen, faults = _chosen(dict(releases), settings)
    if faults:
        raise PlatformError(faults)
    return chosen


def dependencies(platform: Platform, name: str) -> tuple[str, ...]:
    """The selected releases that a selected one directly depends on, contracts resolved, in the entry's order.

    Raises:
        KeyError: no such release is selected.
    """
    return _needs(platform.selected, platform.selected[name])


def place(cluster: Cluster, release: Release) -> tuple[str, ...]:
    """The nodes a release has in a cluster: all those of its role, the node of the release itself first.

    A role that no node has is taken over by another: a worker's by the data nodes, a data node's by the workers, both
    by the servers in a cluster of servers only. A node that the inventory names comes first; when it is not of the
    role, the whole release moves there.
    """
    role = release.place.role
    names = [node.name for node in cluster.nodes]
    for stand_in in _STAND_INS.get(role, ()):
        if of_role := [node.name for node in cluster.nodes if node.role == stand_in]:
            names = of_role
            break
    choice = _choice(cluster.settings, release.name)
    if choice.node and choice.node not in names:
        return (choice.node,)
    first = names.index(choice.node) if choice.node else release.place.index % len(names)
    return (*names[first:], *names[:first])


# -- the choice ----------------------------------------------------------------------------------------------


def _choice(settings: ClusterSettings, name: str) -> ReleaseChoice:
    return settings.platform_releases.get(name) or ReleaseChoice()


def _chosen(releases: dict[str, Release], settings: ClusterSettings) -> tuple[dict[str, Release], list[Fault]]:
    chosen = {name: release for name, release in sorted(releases.items()) if is_on(release, settings)}
    faults = [
        *_unknown(releases, settings),
        *_useless(releases, settings),
        *_rivals(chosen, settings),
        *_missing(releases, chosen),
    ]
    return chosen, faults


def is_on(release: Release, settings: ClusterSettings) -> bool:
    """Whether settings select a release; whether it goes together with the others is another question."""
    if release.source == "k3s":  # whatever the profile
        return _k3s_name(release) not in settings.k3s_disable
    enabled = _choice(settings, release.name).enabled
    return settings.platform_profile in release.profiles if enabled is None else enabled


def _k3s_name(release: Release) -> str:
    return _K3S_NAMES.get(release.name, release.name)


def _unknown(releases: Mapping[str, Release], settings: ClusterSettings) -> Iterator[Fault]:
    for name in settings.platform_releases:
        if name not in releases:
            meant = closest(name, releases)
            fix = f"did you mean {meant}?" if meant else "remove it; docs/reference/catalogue.md lists all releases"
            yield Fault(f"platform_releases.{name}", "", "the catalogue has no release of this name", fix)


def _useless(releases: Mapping[str, Release], settings: ClusterSettings) -> Iterator[Fault]:
    """What is said about releases that Helm does not install, and that nothing would heed."""
    for name, choice in settings.platform_releases.items():
        release = releases.get(name)
        if release is None or release.installable:
            continue
        given = choice.model_fields_set if release.source == "k3s" else choice.model_fields_set - {"enabled", "node"}
        for part in sorted(given):
            if release.source == "k3s" and part == "enabled":
                fix = f'remove it; to do without {name}, add "{_k3s_name(release)}" to k3s_disable'
            else:
                fix = "remove it"
            bringer = "K3s brings it" if release.source == "k3s" else "it is a package of the hosts"
            yield Fault(f"platform_releases.{name}.{part}", "", f"{bringer}, and Helm does not install it", fix)


def _rivals(chosen: dict[str, Release], settings: ClusterSettings) -> Iterator[Fault]:
    """Contracts that two selected releases fulfil."""
    for contract in sorted({contract for release in chosen.values() for contract in release.provides}):
        rivals = [release.name for release in providers(chosen, contract) if contract in release.provides]
        if len(rivals) > 1:
            # what only the inventory turned on is probably wanted
            asked = [name for name in rivals if _choice(settings, name).enabled]
            off = [name for name in rivals if name not in asked] if asked and len(asked) < len(rivals) else rivals[1:]
            yield Fault(
                "platform_releases",
                "",
                f"{_and(rivals)} all fulfil the contract {contract}; of these only one can be on"
                if len(rivals) > 2
                else f"{_and(rivals)} both fulfil the contract {contract}; only one of them can be on",
                f"turn {_and(off)} off: platform_releases = {literal({name: {'enabled': False} for name in off})}",
            )


def _missing(releases: dict[str, Release], chosen: dict[str, Release]) -> Iterator[Fault]:
    """Dependencies that nothing selected fulfils."""
    for release in chosen.values():
        for needed in release.depends_on:
            if providers(chosen, needed):
                continue
            candidates = sorted(candidate.name for candidate in providers(releases, needed))
            what = needed if candidates == [needed] else f"the contract {needed}"
            yield Fault(
                f"platform_releases.{release.name}",
                "",
                f"it depends on {what}, which is off"
                if candidates
                else f"it depends on {needed}, which nothing fulfils",
                _remedy(release, [releases[name] for name in candidates]),
            )


def _remedy(release: Release, candidates: list[Release]) -> str:
    off = f"turn {release.name} off: platform_releases = {literal({release.name: {'enabled': False}})}"
    ways = [
        f'remove "{_k3s_name(candidate)}" from k3s_disable'
        if candidate.source == "k3s"
        else f"platform_releases = {literal({candidate.name: {'enabled': True}})}"
        for candidate in candidates
    ]
    return f"turn it on: {' or '.join(ways)}; or {off}" if ways else off


def _node_faults(cluster: Cluster, releases: Mapping[str, Release]) -> Iterator[Fault]:
    names = [node.name for node in cluster.nodes]
    for name, choice in cluster.settings.platform_releases.items():
        if name not in releases or not choice.node:
            continue
        key, value = f"platform_releases.{name}.node", literal(choice.node)
        if choice.node not in names:
            meant = closest(choice.node, names)
            fix = f'did you mean "{meant}"?' if meant else f"name one of {', '.join(names)}"
            yield Fault(key, value, "the inventory has no node of this name", fix)
        elif (pods := releases[name].pods) and all(pod.on == "every" for pod in pods):
            yield Fault(key, value, "it runs on every node, and on none in particular", "remove it")


# -- the order -----------------------------------------------------------------------------------------------


def _needs(chosen: dict[str, Release], release: Release) -> tuple[str, ...]:
    names = (needed.name for name in release.depends_on for needed in providers(chosen, name))
    return tuple(dict.fromkeys(names))


def _ordered(chosen: dict[str, Release]) -> list[Release]:
    """Releases by wave, then so that what others depend on comes first, then by name.

    Raises:
        PlatformError: some depend on each other in a circle; lists the circles.
    """
    needs = {name: sorted(_needs(chosen, release)) for name, release in sorted(chosen.items())}
    faults = []
    while True:
        sorter = TopologicalSorter(needs)
        try:
            sorter.prepare()
        except CycleError as error:
            circle: list[str] = error.args[1][::-1]
            needs[circle[0]].remove(circle[1])
            faults.append(_circle(circle))
        else:
            break
    if faults:
        raise PlatformError(faults)
    depth: dict[str, int] = {}
    while sorter.is_active():
        ready = sorter.get_ready()
        level = 1 + max(depth.values(), default=-1)
        depth |= dict.fromkeys(ready, level)
        sorter.done(*ready)
    return sorted(chosen.values(), key=lambda release: (release.wave, depth[release.name], release.name))


def _circle(circle: list[str]) -> Fault:
    return Fault(
        "platform_releases",
        "",
        f"they depend on each other in a circle: {' -> '.join(circle)}",
        f"turn one of them off: platform_releases = {literal({circle[0]: {'enabled': False}})}",
    )


# -- the values ----------------------------------------------------------------------------------------------


def _planned(
    cluster: Cluster, chosen: dict[str, Release], ordered: Iterable[Release], environment: Environment
) -> tuple[list[Planned], list[Fault]]:
    planned, faults = [], []
    for release in ordered:
        if not release.installable:
            continue
        assert release.chart is not None
        choice = _choice(cluster.settings, release.name)
        version = choice.version or release.chart.version
        nodes = place(cluster, release)
        try:
            template = environment.get_template(f"{release.name}.yaml.j2")
            values = _rendered(template, cluster, chosen, release, version, nodes)
        except (TemplateError, yaml.YAMLError, LookupError, TypeError, ValueError) as error:
            faults.append(_value_fault(release, error))
            continue
        values = merged(values, choice.values)
        planned.append(Planned(release, version, nodes, values, choice.timeout_s or release.timeout_s))
    return planned, faults


def _rendered(
    template: Template,
    cluster: Cluster,
    chosen: dict[str, Release],
    release: Release,
    version: str,
    nodes: tuple[str, ...],
) -> dict[str, Any]:
    settings = cluster.settings

    def address(name: str) -> str | None:
        fixed = settings.service_addresses.get(name)
        return None if fixed is None else str(fixed)

    def provided(contract: str) -> dict[str, str]:
        """What the selected provider of a contract tells its users, and as `node` the name of its node."""
        for provider in chosen.values():
            if contract in provider.provides:
                return {"node": place(cluster, provider)[0], **provider.provides[contract]}
        raise _MissingContract(contract)

    def selected(name: str) -> bool:
        return bool(providers(chosen, name))

    text = template.render(
        cluster=cluster,
        settings=settings,
        release=release,
        node=nodes[0],
        nodes=nodes,
        domain=settings.domain,
        address=address,
        provided=provided,
        selected=selected,
        version=version,
    )
    values = yaml.load(text, UniqueKeyLoader)  # a safe loader
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise TypeError(f"they are no mapping, but a {type(values).__name__}")
    return values


@cache
def _environment(folder: Path) -> Environment:
    """The templates of a folder; one that changes is read again."""
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _value_fault(release: Release, error: Exception) -> Fault:
    file = f"files/platform/values/{release.name}.yaml.j2"
    key = f"platform_releases.{release.name}.values"
    if isinstance(error, _MissingContract):
        needed = error.args[0]
        why = f"they need to know about {needed}, which nothing selected provides"
        return Fault(key, "", why, f"turn a release on that provides {needed}, or turn {release.name} off")
    if isinstance(error, TemplateNotFound):
        why = "there is no template of them"
    else:
        line = _line(error, file)
        why = f"they can't be rendered{f' (line {line})' if line else ''}: {' '.join(str(error).split())}"
    return Fault(key, "", why, f"correct {file}, or turn {release.name} off in platform_releases")


def _line(error: Exception, file: str) -> int | None:
    """The line of a template that an error is in: jinja2 puts it into the traceback."""
    frames = walk_tb(error.__traceback__)
    lines = [number for frame, number in frames if frame.f_code.co_filename.endswith(Path(file).name)]
    return lines[-1] if lines else None


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Values with others over them: mappings are merged, all else, lists too, is replaced, as Helm does it."""
    result = dict(values)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return result


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
