"""Changes under a timed rollback, on hosts: kept when we can come back, undone when we can't, whatever happens."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from runs import FINGERPRINT, Run, data, out, pyinfra

from piclusterops.lab.fleet import Lab

pytestmark = pytest.mark.lab

FIRST, SECOND = "pi-master", "pi-worker-1"
NFT = "/opt/piclusterops-lab/nft/run"
#: Seconds until a host undoes a change by itself.
TIMER = 14
DEPLOY = f"""
from pyinfra import host
from pyinfra.api import operation

from piclusterops.deploys.stop import stop_at_first_failure
from piclusterops.facts import cache
from piclusterops.facts.armed import PROBE, is_pending
from piclusterops.facts.snapshot import Query, snapshot_of
from piclusterops.operations.armed import ArmedChange, armed
from piclusterops.operations.managed import ManagedFile

FILE = ManagedFile("new\\n", "640")
QUERY = Query(paths=("/etc/thing.conf", "/etc/thing.kept"), probes=(PROBE,))


@operation()
def thing(node):
    if host.name != node:
        host.noop("another node")
        return
    snapshot = snapshot_of(QUERY)
    if len(snapshot.paths) == 2 and not is_pending(snapshot, "thing"):
        host.noop("it is as it should be")
        return
    yield armed(
        ArmedChange(
            name="thing",
            files={{"/etc/thing.conf": FILE, "/etc/issue": ManagedFile("changed\\n")}},
            check=host.data.get("thing_check", ""),
            fingerprint="{NFT} list ruleset",
            apply=host.data.get("thing_apply", "true"),
            rollback='[ "$boot" = yes ] || {NFT} destroy table inet thing || {NFT} delete table inet thing',
            persist="touch /etc/thing.kept",
            timeout_s={TIMER},
            probe_s=4,
        )
    )


cache.install()
stop_at_first_failure()
for node in host.loop([{FIRST!r}, {SECOND!r}]):
    thing(name=f"Change {{node}}", node=node)
"""
#: Shell that refuses new connections to SSH; `established` says what becomes of those that are open.
CLOSE = (
    f"{NFT} 'add table inet thing; add chain inet thing input {{ type filter hook input priority 0; }}; "
    "add rule inet thing input tcp dport 22 ct state established %s; add rule inet thing input tcp dport 22 reject'"
)


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deploy of one change, node by node."""
    file = tmp_path_factory.mktemp("deploy") / "thing.py"
    file.write_text(DEPLOY)
    return file


@pytest.fixture
def before(pair: Lab) -> dict[str, str]:
    """Both hosts before the test."""
    return state(pair)


def state(lab: Lab) -> dict[str, str]:
    """A digest of each host, but for the mechanism's own tool, unit and notes."""
    paths = "! -path '*piclusterops*'"
    shell = FINGERPRINT.replace("-type f", f"{paths} -type f").replace("! -name .sudo", f"{paths} ! -name .sudo")
    return {node: out(lab, node, f"{shell}; {NFT} list ruleset") for node in (FIRST, SECOND)}


def run(lab: Lab, deploy: Path, **settings: str) -> Run:
    return pyinfra("-y", "--json", *data(**settings), lab=lab.name, deploy=str(deploy))


def test_a_change_that_the_check_refuses_is_not_made(pair: Lab, deploy: Path, before: dict[str, str]) -> None:
    refused = run(pair, deploy, thing_check="echo 'this is no good'; exit 1")
    assert refused.returncode == 1
    assert (
        f"{FIRST}: thing: nothing was changed: the check refused it: this is no good. Next: mend that" in refused.output
    )
    assert state(pair) == before


def test_a_host_that_can_set_no_timer_is_left_alone(pair: Lab, deploy: Path, before: dict[str, str]) -> None:
    out(pair, FIRST, "ln -s /bin/false /usr/local/sbin/systemd-run")
    refused = run(pair, deploy)
    out(pair, FIRST, "rm /usr/local/sbin/systemd-run")
    assert refused.returncode == 1
    assert "nothing was changed: the host could not set the timer that would undo it" in refused.output
    assert state(pair) == before


def test_a_change_that_refuses_new_connections_is_undone_at_once(
    pair: Lab, deploy: Path, before: dict[str, str]
) -> None:
    """The open connection still works, so that a run without the mechanism would have noticed nothing."""
    started = time.monotonic()
    failed = run(pair, deploy, thing_apply=CLOSE % "accept")
    assert failed.returncode == 1
    assert "thing: a new connection failed: " in failed.output
    assert "The change was undone: the host is as before. Next: ssh" in failed.output
    assert "Traceback" not in failed.output
    assert state(pair) == before, "the other host must not be touched either"
    assert time.monotonic() - started < 4 + TIMER, "it waited for the timer"


def test_a_change_that_cuts_every_connection_is_undone_by_the_host(
    pair: Lab, deploy: Path, before: dict[str, str]
) -> None:
    failed = run(pair, deploy, thing_apply=CLOSE % "drop")
    assert failed.returncode == 1
    assert "The change was undone: the host is as before. Next: ssh" in failed.output
    assert state(pair) == before
    assert "undone, because nobody confirmed it" in out(pair, FIRST, "journalctl -b -u 'piclusterops-rollback-*'")


def test_a_change_that_lets_us_back_in_is_kept_and_its_timer_is_gone(pair: Lab, deploy: Path) -> None:
    done = run(pair, deploy)
    assert done.returncode == 0, done.output
    assert done.changes == {f"Change {FIRST}": [FIRST], f"Change {SECOND}": [SECOND]}
    for node in (FIRST, SECOND):
        assert out(pair, node, "stat -c '%a %U' /etc/thing.conf; cat /etc/thing.conf /etc/issue").split() == [
            "640",
            "root",
            "new",
            "changed",
        ]
        left = "ls /etc/thing.kept; systemctl list-timers --no-legend 'piclusterops-*'"
        assert out(pair, node, left) == "/etc/thing.kept", done.output + pair.logs(node)
    again = run(pair, deploy)
    assert (again.returncode, again.changes) == (0, {})
    assert set(again.executions.values()) == {1}


def test_the_boot_unit_starts_before_the_network_and_sshd(pair: Lab) -> None:
    shell = "systemctl show -p Before --value piclusterops-rollback.service; systemctl is-enabled piclusterops-rollback"
    answer = out(pair, FIRST, shell).split()
    assert {"network-pre.target", "ssh.service", "sysinit.target", "nftables.service", "enabled"} <= set(answer)
    assert out(pair, FIRST, "systemd-analyze verify piclusterops-rollback.service 2>&1 || :") == ""
