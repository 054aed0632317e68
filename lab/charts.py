"""Charts for a lab: given ones, and stand-ins for all the others that the release catalogue takes from elsewhere.

A stand-in has the name, version and values' schema of the chart that it stands for, the custom resource definitions
that other releases need, and workloads with the names, requests, volumes and Secrets that the catalogue says. Its
templates are in ``standin_chart/``.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from piclusterops.catalogue import Chart, Pods, Release
from piclusterops.lab import contracts
from piclusterops.lab.k3s import crds

#: A folder with real charts, ``<chart>-<version>.tgz``, that are taken where they are.
GIVEN = "PICLUSTEROPS_CHARTS"
_HERE = Path(__file__).parent
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


def add_charts(folder: Path, releases: dict[str, Release]) -> list[str]:
    """Put the charts of `releases` that come from a repository into `folder`; returns which are stand-ins."""
    given = os.environ.get(GIVEN)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    standins = []
    for release in releases.values():
        if release.source != "helm" or release.chart is None:
            continue
        real = Path(given) / release.chart.archive if given else None
        if real and real.is_file():
            shutil.copyfile(real, folder / release.chart.archive)
        else:
            add_standin(folder, release)
            standins.append(release.name)
    return standins


def add_standin(folder: Path, release: Release, version: str | None = None) -> Path:
    """Write the stand-in of a release's chart to `folder`, perhaps as if it were another version of it.

    Raises:
        ValueError: the release has no chart.
    """
    if release.chart is None:
        raise ValueError(f"{release.name} has no chart")
    chart = release.chart.model_copy(update={"version": version}) if version else release.chart
    target = folder / chart.archive
    target.write_bytes(pack(chart.name, standin(release, chart)))
    return target


def pack(name: str, files: dict[str, str]) -> bytes:
    """A chart's archive; the same files give the same bytes."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in sorted(files, key=lambda path: (path != "Chart.yaml", path)):
            content = files[path].encode()
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def standin(release: Release, chart: Chart) -> dict[str, str]:
    """The files of the stand-in for a release's chart."""
    files = {f"templates/{path.name}": path.read_text() for path in (_HERE / "standin_chart/templates").iterdir()}
    files["Chart.yaml"] = _yaml(
        {
            "apiVersion": "v2",
            "name": chart.name,
            "version": chart.version,
            "appVersion": chart.app_version,
            "description": f"Stand-in of the PiClusterOps lab for the chart {chart.name}; no program runs in its pods.",
        }
    )
    files["values.yaml"] = "{}\n"
    files["standin.yaml"] = _yaml(content(release))
    if known := _contracts().get(chart.name):
        files["values.schema.json"] = json.dumps(contracts.schema(known, _contracts()))
    for definition in crds.definitions(_brought().get(chart.name, {})):
        files[f"crds/{definition['metadata']['name']}.yaml"] = _yaml(definition)
    return files


def _yaml(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False)


@cache
def _brought() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = yaml.safe_load((_HERE / "crds.yaml").read_text())
    return found


def _contracts() -> dict[str, dict[str, Any]]:
    where = contracts.folder()
    return contracts.contracts(where) if where else {}


def content(release: Release) -> dict[str, Any]:
    """What the stand-in's templates make objects of: workloads, and claims that are no workload's own."""
    works = workloads(release)
    claims = []
    for volume in release.volumes:
        size = f"{volume.size_gib}Gi"
        for work in works:
            owned = re.fullmatch(rf"(.+)-{re.escape(work['name'])}-(0|\*)", volume.claim)
            if work["kind"] == "StatefulSet" and owned:
                work["templates"].append({"volume": owned[1], "size": size})
                break
        else:
            claim = volume.claim.replace("*", "0")
            claims.append({"claim": claim, "size": size})
            for work in [work for work in works if work["kind"] != "DaemonSet"][:1]:
                work["claims"].append({"volume": f"claim-{len(work['claims'])}", "claim": claim})
    for number, secret in enumerate(release.secrets):
        if works:
            works[0]["secrets"].append({"volume": f"secret-{number}", "secret": secret.name})
    return {"workloads": works, "claims": claims}


def workloads(release: Release) -> list[dict[str, Any]]:
    """One workload for each that must be healthy, and for each kind of pods that none of these stands for."""
    wanted = [item.split("/") for item in release.health if item.split("/")[0] in _WORKLOADS]
    left = list(release.pods)
    pods_of: dict[str, Pods] = {}
    for fits in (_is_named, _is_like):
        for kind, name in wanted:
            found = next((pods for pods in left if name not in pods_of and fits(kind, name, pods)), None)
            if found:
                pods_of[name] = found
                left.remove(found)
    nothing = Pods(name="none", memory_mib=0, memory_limit_mib=0, cpu_m=0)
    made = [_workload(kind, name, pods_of.get(name, nothing), release) for kind, name in wanted]
    for pods in left:
        kind = "DaemonSet" if pods.on == "every" else "Deployment"
        name = pods.name if pods.name.startswith(release.name) else f"{release.name}-{pods.name}"
        made.append(_workload(kind, name, pods, release))
    return made


def _is_named(kind: str, name: str, pods: Pods) -> bool:
    return name == pods.name or name.endswith(f"-{pods.name}")


def _is_like(kind: str, name: str, pods: Pods) -> bool:
    return (kind == "DaemonSet") == (pods.on == "every")


def _workload(kind: str, name: str, pods: Pods, release: Release) -> dict[str, Any]:
    resources: dict[str, Any] = {"requests": {"cpu": f"{pods.cpu_m}m", "memory": f"{pods.memory_mib}Mi"}}
    if pods.memory_limit_mib:
        resources["limits"] = {"memory": f"{pods.memory_limit_mib}Mi"}
    return {
        "kind": kind,
        "name": name,
        "on": "every" if kind == "DaemonSet" else pods.on,
        "role": release.place.role,
        "resources": resources,
        "claims": [],
        "templates": [],
        "secrets": [],
    }
