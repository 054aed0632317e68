"""sshd on hosts: hardened one after the other, and never so that we could not come back."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import REPOSITORY, Run, data, kill_before_confirmation, out, pyinfra, until

from piclusterops.lab.fleet import Lab

pytestmark = pytest.mark.lab

FIRST, SECOND = "pi-master", "pi-worker-1"
CONFIG = "/etc/ssh/sshd_config.d/00-piclusterops.conf"
DEPLOY = """
from pyinfra import inventory

from piclusterops.deploys.sshd import sshd
from piclusterops.deploys.stop import stop_at_first_failure
from piclusterops.validation import cluster_from_inventory

stop_at_first_failure()
sshd(cluster_from_inventory(inventory))
"""


@pytest.fixture(scope="module")
def sshd_lab(pair: Lab) -> Lab:
    """Hosts whose cloud-init allows passwords, and whose user pi has one."""
    for node in (FIRST, SECOND):
        out(
            pair,
            node,
            "echo 'PasswordAuthentication yes' >/etc/ssh/sshd_config.d/50-cloud-init.conf; systemctl reload ssh; "
            "echo pi:raspberry | chpasswd; useradd -m -s /bin/bash mallory",
        )
    return pair


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deploy of sshd alone."""
    file = tmp_path_factory.mktemp("deploy") / "only_sshd.py"
    file.write_text(DEPLOY)
    return file


def state(lab: Lab) -> dict[str, str]:
    """What sshd is told on each host, and what it makes of it."""
    shell = "find /etc/ssh -type f -exec sha256sum {} + | sort; ls -lR --time-style=+ /etc/ssh; sshd -T"
    return {node: out(lab, node, shell) for node in (FIRST, SECOND)}


def run(lab: Lab, deploy: Path, **settings: object) -> Run:
    return pyinfra("-y", "--json", *data(**settings), lab=lab.name, deploy=str(deploy))


def kill_unconfirmed(lab: Lab, deploy: Path, timer_s: int) -> None:
    """Change sshd's banner, and kill the controller before it confirms that."""
    kill_before_confirmation(lab, "sshd", DEPLOY, deploy.parent, sshd_banner="Hello", armed_timeout_s=timer_s)
    assert "banner /etc/ssh/piclusterops-banner" in out(lab, FIRST, "sshd -T")


def test_the_first_run_hardens_one_host_after_the_other(sshd_lab: Lab, deploy: Path) -> None:
    first = run(sshd_lab, deploy)
    assert first.returncode == 0, first.output
    applied = [float(out(sshd_lab, node, f"stat -c %.Z {CONFIG}")) for node in (FIRST, SECOND)]
    kept = [float(out(sshd_lab, node, "stat -c %.Z /var/lib/piclusterops/stamps/sshd")) for node in (FIRST, SECOND)]
    assert applied[0] < kept[0] < applied[1] < kept[1], "the second was changed before the first was confirmed"


def test_the_second_run_changes_nothing_in_one_ssh_execution_a_host(sshd_lab: Lab, deploy: Path) -> None:
    second = run(sshd_lab, deploy)
    assert (second.returncode, second.changes) == (0, {}), second.output
    assert second.executions == {FIRST: 1, SECOND: 1}


def test_cloud_inits_file_does_not_win_and_only_named_users_get_in_with_a_key(sshd_lab: Lab) -> None:
    effective = out(sshd_lab, FIRST, "sshd -T -C user=pi,host=x,addr=203.0.113.1").splitlines()
    assert {"passwordauthentication no", "permitrootlogin no", "x11forwarding no", "allowusers pi"} <= set(effective)
    methods = sshd_lab.ssh_command(FIRST)
    for user, answer in (("pi", "publickey"), ("mallory", "publickey"), ("root", "publickey")):
        target = [word.replace("pi@", f"{user}@") if word.startswith("pi@") else word for word in methods]
        asked = subprocess.run(
            [*target, "-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes", "true"], capture_output=True, text=True
        )
        assert f"Permission denied ({answer})" in asked.stderr, "a password would be taken"
    key = out(sshd_lab, FIRST, "cat /home/pi/.ssh/authorized_keys")
    out(sshd_lab, FIRST, f"install -d -m 700 -o mallory ~mallory/.ssh; echo '{key}' >~mallory/.ssh/authorized_keys")
    mallory = [word.replace("pi@", "mallory@") if word.startswith("pi@") else word for word in methods]
    assert subprocess.run([*mallory, "-o", "BatchMode=yes", "true"], capture_output=True).returncode == 255


def test_plain_ssh_connects_and_ssh_audit_passes_our_policy(sshd_lab: Lab) -> None:
    assert sshd_lab.ssh(FIRST, ["sudo", "whoami"]).stdout == "root\n"
    address = sshd_lab.fleet.host(FIRST).address
    policy = REPOSITORY / "files" / "ssh-audit" / "debian-12.txt"
    audit = [str(Path(sys.executable).with_name("ssh-audit")), "-P", str(policy), address]
    passed = subprocess.run(audit, capture_output=True, text=True, timeout=60)
    assert (passed.returncode, "Passed" in passed.stdout) == (0, True), passed.stdout


def test_a_configuration_that_refuses_our_key_is_undone_and_no_other_host_touched(sshd_lab: Lab, deploy: Path) -> None:
    before = state(sshd_lab)
    failed = run(sshd_lab, deploy, sshd_options={"PubkeyAcceptedAlgorithms": "ssh-rsa"})
    assert failed.returncode == 1
    assert f"{FIRST}: sshd: a new connection failed: Authentication error" in failed.output
    assert "The change was undone: the host is as before. Next: ssh" in failed.output
    assert "Traceback" not in failed.output
    assert state(sshd_lab) == before
    assert sshd_lab.ssh(FIRST, ["true"]).returncode == 0
    again = run(sshd_lab, deploy)
    assert (again.returncode, again.changes) == (0, {})


def test_algorithms_that_pyinfra_has_not_are_refused_before_anything_happens(sshd_lab: Lab, deploy: Path) -> None:
    before = state(sshd_lab)
    refused = run(sshd_lab, deploy, sshd_options={"KexAlgorithms": "sntrup761x25519-sha512@openssh.com"})
    assert refused.returncode == 1
    assert "sshd was left as it is: pyinfra knows none of the wanted KexAlgorithms. Next: " in refused.output
    assert state(sshd_lab) == before


def test_a_match_block_against_us_is_found_before_anything_happens(sshd_lab: Lab, deploy: Path) -> None:
    block = "/etc/ssh/sshd_config.d/90-own.conf"
    out(sshd_lab, FIRST, f"printf 'Match User pi\\n  X11Forwarding yes\\n' >{block}; rm {CONFIG}")
    before = state(sshd_lab)
    refused = run(sshd_lab, deploy)
    assert state(sshd_lab) == before
    out(sshd_lab, FIRST, f"rm {block}")
    assert refused.returncode == 1
    assert "the check refused it" in refused.output
    assert "x11forwarding no" in refused.output


def test_a_controller_that_is_killed_leaves_the_old_state_after_the_timer(sshd_lab: Lab, deploy: Path) -> None:
    assert run(sshd_lab, deploy).returncode == 0
    before = state(sshd_lab)
    kill_unconfirmed(sshd_lab, deploy, timer_s=15)
    until(lambda: state(sshd_lab) == before, 20)
    assert sshd_lab.ssh(FIRST, ["true"]).returncode == 0


def test_a_power_cut_before_the_confirmation_brings_the_old_state_back(sshd_lab: Lab, deploy: Path) -> None:
    before = state(sshd_lab)
    kill_unconfirmed(sshd_lab, deploy, timer_s=600)
    sshd_lab.power_cut(FIRST)
    sshd_lab.power_on(FIRST)
    sshd_lab.wait_ssh([FIRST])
    assert state(sshd_lab) == before
    assert "sshd: undone" in out(sshd_lab, FIRST, "journalctl -b -u piclusterops-rollback.service")


def test_an_unconfirmed_change_can_be_undone_by_hand_from_the_console(sshd_lab: Lab, deploy: Path) -> None:
    """As docs/how-to/locked-out.md says, down to the hardening itself."""
    before = state(sshd_lab)
    kill_unconfirmed(sshd_lab, deploy, timer_s=600)
    (script,) = out(sshd_lab, FIRST, "find /var/lib/piclusterops/armed -name rollback").split()
    out(sshd_lab, FIRST, script)
    assert state(sshd_lab) == before
    out(sshd_lab, FIRST, f"rm {CONFIG}; systemctl restart ssh")
    assert "passwordauthentication yes" in out(sshd_lab, FIRST, "sshd -T")


def test_the_run_after_a_killed_one_waits_for_the_rollback_and_then_makes_its_change(
    sshd_lab: Lab, deploy: Path
) -> None:
    kill_unconfirmed(sshd_lab, deploy, timer_s=15)
    done = run(sshd_lab, deploy, sshd_banner="Hello")
    assert done.returncode == 0, done.output
    assert "an earlier change was not confirmed; waiting until the host has undone it" in done.output
    time.sleep(1)
    for node in (FIRST, SECOND):
        assert (
            out(sshd_lab, node, "cat /etc/ssh/piclusterops-banner; ls /var/lib/piclusterops/armed/*/rollback || :")
            == "Hello"
        )
