"""What must hold of an inventory's platform settings, one function a rule; see `piclusterops.rules`.

Whether it fits on the nodes is no question of settings: `piclusterops.capacity` says so, once their memory is known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from piclusterops.artefacts import RELEASES
from piclusterops.catalogue import Release, catalogue
from piclusterops.faults import Fault, closest, literal, shown
from piclusterops.helm_artefacts import archive_name
from piclusterops.platform import PlatformError, choose, platform_of
from piclusterops.rules import Draft, mirror_problem, rule, some_pool
from piclusterops.settings import Cluster, ClusterSettings, Node

#: Names of that many charts are listed when a mirror lacks them.
_LISTED = 5


def selected_releases(settings: ClusterSettings) -> dict[str, Release]:
    """The releases that settings select, by name; none when they can't go together, which is a fault of its own."""
    try:
        return choose(catalogue(), settings)
    except PlatformError:
        return {}


def _selected(draft: Draft) -> dict[str, Release]:
    usable = draft.usable("platform_profile", "platform_releases", "k3s_disable")
    return selected_releases(draft.settings) if usable and draft.nodes else {}


@rule
def platform(draft: Draft) -> Iterator[Fault]:
    """The selected releases exist, go together, run on nodes that there are, and have values."""
    if not draft.nodes or not draft.usable("platform_profile", "platform_releases", "k3s_disable"):
        return
    cluster = _cluster(draft)
    try:
        if cluster is None:
            choose(catalogue(), draft.settings)
        else:
            platform_of(cluster)
    except PlatformError as error:
        yield from error.faults


def _cluster(draft: Draft) -> Cluster | None:
    """The cluster, when everything that a release's values may be made of can be read."""
    if draft.unusable or not draft.servers or any(node.unusable or len(node.roles) != 1 for node in draft.nodes):
        return None
    names = [node.name for node in draft.nodes]
    if len(set(names)) < len(names) or any(not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) for name in names):
        return None
    nodes = tuple(Node(name=node.name, role=node.roles[0], settings=node.settings) for node in draft.nodes)
    return Cluster(settings=draft.settings, nodes=nodes)


@rule
def platform_memory(draft: Draft) -> Iterator[Fault]:
    """What is said about the memory of pods is about pods that there are."""
    if not draft.usable("platform_releases"):
        return
    releases = catalogue()
    for name, choice in draft.settings.platform_releases.items():
        pods = [entry.name for entry in releases[name].pods] if name in releases else [*choice.memory_mib]
        for pod, memory in choice.memory_mib.items():
            if pod not in pods:
                meant = closest(pod, pods)
                fix = f"did you mean {meant}?" if meant else f"use one of {', '.join(pods)}, or remove it"
                key = f"platform_releases.{name}.memory_mib.{pod}"
                yield Fault(key, literal(memory), f"{name} has no pods of this name in the catalogue", fix)


@rule
def platform_pool(draft: Draft) -> Iterator[Fault]:
    """A platform that publishes services has addresses for them."""
    needing = [release.name for release in _selected(draft).values() if "load-balancer" in release.provides]
    if needing and draft.settings.metallb_pool is None and draft.usable("metallb_pool"):
        profile = draft.settings.platform_profile
        yield Fault(
            "metallb_pool",
            "not set",
            f"{needing[0]} (platform_profile {literal(profile)}) would have no address to give to a service",
            f'metallb_pool = "{some_pool(draft)}", or platform_profile = "none" for K3s alone',
        )


# -- fixed addresses -----------------------------------------------------------------------------------------


@rule
def service_address(draft: Draft) -> Iterator[Fault]:
    """A fixed address is one of a service's own, in a network that services have addresses in."""
    if not draft.usable("service_addresses") or draft.settings.platform_profile == "none":
        return
    asked = {release.interface.address for release in catalogue().values() if release.interface}
    known = sorted({*catalogue(), *(name for name in asked if name)})
    taken = _taken(draft)
    by_address: dict[IPv4Address, list[str]] = defaultdict(list)
    for name, address in draft.settings.service_addresses.items():
        key = f"service_addresses.{name}"
        by_address[address].append(name)
        if name not in known:
            meant = closest(name, known)
            fix = f"did you mean {meant}?" if meant else "remove it; docs/reference/catalogue.md lists all releases"
            yield Fault(key, literal(address), "no release has this name", fix)
        elif address in taken:
            fix = f"use another one{_examples(draft)}"
            yield Fault(key, literal(address), f"it is {taken[address]} already", fix)
        elif problem := _misplaced(draft, address):
            yield Fault(key, literal(address), problem, f"use an address{_examples(draft)}")
    for address, names in by_address.items():
        if len(names) > 1:
            yield Fault(
                "service_addresses",
                literal(address),
                f"{' and '.join(names)} have the same address, and only one service could answer there",
                "give each its own",
            )


def _taken(draft: Draft) -> dict[IPv4Address, str]:
    """Addresses that are something else's: nodes', in LAN and VLANs, their routers', and names of the API."""
    taken: dict[IPv4Address, str] = {}
    for name in draft.settings.api_names if draft.usable("api_names") else ():
        try:
            taken[IPv4Address(name)] = "an address of the Kubernetes API (api_names)"
        except ValueError:
            continue
    for node in draft.nodes:
        if node.settings.gateway and "gateway" not in node.unusable:
            taken[node.settings.gateway] = f"the router of {node.name}"
        for vlan in node.settings.vlans.values() if "vlans" not in node.unusable else ():
            taken[vlan.address.ip] = f"the address of {node.name} in a VLAN"
        if node.address:
            taken[node.address] = f"the address of {node.name}"
    return taken


def _misplaced(draft: Draft, address: IPv4Address) -> str | None:
    """Why nobody would find a service at an address; nothing when its networks can't be read themselves."""
    pool, services = draft.pool(), draft.settings.services_cidr
    if not draft.usable("metallb_pool", "services_cidr") or (draft.settings.metallb_pool and pool is None):
        return None
    if pool and address in pool:
        return None
    if services is None:
        return f"it is not in metallb_pool {pool}, and there is no services_cidr" if pool else None
    if address not in services:
        return f"it is in neither {f'metallb_pool {pool} nor ' if pool else ''}services_cidr {services}"
    if services.prefixlen < 31 and address in (services.network_address, services.broadcast_address):
        return f"it is the network or broadcast address of {services}, which no service can have"
    return None


def _examples(draft: Draft) -> str:
    places: list[str | IPv4Network] = [f"metallb_pool {draft.pool()}"] if draft.pool() else []
    if draft.usable("services_cidr") and draft.settings.services_cidr:
        places.append(f"services_cidr {draft.settings.services_cidr}")
    return f" from {' or '.join(map(str, places))}" if places else ""


# -- licences ------------------------------------------------------------------------------------------------


@rule
def platform_waiver(draft: Draft) -> Iterator[Fault]:
    """A waiver is for a release whose licence needs one, and says why."""
    if not draft.usable("platform_waivers"):
        return
    releases = catalogue()
    for name, reason in draft.settings.platform_waivers.items():
        key, release = f"platform_waivers.{name}", releases.get(name)
        if release is None:
            meant = closest(name, releases)
            fix = f"did you mean {meant}?" if meant else "remove it; docs/reference/catalogue.md lists all releases"
            yield Fault(key, shown(key, reason), "the catalogue has no release of this name", fix)
        elif not needs_waiver(release):
            why = f"{name} needs none: {_accepted(release)}"
            yield Fault(key, shown(key, reason), why, "remove it")
        elif not reason.strip():
            fix = f'platform_waivers = {{"{name}": "used unchanged, at home"}}, for example'
            yield Fault(key, shown(key, reason), "a waiver is worth its reason, and has none", fix)


def _accepted(release: Release) -> str:
    if release.source == "host":
        return "it is a package of the hosts"
    return f"its licence {release.licence.spdx} is {release.licence.verdict}, and it is maintained"


def needs_waiver(release: Release) -> bool:
    """Whether the profile `clean` accepts a release only with a reason: for its licence, or as nobody maintains it.

    Packages of the hosts are part of the operating system, as Linux itself is, and are left out of that.
    """
    return is_refused(release) or not release.maintenance.maintained


def is_refused(release: Release) -> bool:
    """Whether the licence of a release is one that the profile `clean` does not accept."""
    return release.licence.verdict == "not permissive" and release.source != "host"


@rule
def platform_licence(draft: Draft) -> Iterator[Fault]:
    """With the profile `clean`, what is not permissively licensed has a waiver."""
    if draft.settings.platform_profile != "clean" or not draft.usable("platform_waivers"):
        return
    for release in _selected(draft).values():
        if is_refused(release) and release.name not in draft.settings.platform_waivers:
            yield Fault(
                f"platform_releases.{release.name}",
                "",
                f"its licence {release.licence.spdx} is not permissive, and platform_profile is clean",
                licence_fix(release),
            )


def licence_fix(release: Release) -> str:
    """What to write in the place of a release that is not permissively licensed, in the profile `clean`."""
    others = equivalents(release, catalogue())
    waiver = f'platform_waivers = {{"{release.name}": "the reason"}}'
    off = f'"{release.name}": {{"enabled": False}}'
    if not others:
        return f"turn it off: platform_releases = {{{off}}}; or {waiver}"
    on = ", ".join(f'"{other.name}": {{"enabled": True}}' for other in others if "clean" not in other.profiles)
    names = " and ".join(f"{other.name} ({other.licence.spdx})" for other in others)
    return f"use {names} in its place: platform_releases = {{{', '.join(filter(None, (off, on)))}}}; or {waiver}"


def equivalents(release: Release, releases: Mapping[str, Release]) -> list[Release]:
    """Releases with a better licence that fulfil a contract of this one.

    One that fulfils none, such as an operator, is there for those that depend on it: then theirs count.
    """
    served = (
        [release] if release.provides else [other for other in releases.values() if release.name in other.depends_on]
    )
    contracts = {contract for other in served for contract in other.provides}
    return [
        other
        for other in releases.values()
        if contracts & set(other.provides) and other.licence.verdict != "not permissive"
    ]


# -- where charts and Helm come from -------------------------------------------------------------------------


@rule
def chart_mirror(draft: Draft) -> Iterator[Fault]:
    """The place charts come from is a URL, or a directory that is there and has the charts."""
    mirror = draft.settings.chart_mirror
    if mirror is None or not draft.usable("chart_mirror") or draft.settings.platform_profile == "none":
        return
    if problem := mirror_problem(mirror, "leave it out to fetch charts from their repositories"):
        yield Fault("chart_mirror", shown("chart_mirror", mirror), *problem)
    elif "://" not in mirror:
        folder = Path(mirror).expanduser()
        missing = [name for name in _archives(draft) if not (folder / name).is_file()]
        if missing:
            more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
            yield Fault(
                "chart_mirror",
                shown("chart_mirror", mirror),
                f"charts of selected releases are not in this directory: {', '.join(missing[:_LISTED])}{more}",
                "put them there (helm pull), or turn these releases off in platform_releases",
            )


def _archives(draft: Draft) -> list[str]:
    """Names of the archives of other people's charts that are needed."""
    choices = draft.settings.platform_releases
    found = []
    for release in _selected(draft).values():
        if release.source == "helm" and release.chart:
            version = choices[release.name].version if release.name in choices else None
            found.append(release.chart.model_copy(update={"version": version or release.chart.version}).archive)
    return found


@rule
def helm_mirror(draft: Draft) -> Iterator[Fault]:
    """The place Helm comes from is a URL, or a directory that is there and has the release."""
    if not draft.usable("helm_mirror", "helm_version") or draft.settings.platform_profile == "none":
        return
    mirror, version = draft.settings.helm_mirror, draft.settings.helm_version
    value = shown("helm_mirror", mirror)
    if problem := mirror_problem(mirror, "leave it out to fetch Helm from get.helm.sh"):
        yield Fault("helm_mirror", value, *problem)
    elif "://" not in mirror:
        names = [archive_name(version, machine) for machine in RELEASES]
        folder = Path(mirror).expanduser()
        if not any((folder / name).is_file() for name in names):
            why = f"Helm {version} (helm_version) is not in this directory: there is no {' and no '.join(names)}"
            yield Fault("helm_mirror", value, why, f"put the archive and its .sha256sum into {folder}/")
