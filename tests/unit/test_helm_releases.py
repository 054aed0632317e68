"""Helm releases as their storage tells of them."""

from __future__ import annotations

import pytest

from piclusterops.helm_releases import HelmRelease, Workload, chart_label, parse, split_chart

TYPE = "helm.sh/release.v1"


def row(name: str, revision: int, status: str, namespace: str = "data", more: str = "") -> str:
    labels = f"modifiedAt=1795457000,name={name},owner=helm,{more}status={status},version={revision}"
    return f"{namespace}   sh.helm.release.v1.{name}.v{revision}   {TYPE}   1   5m   {labels}"


OURS = "piclusterops.io/chart=trino-1.42.2,piclusterops.io/digest=0a1b,"


def only(*lines: str) -> HelmRelease:
    (release,) = parse(lines).releases.values()
    return release


def test_a_release_of_ours_is_known_by_its_labels() -> None:
    release = only("@@releases", row("trino", 1, "deployed", more=OURS), "@@charts", "@@flux")
    assert release.key == ("data", "trino")
    assert (release.revision, release.status, release.last_deployed) == (1, "deployed", 1)
    assert (release.chart, release.version) == ("trino", "1.42.2")
    assert release.digest == "0a1b" and release.is_ours and not release.is_pending


def test_the_newest_revision_counts_and_the_last_deployed_one_is_remembered() -> None:
    rows = [row("trino", 10, "failed"), row("trino", 9, "deployed"), row("trino", 2, "failed")]
    release = only("@@releases", *rows, "@@charts", "@@flux")
    assert (release.revision, release.status, release.last_deployed) == (10, "failed", 9)


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback", "uninstalling"])
def test_a_release_that_a_killed_run_left_is_pending(status: str) -> None:
    assert only("@@releases", row("trino", 1, status)).is_pending


def test_the_chart_of_others_is_read_from_the_release() -> None:
    release = only(
        "@@releases",
        row("traefik", 1, "deployed", namespace="kube-system"),
        "@@charts",
        "kube-system sh.helm.release.v1.traefik.v1 traefik 37.1.1+up37.1.0",
        "@@flux",
    )
    assert (release.chart, release.version) == ("traefik", "37.1.1+up37.1.0")
    assert not release.is_ours and release.digest == ""


def test_releases_of_one_name_in_two_namespaces_are_two() -> None:
    state = parse(["@@releases", row("a", 1, "deployed", namespace="x"), row("a", 2, "failed", namespace="y")])
    assert [release.revision for release in state.releases.values()] == [1, 2]
    assert state.release("x", "a") and state.release("z", "a") is None


def test_other_secrets_and_remarks_of_kubectl_are_no_releases() -> None:
    assert (
        parse(["@@releases", "No resources found", "data token Opaque 1 5m owner=helm,name=x,version=1"]).releases == {}
    )


def test_workloads_are_known_by_how_many_pods_they_want_and_have() -> None:
    rows = [
        "Deployment|data|trino|2|1||",
        "StatefulSet|data|nifi|1|||",
        "DaemonSet|logs|fluentd|||4|3",
        "Deployment|a|b|0|||",
    ]
    assert parse(["@@releases", "@@charts", "@@workloads", *rows, "@@flux"]).workloads == {
        ("Deployment", "data", "trino"): Workload(2, 1),
        ("StatefulSet", "data", "nifi"): Workload(1, 0),
        ("DaemonSet", "logs", "fluentd"): Workload(4, 3),
        ("Deployment", "a", "b"): Workload(0, 0),
    }


def test_an_active_flux_release_is_in_charge_even_before_it_installs() -> None:
    state = parse(["@@releases", "@@charts", "@@flux", "flux-system|trino||trino|data|data"])
    assert state.flux_owner("data", "trino") == "flux-system/trino"
    assert state.flux_owner("flux-system", "trino") is None


def test_defaults_of_flux_are_its_controllers() -> None:
    state = parse(["@@flux", "apps|web|false|||", "flux-system|trino|false||data|"])
    assert state.flux == {
        ("apps", "web"): "apps/web",
        ("data", "data-trino"): "flux-system/trino",
        ("flux-system", "data-trino"): "flux-system/trino",
    }


def test_a_suspended_flux_release_is_in_charge_of_nothing() -> None:
    assert parse(["@@flux", "flux-system|trino|true|trino|data|data"]).flux == {}


def test_a_cluster_without_flux_is_no_fault() -> None:
    fault = "@@fault Error from server (NotFound): the server could not find the requested resource"
    state = parse(["@@releases", row("trino", 1, "deployed"), "@@charts", "@@flux", fault])
    assert state.fault == "" and len(state.releases) == 1


def test_a_flux_that_can_not_be_asked_is_a_fault() -> None:
    fault = '@@fault error: the server doesn\'t have a resource type "helmreleases"'
    assert parse(["@@releases", row("trino", 1, "deployed"), "@@charts", "@@flux", fault]).fault


def test_an_api_that_does_not_answer_is_a_fault_and_nothing_is_known() -> None:
    state = parse(["@@releases", "@@fault The connection to the server 127.0.0.1:6443 was refused"])
    assert "refused" in state.fault and state.releases == {}
    state = parse(
        ["@@releases", row("trino", 1, "deployed"), "@@charts", "@@flux", "@@fault Error from server: timeout"]
    )
    assert state.fault and state.releases == {}


def test_an_answer_of_another_form_is_an_error() -> None:
    with pytest.raises(ValueError):
        parse(["sh: 1: Syntax error"])


@pytest.mark.parametrize(
    ("name", "version", "label"),
    [
        ("trino", "1.42.2", "trino-1.42.2"),
        ("cert-manager", "v1.21.1", "cert-manager-v1.21.1"),
        ("traefik", "37.1.1+up37.1.0", "traefik-37.1.1_up37.1.0"),
    ],
)
def test_a_chart_is_a_label_value_and_back(name: str, version: str, label: str) -> None:
    assert chart_label(name, version) == label
    assert split_chart(label) == (name, version)
