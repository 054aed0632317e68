"""KrakenD's chart: the configuration that its values make."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import PROFILES, Chart, Manifest, is_test, of_kind, planned, pods, render, template, template_planned

from piclusterops.catalogue import Profile

CHART = Chart("krakend")
OPEN = {"path": "/v1/items/{id}", "host": "http://app.tests.svc:8000", "to": "/items/{id}", "access": "open"}
CLOSED = {"path": "/v1/items", "method": "POST", "host": "http://app.tests.svc:8000", "access": "token"}
JWT = {
    "enabled": True,
    "jwkUrl": "https://login.example.org/keys",
    "issuer": "https://login.example.org",
    "audience": ["platform"],
}


def config(values: dict[str, Any]) -> dict[str, Any]:
    return parsed(template(CHART, values))


def parsed(manifests: list[Manifest]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(of_kind(manifests, "ConfigMap")["data"]["krakend.json"])
    return found


def test_an_endpoint_says_where_it_leads() -> None:
    assert config({"endpoints": [{**OPEN, "query": ["limit"], "headers": ["X-Request-Id"]}]})["endpoints"] == [
        {
            "endpoint": "/v1/items/{id}",
            "method": "GET",
            "output_encoding": "json",
            "input_query_strings": ["limit"],
            "input_headers": ["X-Request-Id"],
            "backend": [
                {
                    "host": ["http://app.tests.svc:8000"],
                    "url_pattern": "/items/{id}",
                    "method": "GET",
                    "encoding": "json",
                }
            ],
        }
    ]


def test_endpoints_for_a_token_are_left_out_until_it_is_known_who_signs_them() -> None:
    endpoints = [OPEN, CLOSED]
    assert [one["endpoint"] for one in config({"endpoints": endpoints})["endpoints"]] == [OPEN["path"]]
    closed = config({"endpoints": endpoints, "jwt": JWT})["endpoints"][1]
    assert closed["method"] == "POST"
    assert closed["backend"][0]["url_pattern"] == "/v1/items"
    assert closed["extra_config"]["auth/validator"] == {
        "alg": "RS256",
        "jwk_url": "https://login.example.org/keys",
        "issuer": "https://login.example.org",
        "audience": ["platform"],
        "cache": True,
    }


def test_an_open_endpoint_is_open_with_tokens_as_well() -> None:
    assert "extra_config" not in config({"endpoints": [OPEN], "jwt": JWT})["endpoints"][0]


@pytest.mark.parametrize("missing", ["jwkUrl", "issuer", "audience"])
def test_a_token_that_anyone_could_make_is_refused(missing: str) -> None:
    answer = render(CHART, {"endpoints": [CLOSED], "jwt": {**JWT, missing: [] if missing == "audience" else ""}})
    assert answer.returncode != 0
    assert f"jwt.{missing}" in answer.stderr


@pytest.mark.parametrize(
    "endpoint",
    [
        {**OPEN, "path": "/v1/*"},
        {**OPEN, "path": "v1"},
        {**OPEN, "host": "http://app.tests.svc/api"},
        {**OPEN, "access": "public"},
        {"path": "/v1", "host": "http://app"},
    ],
)
def test_an_endpoint_that_krakend_does_not_know_is_refused(endpoint: dict[str, Any]) -> None:
    answer = render(CHART, {"endpoints": [endpoint]})
    assert answer.returncode != 0
    assert "/endpoints/0" in answer.stderr


def test_a_limit_holds_for_all_together() -> None:
    endpoint = config({"endpoints": [{**OPEN, "rate": 2.5}]})["endpoints"][0]
    assert endpoint["extra_config"] == {"qos/ratelimit/router": {"max_rate": 2.5}}


def test_more_configuration_comes_over_that_of_the_chart() -> None:
    found = config({"config": {"timeout": "3s", "extra_config": {"router": {"auto_options": True}}}})
    assert found["timeout"] == "3s"
    assert found["extra_config"]["router"] == {"auto_options": True, "hide_version_header": True}


def test_a_change_of_the_configuration_restarts_it() -> None:
    sums = {
        next(pods(template(CHART, values))).metadata["annotations"]["checksum/config"]
        for values in ({}, {"endpoints": [OPEN]})
    }
    assert len(sums) == 2


def test_https_is_probed_and_mounted_everywhere() -> None:
    manifests = template(CHART, {"tls": {"enabled": True}, "endpoints": [OPEN]})
    assert parsed(manifests)["tls"]["keys"][0]["private_key"] == "/etc/krakend-tls/tls.key"
    for pod in pods(manifests):
        assert {mount["mountPath"] for mount in pod.containers[0]["volumeMounts"]} >= {"/etc/krakend-tls"}
    probes = next(pods(manifests)).containers[0]
    assert {probes[kind]["httpGet"]["scheme"] for kind in ("livenessProbe", "readinessProbe")} == {"HTTPS"}


def test_helm_test_is_krakends_own_check() -> None:
    test = next(pod for pod in pods(template(CHART)) if is_test(pod.owner))
    assert test.containers[0]["args"] == ["check", "-t", "-n", "-c", "/etc/krakend/krakend.json"]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_platforms_endpoints_are_distinct_and_reachable(profile: Profile) -> None:
    release = planned("krakend", profile)
    values = {**release.values, "jwt": JWT}
    manifests = template(CHART, values, release="krakend", namespace="dmz")
    endpoints = parsed(manifests)["endpoints"]
    assert len({(one["endpoint"], one["method"]) for one in endpoints}) == len(endpoints) >= 5
    allowed = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for rule in of_kind(manifests, "NetworkPolicy", "krakend")["spec"]["egress"]
        for peer in rule["to"]
        if "namespaceSelector" in peer
    }
    namespaces = {one["backend"][0]["host"][0].split("//")[1].split(":")[0].split(".")[1] for one in endpoints}
    assert namespaces <= allowed


def test_without_an_address_traefik_leads_to_it() -> None:
    manifests = template_planned(planned("krakend", published=False))
    ingress = of_kind(manifests, "Ingress")
    assert ingress["spec"]["rules"][0]["host"] == "krakend.home.arpa"
    assert ingress["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "internal-ca"}
    assert "tls" not in parsed(manifests)
