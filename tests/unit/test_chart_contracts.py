"""What we set of other people's charts is what these charts know.

A contract lists the paths of a chart's values.yaml and those that only its templates read. Helm ignores any other
path without a word, so that a misspelt one would be a setting that is not in force.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from k3s_samples import cluster

from piclusterops.catalogue import Release, catalogue
from piclusterops.platform import Platform, place, platform_of
from piclusterops.settings import Cluster

VARIABLE = "PICLUSTEROPS_CHART_CONTRACTS"
FOLDER = os.environ.get(VARIABLE)
pytestmark = pytest.mark.skipif(not FOLDER, reason=f"${VARIABLE} names no folder with contracts of charts")

_SEGMENT = re.compile(r'"([^"]*)"|\[(\d+)\]|([^."\[\]]+)')
#: Content that a chart hands on to Kubernetes, or writes into a file, as it is, though its values.yaml has some.
_FREE = re.compile(
    r"(.*[lL]abels|.*[aA]nnotations|nodeSelector|affinity|.*[sS]trategy|.*[sS]ecurityContext|.*Probe|httpGet"
    r"|catalogs|fileConfigs)"
)
_RESOURCES = {"resources": {"limits", "requests"}, "limits": {"cpu", "memory"}, "requests": {"cpu", "memory"}}
#: What templates read in a way that the making of the contract missed; seen in the templates themselves.
_ALSO_READ = {
    # with or ((.Values.spec).podTemplate) (.Values.podTemplate), and the same for http; in templates/kibana.yaml
    "eck-stack": ["eck-kibana.podTemplate", "eck-kibana.http", "eck-kibana.fullnameOverride"],
    # toYaml of all but some keys, in templates/_bootstrap.tpl
    "cluster": [f"cluster.initdb.{key}" for key in ("database", "secret", "dataChecksums", "encoding")],
}
#: A file of sections, written as it is.
_GRAFANA_INI = "grafana.ini"


class _Known(dict[str, "_Known"]):
    """The keys that are known below a path; anything may be below one without keys."""

    def add(self, path: str) -> None:
        here = self
        for quoted, index, plain in _SEGMENT.findall(path):
            if index:
                return
            here = here.setdefault(quoted or plain, _Known())


@cache
def contracts() -> dict[str, dict[str, Any]]:
    """All contracts, by the name that the chart has in its repository."""
    read = [json.loads(path.read_text()) for path in sorted(Path(FOLDER or "").glob("*.json"))]
    # of charts of one name the one that is not called after its maker comes first
    return {one["name_in_repo"]: one for one in sorted(read, key=lambda one: -len(one["chart"]))}


@cache
def known(chart: str) -> _Known:
    """What is known of a chart's values."""
    contract = contracts()[chart]
    tree = _Known()
    for path in contract["keys"]:
        tree.add(path)
    for path in [*contract["template_only_keys"], *_ALSO_READ.get(chart, [])]:
        tree.add(path)
    for dependency in contract["dependencies"]:
        for path in contracts().get(dependency["name"], {}).get("template_only_keys", []):
            tree.add(f"{dependency['name']}.{path}")
    return tree


def unknown(values: Mapping[str, Any], below: _Known, path: str = "") -> Iterator[str]:
    """The paths of values that a chart does not know."""
    last = path.rpartition(".")[2]
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if key in below:
            if isinstance(value, Mapping) and below[key] and key != _GRAFANA_INI:
                yield from unknown(value, below[key], here)
        elif not _FREE.fullmatch(last) and key not in _RESOURCES.get(last, ()):
            yield here


CLUSTERS: dict[str, Cluster] = {
    f"{profile}-{size}": cluster(
        roles[:size],
        platform_profile=profile,
        service_addresses={"trino": "192.168.0.201", "grafana": "192.168.0.202"} if size == 4 else {},
        # what is on only when asked for
        platform_releases={
            name: {"enabled": True}
            for name in ("csi-driver-nfs", "nfs-server", "longhorn", "external-dns", "code-server")
            if profile != "minimal"
        },
    )
    for profile in ("named", "clean", "minimal")
    for size, roles in ((4, ("master", "worker", "data_node", "data_node")), (1, ("master",)))
}


@cache
def platform(name: str) -> Platform:
    return platform_of(CLUSTERS[name])


def others(name: str) -> list[tuple[Release, dict[str, Any]]]:
    return [(one.release, one.values) for one in platform(name).releases if one.release.source == "helm"]


@pytest.mark.parametrize("name", CLUSTERS)
def test_charts_know_every_value_that_we_set(name: str) -> None:
    strange = {
        release.name: paths
        for release, values in others(name)
        if release.chart and (paths := list(unknown(values, known(release.chart.name))))
    }
    assert strange == {}


@pytest.mark.parametrize(
    "release", [one for one in catalogue().values() if one.source == "helm"], ids=lambda release: release.name
)
def test_the_catalogue_has_the_charts_that_the_contracts_are_of(release: Release) -> None:
    assert release.chart is not None
    contract = contracts()[release.chart.name]
    assert release.chart.version == contract["version"]
    repository = release.chart.repository or ""
    if repository.startswith("oci://"):
        repository = f"{repository}/{release.chart.name}"
    if "git only" not in contract["repo"] and "helm/" not in contract["repo"]:
        assert contract["repo"].split(" ")[0] == repository
    if contract["appVersion"] not in (None, "None"):
        # an application that is newer than its chart is pinned by the values
        assert release.chart.app_version.lstrip("v") == contract["appVersion"].lstrip("v") or release.name in {"minio"}


def _paths(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, Mapping):
            yield from _paths(value, (*path, key))


def test_a_misspelt_value_is_found() -> None:
    """Each key of each release, at the top and one below it, with a letter too many."""
    missed = []
    for release, values in others("named-4") + others("clean-4"):
        assert release.chart is not None
        for path in _paths(values):
            if len(path) > 2 or _is_free(release, path):
                continue
            wrong = deepcopy(values)
            here = wrong
            for segment in path[:-1]:
                here = here[segment]
            here[f"{path[-1]}x"] = here.pop(path[-1])
            expected = ".".join([*path[:-1], f"{path[-1]}x"])
            if expected not in list(unknown(wrong, known(release.chart.name))):
                missed.append((release.name, expected))
    assert missed == []


def _is_free(release: Release, path: tuple[str, ...]) -> bool:
    """Whether anything may be said at a path: below what the contract knows as empty, or hands on."""
    assert release.chart is not None
    here = known(release.chart.name)
    for segment in path[:-1]:
        if segment not in here or not here[segment] or _FREE.fullmatch(segment) or segment == _GRAFANA_INI:
            return True
        here = here[segment]
    return False


def test_nearly_all_of_what_we_set_can_be_found_wrong() -> None:
    """The rule of empty defaults leaves few keys of the first two levels without a check."""
    checked = [
        not _is_free(release, path)
        for release, values in others("named-4")
        for path in _paths(values)
        if len(path) <= 2
    ]
    assert sum(checked) / len(checked) > 0.75


def test_places_are_the_clusters_own() -> None:
    """What the contracts can't see: nodes in the values are nodes of the cluster."""
    given = CLUSTERS["named-4"]
    for release, values in others("named-4"):
        assert set(_hostnames(values)) <= set(place(given, release)), release.name


def _hostnames(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "kubernetes.io/hostname":
                yield inner
            else:
                yield from _hostnames(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _hostnames(inner)
