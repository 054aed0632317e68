"""Logstash's chart: its pipeline, and its test, run for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from harness import PROFILES, Chart, of_kind, planned, pods, template, template_planned
from servers import Request, web

from piclusterops.catalogue import Profile, catalogue

CHART = Chart("logstash")


def pipeline(profile: Profile) -> str:
    text: str = of_kind(template_planned(planned("logstash", profile)), "ConfigMap")["data"]["main.conf"]
    return text


@pytest.mark.parametrize("profile", PROFILES)
def test_events_go_into_an_index_a_day_of_the_profiles_store(profile: Profile) -> None:
    search = next(one["search"] for one in planned_contracts(profile))
    text = pipeline(profile)
    assert text.count("{") == text.count("}")
    assert search["url"] in text
    assert "logs-%{+YYYY.MM.dd}" in text
    assert {"SEARCH_USER", "SEARCH_PASSWORD"} == set(re.findall(r"\$\{(\w+)\}", text))


def planned_contracts(profile: Profile) -> list[dict[str, dict[str, str]]]:
    return [one.provides for one in catalogue().values() if "search" in one.provides and profile in one.profiles]


def test_each_store_is_written_to_in_its_own_way() -> None:
    elasticsearch, opensearch = pipeline("named"), pipeline("clean")
    # its user may only add
    assert 'action => "create"' in elasticsearch
    assert "manage_template => false" in elasticsearch
    # the plugin for Elasticsearch refuses OpenSearch
    assert "elasticsearch {" not in opensearch
    assert 'url => "https://opensearch.logging.svc:9200/logs-%{+YYYY.MM.dd}/_doc"' in opensearch
    assert "retry_failed => true" in opensearch


@pytest.mark.parametrize("profile", PROFILES)
def test_the_store_is_known_by_its_certificate(profile: Profile) -> None:
    text = pipeline(profile)
    assert 'ssl_certificate_authorities => ["/etc/logstash/ca/ca.crt"]' in text
    assert "ssl_verification_mode" not in text, "it is checked by default"


def test_fluentd_sends_to_where_logstash_listens() -> None:
    service = of_kind(template_planned(planned("logstash")), "Service")
    port = next(port["port"] for port in service["spec"]["ports"] if port["name"] == "http")
    endpoint = f"http://{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{port}"
    assert endpoint in json.dumps(planned("fluentd").values)


def test_only_fluentd_may_send_logs() -> None:
    ingress = of_kind(template_planned(planned("logstash")), "NetworkPolicy", "logstash")["spec"]["ingress"]
    sending = next(rule for rule in ingress if rule["ports"] == [{"port": 8080}])
    names = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in sending["from"]]
    assert names == ["logstash", "fluentd"]


def test_own_filters_come_after_those_of_the_chart() -> None:
    own = 'mutate { add_field => { "cluster" => "home" } }'
    text = of_kind(template(CHART, {"filters": own}), "ConfigMap")["data"]["main.conf"]
    assert text.index('remove_field => ["logtag"]') < text.index(own) < text.index("output {")


def test_the_queue_fits_on_its_volume() -> None:
    manifests = template_planned(planned("logstash"))
    settings = of_kind(manifests, "ConfigMap")["data"]["logstash.yml"]
    assert "queue.max_bytes: 1gb" in settings
    assert of_kind(manifests, "PersistentVolumeClaim")["spec"]["resources"]["requests"]["storage"] == "2Gi"


def test_no_probe_makes_an_event() -> None:
    container = next(pods(template_planned(planned("logstash")))).containers[0]
    probes = [container[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert not [one for one in probes if one.get("httpGet", {}).get("port") == "http"]


@pytest.mark.parametrize(("handed_on", "passes"), [(True, True), (False, False)])
def test_helm_test_waits_until_the_event_has_left(handed_on: bool, passes: bool) -> None:
    events: list[bytes] = []

    def answer(request: Request) -> tuple[int, bytes]:
        if request.method == "POST":
            assert isinstance(json.loads(request.body), list)
            events.append(request.body)
            return 200, b"ok"
        out = len(events) if handed_on else 0
        return 200, json.dumps({"pipelines": {"main": {"events": {"out": out}}}}).encode()

    with web(answer) as server:
        environment = {**os.environ, "URL": server.url, "API_URL": server.url, "TRIES": "3", "PAUSE_S": "0.01"}
        command = [sys.executable, str(CHART.folder / "files/try.py")]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode == 0) is passes, ran.stderr
