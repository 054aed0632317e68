"""The reference of all releases, in Markdown, from the catalogue: ``python -m piclusterops.catalogue_reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from piclusterops.catalogue import PERMISSIVE, WEAK_COPYLEFT, Pods, Release, catalogue
from piclusterops.secrets import touched

_INTRODUCTION = """\
# Catalogue of the platform

<!-- Written by `make docs` from files/platform/releases: change it there. -->

Every system that can be installed on the cluster is a release of this catalogue. The setting
[`platform_profile`](settings.md#platform_profile) selects some of them, and
[`platform_releases`](settings.md#platform_releases) turns single ones on or off, moves them to another node, or changes
their values. Releases are installed wave after wave, and within a wave after what they depend on.
`picluster plan --env prod` shows what that comes to for a cluster, and whether it fits on its nodes.

- Version: of the chart, and of the application in it.
- Node: role, and which of the nodes with that role, counted round. Pods marked "every" run on each node of the cluster,
  those marked "role" on each node of the role.
- Memory: what pods ask for and their limit, in MiB.
- Licence: of the application, as an SPDX identifier. Permissive ones are {permissive}; {weak} are weak copyleft; all
  others are "not permissive", and the profile `clean` has none of them without a waiver
  (see [how to get a cluster without them](../how-to/clean-profile.md)).
- Address: the name of a fixed one in [`service_addresses`](settings.md#service_addresses), or the host name.
- Secrets: the Kubernetes Secrets it needs. What the owner has to give is marked with a star.

Nothing here was measured on a Raspberry Pi: memory is what the charts and this project ask for.
"""

_COLUMNS = (
    "Release",
    "Version",
    "Profiles",
    "Namespace (zone)",
    "Node",
    "Memory (MiB)",
    "Licence",
    "Maintained",
    "Backup",
    "Address",
    "Secrets",
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_OTHERS = {"k3s": "What K3s brings", "host": "Packages of the hosts"}


def reference(releases: Mapping[str, Release] | None = None) -> str:
    """The whole page; of the project's own catalogue when none is given."""
    entries = list((catalogue() if releases is None else releases).values())
    blocks = [_INTRODUCTION.format(permissive=_listed(PERMISSIVE), weak=_listed(WEAK_COPYLEFT))]
    installed = sorted((entry for entry in entries if entry.installable), key=lambda entry: (entry.wave, entry.name))
    for wave, members in groupby(installed, key=lambda entry: entry.wave):
        blocks.append(_section(f"Wave {wave}", list(members)))
    for source, title in _OTHERS.items():
        members_ = sorted((entry for entry in entries if entry.source == source), key=lambda entry: entry.name)
        if members_:
            blocks.append(_section(title, members_))
    return "\n".join([*blocks, *_secrets_in_force(entries), *_contracts(entries)])


def _listed(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))


def _section(title: str, releases: Sequence[Release]) -> str:
    rows = [_row(_cells(release)) for release in releases]
    notes = [_note(release) for release in releases]
    table = [_row(_COLUMNS), _row(["---"] * len(_COLUMNS)), *rows]
    return "\n".join([f"## {title}", "", *table, "", *notes, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in cells)} |"


def _cells(release: Release) -> Sequence[str]:
    return (
        f"`{release.name}`",
        _version(release),
        ", ".join(release.profiles) or "on request",
        f"{release.namespace or 'none'} ({release.zone})",
        _place(release),
        _memory(release.pods),
        f"{release.licence.spdx}, {release.licence.verdict}",
        "yes" if release.maintenance.maintained else "**no**",
        _backup(release),
        _address(release),
        _secrets(release),
    )


def _version(release: Release) -> str:
    if release.chart is None:
        return "as K3s has it" if release.source == "k3s" else "as Debian has it"
    app = release.chart.app_version
    same = app.removeprefix("v") == release.chart.version.removeprefix("v")
    return release.chart.version if same else f"{release.chart.version} ({app})"


def _place(release: Release) -> str:
    if release.place.role is None:
        return "any"
    index = release.place.index
    return f"{_ORDINALS[index] if index < len(_ORDINALS) else f'{index + 1}th'} {release.place.role}"


def _memory(pods: Sequence[Pods]) -> str:
    """Sums of requests and limits, for each kind of place."""
    parts = []
    for on, where in (("node", ""), ("role", " on each of the role"), ("every", " on every node")):
        found = [entry for entry in pods if entry.on == on]
        if found:
            limits = [entry.memory_limit_mib for entry in found]
            limit = sum(limits) if all(limits) else "none"
            parts.append(f"{sum(entry.memory_mib for entry in found)}/{limit}{where}")
    return ", ".join(parts) or "none"


def _backup(release: Release) -> str:
    backup = release.backup
    parts = [f"volume {name}" for name in backup.volumes]
    parts += [f"database {name}" for name in backup.databases]
    parts += [f"bucket {name}" for name in backup.buckets]
    return ", ".join(parts) or ("see note" if backup.note else "nothing to keep")


def _address(release: Release) -> str:
    interface = release.interface
    if interface is None:
        return "inside the cluster"
    parts = [f"`{interface.address}`"] if interface.address else []
    if interface.host:
        port = "" if (interface.scheme, interface.port) in (("https", 443), ("http", 80)) else f":{interface.port}"
        parts.append(f"{interface.scheme}://{interface.host}.DOMAIN{port}")
    return ", ".join(parts) or f"port {interface.port}"


def _secrets(release: Release) -> str:
    found = []
    for secret in release.secrets:
        given = any(key.kind == "given" for key in secret.keys.values())
        found.append(f"`{secret.name}`{'*' if given else ''}")
    return ", ".join(found) or "none"


def _note(release: Release) -> str:
    """A release in words: what it is, what it needs, and what is worth knowing."""
    parts = [f"{release.title}."]
    if release.depends_on:
        parts.append(f"Depends on {', '.join(release.depends_on)}.")
    parts.append(f"arm64: {release.arm64.rstrip('.')}.")
    if not release.page_16k:
        parts.append("Does not run on memory pages of 16 KiB.")
    if not release.maintenance.maintained:
        parts.append(f"Not maintained: {release.maintenance.note.rstrip('.')}.")
    if release.backup.note:
        parts.append(f"Backup: {release.backup.note.rstrip('.')}.")
    if release.note:
        parts.append(f"{release.note.rstrip('.')}.")
    text = " ".join(" ".join(parts).split())
    # what looks like a command in docs is one to type
    return f"- `{release.name}`: {text.replace('`', '')}"


def _secrets_in_force(releases: Sequence[Release]) -> Iterator[str]:
    """What becomes of a new value of each Secret that has one, in words."""
    yield "## Secrets\n"
    yield "What brings a new value of a Secret into force, from left to right, with the deploy after it was replaced.\n"
    yield "| Secret | Release | Then |\n| --- | --- | --- |"
    waves = {
        f"{one.namespace}/{kind.lower()}/{name}": one.wave
        for one in releases
        for kind, _, name in (workload.partition("/") for workload in one.health)
    }
    for release in sorted(releases, key=lambda entry: entry.name):
        for secret in release.secrets:
            changing = [
                name for name, key in secret.keys.items() if key.rotates and key.kind not in ("static", "template")
            ]
            touching = touched(_together(releases, release), [(secret.name, name) for name in changing])
            ways = dict.fromkeys(way for _, owner in touching for way in owner.in_force_by)
            if changing:
                order = sorted(ways, key=lambda way: (_moment(way), waves.get(way.partition(" ")[0], 0)))
                yield _row((f"`{secret.name}`", f"`{release.name}`", "; ".join(order)))
    yield ""


def _together(releases: Sequence[Release], chosen: Release) -> list[Release]:
    """A release with all that can be on beside it."""
    rivals = set(chosen.provides)
    return [one for one in releases if one.name == chosen.name or not rivals & set(one.provides)]


def _moment(way: str) -> int:
    """The place of a way among others: operators, then servers, then their users."""
    return next(number for number, word in enumerate(("taken over", "is told", "is restarted")) if word in way)


def _contracts(releases: Sequence[Release]) -> Iterator[str]:
    yield "## Contracts\n"
    yield "What releases ask for without asking for one of a name; of those that fulfil a contract one can be on.\n"
    for contract in sorted({contract for release in releases for contract in release.provides}):
        yield f"### {contract}\n"
        yield "| Release | Profiles | Licence | What its users need to know |\n| --- | --- | --- | --- |"
        for release in sorted(releases, key=lambda entry: entry.name):
            if contract in release.provides:
                facts = ", ".join(f"{key} `{value}`" for key, value in release.provides[contract].items())
                licence = f"{release.licence.spdx}, {release.licence.verdict}"
                profiles = ", ".join(release.profiles) or "on request"
                yield _row((f"`{release.name}`", profiles, licence, facts or "nothing"))
        users = sorted(release.name for release in releases if contract in release.depends_on)
        yield f"\nUsed by {', '.join(users)}.\n" if users else ""


if __name__ == "__main__":
    sys.stdout.write(reference())
