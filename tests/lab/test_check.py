"""`picluster check` and deploys/check.py on hosts: what they find, and that nothing changes by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from runs import FINGERPRINT, REPOSITORY, out, pyinfra

from piclusterops.lab.fleet import Lab, Node

pytestmark = pytest.mark.lab

NODES = ("pi-master", "pi-worker-1")
VCGENCMD = "/etc/piclusterops-lab/vcgencmd"


@pytest.fixture(scope="module")
def bare() -> Iterator[Lab]:
    """Two bare hosts with a default route and a name server, as a home network gives them."""
    lab = Lab("test-check")
    lab.up([Node("pi-master", "master"), Node("pi-worker-1", "worker")])
    for node in NODES:
        out(lab, node, "ip route replace default dev eth0 metric 1000; echo nameserver 127.0.0.1 >/etc/resolv.conf")
    yield lab
    lab.down()


def check(lab: Lab, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "piclusterops.cli", "check", "--env", "lab", *args],
        cwd=REPOSITORY,
        env={**os.environ, "PICLUSTEROPS_LAB": lab.name, "COLUMNS": "100"},
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def findings(lab: Lab, *args: str) -> list[dict[str, Any]]:
    done = check(lab, "--json", *args)
    assert done.stderr == "", done.stderr
    found = json.loads(done.stdout)
    assert done.returncode == (1 if found["summary"]["error"] else 0)
    listed: list[dict[str, Any]] = found["findings"]
    return listed


def errors(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(finding["host"], finding["topic"]) for finding in found if finding["severity"] == "error"]


@contextmanager
def changed(lab: Lab, host: str, do: str, undo: str) -> Iterator[None]:
    """A host that is not as it should be."""
    out(lab, host, do)
    try:
        yield
    finally:
        out(lab, host, undo)


def test_bare_hosts_stand_in_no_way_and_nothing_changes(bare: Lab) -> None:
    known_hosts = Path(bare.fleet.known_hosts)
    before = {node: out(bare, node, FINGERPRINT) for node in NODES}, known_hosts.read_bytes()
    found = findings(bare)
    assert errors(found) == []
    news = {(finding["host"], finding["topic"]) for finding in found if finding["severity"] == "info"}
    for node in NODES:
        assert {(node, topic) for topic in ("K3s", "cgroups", "dns", "host")} <= news
        assert (node, "unknown") not in news
        summary = next(f["found"] for f in found if (f["host"], f["topic"]) == (node, "host"))
        assert "Raspberry Pi 5" in summary and "fsync p50" in summary and "48 C" in summary
    assert ("cluster", "identity") in news, "both are still called raspberrypi"
    assert ({node: out(bare, node, FINGERPRINT) for node in NODES}, known_hosts.read_bytes()) == before
    assert out(bare, "pi-master", "find /var -name '.piclusterops-check*'") == ""


def test_pyinfra_shows_the_same_in_one_ssh_execution_a_host(bare: Lab) -> None:
    run = pyinfra("-y", lab=bare.name, deploy="deploys/check.py")
    assert run.returncode == 0, run.output
    assert run.executions == dict.fromkeys(NODES, 1)
    assert run.output.count("2 hosts: 0 errors") == 1
    assert "Raspberry Pi 5" in run.output and "Traceback" not in run.output


def test_under_voltage_comes_first_and_ends_with_1(bare: Lab) -> None:
    broken = f"cp {VCGENCMD} /root/vcgencmd; sed -i s/0x0/0x50005/ {VCGENCMD}"
    with changed(bare, "pi-worker-1", broken, f"mv /root/vcgencmd {VCGENCMD}"):
        done = check(bare)
        assert done.returncode == 1
        rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
        assert "error" in rows[0] and "pi-worker-1" in rows[0] and "under-voltage now" in rows[0]
        assert "mend the errors first" in done.stdout
        run = pyinfra("-y", lab=bare.name, deploy="deploys/check.py")
        assert run.returncode == 1 and "under-voltage now" in run.output
        assert "Nothing was changed on any host" in run.output and "Traceback" not in run.output
        assert errors(findings(bare, "--host", "pi-master")) == []


def test_a_taken_port_a_cloned_card_and_a_blocked_way_are_named(bare: Lab) -> None:
    worker = bare.fleet.host("pi-worker-1").address
    machine_id = out(bare, "pi-master", "cat /etc/machine-id")
    serve = "systemd-run -q --unit=web python3 -m http.server 6443 && sleep 1"
    with (
        changed(bare, "pi-master", serve, "systemctl stop web"),
        changed(bare, "pi-master", f"ip route add unreachable {worker}/32", f"ip route del unreachable {worker}/32"),
        changed(
            bare,
            "pi-worker-1",
            f"cp /etc/machine-id /root/id; echo {machine_id} >/etc/machine-id",
            "cat /root/id >/etc/machine-id",
        ),
    ):
        found = findings(bare)
    assert errors(found) == [
        ("cluster", "identity"),
        ("pi-master", "ports"),
        ("pi-master", "nodes"),
        ("pi-worker-1", "nodes"),
    ], "a route that is missing on one side cuts both ways"
    port = next(finding for finding in found if finding["topic"] == "ports")
    assert port["found"] == "port 6443/tcp (Kubernetes API) is taken by python3 (web.service)"
    assert "systemctl disable --now web.service" in port["fix"]
    assert "pi-worker-1" in next(finding for finding in found if finding["topic"] == "nodes")["found"]


def test_sudo_that_asks_for_a_password_is_an_error_and_the_rest_is_still_looked_at(bare: Lab) -> None:
    with changed(
        bare, "pi-worker-1", "chmod 000 /etc/sudoers.d; mv /etc/sudoers.d /root/s", "mv /root/s /etc/sudoers.d"
    ):
        found = findings(bare, "--host", "pi-worker-1")
    out(bare, "pi-worker-1", "chmod 750 /etc/sudoers.d")
    assert errors(found) == [("pi-worker-1", "sudo")]
    assert {"host", "K3s", "unknown"} <= {finding["topic"] for finding in found}


def test_a_host_key_that_is_new_is_shown_and_not_remembered(bare: Lab, tmp_path: Path) -> None:
    fleet, master = bare.fleet, bare.fleet.host("pi-master")
    data = {
        "ssh_hostname": master.address,
        "ssh_user": "pi",
        "ssh_key": fleet.ssh_key,
        "ssh_known_hosts_file": str(tmp_path / "known_hosts"),
        "lan_cidr": fleet.subnet,
        "platform_profile": "none",
        "k3s_mirror": fleet.mirror,
        "k3s_version": fleet.k3s_version,
        "lock_file": str(tmp_path / "new.lock"),
    }
    (tmp_path / "new.py").write_text(f"master = [('pi-master', {data!r})]\n")
    found = findings(bare, "--env", str(tmp_path / "new.py"))
    key = out(bare, "pi-master", "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert [finding["found"] for finding in found if finding["topic"] == "ssh"] == [
        f"its host key is new to this controller: ssh-ed25519 {key}"
    ]
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["new.py"]


def test_a_host_that_is_off_is_a_finding_and_the_others_are_asked(bare: Lab) -> None:
    bare.power_cut("pi-worker-1")
    try:
        found = findings(bare)
    finally:
        bare.power_on("pi-worker-1")
        bare.wait_ssh(["pi-worker-1"])
    assert errors(found) == [("pi-worker-1", "ssh")]
    assert found[0]["fix"].startswith("ssh ") and "can't be reached" in found[0]["found"]
    assert ("pi-master", "host") in {(finding["host"], finding["topic"]) for finding in found}


def test_pyinfra_shows_why_a_host_cannot_be_reached(bare: Lab) -> None:
    with changed(bare, "pi-worker-1", "systemctl stop ssh", "systemctl start ssh"):
        run = pyinfra("-y", lab=bare.name, deploy="deploys/check.py")
    assert run.returncode == 1 and "Traceback" not in run.output
    text = " ".join(run.output.replace("│", " ").split())
    assert "it can't be reached" in text and "2 hosts: 1 error," in text
