"""Our own charts, rendered by the real Helm: what all tests of charts stand on.

It works on every folder of `files/charts`; a new chart is tested by being there.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import tools
import yaml
from unit.k3s_samples import cluster

from piclusterops.catalogue import Profile, catalogue
from piclusterops.platform import Planned, Platform, platform_of
from piclusterops.settings import DEFAULT_K3S_VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "files/charts"
GOLDEN = Path(__file__).parent / "golden"
#: The Kubernetes that charts are rendered for: that of the default K3s.
KUBE_VERSION = DEFAULT_K3S_VERSION.lstrip("v").split("+")[0]
#: Profiles that have data releases; what `minimal` has of them, `named` has too.
PROFILES: tuple[Profile, ...] = ("named", "clean")
#: APIs of the custom resources that the platform brings before our own charts.
PLATFORM_APIS = (
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
)
#: The parser in C is many times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Kinds with pods, and where these are described.
_POD_PATHS: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
#: Kinds whose pods run all the time, and so have probes.
LASTING = ("Deployment", "StatefulSet", "DaemonSet")
#: The home lab, with addresses for everything that can have one.
ADDRESSES = {
    name: f"192.168.0.{number}"
    for number, name in enumerate(
        ("traefik", "nifi", "trino", "grafana", "jupyterlab", "krakend", "kibana", "code-server"), 200
    )
}

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One of our charts."""

    name: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return FOLDER / self.name

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Its Chart.yaml."""
        return load(self.folder / "Chart.yaml")

    @cached_property
    def values(self) -> dict[str, Any]:
        """Its default values."""
        return load(self.folder / "values.yaml")

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of its values."""
        found: dict[str, Any] = json.loads((self.folder / "values.schema.json").read_text(encoding="utf-8"))
        return found

    def read(self, name: str) -> str:
        """The text of a file in it."""
        return (self.folder / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Pod:
    """The description of a pod in a manifest."""

    owner: Manifest
    metadata: Manifest
    spec: Manifest

    @property
    def name(self) -> str:
        """What to call it in a message: `Deployment/krakend`."""
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def lasting(self) -> bool:
        """Whether it runs all the time."""
        return self.owner["kind"] in LASTING

    @property
    def containers(self) -> list[Manifest]:
        """Its containers, but those that run before them."""
        return list(self.spec["containers"])

    @property
    def all_containers(self) -> list[Manifest]:
        """All its containers."""
        return [*self.spec.get("initContainers", []), *self.containers]


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict), path
    return found


def charts() -> tuple[Chart, ...]:
    """All our charts, by name."""
    return tuple(Chart(path.parent.name) for path in sorted(FOLDER.glob("*/Chart.yaml")))


def charts_with_a_release() -> tuple[Chart, ...]:
    """Those that the catalogue installs."""
    return tuple(chart for chart in charts() if chart.name in catalogue())


@cache
def platform(profile: Profile = "named", published: bool = True) -> Platform:
    """The home lab's platform in a profile: also our releases on demand, and with addresses where there can be one."""
    asked = {chart.name: {"enabled": True} for chart in charts_with_a_release() if not catalogue()[chart.name].profiles}
    return platform_of(
        cluster(
            ("master", "worker", "data_node", "data_node"),
            platform_profile=profile,
            platform_releases=asked,
            metallb_pool="192.168.0.200-192.168.0.250",
            vpn_cidr="10.8.0.0/24",
            service_addresses=ADDRESSES if published else {},
        )
    )


def planned(name: str, profile: Profile = "named", published: bool = True) -> Planned:
    """A release as the home lab gets it in a profile."""
    return platform(profile, published).planned(name)


def helm(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """What Helm says to a command; it looks at no cluster and no configuration of its user."""
    environment = {"HOME": "/nonexistent", "KUBECONFIG": "/dev/null", "PATH": "/usr/bin:/bin"}
    command = [str(tools.helm()), *map(str, arguments)]
    return subprocess.run(
        command, input=given, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def lint(chart: Chart, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """What `helm lint --strict` says of a chart with these values."""
    return helm(
        *("lint", "--strict", "--kube-version", KUBE_VERSION, chart.folder, "--values", "-"),
        given=yaml.safe_dump(dict(values or {})),
    )


def render(
    chart: Chart,
    values: Mapping[str, Any] | None = None,
    *,
    release: str = "",
    namespace: str = "tests",
    apis: Sequence[str] = PLATFORM_APIS,
) -> subprocess.CompletedProcess[str]:
    """What `helm template` says of a chart with these values, in a cluster that has these APIs besides its own."""
    options = [f"--api-versions={api}" for api in apis]
    return helm(
        *("template", release or chart.name, chart.folder, "--namespace", namespace),
        *("--kube-version", KUBE_VERSION, *options, "--values", "-"),
        given=yaml.safe_dump(dict(values or {})),
    )


def template(chart: Chart, values: Mapping[str, Any] | None = None, **options: Any) -> list[Manifest]:
    """The manifests of a chart; see `render`.

    Raises:
        AssertionError: it can't be rendered with these values.
    """
    return list(_template(chart, json.dumps(values or {}), **{name: _frozen(one) for name, one in options.items()}))


def template_planned(release: Planned, **options: Any) -> list[Manifest]:
    """The manifests of one of our releases, as the platform installs it."""
    chart = release.release.chart
    assert chart is not None
    given = {"release": release.name, "namespace": release.release.namespace, **options}
    return template(Chart(chart.name), release.values, **given)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@cache
def _template(chart: Chart, values: str, **options: Any) -> tuple[Manifest, ...]:
    answer = render(chart, json.loads(values), **options)
    assert answer.returncode == 0, answer.stderr
    return tuple(manifest for manifest in yaml.load_all(answer.stdout, Loader=_LOADER) if manifest)


def of_kind(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one manifest of a kind, and of a name where there are several.

    Raises:
        AssertionError: there is none, or there are several.
    """
    found = [
        manifest for manifest in manifests if manifest["kind"] == kind and name in (None, manifest["metadata"]["name"])
    ]
    assert len(found) == 1, f"{len(found)} of kind {kind}: {[one['metadata']['name'] for one in found]}"
    return found[0]


def pods(manifests: Sequence[Manifest]) -> Iterator[Pod]:
    """All pods that manifests describe, those of tests and jobs too."""
    for manifest in manifests:
        path = _POD_PATHS.get(manifest["kind"])
        if path is None:
            continue
        described = manifest
        for step in path:
            described = described[step]
        yield Pod(manifest, described["metadata"], described["spec"])


def is_test(manifest: Manifest) -> bool:
    """Whether `helm test` runs it."""
    return "test" in str(manifest["metadata"].get("annotations", {}).get("helm.sh/hook", "")).split(",")
