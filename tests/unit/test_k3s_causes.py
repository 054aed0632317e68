"""From a journal to a cause, and never a token."""

from __future__ import annotations

import pytest

from piclusterops.k3s_causes import CAUSES, brief, diagnose, redact

SECRET = "0123456789abcdef" * 4
FATAL = 'time="2026-11-23T15:00:00Z" level=fatal msg="{}"'

LINES = [
    (FATAL.format("preparing server: bootstrap data already found and encrypted with different token"),
     "datastore was made with"),
    ('level=error msg="token CA hash does not match the Cluster CA certificate hash: ' + SECRET + " != " + SECRET + '"',
     "another cluster"),
    (FATAL.format("Error: preparing server: failed to validate server configuration: "
                  "critical configuration value mismatch between servers: cluster-cidr"), "must be the same"),
    ('level=info msg="Waiting to retrieve agent configuration; server is not ready: Node password rejected, duplicate '
     "hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry\"", "flashed anew"),
    ('level=info msg="Waiting to retrieve agent configuration; server is not ready: failed to retrieve configuration '
     'from server: not authorized"', "refuses this node's token"),
    (FATAL.format("Error: failed to find memory cgroup (v2)"), "memory cgroup"),
    ('E1123 15:00:00.1 1 kubelet.go:1] "Failed to start ContainerManager" err="[invalid kernel flag: '
     'vm/overcommit_memory, expected value: 1, actual value: 0]"', "protect-kernel-defaults"),
    (FATAL.format('apiserver exited: failed to initialize admission: couldn\'t init admission plugin "EventRateLimit": '
                  "limits: Invalid value"), "admission configuration"),
    (FATAL.format("Error: flag provided but not defined: -foo"), "argument is not known"),
    (FATAL.format("failed to parse kubelet flag: unknown flag: --foo"), "argument is not known"),
    (FATAL.format("listen tcp :6443: bind: address already in use"), "one of K3s' ports"),
    (FATAL.format("write /var/lib/rancher/k3s/x: no space left on device"), "disk is full"),
    (FATAL.format("open /var/lib/rancher/k3s/x: read-only file system"), "disk fails"),
    (FATAL.format("x509: certificate has expired or is not yet valid: current time 2020 is before 2026"), "clocks"),
    (FATAL.format("etcd cluster join failed: duplicate node name found, please use a unique name"),
     "earlier installation"),
    (FATAL.format("leaderelection lost for k3s"), "too slow"),
    ('level=error msg="Failed to validate connection to cluster at https://10.0.0.1:6443: failed to get CA certs: Get '
     '\\"https://10.0.0.1:6443/cacerts\\": dial tcp 10.0.0.1:6443: connect: no route to host"',
     "does not reach the API"),
    (FATAL.format("no default routes found in /proc/net/route"), "default route"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "cause"), LINES)
def test_known_lines_have_a_cause_and_a_next_command(line: str, cause: str) -> None:
    advice = diagnose(['level=info msg="Starting k3s"', line]).advice("pi-2", "k3s-agent", "pi-1", "192.168.0.120")
    assert cause in advice
    assert "next: " in advice and "{" not in advice.split("next: ")[1].replace("{print", "")


def test_every_cause_is_found_by_a_line() -> None:
    found = {diagnose([line]).cause for line, _ in LINES} | {
        diagnose([FATAL.format("open x: permission denied")]).cause
    }
    assert found == set(CAUSES)


def test_the_last_fatal_line_counts_more_than_errors_around_it() -> None:
    found = diagnose(
        [
            FATAL.format("no space left on device"),
            FATAL.format("bootstrap data already found and encrypted with different token"),
            'level=error msg="connection refused"',
        ]
    )
    assert "different token" in found.line
    assert found.is_certain


def test_an_unknown_fatal_line_is_shown_with_the_journal_as_next_command() -> None:
    found = diagnose([FATAL.format("something new")])
    assert "something new" in found.line and found.cause is None and not found.is_certain
    assert "ssh pi-2 sudo journalctl -u k3s" in found.advice("pi-2", "k3s", "pi-1", "10.0.0.1")


def test_harmless_lines_say_nothing() -> None:
    assert diagnose(['level=info msg="connection refused"', 'level=warning msg="no route to host"']).line == ""


@pytest.mark.parametrize(
    "text", [f"K10{SECRET}::server:hunter2hunter2", f"token {SECRET}!", "https://u:hunter2hunter2@h/"]
)
def test_tokens_are_never_shown(text: str) -> None:
    shown = redact(f"level=fatal {text} end")
    assert brief(f"level=fatal {text} end") == shown
    assert SECRET not in shown and "hunter2hunter2" not in shown
    assert shown.startswith("level=fatal") and shown.endswith("end")
    assert SECRET not in diagnose([f"level=fatal {text}"]).line


def test_long_lines_are_cut() -> None:
    assert len(brief("x" * 5000)) < 700
    assert len(redact("x" * 5000)) == 5000
