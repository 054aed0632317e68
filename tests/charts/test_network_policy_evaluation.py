"""The evaluator itself: what NetworkPolicies mean, by the words of Kubernetes' documentation."""

from __future__ import annotations

from typing import Any

import pytest
from network_policies import Address, Network, Pod, network_of, selects

WEB = Pod("shop", {"app": "web"}, "10.42.0.5")
DATABASE = Pod("shop", {"app": "database"}, "10.42.0.6")
STRANGER = Pod("other", {"app": "web"}, "10.42.0.7")


def network(*specs: dict[str, Any]) -> Network:
    policies = [
        {"kind": "NetworkPolicy", "metadata": {"namespace": "shop"}, "spec": {"podSelector": {}, **spec}}
        for spec in specs
    ]
    return network_of(policies, ["shop", "other"])


def test_without_policies_everybody_reaches_everybody() -> None:
    assert network().allowed(STRANGER, DATABASE, 5432)


def test_a_policy_without_rules_denies_one_direction() -> None:
    denied = network({"policyTypes": ["Ingress"]})
    assert not denied.allowed(WEB, DATABASE, 5432)
    assert denied.allowed(WEB, Address("203.0.113.1"), 443)


def test_policies_add_up() -> None:
    both = network(
        {"policyTypes": ["Ingress"]},
        {
            "policyTypes": ["Ingress"],
            "podSelector": {"matchLabels": {"app": "database"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}],
        },
    )
    assert both.allowed(WEB, DATABASE, 5432)
    assert not both.allowed(WEB, DATABASE, 5433)
    assert not both.allowed(STRANGER, DATABASE, 5432), "a pod selector without a namespace means the own one"


def test_both_ends_must_agree() -> None:
    out = {"policyTypes": ["Egress"], "podSelector": {"matchLabels": {"app": "web"}}}
    assert not network(out).allowed(WEB, DATABASE, 5432)
    assert network(out).allowed(STRANGER, DATABASE, 5432)


def test_a_namespace_and_pods_in_one_peer_both_have_to_fit() -> None:
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}},
        "podSelector": {"matchLabels": {"app": "web"}},
    }
    one = network({"policyTypes": ["Ingress"], "ingress": [{"from": [peer]}]})
    assert one.allowed(STRANGER, DATABASE, 1)
    assert not one.allowed(Pod("other", {"app": "else"}), DATABASE, 1)
    assert not one.allowed(WEB, DATABASE, 1)


def test_blocks_have_holes() -> None:
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}
    one = network({"policyTypes": ["Egress"], "egress": [{"to": [block]}]})
    assert one.allowed(WEB, Address("203.0.113.1"), 443)
    assert not one.allowed(WEB, Address("10.1.1.1"), 443)


def test_an_empty_rule_allows_everything() -> None:
    assert network({"policyTypes": ["Ingress"], "ingress": [{}]}).allowed(STRANGER, DATABASE, 1)


@pytest.mark.parametrize(("port", "protocol", "allowed"), [(53, "UDP", True), (53, "TCP", False), (54, "UDP", False)])
def test_ports_have_a_protocol(port: int, protocol: str, allowed: bool) -> None:
    one = network({"policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]})
    assert one.allowed(WEB, DATABASE, port, protocol) is allowed


@pytest.mark.parametrize(("port", "allowed"), [(9500, False), (9501, True), (9503, True), (9504, False)])
def test_ports_can_be_ranges(port: int, allowed: bool) -> None:
    one = network({"policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 9501, "endPort": 9503}]}]})
    assert one.allowed(WEB, DATABASE, port) is allowed


def test_selectors_by_expression() -> None:
    labels = {"app": "web"}
    assert selects({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "x"]}]}, labels)
    assert not selects({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, labels)
    assert selects({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, labels)
    assert selects({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, labels)
