"""What the checks say of the hosts together, and how findings are ordered and counted."""

from __future__ import annotations

import io
from dataclasses import replace

from check_samples import BOOKWORM, report, subject, system
from rich.console import Console

from piclusterops.check import Connection, Finding, Result, Subject, settings_findings, worst_first
from piclusterops.check_cluster import cluster_findings, peer_ports
from piclusterops.check_report import show, together
from piclusterops.facts.snapshot import UnitState
from piclusterops.faults import Fault
from piclusterops.host_report import Latency, clock_offset, latency, listeners

NAMES = ("pi-master", "pi-worker-1", "pi-worker-2")


def fleet(**probes: list[str]) -> list[Subject]:
    """Three hosts of their own, which reach each other."""
    subjects = []
    for number, name in enumerate(NAMES):
        others = [octet for octet in (120, 121, 122) if octet != 120 + number]
        own = {
            "boot_id": [f"boot-{number}"],
            "hostname": [name],
            "system": system(machine_id=f"{number}" * 32),
            "peers": [f"192.168.0.{octet}:{port} open" for octet in others for port in (22, 6443, 10250)],
        }
        answer = report(**{**own, **probes})
        subjects.append(subject(answer, name=name))
    return subjects


def test_sound_hosts_have_no_finding_together() -> None:
    assert cluster_findings(fleet()) == []


def test_cloned_cards_are_an_error_by_their_machine_id() -> None:
    (finding,) = cluster_findings(fleet(system=BOOKWORM["system"])[:2])
    assert (finding.severity, finding.host, finding.topic) == ("error", "cluster", "identity")
    assert finding.found == "pi-master and pi-worker-1 have the same machine-id: a card was cloned"


def test_cloned_host_keys_are_a_warning() -> None:
    same = Connection("ssh", host_key="ssh-ed25519 SHA256:x")
    (finding,) = cluster_findings([replace(seen, connection=same) for seen in fleet()])
    assert finding.severity == "warning" and "pi-worker-2 have the same SSH host key" in finding.found


def test_one_machine_listed_twice_is_told_once() -> None:
    (finding,) = cluster_findings(fleet(boot_id=["same"], system=BOOKWORM["system"])[:2])
    assert "are the same machine" in finding.found


def test_hosts_that_are_not_named_yet_are_news_and_swapped_ones_a_warning() -> None:
    (finding,) = cluster_findings(fleet(hostname=["raspberrypi"]))
    assert finding.severity == "info" and "call themselves raspberrypi" in finding.found
    swapped = fleet(hostname=["pi-worker-1"])[:1]
    (finding,) = cluster_findings(swapped)
    assert finding.severity == "warning" and finding.host == "pi-master"


def test_a_node_that_does_not_reach_another_is_an_error() -> None:
    silent = [f"192.168.0.121:{port} silent" for port in (22, 10250)]
    subjects = fleet(peers=silent)[:2]
    (finding,) = cluster_findings(subjects)
    assert finding.host == "pi-master" and "does not reach pi-worker-1 (192.168.0.121): silent" in finding.found


def test_a_port_that_is_closed_for_ssh_alone_is_no_error() -> None:
    answers = ["192.168.0.121:22 silent", "192.168.0.121:10250 refused"]
    assert cluster_findings(fleet(peers=answers)[:2]) == []


def test_ports_of_a_running_k3s_must_be_open_between_nodes() -> None:
    subjects = fleet(peers=["192.168.0.120:22 open", "192.168.0.120:6443 silent", "192.168.0.120:10250 open"])
    assert cluster_findings(subjects) == []
    assert subjects[0].report
    subjects[0].report.snapshot.units["k3s"] = UnitState("active", "enabled")
    findings = cluster_findings(subjects)
    assert [finding.host for finding in findings] == ["pi-worker-1", "pi-worker-2"]
    assert all("port 6443 of pi-master" in finding.found for finding in findings)


def test_an_unreachable_host_is_not_reported_by_every_other_one() -> None:
    subjects = fleet(peers=["192.168.0.121:22 unreachable", "192.168.0.121:10250 unreachable"])
    subjects[1] = replace(subjects[1], report=None, connection=Connection("ssh", error="timed out"))
    assert cluster_findings(subjects) == []


def test_the_ports_tried_are_those_a_node_may_have() -> None:
    assert peer_ports(subject(ssh_port=2222)) == [2222, 10250, 6443]
    assert peer_ports(subject(name="pi-worker-1")) == [22, 10250]


# -- order, counts, table --------------------------------------------------------------------------------------


def finding(severity: str, topic: str, host: str = "pi-master", found: str = "x") -> Finding:
    return Finding(severity, host, topic, found, "why", "fix")  # type: ignore[arg-type]


def test_the_worst_comes_first_then_what_spoils_the_rest() -> None:
    given = [
        finding("info", "host"),
        finding("warning", "swap"),
        finding("error", "ports"),
        finding("error", "power", "pi-worker-1"),
        finding("error", "power"),
        finding("error", "settings", "cluster"),
        finding("error", "ports"),
    ]
    ordered = worst_first(given, NAMES)
    assert [(f.severity, f.topic, f.host) for f in ordered] == [
        ("error", "settings", "cluster"),
        ("error", "power", "pi-master"),
        ("error", "power", "pi-worker-1"),
        ("error", "ports", "pi-master"),
        ("warning", "swap", "pi-master"),
        ("info", "host", "pi-master"),
    ]


def test_faults_of_the_inventory_are_errors() -> None:
    faults = [
        Fault("lan_cidr", "not set", "it has no default", "lan_cidr = ..."),
        Fault("address", "", "w", "f", "a, b"),
    ]
    whole, hosts = settings_findings(faults)
    assert (whole.severity, whole.host, whole.found) == ("error", "cluster", "lan_cidr = not set")
    assert (hosts.host, hosts.found) == ("a, b", "address")


def test_the_summary_counts_and_judges() -> None:
    result = Result("prod", NAMES, (finding("warning", "swap"), finding("info", "host")))
    assert result.summary == "3 hosts: 0 errors, 1 warning, 1 info; nothing stands in the way."
    assert not result.has_errors
    assert Result("prod", NAMES[:1], (finding("error", "ssh"),)).summary.startswith("1 host: 1 error, 0 warnings")


def test_the_table_joins_hosts_and_takes_markup_literally() -> None:
    findings = (
        finding("error", "ssh", "pi-master", "[bold]x[/]"),
        finding("error", "ssh", "pi-worker-1", "[bold]x[/]"),
    )
    assert [hosts for _, hosts in together(findings)] == [["pi-master", "pi-worker-1"]]
    shown = io.StringIO()
    show(Result("prod", NAMES, findings), Console(file=shown, width=80))
    assert "[bold]x[/]" in shown.getvalue() and "2 errors" in shown.getvalue()
    assert max(map(len, shown.getvalue().splitlines())) <= 80


# -- values ----------------------------------------------------------------------------------------------------


def test_percentiles_are_of_nearest_rank() -> None:
    assert latency([f"{number / 1000}" for number in range(1, 101)]) == Latency(50.0, 99.0, 100)
    assert latency(["5.4e-05"]) == Latency(0.054, 0.054, 1)
    assert latency([]) is None and latency(["oops"]) is None


def test_the_way_there_and_back_is_taken_off_the_clock() -> None:
    # 10 s ahead; 0.2 s there, 0.4 s back, 3 s of work.
    offset, bound = clock_offset(100.0, 110.2, 113.2, 103.6)
    assert abs(offset - 9.9) < 1e-9 and abs(bound - 0.3) < 1e-9


def test_sockets_are_read_in_all_their_forms() -> None:
    found = listeners(
        [
            'tcp LISTEN 0 4096 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=501,fd=14))',
            'tcp LISTEN 0 128 [::1]:631 [::]:* users:(("cupsd",pid=7,fd=1))',
            "udp UNCONN 0 0 *:8472 *:*",
            "nonsense",
            "unit 7 cups.service",
        ]
    )
    assert found
    assert [(x.address, x.port, x.process, x.unit) for x in found] == [
        ("127.0.0.53%lo", 53, "systemd-resolve", ""),
        ("[::1]", 631, "cupsd", "cups.service"),
        ("*", 8472, "", ""),
    ]
    assert [x.is_loopback for x in found] == [True, True, False]
    assert listeners([]) is None
