"""Stand-in charts of the lab: what they hold, and what Helm makes of them."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import tools
import yaml

from piclusterops.catalogue import Release, catalogue
from piclusterops.lab import charts, contracts

LICENCE = {"spdx": "Apache-2.0", "source": "its LICENSE"}
POD = {"memory_mib": 64, "memory_limit_mib": 128, "cpu_m": 50}


def release(**given: Any) -> Release:
    """A release of someone else's chart."""
    data: dict[str, Any] = {
        "name": "store",
        "title": "A store",
        "chart": {"name": "store", "version": "1.2.3", "repository": "https://charts.example", "app_version": "9.9"},
        "namespace": "object-store",
        "licence": LICENCE,
        "maintenance": {"maintained": True, "note": "yes"},
        "arm64": "yes",
        "place": {"role": "data_node"},
        "pods": [{"name": "server", **POD}, {"name": "agent", **POD, "on": "every"}],
        "health": ["StatefulSet/store", "DaemonSet/store-agent"],
        "volumes": [{"claim": "data-store-0", "size_gib": 20}, {"claim": "backups", "size_gib": 5}],
        "secrets": [{"name": "store-root", "keys": {"password": {"kind": "password"}}}],
    }
    return Release.model_validate({**data, **given})


def rendered(tmp_path: Path, the_release: Release, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What `helm template` makes of its stand-in, by kind and name."""
    archive = charts.add_standin(tmp_path, the_release)
    done = template(archive, values)
    assert done.returncode == 0, done.stderr
    documents = [item for item in yaml.safe_load_all(done.stdout) if item]
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in documents}


def template(archive: Path, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [tools.helm(), "template", "store", archive, "--namespace", "object-store", "--values", "-"]
    return subprocess.run(command, input=yaml.safe_dump(values), text=True, capture_output=True, check=False)


def test_the_same_release_gives_the_same_bytes(tmp_path: Path) -> None:
    first = charts.add_standin(tmp_path, release()).read_bytes()
    assert charts.add_standin(tmp_path, release()).read_bytes() == first
    assert charts.add_standin(tmp_path, release(), "1.3.0").name == "store-1.3.0.tgz"


def test_a_stand_in_says_that_it_is_one(tmp_path: Path) -> None:
    with tarfile.open(charts.add_standin(tmp_path, release())) as archive:
        member = archive.extractfile("store/Chart.yaml")
        assert member is not None
        chart = yaml.safe_load(member.read())
    assert (chart["name"], chart["version"], chart["appVersion"]) == ("store", "1.2.3", "9.9")
    assert chart["description"].startswith("Stand-in of the PiClusterOps lab")


def test_workloads_have_the_names_requests_volumes_and_secrets_of_the_catalogue(tmp_path: Path) -> None:
    made = rendered(tmp_path, release(), {"server": {"nodeSelector": {"kubernetes.io/hostname": "pi-worker-3"}}})
    assert set(made) == {"StatefulSet/store", "DaemonSet/store-agent", "PersistentVolumeClaim/backups"}
    store = made["StatefulSet/store"]["spec"]
    pod = store["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "pi-worker-3"}
    assert pod["containers"][0]["image"] == "standin.invalid/store:9.9"
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"memory": "128Mi"},
    }
    assert store["volumeClaimTemplates"][0]["metadata"]["name"] == "data"
    assert store["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert pod["volumes"] == [
        {"name": "claim-0", "persistentVolumeClaim": {"claimName": "backups"}},
        {"name": "secret-0", "secret": {"secretName": "store-root"}},
    ]
    assert "nodeSelector" not in made["DaemonSet/store-agent"]["spec"]["template"]["spec"]
    assert made["PersistentVolumeClaim/backups"]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_pods_that_no_health_check_names_are_there_too(tmp_path: Path) -> None:
    pods = [{"name": "worker", **POD, "on": "role"}, {"name": "controller", **POD}, {"name": "proxy", **POD}]
    made = rendered(
        tmp_path, release(pods=pods, volumes=[], health=["Deployment/store", "Deployment/store-worker"]), {}
    )
    assert set(made) == {"Deployment/store", "Deployment/store-worker", "Deployment/store-proxy"}
    worker = made["Deployment/store-worker"]["spec"]["template"]["spec"]
    assert worker["nodeSelector"] == {"piclusterops.io/role": "data_node"}


def test_a_changed_value_changes_the_pods(tmp_path: Path) -> None:
    def stamps(values: dict[str, Any]) -> set[str]:
        made = rendered(tmp_path, release(), values)
        pods = [made[name]["spec"]["template"] for name in ("StatefulSet/store", "DaemonSet/store-agent")]
        return {pod["metadata"]["annotations"]["standin.piclusterops.io/values"] for pod in pods}

    assert len(stamps({"a": 1})) == 1
    assert stamps({"a": 1}) == stamps({"a": 1}) != stamps({"a": 2})


def test_deployments_are_replaced_as_the_values_say(tmp_path: Path) -> None:
    one = release(health=["Deployment/store"], volumes=[])
    for values, strategy in (
        ({}, None),
        ({"server": {"deployment": {"strategy": {"type": "Recreate"}}}}, {"type": "Recreate"}),
        ({"deploymentUpdate": {"type": "RollingUpdate"}}, None),
    ):
        assert rendered(tmp_path, one, values)["Deployment/store"]["spec"].get("strategy") == strategy


@pytest.mark.parametrize("image", ["fail.invalid/crashloopbackoff", "no-such-image.invalid/store:1"])
def test_a_failing_image_anywhere_in_the_values_is_the_one_of_the_pods(tmp_path: Path, image: str) -> None:
    made = rendered(tmp_path, release(), {"main": {"image": {"repository": image}}})
    assert made["StatefulSet/store"]["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_services_of_type_load_balancer_in_the_values_are_made(tmp_path: Path) -> None:
    asked = {"metallb.io/loadBalancerIPs": "10.0.0.9"}
    values = {"api": {"service": {"type": "LoadBalancer", "annotations": asked}}, "ui": {"type": "LoadBalancer"}}
    made = rendered(tmp_path, release(), values)
    assert made["Service/store"]["metadata"]["annotations"] == asked
    assert made["Service/store-1"]["spec"]["type"] == "LoadBalancer"


def test_objects_in_the_values_are_made(tmp_path: Path) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {"a": "b"}}
    written = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text'}"
    made = rendered(tmp_path, release(), {"extraObjects": [config], "sub": {"extraManifests": [written]}})
    assert made["ConfigMap/mine"] == config
    assert "ConfigMap/store-text" in made


def test_the_schema_of_the_contract_refuses_a_misspelt_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = {
        "chart": "store",
        "keys": ["server", "server.image", "server.nodeSelector", "server.tolerations[0].key", "labels", "labels.app"],
        "template_only_keys": ["server.existingSecret"],
    }
    (tmp_path / "store.json").write_text(json.dumps(contract))
    monkeypatch.setenv(contracts.VARIABLE, str(tmp_path))
    archive = charts.add_standin(tmp_path, release())
    good = {"image": {"tag": "1"}, "nodeSelector": {"a": "b"}, "existingSecret": "s", "tolerations": [{"key": "k"}]}
    assert template(archive, {"server": good, "labels": {"mine": "yes"}}).returncode == 0
    bad = template(archive, {"server": {"nodeSelektor": {"a": "b"}}})
    assert bad.returncode != 0
    assert "nodeSelektor" in bad.stderr


def test_given_charts_are_taken_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "store-1.2.3.tgz").write_bytes(b"the real one")
    monkeypatch.setenv(charts.GIVEN, str(given))
    other = release(name="other", chart={**release().chart.model_dump(), "name": "other"})  # type: ignore[union-attr]
    own = release(name="own", source="own")
    assert charts.add_charts(tmp_path / "mirror", {r.name: r for r in (release(), other, own)}) == ["other"]
    assert sorted(path.name for path in (tmp_path / "mirror").iterdir()) == ["other-1.2.3.tgz", "store-1.2.3.tgz"]
    assert (tmp_path / "mirror/store-1.2.3.tgz").read_bytes() == b"the real one"


def test_every_definition_belongs_to_a_chart_of_the_catalogue() -> None:
    known = {item.chart.name for item in catalogue().values() if item.chart}
    brought = yaml.safe_load((Path(charts.__file__).parent / "crds.yaml").read_text())
    assert set(brought) <= known


def test_charts_with_definitions_are_valid_for_helm(tmp_path: Path) -> None:
    chart = {**release().chart.model_dump(), "name": "metallb"}  # type: ignore[union-attr]
    archive = charts.add_standin(tmp_path, release(chart=chart))
    shown = subprocess.run([tools.helm(), "show", "crds", archive], text=True, capture_output=True, check=True).stdout
    names = [item["metadata"]["name"] for item in yaml.safe_load_all(shown) if item]
    assert "ipaddresspools.metallb.io" in names
    subprocess.run([tools.helm(), "lint", "--strict", archive], check=True, capture_output=True)
