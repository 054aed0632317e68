"""cloudflared's chart: where its token is, and its test, run for real."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from harness import Chart, of_kind, planned, pods, template_planned
from servers import web

CHART = Chart("cloudflared")


def test_the_token_is_in_a_file_alone() -> None:
    container = next(pods(template_planned(planned("cloudflared")))).containers[0]
    assert "--token-file=/etc/cloudflared/token" in container["args"]
    assert "env" not in container and "envFrom" not in container


def test_it_never_updates_itself() -> None:
    assert "--no-autoupdate" in next(pods(template_planned(planned("cloudflared")))).containers[0]["args"]


def test_it_reaches_cloudflare_and_the_gateways_alone() -> None:
    rules = of_kind(template_planned(planned("cloudflared")), "NetworkPolicy", "cloudflared")["spec"]["egress"]
    peers = [peer for rule in rules for peer in rule["to"]]
    assert all(rule["ports"] for rule in rules)
    names = [peer["podSelector"]["matchExpressions"][0]["values"] for peer in peers[2:]]
    assert names == [["krakend"], ["traefik"]]
    internet = peers[1]["ipBlock"]
    assert internet["cidr"] == "0.0.0.0/0" and "192.168.0.0/16" in internet["except"]


@pytest.mark.parametrize(("status", "passes"), [(200, True), (503, False)])
def test_helm_test_asks_whether_it_is_ready(status: int, passes: bool) -> None:
    with web(lambda request: (status, b'{"readyConnections": 4}')) as server:
        environment = {**os.environ, "READY_URL": f"{server.url}/ready"}
        command = [sys.executable, str(CHART.folder / "files/try.py")]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode == 0) is passes
    assert not passes or "readyConnections" in ran.stdout
