"""What is good and bad about the platform that an inventory asks for: pure functions to findings.

Sources: the catalogue for licences, maintenance, images and page sizes; the hosts for what they have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from piclusterops.capacity import Budget, budget_of, findings, parse_stored, rooms_of
from piclusterops.catalogue import Release, catalogue
from piclusterops.check import CLUSTER, Finding, Severity, Subject
from piclusterops.k3s_config import BINARY, KUBECONFIG
from piclusterops.platform import Platform, PlatformError, place, platform_of
from piclusterops.platform_rules import equivalents, licence_fix, needs_waiver
from piclusterops.settings import Cluster, ClusterSettings

#: Port of the node-exporter of kube-prometheus-stack, which uses the network of the node.
NODE_EXPORTER_PORT = 9100
#: Evidence for arm64 that begins so is none.
_NO_EVIDENCE = ("none", "not ", "unknown", "unverified")
_LARGE_PAGE = 16384

#: Shell that prints the addresses of LoadBalancer services that a server of the cluster knows, then `known`.
HELD_PROBE = (
    f"[ -x {BINARY} ] && [ -s {KUBECONFIG} ] && {BINARY} kubectl --request-timeout=5s get services -A "
    "-o jsonpath='{range .items[*]}{.status.loadBalancer.ingress[*].ip}{\"\\n\"}{end}' && echo known"
)


def answers_probe(settings: ClusterSettings) -> str:
    """Shell that prints which of the fixed addresses of services somebody answers at; empty when there are none.

    Whoever has an address in the same network answers ARP, even when ping is not answered: a datagram is enough.
    """
    if settings.platform_profile == "none" or not settings.service_addresses:
        return ""
    addresses = " ".join(sorted({str(address) for address in settings.service_addresses.values()}))
    return (
        f'for a in {addresses}; do {{ if ping -c 1 -W 1 "$a" >/dev/null 2>&1; then echo "$a"; else '
        "timeout 1 bash -c 'echo >/dev/udp/$0/9' \"$a\"; sleep 1; "
        'ip neigh show to "$a" | grep -q REACHABLE && echo "$a"; fi; } & done; wait'
    )


def platform_findings(cluster: Cluster, subjects: Sequence[Subject]) -> list[Finding]:
    """All findings about the platform; none without one, and none when its settings are faulty, which is said apart."""
    if cluster.settings.platform_profile == "none" or not cluster.nodes or not cluster.servers:
        return []
    try:
        platform = platform_of(cluster)
    except PlatformError:
        return []
    return [finding for rule in PLATFORM_RULES for finding in rule(platform, subjects)]


def budget(platform: Platform, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """The platform fits on the nodes that answered."""
    yield from findings(_budget(platform, subjects))


def _budget(platform: Platform, subjects: Sequence[Subject]) -> Budget:
    facts = {subject.node.name: subject.report.facts if subject.report else None for subject in subjects}
    stored = {s.node.name: parse_stored(s.report.lines("stored")) if s.report else 0 for s in subjects}
    return budget_of(platform, rooms_of(platform.cluster, facts, None, stored))


def licences(platform: Platform, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """What is not permissively licensed is named, with what could stand in its place."""
    waivers = platform.cluster.settings.platform_waivers
    for release in _installed(platform):
        if release.source == "host":
            continue  # part of the operating system
        spdx, verdict = release.licence.spdx, release.licence.verdict
        found = f"{release.name} is licensed {spdx}, which is {verdict}"
        if verdict == "not permissive" and release.name in waivers:
            yield _of("info", "licence", f"{found}; waived: {waivers[release.name]}", "", "nothing to do")
        elif verdict == "not permissive":
            why = "MIT or Apache compatible software is wanted: others may not be passed on or offered as one likes"
            yield _of(_bad(platform), "licence", found, why, _switch(platform, release))
        elif verdict == "weak copyleft":
            why = "changes of its own files must be passed on under the same licence; using it needs nothing"
            yield _of("info", "licence", found, why, "nothing to do")


def maintenance(platform: Platform, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """What nobody mends any more is named, with what could stand in its place."""
    waivers = platform.cluster.settings.platform_waivers
    for release in _installed(platform):
        if release.maintenance.maintained:
            continue
        found = f"{release.name} is not maintained: {release.maintenance.note}"
        if release.name in waivers:
            yield _of("info", "maintenance", f"{found}; waived: {waivers[release.name]}", "", "nothing to do")
        else:
            why = "nobody mends its faults and vulnerabilities"
            yield _of(_bad(platform), "maintenance", found, why, _switch(platform, release))


def _bad(platform: Platform) -> Severity:
    return "error" if platform.cluster.settings.platform_profile == "clean" else "warning"


def _switch(platform: Platform, release: Release) -> str:
    """How to do without a release: another profile where that is enough, else its equivalent."""
    if platform.cluster.settings.platform_profile == "clean":
        return licence_fix(release)
    others = [other.name for other in equivalents(release, catalogue()) if not needs_waiver(other)]
    if others and "clean" not in release.profiles:
        return f'platform_profile = "clean" takes {" and ".join(others)} in its place'
    return licence_fix(release).partition("; or platform_waivers")[0]


def images(platform: Platform, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """All images are known to exist for arm64."""
    for release in _installed(platform):
        if is_unproved(release.arm64):
            yield _of(
                "warning",
                "images",
                f"nothing proves that {release.name} has images for arm64: {release.arm64.strip() or 'no evidence'}",
                "its pods would end with `exec format error`, or never start",
                f'try its image on a node first, or "{release.name}": {{"enabled": False}} in platform_releases',
            )


def is_unproved(evidence: str) -> bool:
    """Whether the evidence for arm64 in the catalogue is none."""
    text = evidence.strip().lower()
    return not text or text.startswith(_NO_EVIDENCE)


def page_size(platform: Platform, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Releases that end on large pages run on no node that has, or will have, these."""
    wanted = platform.cluster.settings.page_size
    for subject in subjects:
        report = subject.report
        if report is None:
            continue
        will_be_large = wanted == "16k" and report.is_pi
        if not will_be_large and (wanted != "keep" or report.page_size != _LARGE_PAGE):
            continue
        broken = [
            release.name
            for release in _installed(platform)
            if not release.page_16k and subject.node.name in _nodes(platform.cluster, release)
        ]
        if broken:
            yield Finding(
                "error",
                subject.node.name,
                "page size",
                f"{', '.join(broken)} end at once on memory pages of 16 KiB",
                f"page_size is {wanted!r}, and their images are built for pages of 4 KiB",
                f'page_size = "4k"; {subject.site} reboots the node into that kernel',
            )


def _nodes(cluster: Cluster, release: Release) -> set[str]:
    """Names of the nodes that pods of a release run on."""
    places = place(cluster, release)
    on = {pods.on for pods in release.pods}
    if "every" in on:
        return {node.name for node in cluster.nodes}
    return set(places if "role" in on else places[:1])


def addresses(platform: Platform, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Nobody else answers at the fixed addresses of services."""
    reports = [subject.report for subject in subjects if subject.report]
    held = {line.strip() for report in reports for line in report.lines("held")}
    runs = any({"k3s", "k3s-agent"} & report.running_units for report in reports)
    if runs and "known" not in held:
        return  # the services of the cluster itself may well answer there
    heard: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        for line in subject.report.lines("answers") if subject.report else ():
            heard[line.strip()].append(subject.node.name)
    ours = {address for line in held for address in line.split()}
    for name, fixed in platform.cluster.settings.service_addresses.items():
        if str(fixed) in heard and str(fixed) not in ours:
            yield _of(
                "error",
                "addresses",
                f"somebody has the address {fixed} of {name} (service_addresses) already: it answers "
                f"{', '.join(heard[str(fixed)])}",
                "two machines with one address get each other's visitors",
                f"find it (ip neigh show to {fixed}), or give {name} another address",
            )


def services_network(platform: Platform, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Some node is in the network of the services, when services have addresses there."""
    settings = platform.cluster.settings
    network = settings.services_cidr
    if network is None or network.overlaps(settings.lan_cidr):
        return
    there = {name: address for name, address in settings.service_addresses.items() if address in network}
    if there and not any("services" in node.settings.vlans for node in platform.cluster.nodes):
        yield _of(
            "warning",
            "addresses",
            f"no node is in the VLAN of services_cidr {network}, and services have addresses there: "
            f"{', '.join(f'{address} ({name})' for name, address in there.items())}",
            "MetalLB answers ARP only where a node has an address, so nobody finds these services",
            'vlans = {"services": {"id": ..., "address": ...}} of some nodes, a route of the router to a node, or '
            "addresses of metallb_pool",
        )


def _installed(platform: Platform) -> Iterable[Release]:
    return platform.selected.values()


def _of(severity: Severity, topic: str, found: str, why: str, fix: str) -> Finding:
    return Finding(severity, CLUSTER, topic, found, why, fix)


PlatformRule = Callable[[Platform, Sequence[Subject]], Iterator[Finding]]
PLATFORM_RULES: tuple[PlatformRule, ...] = (
    budget,
    licences,
    maintenance,
    images,
    page_size,
    addresses,
    services_network,
)
