"""What the checks say of one host."""

from __future__ import annotations

from dataclasses import replace

import pytest
from check_samples import BOOKWORM, TRIXIE, report, subject, system

from piclusterops.check import Connection, Finding, Subject
from piclusterops.check_rules import host_findings
from piclusterops.facts.snapshot import UnitState
from piclusterops.host_report import Report
from piclusterops.preflight import Refusal

K3S_RUNS = {"k3s": UnitState("active", "enabled"), "k3s-agent": UnitState("inactive", "")}


def found(seen: Subject, topic: str) -> list[Finding]:
    return [finding for finding in host_findings(seen) if finding.topic == topic]


def one(seen: Subject, topic: str) -> Finding:
    findings = found(seen, topic)
    assert len(findings) == 1, findings
    return findings[0]


def running(answer: Report, **facts: str) -> Report:
    """The same host with K3s installed and running."""
    answer.snapshot.units.update(K3S_RUNS)
    answer.snapshot.probes["preflight"] = [
        *answer.snapshot.probes["preflight"],
        "installed=yes",
        f"k3s_version={facts.get('version', 'v1.36.5+k3s1')}",
    ]
    return answer


def test_a_sound_bookworm_pi_has_nothing_but_news() -> None:
    findings = host_findings(subject())
    assert {finding.severity for finding in findings} == {"info"}
    assert {finding.topic for finding in findings} == {"host", "K3s"}
    text = one(subject(), "host").found
    for part in (
        "Raspberry Pi 5",
        "8062 MB memory",
        "SD card",
        "p50 3.1 ms, p99 8.4 ms",
        "bookworm",
        "48 C",
        "+0.01 s",
    ):
        assert part in text


def test_a_fresh_trixie_pi_shows_16k_pages_and_what_the_deploy_does() -> None:
    findings = host_findings(subject(report(TRIXIE)))
    assert [finding.topic for finding in findings if finding.severity == "warning"] == ["page size"]
    assert "16 KiB" in one(subject(report(TRIXIE)), "page size").found
    cgroups = one(subject(report(TRIXIE)), "cgroups")
    assert (cgroups.severity, cgroups.fix) == ("info", "site enables it, and reboots the node")
    assert found(subject(report(TRIXIE)), "swap") == [], "zram is no swap on a disk"


@pytest.mark.parametrize(
    ("kernel", "controllers", "has_memory"),
    [
        ("6.1.21-v8+", "cpuset cpu io pids", False),
        ("6.1.21-v8+", "cpuset cpu io memory pids", True),
        ("6.6.74+rpt-rpi-v8", "cpuset cpu io memory pids", True),
        ("6.12.47+rpt-rpi-v8", "cpuset cpu io memory pids dmem", True),
        ("6.12.47+rpt-rpi-v8", "cpuset cpu io pids dmem", False),
    ],
)
def test_the_memory_cgroup_is_read_from_cgroup_v2(kernel: str, controllers: str, has_memory: bool) -> None:
    answer = report(TRIXIE, cgroup_controllers=[controllers], system=system(TRIXIE, kernel=kernel))
    assert (found(subject(answer), "cgroups") == []) is has_memory


def test_a_memory_cgroup_that_was_asked_for_in_vain_is_an_error() -> None:
    finding = one(subject(report(cgroup_controllers=["cpuset cpu io pids"])), "cgroups")
    assert finding.severity == "error" and "full-upgrade" in finding.fix


def test_a_host_without_cgroup_v2_is_an_error() -> None:
    assert "cgroup v2" in one(subject(report(cgroup_controllers=[])), "cgroups").found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0x0", []),
        ("0x50000", [("warning", "under-voltage since it booted"), ("warning", "throttling since it booted")]),
        ("0x50005", [("error", "under-voltage now"), ("error", "throttling now")]),
        ("0x1", [("error", "under-voltage now")]),
        ("0x20002", [("warning", "a capped processor frequency now")]),
        ("0x80008", [("warning", "the soft temperature limit now")]),
        ("0xe0000", [("warning", "throttling since"), ("warning", "a capped"), ("warning", "the soft temp")]),
    ],
)
def test_throttled_bits_are_decoded(value: str, expected: list[tuple[str, str]]) -> None:
    findings = found(subject(report(system=system(throttled=f"throttled={value}"))), "power")
    assert [
        (finding.severity, finding.found[: len(text)]) for finding, (_, text) in zip(findings, expected, strict=True)
    ] == expected
    assert all(value in finding.found for finding in findings)


@pytest.mark.parametrize(
    ("degrees", "severity"), [("79.9", None), ("80.1", "warning"), ("84.9", "warning"), ("85.0", "error")]
)
def test_heat_is_judged(degrees: str, severity: str | None) -> None:
    findings = found(subject(report(system=system(temperature=f"temp={degrees}'C"))), "temperature")
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


def test_the_temperature_of_a_board_without_vcgencmd_is_the_kernels() -> None:
    answer = report(system=system(without=["temperature"], thermal_zone="86200"))
    assert "86 C" in one(subject(answer), "temperature").found


# -- disk ----------------------------------------------------------------------------------------------------


def test_etcd_on_a_card_is_a_warning_with_the_number() -> None:
    finding = one(subject(settings={"datastore": "etcd"}), "datastore")
    assert finding.severity == "warning"
    assert "SD card" in finding.found and "p99 8.4 ms" in finding.found and "10 ms" in finding.why
    assert 'datastore = "sqlite"' in finding.fix


def test_etcd_on_a_slow_disk_is_a_warning_and_on_a_fast_one_none() -> None:
    etcd = {"datastore": "etcd"}
    slow = report(TRIXIE, fsync=["0.004"] * 90 + ["0.031"] * 10)
    assert "p99 31.0 ms" in one(subject(slow, settings=etcd), "datastore").found
    assert found(subject(report(TRIXIE), settings=etcd), "datastore") == []


def test_sqlite_is_told_of_fast_and_very_slow_disks() -> None:
    assert one(subject(report(TRIXIE)), "datastore").severity == "info"
    assert "SQLite" in one(subject(report(fsync=["0.08"] * 20)), "datastore").found


def test_agents_have_no_datastore_to_advise_on() -> None:
    agent = subject(report(fsync=["0.08"] * 20), name="pi-worker-1", settings={"datastore": "etcd"})
    assert found(agent, "datastore") == []
    assert "fsync takes long" in one(agent, "disk").found


def test_a_read_only_file_system_is_an_error() -> None:
    answer = report(disk=["mount=/dev/mmcblk0p2 ext4 ro,noatime", "disk=mmcblk0"], fsync=[])
    assert one(subject(answer), "disk").severity == "error"


# -- ports ---------------------------------------------------------------------------------------------------

NGINX = [
    'tcp   LISTEN 0      511      0.0.0.0:6443   0.0.0.0:*    users:(("nginx",pid=901,fd=6),("nginx",pid=900,fd=6))',
    'tcp   LISTEN 0      511             [::]:6443         [::]:*    users:(("nginx",pid=901,fd=7))',
    "unit 901 nginx.service",
]


def test_a_port_taken_by_another_process_is_named_once() -> None:
    finding = one(subject(report(ports=[*BOOKWORM["ports"], *NGINX])), "ports")
    assert finding.severity == "error"
    assert finding.found == "port 6443/tcp (Kubernetes API) is taken by nginx (nginx.service)"
    assert "sudo systemctl disable --now nginx.service" in finding.fix


def test_an_agent_does_not_need_the_api_port() -> None:
    assert found(subject(report(ports=NGINX), name="pi-worker-1"), "ports") == []


def test_ports_of_k3s_itself_are_not_taken() -> None:
    ports = [
        'tcp LISTEN 0 4096 *:6443 *:* users:(("k3s-server",pid=640,fd=11))',
        'tcp LISTEN 0 4096 127.0.0.1:10010 0.0.0.0:* users:(("containerd",pid=700,fd=13))',
        "udp UNCONN 0 0 0.0.0.0:8472 0.0.0.0:*",
        'tcp LISTEN 0 4096 *:7946 *:* users:(("speaker",pid=2210,fd=7))',
        "unit 640 k3s.service",
        "unit 700 k3s.service",
    ]
    seen = subject(running(report(ports=ports)), settings={"metallb_pool": "192.168.0.200-192.168.0.210"})
    assert found(seen, "ports") == []


@pytest.mark.parametrize(("unit", "profile", "count"), [(True, "named", 1), (True, "minimal", 0), (False, "named", 0)])
def test_a_node_exporter_of_the_host_is_in_the_way_of_the_platforms(unit: bool, profile: str, count: int) -> None:
    ports = ['tcp LISTEN 0 4096 *:9100 *:* users:(("node_exporter",pid=900,fd=3))']
    ports += ["unit 900 prometheus-node-exporter.service"] if unit else []
    seen = subject(running(report(ports=ports)), settings={"platform_profile": profile})
    remarks = found(seen, "ports")
    assert len(remarks) == count
    assert not count or "port 9100/tcp (node-exporter) is taken by node_exporter" in remarks[0].found


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ('tcp LISTEN 0 5 192.168.0.120:10248 0.0.0.0:* users:(("x",pid=1,fd=1))', 0),
        ('tcp LISTEN 0 5 127.0.0.1:10248 0.0.0.0:* users:(("x",pid=1,fd=1))', 1),
        ('tcp LISTEN 0 5 *:10248 *:* users:(("x",pid=1,fd=1))', 1),
        ('tcp LISTEN 0 5 127.0.0.1:6443 0.0.0.0:* users:(("x",pid=1,fd=1))', 1),
        ("udp UNCONN 0 0 0.0.0.0:8472 0.0.0.0:*", 0),
        ("tcp LISTEN 0 64 0.0.0.0:2379 0.0.0.0:*", 0),
        ('udp UNCONN 0 0 0.0.0.0:6443 0.0.0.0:* users:(("x",pid=1,fd=1))', 0),
    ],
)
def test_only_listeners_in_the_way_count(line: str, count: int) -> None:
    assert len(found(subject(report(ports=[line])), "ports")) == count


def test_etcds_ports_count_with_etcd() -> None:
    line = 'tcp LISTEN 0 64 0.0.0.0:2379 0.0.0.0:* users:(("etcd",pid=5,fd=1))'
    assert "(etcd)" in one(subject(report(ports=[line]), settings={"datastore": "etcd"}), "ports").found


# -- network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "severity"), [(0.9, None), (-1.3, "warning"), (59.0, "warning"), (-3600.0, "error"), (1.05, None)]
)
def test_clocks_apart_are_judged_beyond_the_error_of_measurement(offset: float, severity: str | None) -> None:
    findings = found(subject(clock=(offset, 0.1)), "clock")
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    assert all(("ahead of" if offset > 0 else "behind") in finding.found for finding in findings)


def test_a_clock_that_is_not_set_is_a_warning() -> None:
    assert "not synchronised" in one(subject(report(system=system(synchronised="no"))), "clock").found


def test_names_that_lead_elsewhere_are_a_warning_and_unknown_ones_news() -> None:
    names = ["pi-master 127.0.1.1", "pi-worker-1 192.168.0.99", "pi-worker-2"]
    wrong, unknown = found(subject(report(names=names)), "dns")
    assert "192.168.0.99" in wrong.found and "192.168.0.121" in wrong.found and wrong.severity == "warning"
    assert unknown.found.endswith("pi-worker-2") and unknown.severity == "info"


def test_a_host_that_does_not_know_its_own_name_or_a_resolver_is_told() -> None:
    answer = report(hostname=["raspberrypi"], names=["raspberrypi"], nameservers=[])
    assert [finding.found.split()[0] for finding in found(subject(answer), "dns")] == ["its", "no"]


def test_no_default_route_is_a_warning_and_no_answer_is_unknown() -> None:
    assert one(subject(report(system=system(default_route=""))), "route").severity == "warning"
    silent = subject(report(system=system(without=["default_route"])))
    assert found(silent, "route") == [] and "default route" in one(silent, "unknown").found


@pytest.mark.parametrize(
    ("version", "severity"),
    [
        ("iptables v1.8.9 (nf_tables)", None),
        ("iptables v1.8.11 (nf_tables)", None),
        ("iptables v1.8.4 (nf_tables)", "error"),
        ("iptables v1.8.0 (nf_tables)", "error"),
        ("iptables v1.8.2 (legacy)", "warning"),
        ("iptables v1.6.1", "warning"),
    ],
)
def test_broken_and_legacy_iptables_are_found(version: str, severity: str | None) -> None:
    findings = found(subject(report(system=system(iptables=version))), "iptables")
    assert [finding.severity for finding in findings] == ([severity] if severity else [])


def test_legacy_tables_beside_nftables_are_found() -> None:
    assert "legacy" in one(subject(report(system=system(legacy_tables="filter"))), "iptables").found


def test_docker_and_a_forward_policy_of_drop_are_found() -> None:
    answer = report(system=system(forward="-P FORWARD DROP"))
    assert "policy of iptables is DROP" in one(subject(answer), "docker").found
    answer.snapshot.packages.add("docker.io")
    finding = one(subject(answer), "docker")
    assert "Docker is on this node, and the FORWARD policy is DROP" in finding.found
    assert "apt purge docker.io" in finding.fix


def test_swap_on_the_card_is_a_warning() -> None:
    finding = one(subject(report(swaps=["/var/swap  file\t\t524272\t\t0\t\t-2"])), "swap")
    assert "/var/swap (511 MB)" in finding.found


# -- boot, sudo, SSH -------------------------------------------------------------------------------------------


def test_boot_files_that_are_not_there_are_a_warning() -> None:
    assert "mount /boot/firmware" in one(subject(report(cmdline=[])), "boot").fix


def test_a_board_that_is_no_pi_needs_no_boot_files() -> None:
    answer = report(cmdline=[], system=system(without=["model", "throttled", "temperature"]))
    assert found(subject(answer), "boot") == [] and found(subject(answer), "unknown") == []


def test_a_second_line_in_cmdline_txt_is_a_warning() -> None:
    cmdline = ["/boot/firmware/cmdline.txt", "cm9vdD1hIHJvb3R3YWl0CmNncm91cF9lbmFibGU9bWVtb3J5Cg=="]
    assert "more than one line" in one(subject(report(cmdline=cmdline)), "boot").found


def test_sudo_with_a_password_is_an_error_with_its_reason() -> None:
    finding = one(subject(report(sudo="no sudo: a password is required")), "sudo")
    assert finding.severity == "error" and "a password is required" in finding.found and "NOPASSWD" in finding.fix


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Authentication error (username=pi, key=x) (Authentication failed.)", "let us in"),
        ("No such private key file: /x", "let us in"),
        ("SSH host key error (Host key for 10.0.0.1 does not match.)", "host key changed"),
        ("SSH error (StrictPolicy: No host key for 10.0.0.1 found in known_hosts)", "host key is not known"),
        ("Could not resolve hostname (Name or service not known)", "its name has no address"),
        ("Could not connect (timed out)", "can't be reached"),
    ],
)
def test_why_ssh_failed_is_told_apart(text: str, part: str) -> None:
    away = subject(connection=Connection("ssh pi@192.168.0.120", error=text))
    (finding,) = host_findings(replace(away, report=None))
    assert (finding.severity, finding.topic) == ("error", "ssh")
    assert part in finding.found and text in finding.found and finding.fix


def test_a_host_that_answers_only_in_part_is_an_error() -> None:
    (finding,) = host_findings(replace(subject(), report=None))
    assert "not in full" in finding.found


def test_passwords_unchecked_and_new_host_keys_are_told() -> None:
    base = Connection("ssh", "", "password", "ssh-ed25519 SHA256:x", True, "no")
    assert [f.found[:14] for f in found(subject(connection=base), "ssh")] == ["SSH let us in ", "its host key i"]
    new = replace(base, auth="publickey", checking="accept-new")
    assert "SHA256:x" in one(subject(connection=new), "ssh").found


# -- K3s -------------------------------------------------------------------------------------------------------


def test_what_the_deploy_would_refuse_is_an_error_of_its_topic() -> None:
    refusal = Refusal("memory", "it has 900 MB of memory", "min_memory_mb is 1800", "use a larger board")
    finding = one(subject(refused=(refusal,)), "memory")
    assert (finding.severity, finding.found, finding.fix) == ("error", refusal.found, refusal.fix)


def test_k3s_in_the_wanted_version_is_no_news() -> None:
    assert found(subject(running(report())), "K3s") == []


def test_another_version_is_news_unless_it_is_refused() -> None:
    seen = subject(running(report(), version="v1.35.4+k3s1"))
    assert "v1.35.4+k3s1" in one(seen, "K3s").found
    refused = replace(seen, refused=(Refusal("K3s", "cannot go back", "", ""),))
    assert [finding.severity for finding in found(refused, "K3s")] == ["error"]


def test_a_server_where_an_agent_should_be_is_an_error() -> None:
    assert "inventory says worker" in one(subject(running(report()), name="pi-worker-1"), "K3s").found


def test_k3s_that_failed_is_an_error() -> None:
    answer = running(report())
    answer.snapshot.units["k3s"] = UnitState("failed", "enabled")
    assert one(subject(answer), "K3s").found == "k3s is failed"


def test_a_host_without_tools_is_unknown_and_not_judged() -> None:
    nothing = {key: list[str]() for key in BOOKWORM}
    bare = report({**nothing, "cgroup_controllers": BOOKWORM["cgroup_controllers"], "preflight": BOOKWORM["preflight"]})
    found_unknown = one(subject(bare), "unknown").found
    for tool in ("getconf", "ss of iproute2", "ip of iproute2", "dd", "findmnt", "bash"):
        assert tool in found_unknown
    judged = {finding.topic for finding in host_findings(subject(bare)) if finding.severity != "info"}
    assert judged == {"dns"}, "an empty resolv.conf is an answer"
