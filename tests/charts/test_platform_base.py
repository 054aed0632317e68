"""platform-base: namespaces, roles, quotas, storage classes and names, as the platform installs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import Chart, Manifest, load, of_kind, planned, pods, render, template, template_planned

CHART = Chart("platform-base")


def manifests(**values: Any) -> list[Manifest]:
    """What is installed with other values than the chart's own."""
    return template(CHART, values, release="platform-base", namespace="kube-system")


def names(rendered: list[Manifest], kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in rendered if one["kind"] == kind}


# -- namespaces ------------------------------------------------------------------------------------------------


def test_namespaces_outlive_the_release_and_say_their_zone() -> None:
    for namespace in (one for one in manifests() if one["kind"] == "Namespace"):
        metadata = namespace["metadata"]
        assert metadata["annotations"]["helm.sh/resource-policy"] == "keep"
        assert metadata["labels"]["piclusterops.io/zone"] in ("dmz", "internal", "restricted", "system")
        for mode in ("enforce", "audit", "warn"):
            assert metadata["labels"][f"pod-security.kubernetes.io/{mode}"] in ("privileged", "baseline", "restricted")


def test_what_falls_short_of_restricted_is_seen_where_it_is_not_refused() -> None:
    for namespace in (one for one in manifests() if one["kind"] == "Namespace"):
        labels = namespace["metadata"]["labels"]
        if labels["pod-security.kubernetes.io/enforce"] == "baseline":
            assert labels["pod-security.kubernetes.io/warn"] == "restricted"
            assert labels["pod-security.kubernetes.io/audit"] == "restricted"


def test_the_namespace_of_the_release_is_none_that_it_makes() -> None:
    """Helm keeps its record of the release there before it makes anything."""
    assert planned("platform-base").release.namespace not in names(manifests(), "Namespace")


def test_nothing_of_the_restricted_zone_can_be_published() -> None:
    for namespace in ("databases", "vault"):
        (quota,) = (
            one for one in manifests() if one["kind"] == "ResourceQuota" and one["metadata"]["namespace"] == namespace
        )
        assert quota["spec"]["hard"] == {"services.loadbalancers": "0", "services.nodeports": "0"}


def test_containers_without_limits_get_some_where_people_make_pods() -> None:
    limits = {one["metadata"]["namespace"]: one["spec"]["limits"] for one in manifests() if one["kind"] == "LimitRange"}
    assert set(limits) == {"data-platform", "dmz"}
    for (limit,) in limits.values():
        assert limit["type"] == "Container" and "memory" in limit["default"] and "cpu" not in limit["default"]


# -- roles -----------------------------------------------------------------------------------------------------


def bindings(rendered: list[Manifest]) -> dict[tuple[str, str], set[str]]:
    """Roles by where they hold (a namespace, or everywhere: `*`) and who has them."""
    found: dict[tuple[str, str], set[str]] = {}
    for one in rendered:
        if one["kind"] in ("ClusterRoleBinding", "RoleBinding"):
            where = one["metadata"].get("namespace", "*")
            for subject in one["subjects"]:
                who = subject["name"] if subject["kind"] == "Group" else f"{subject['namespace']}/{subject['name']}"
                found.setdefault((where, who), set()).add(one["roleRef"]["name"])
    return found


def test_groups_have_their_roles_and_no_others() -> None:
    assert bindings(manifests()) == {
        ("*", "piclusterops:admins"): {"cluster-admin"},
        ("*", "piclusterops:developers"): {"view", "piclusterops:platform-reader"},
        ("data-platform", "piclusterops:developers"): {"edit"},
        ("*", "piclusterops:guests"): {"piclusterops:whoami"},
    }


def test_developers_see_no_secret_elsewhere_and_change_nothing() -> None:
    rules = of_kind(manifests(), "ClusterRole", "piclusterops:platform-reader")["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} <= {"get", "list", "watch"}
    assert "secrets" not in {resource for rule in rules for resource in rule["resources"]}
    everything = [rule["apiGroups"] for rule in rules if "*" in rule["resources"]]
    assert all(group.endswith(".toolkit.fluxcd.io") for groups in everything for group in groups)


def test_guests_may_ask_who_they_are_and_nothing_else() -> None:
    rules = of_kind(manifests(), "ClusterRole", "piclusterops:whoami")["rules"]
    assert {(verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]} == {
        ("create", "selfsubjectreviews"),
        ("create", "selfsubjectaccessreviews"),
        ("create", "selfsubjectrulesreviews"),
    }


def test_accounts_have_the_role_of_their_group_and_a_token_only_when_asked_for() -> None:
    accounts = [{"name": "ci", "role": "developer", "token": True}, {"name": "look", "role": "guest"}]
    rendered = manifests(rbac={"accounts": accounts})
    assert names(rendered, "ServiceAccount") == {"ci", "look"}
    found = bindings(rendered)
    assert found["*", "platform-system/ci"] == {"view", "piclusterops:platform-reader"}
    assert found["data-platform", "platform-system/ci"] == {"edit"}
    assert found["*", "platform-system/look"] == {"piclusterops:whoami"}
    token = of_kind(rendered, "Secret")
    assert token["metadata"]["annotations"]["kubernetes.io/service-account.name"] == "ci"
    assert token["type"] == "kubernetes.io/service-account-token" and "data" not in token


# -- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rbac": {"groups": {"admin": "system:masters"}}}, "/rbac/groups/admin"),
        ({"rbac": {"accounts": [{"name": "x", "role": "root"}]}}, "/rbac/accounts/0/role"),
        ({"namespaces": {"x": {"zone": "secret", "enforce": "restricted"}}}, "/namespaces/x/zone"),
        ({"namespaces": {"x": {"zone": "internal"}}}, "enforce"),
        ({"coredns": {"hosts": {"x": "somewhere"}}}, "/coredns/hosts/x"),
        ({"storageClasses": {"classes": {"local-retain": {"reclaimPolicy": "Recycle"}}}}, "reclaimPolicy"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any], said: str) -> None:
    answer = render(CHART, values)
    assert answer.returncode != 0
    assert said in answer.stderr


def test_names_need_a_domain() -> None:
    answer = render(CHART, {"coredns": {"hosts": {"nifi": "192.168.0.201"}}})
    assert answer.returncode != 0 and "coredns.hosts needs coredns.domain" in answer.stderr


# -- storage ---------------------------------------------------------------------------------------------------


def test_volumes_that_are_backed_up_are_of_the_kind_that_velero_reads() -> None:
    """Its file-system backup leaves out hostPath volumes, which local-path makes unless it is told otherwise."""
    classes = {one["metadata"]["name"]: one for one in manifests() if one["kind"] == "StorageClass"}
    for name, one in classes.items():
        assert one["metadata"]["annotations"]["defaultVolumeType"] == "local", name
        assert one["volumeBindingMode"] == "WaitForFirstConsumer", name
    assert classes["local-retain"]["reclaimPolicy"] == "Retain"
    labels = {name: one["metadata"]["labels"]["piclusterops.io/backup"] for name, one in classes.items()}
    assert labels == {"local-retain": "file-system", "local-backup": "file-system", "local-scratch": "none"}


def test_classes_that_releases_ask_for_are_there() -> None:
    classes = {*names(manifests(), "StorageClass"), "local-path", "longhorn"}
    folder = Path(__file__).resolve().parents[2] / "files/platform/values"
    asked = {
        word.strip(" ,[]}\"'")
        for path in folder.glob("*.j2")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "storageClass" in line and "provided" not in line and not line.lstrip().startswith("#")
        for word in [line.partition("storageClass")[2].partition(":")[2].split(",")[0]]
    }
    assert {word for word in asked if word} <= classes


# -- K3s' own: CoreDNS and Traefik -----------------------------------------------------------------------------


def test_pods_resolve_nodes_published_services_and_dashboards() -> None:
    served = of_kind(template_planned(planned("platform-base")), "ConfigMap")["data"]["platform.server"]
    hosts = dict(line.split()[::-1] for line in served.splitlines() if line.strip().startswith("192."))
    assert hosts["pi-master.home.arpa"] == "192.168.0.120"
    assert hosts["nifi.home.arpa"] == "192.168.0.201", "an address of its own goes before Traefik's"
    assert hosts["auth.home.arpa"] == hosts["traefik.home.arpa"] == "192.168.0.200"
    assert served.splitlines()[0] == "home.arpa:53 {" and "fallthrough" in served and "forward ." in served


def test_other_zones_go_to_their_own_servers() -> None:
    rendered = manifests(coredns={"zones": {"corp.example": ["10.0.0.2", "10.0.0.3"]}})
    data = of_kind(rendered, "ConfigMap")["data"]
    assert list(data) == ["corp.example.server"]
    assert "forward . 10.0.0.2 10.0.0.3" in data["corp.example.server"]


@pytest.mark.parametrize(
    "values", [{"coredns": {"enabled": False, "domain": "a.b", "hosts": {"x": "10.0.0.1"}}}, {"coredns": {"hosts": {}}}]
)
def test_without_coredns_or_names_there_is_nothing_to_say_to_it(values: dict[str, Any]) -> None:
    assert names(manifests(**values), "ConfigMap") == set()


def test_the_lookup_of_helm_test_tells_right_from_wrong() -> None:
    (pod,) = pods(template_planned(planned("platform-base")))
    script = pod.containers[0]["args"][0]

    def look_up(name: str, address: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, json.dumps({name: address})]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert look_up("localhost", "127.0.0.1").returncode == 0
    wrong = look_up("localhost", "192.168.0.201")
    assert wrong.returncode != 0 and "localhost is 127.0.0.1, not 192.168.0.201" in wrong.stderr


def test_traefik_is_told_only_what_its_chart_knows() -> None:
    folder = os.environ.get("PICLUSTEROPS_CHART_CONTRACTS")
    if not folder or not (Path(folder) / "traefik.json").is_file():
        pytest.skip("$PICLUSTEROPS_CHART_CONTRACTS names no folder with the contract of Traefik's chart")
    contract = load(Path(folder) / "traefik.json")
    known = {*contract["keys"], *contract["template_only_keys"]}
    config = of_kind(template_planned(planned("platform-base")), "HelmChartConfig")
    values = yaml.safe_load(config["spec"]["valuesContent"])
    open_maps = ("resources", "tlsOptions", "service.annotations", "service.spec")
    paths = [path for path in _paths(values) if not path.startswith(tuple(f"{one}." for one in open_maps))]
    assert paths and [path for path in paths if path not in known] == []


def _paths(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += _paths(value, f"{prefix}{key}.")
    return found


def test_traefik_keeps_its_address_and_sees_who_asks() -> None:
    values = yaml.safe_load(
        of_kind(template_planned(planned("platform-base")), "HelmChartConfig")["spec"]["valuesContent"]
    )
    assert values["service"]["annotations"]["metallb.io/loadBalancerIPs"] == "192.168.0.200"
    assert values["service"]["spec"]["externalTrafficPolicy"] == "Local"
    assert values["api"]["dashboard"] is False
    assert values["tlsOptions"]["default"]["minVersion"] == "VersionTLS12"


def test_without_traefik_there_is_nothing_to_say_to_it() -> None:
    """Nor the CRD of K3s' Helm controller to say it with."""
    assert names(manifests(traefik={"enabled": False}), "HelmChartConfig") == set()


def test_what_is_more_important_goes_first() -> None:
    classes = {one["metadata"]["name"]: one for one in manifests() if one["kind"] == "PriorityClass"}
    order = sorted(classes, key=lambda name: int(classes[name]["value"]), reverse=True)
    assert order == ["platform-critical", "platform-data", "platform-default"]
    # below system-cluster-critical
    assert max(one["value"] for one in classes.values()) < 1_000_000_000
    assert not [name for name, one in classes.items() if one["globalDefault"]]
