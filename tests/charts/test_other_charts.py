"""Other people's charts, rendered with the values that we give them: those of a folder, and else the lab's stand-ins.

$PICLUSTEROPS_CHARTS is a folder with the real archives, `<chart>-<version>.tgz`, as `helm pull` fetches them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from harness import KUBE_VERSION, PLATFORM_APIS, PROFILES, Manifest, helm, platform

from piclusterops.catalogue import Profile, catalogue
from piclusterops.lab.charts import GIVEN, add_standin
from piclusterops.platform import Planned

#: Releases that Helm installs from elsewhere, by name and a profile that has them.
OTHERS = {
    (planned.name, profile): planned
    for profile in PROFILES
    for planned in platform(profile).releases
    if planned.release.source == "helm"
}
#: Kinds of `health` that charts make themselves; others are made by an operator.
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


def rendered(planned: Planned, folder: Path) -> list[Manifest]:
    """The manifests of a release, by the chart in that folder.

    Raises:
        AssertionError: Helm refuses chart or values.
    """
    assert planned.release.chart is not None
    answer = helm(
        *("template", planned.name, folder / planned.release.chart.archive),
        *("--namespace", str(planned.release.namespace), "--kube-version", KUBE_VERSION, "--values", "-"),
        *(f"--api-versions={api}" for api in PLATFORM_APIS),
        given=yaml.safe_dump(planned.values),
    )
    assert answer.returncode == 0, answer.stderr
    return [manifest for manifest in yaml.safe_load_all(answer.stdout) if manifest]


def lacking(planned: Planned, manifests: list[Manifest]) -> set[str]:
    """Workloads that the catalogue waits for, and that no manifest makes."""
    made = {f"{manifest['kind']}/{manifest['metadata']['name']}" for manifest in manifests}
    return {item for item in planned.release.health if item.split("/")[0] in WORKLOADS} - made


@pytest.fixture(scope="module")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stand-in for each of these charts, which knows the values that the real one knows."""
    folder = tmp_path_factory.mktemp("charts")
    for release in catalogue().values():
        if release.source == "helm":
            add_standin(folder, release)
    return folder


@pytest.mark.parametrize(("name", "profile"), OTHERS)
def test_stand_ins_take_our_values_and_make_what_we_wait_for(name: str, profile: Profile, standins: Path) -> None:
    planned = OTHERS[name, profile]
    assert lacking(planned, rendered(planned, standins)) == set()


@pytest.mark.parametrize(("name", "profile"), OTHERS)
def test_real_charts_take_our_values_and_make_what_we_wait_for(name: str, profile: Profile) -> None:
    planned, given = OTHERS[name, profile], os.environ.get(GIVEN)
    if not given:
        pytest.skip(f"${GIVEN} names no folder with real charts")
    assert planned.release.chart is not None
    if not (Path(given) / planned.release.chart.archive).is_file():
        pytest.skip(f"${GIVEN} has no {planned.release.chart.archive}")
    assert lacking(planned, rendered(planned, Path(given))) == set()


def test_a_workload_that_a_chart_does_not_make_is_found(standins: Path) -> None:
    planned = OTHERS["grafana", "named"]
    manifests = [manifest for manifest in rendered(planned, standins) if manifest["kind"] != "Deployment"]
    assert lacking(planned, manifests) == {"Deployment/grafana"}
