"""Which addresses MetalLB gives away by itself."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

import pytest
from k3s_samples import cluster

from piclusterops.firewall import firewall_of
from piclusterops.networks import parse_range
from piclusterops.ruleset import compile_ruleset
from piclusterops.settings import ClusterSettings


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ([], ["10.0.0.10-10.0.0.14"]),
        (["10.0.0.12"], ["10.0.0.10-10.0.0.11", "10.0.0.13-10.0.0.14"]),
        (["10.0.0.10", "10.0.0.14"], ["10.0.0.11-10.0.0.13"]),
        (["10.0.0.13", "10.0.0.12", "10.0.0.13"], ["10.0.0.10-10.0.0.11", "10.0.0.14-10.0.0.14"]),
        (["10.0.0.9", "10.0.0.15"], ["10.0.0.10-10.0.0.14"]),
        ([f"10.0.0.{last}" for last in range(10, 15)], []),
    ],
)
def test_a_range_without_some_of_its_addresses(taken: list[str], left: list[str]) -> None:
    parts = parse_range("10.0.0.10-10.0.0.14").without(map(IPv4Address, taken))

    assert [str(part) for part in parts] == left


def _settings(**given: object) -> ClusterSettings:
    return ClusterSettings.model_validate({"lan_cidr": "192.168.0.0/24", **given})


def test_addresses_of_published_services_are_not_given_to_others() -> None:
    settings = _settings(
        metallb_pool="192.168.0.200-192.168.0.205",
        service_addresses={"nifi": "192.168.0.201", "trino": "192.168.0.202", "grafana": "10.0.1.5"},
    )

    assert [str(part) for part in settings.free_pool] == ["192.168.0.200-192.168.0.200", "192.168.0.203-192.168.0.205"]


def test_without_a_pool_there_is_nothing_to_give() -> None:
    assert _settings(service_addresses={"nifi": "192.168.0.201"}).free_pool == ()


def test_the_firewall_knows_an_address_of_a_service_beyond_the_pool() -> None:
    wanted = cluster(
        metallb_pool="192.168.0.200-192.168.0.205", services_cidr="10.0.1.0/24", service_addresses={"nifi": "10.0.1.5"}
    )
    compiled = compile_ruleset(firewall_of(wanted), "master")
    (vips,) = re.findall(r"set vips_v4 \{.*?elements = \{(.*?)\}", compiled, re.DOTALL)
    assert "10.0.1.5" in vips
