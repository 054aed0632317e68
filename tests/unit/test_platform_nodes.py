"""What the nodes of a cluster add to the platform's values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from k3s_samples import cluster
from test_helm_release import Run, staged, state, there

from piclusterops.facts.kube import Nodes
from piclusterops.helm_charts import Chart
from piclusterops.kube_nodes import KubeNode, parse_nodes
from piclusterops.operations import platform as operations
from piclusterops.operations.helm import query_for
from piclusterops.operations.helm_release import Wanted
from piclusterops.platform import Platform, platform_of
from piclusterops.platform_nodes import POLICIES, asks_for_nodes, settled, tunnel_addresses
from piclusterops.platform_run import Progress

ROLES = ("master", "master", "master", "worker")


def platform(vault_on: str = "", profile: str = "named") -> Platform:
    """Three servers and a worker; the vault is on the first server unless said otherwise."""
    name = {"named": "vault", "clean": "openbao"}.get(profile, "")
    choice = {name: {"node": vault_on}} if vault_on else {}
    return platform_of(cluster(ROLES, platform_profile=profile, platform_releases=choice))


def nodes() -> list[KubeNode]:
    """The nodes of `platform`, which joined in another order than the inventory has."""
    names = ("pi-worker-2", "pi-master", "pi-worker-3", "pi-worker-1")
    return [
        KubeNode(name, True, "v1", pod_cidrs=(f"10.42.{number}.0/24", f"fd00:42:{number}::/64"))
        for number, name in enumerate(names)
    ]


def tunnels(found: Platform, seen: list[KubeNode] | None) -> object:
    return settled(found, found.planned(POLICIES), seen).values["networkPolicies"].get("serverTunnels")


@pytest.mark.parametrize("profile", ["named", "clean"])
def test_servers_are_let_in_to_a_vault_on_another_node_with_the_address_of_their_tunnel(profile: str) -> None:
    found = platform("pi-worker-3", profile)
    assert asks_for_nodes(found, POLICIES)
    assert tunnels(found, nodes()) == ["10.42.0.0", "10.42.1.0", "10.42.3.0"], "the worker's is not among them"


def test_a_vault_on_the_first_server_costs_no_question() -> None:
    assert not asks_for_nodes(platform(), POLICIES)
    assert tunnels(platform(), nodes()) is None


def test_a_platform_without_a_vault_asks_nothing() -> None:
    assert not asks_for_nodes(platform(profile="minimal"), POLICIES)


def test_other_releases_ask_nothing() -> None:
    found = platform("pi-worker-3")
    assert [one.name for one in found.releases if asks_for_nodes(found, one.name)] == [POLICIES]


def test_before_there_is_a_cluster_the_values_are_those_of_the_inventory() -> None:
    found = platform("pi-worker-3")
    assert settled(found, found.planned(POLICIES), None) == found.planned(POLICIES)


def test_a_node_that_has_no_network_yet_has_no_tunnel() -> None:
    assert tunnel_addresses(KubeNode("new", True, "v1")) == []


def test_networks_of_pods_are_read_from_the_api() -> None:
    item = {
        "metadata": {"name": "pi-master"},
        "spec": {"podCIDR": "10.42.7.0/24", "podCIDRs": ["10.42.7.0/24"]},
        "status": {"nodeInfo": {"kubeletVersion": "v1"}},
    }
    (node,) = parse_nodes(json.dumps({"items": [item]}))
    assert tunnel_addresses(node) == ["10.42.7.0"]


@pytest.mark.parametrize(("joined", "outcome"), [(nodes(), "unchanged"), (nodes()[:1], None)])
def test_the_deploy_installs_what_the_nodes_add(tmp_path: Path, joined: list[KubeNode], outcome: str | None) -> None:
    """A server with another network, such as one that was replaced, is a change of the release."""
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: demo\nversion: 1.2.3\n")
    chart, found = Chart("demo", "1.2.3", folder=tmp_path), platform("pi-worker-3")
    planned = found.planned(POLICIES)
    installed = Wanted(POLICIES, "platform-system", chart, settled(found, planned, nodes()).values)
    run, progress, query = Run(state(there(installed)), staged(installed)), Progress(found), query_for((chart,))
    run.facts[Nodes] = joined
    given = {"progress": progress, "planned": planned, "chart": chart, "hidden": tuple, "query": query}
    commands = run.of(lambda _: operations.release._inner(**given))  # type: ignore[attr-defined]
    assert progress.kind(POLICIES) == outcome and bool(commands) == (outcome is None)
