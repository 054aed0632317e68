"""The shell of the checks, run under dash: it answers, is bounded, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from hostshell import Host

from piclusterops.facts.check import FSYNC_WRITES, HostCheck, check_query, check_script
from piclusterops.host_report import Report
from piclusterops.settings import ClusterSettings

SETTINGS = ClusterSettings(lan_cidr="192.168.0.0/24")


def shell(names: tuple[str, ...] = (), peers: tuple[str, ...] = ()) -> str:
    return check_script(check_query(SETTINGS, names, peers))


def answer(done: subprocess.CompletedProcess[str]) -> Report:
    assert done.returncode == 0 and done.stderr == "", done
    return HostCheck().process(done.stdout.splitlines())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path / "root")
    host.path("/var/lib").mkdir(parents=True)
    host.write("/etc/os-release", "ID=debian\nVERSION_ID=12\nPRETTY_NAME='Debian GNU/Linux 12 (bookworm)'\n")
    host.write("/etc/machine-id", "6f1b1d0c5b7e4a6d8b6f0a4a3f3c9d21\n")
    host.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    host.write("/boot/firmware/cmdline.txt", "root=a rootwait\n")
    host.fake("id", "echo 0")
    return host


def test_a_host_answers_everything_at_once(host: Host) -> None:
    host.fake("vcgencmd", 'case $1 in get_throttled) echo throttled=0x50005;; measure_temp) echo "temp=48.3\'C";; esac')
    report = answer(host.run(shell(("localhost", "nowhere.invalid"), ("127.0.0.1:1",))))
    assert report.sudo == "root" and report.is_privileged
    assert report.facts and report.facts.os_version == "12"
    assert report.page_size in (4096, 16384, 65536)
    assert (report.throttled, report.temperature_c) == (0x50005, 48.3)
    assert report.value("machine_id") == "6f1b1d0c5b7e4a6d8b6f0a4a3f3c9d21"
    assert report.first("cgroup_controllers") == "cpuset cpu io memory pids"
    assert report.names["localhost"] == ["127.0.0.1"] and report.names["nowhere.invalid"] == []
    assert report.peers == {"127.0.0.1:1": "refused"}
    assert 0 <= report.ended_s - report.began_s < 15
    assert report.mount is not None


def test_writes_are_timed_and_the_file_is_gone(host: Host) -> None:
    report = answer(host.run(shell()))
    assert report.fsync and 0 < report.fsync.p50 <= report.fsync.p99
    assert 1 <= report.fsync.count <= FSYNC_WRITES
    assert list(host.path("/var/lib").iterdir()) == []


def test_a_slow_disk_is_measured_for_two_seconds_only(host: Host) -> None:
    host.fake("dd", "sleep 0.5; echo '4096 bytes (4.1 kB, 4.0 KiB) copied, 0.5 s, 8 kB/s' >&2")
    started = time.monotonic()
    report = answer(host.run(shell()))
    assert time.monotonic() - started < 10
    assert report.fsync and report.fsync.p99 == 500 and report.fsync.count < 6


def test_a_disk_that_cannot_be_written_is_unknown(host: Host) -> None:
    host.fake("mktemp", "exit 1")
    assert answer(host.run(shell())).fsync is None


@pytest.mark.parametrize("how", ["TERM", "HUP", "reader gone"])
def test_the_file_is_gone_when_the_check_is_cut_off(host: Host, how: str) -> None:
    host.fake("dd", 'sleep 0.1; exec /bin/dd "$@"')
    folder = host.path("/var/lib")
    process = subprocess.Popen(
        ["dash", "-c", host.shell(shell())],
        env={**os.environ, "PATH": f"{host.bin}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    end = time.monotonic() + 10
    while not list(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.01)
    assert list(folder.iterdir()), "it was never there"
    if how == "reader gone":
        process.stdout.close()
    else:
        subprocess.run(["kill", f"-{how}", "--", f"-{process.pid}"], check=True)
        process.stdout.close()
    process.wait(timeout=15)
    while list(folder.iterdir()) and time.monotonic() < end + 10:
        time.sleep(0.05)
    assert list(folder.iterdir()) == []


def test_without_sudo_it_answers_what_the_user_may_see_and_why(host: Host) -> None:
    host.fake("id", "echo 1000")
    host.fake("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    report = answer(host.run(shell()))
    assert report.sudo == "no sudo: a password is required" and not report.is_privileged
    assert report.facts is not None


def test_with_sudo_the_whole_answer_is_roots(host: Host) -> None:
    host.fake("id", "echo 1000")
    host.fake("sudo", 'shift; exec "$@"')
    report = answer(host.run(shell()))
    assert report.sudo == "yes" and report.facts is not None
    assert len([call for call in host.calls if call.startswith("sudo")]) == 2


def test_missing_tools_are_unknown(host: Host) -> None:
    for tool in ("ss", "ip", "findmnt", "getconf", "iptables", "vcgencmd"):
        host.fake(tool, "exit 127")
    report = answer(host.run(shell(peers=("127.0.0.1:1",))))
    assert (report.listeners, report.mount, report.page_size, report.iptables) == (None, None, None, None)
    assert report.value("default_route") is None and report.throttled is None
    assert report.fsync is not None


def test_the_legacy_iptables_is_not_asked_for_tables_that_it_would_load(host: Host) -> None:
    host.fake("iptables", '[ "$1" = --version ] && echo "iptables v1.8.9 (legacy)" || echo "-P FORWARD DROP"')
    report = answer(host.run(shell().replace("/proc/net/ip_tables_names", str(host.write("/run/names", "")))))
    assert report.value("forward") is None
    assert {call for call in host.calls if call.startswith("iptables")} == {"iptables --version"}
    report = answer(host.run(shell().replace("/proc/net/ip_tables_names", str(host.write("/run/names", "filter\n")))))
    assert report.value("forward") == "-P FORWARD DROP"


def test_a_peer_that_does_not_answer_is_silent_after_two_seconds(host: Host) -> None:
    host.fake("bash", "sleep 30")
    started = time.monotonic()
    report = answer(host.run(shell(peers=tuple(f"192.0.2.{number}:22" for number in range(1, 9)))))
    assert set(report.peers.values()) == {"silent"} and len(report.peers) == 8
    assert time.monotonic() - started < 15


def test_the_unit_of_a_listener_comes_from_its_cgroup(host: Host) -> None:
    host.fake("ss", f"echo 'tcp LISTEN 0 5 0.0.0.0:6443 0.0.0.0:* users:((\"k3s-server\",pid={os.getpid()},fd=3))'")
    proc = host.write("/run/cgroup", "0::/system.slice/k3s.service\n")
    report = answer(host.run(shell().replace('"/proc/$p/cgroup"', str(proc))))
    assert report.listeners and report.listeners[0].is_k3s and report.listeners[0].process == "k3s-server"
