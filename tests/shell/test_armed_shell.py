"""What the host does about an unconfirmed change, run for real under dash in a folder that stands for its root."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hostshell import Host, commands

from piclusterops.facts.armed import ARMED_DIR, PROBE
from piclusterops.facts.snapshot import Query, Snapshot, parse, script
from piclusterops.operations import sshd as operations
from piclusterops.operations.armed import ArmedChange, _payload, stage_command
from piclusterops.operations.managed import ManagedFile
from piclusterops.settings import ClusterSettings
from piclusterops.sshd import BANNER_FILE, CONFIG_FILE, HOST_KEY, MODULI, config

TOOL = Path(__file__).resolve().parents[2] / "files" / "armed" / "armed"
TOKEN = "0011223344556677"
SETTINGS = ClusterSettings.model_validate({"lan_cidr": "10.0.0.0/24", "sshd_banner": "Hello"})
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="keeps the owners of files")
pytestmark = as_root

CHANGE = ArmedChange(
    name="thing",
    files={"/etc/thing/new.conf": ManagedFile("new\n"), "/etc/thing/old.conf": ManagedFile("changed\n", "600")},
    staged={"note": ManagedFile("a note\n")},
    check='grep -rq new "$new"; grep -q note "$staged/note"',
    fingerprint="cat /run/force",
    apply="echo new >/run/force",
    rollback='echo "undone at boot: $boot" >>/run/undone; echo old >/run/force',
    persist='cp "$staged/note" /etc/thing/persisted',
)


class ArmedHost(Host):
    """A host with the tool of the mechanism, and with a timer that only takes notes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.write("/etc/thing/old.conf", "old\n", 0o640)
        self.write("/run/force", "old\n")
        timer = f"[ -e {root}/run/timer ] && echo active || {{ echo inactive; exit 3; }}"
        self.fake("systemctl", f"case $* in *is-active*) {timer} ;; esac")
        self.fake("systemd-run", f": >{root}/run/timer")

    def shell(self, text: str) -> str:
        return super().shell(text).replace("/usr/local/lib/piclusterops/armed", str(self.root / "armed"))

    def stage(self, change: ArmedChange = CHANGE, cut: int | None = None) -> subprocess.CompletedProcess[str]:
        """Send the change, whole or only so many characters of it."""
        moved = replace(
            change,
            files={self.shell(path): file for path, file in change.files.items()},
            **{
                part: self.shell(getattr(change, part))
                for part in ("check", "apply", "rollback", "persist", "fingerprint")
            },
        )
        payload = _payload(moved, TOKEN)
        return self.run(stage_command(payload, TOKEN), stdin=payload[:cut])

    def tool(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the tool as the host has it."""
        return subprocess.run(
            ["dash", "-c", self.shell(TOOL.read_text()), "armed", *words],
            env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"},
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=20,
        )

    def arm(self, change: ArmedChange = CHANGE) -> None:
        """Stage and arm."""
        assert self.stage(change).returncode == 0
        done = self.tool("arm", "thing", TOKEN, "60")
        assert (done.returncode, done.stderr) == (0, "")

    @property
    def folder(self) -> Path:
        return self.path(ARMED_DIR) / "thing"

    @property
    def pending(self) -> list[str]:
        """What a role's query says of it."""
        output = self.run(script(Query(probes=(PROBE,)))).stdout
        return parse(output.splitlines()).probes["armed"]

    @property
    def as_before(self) -> bool:
        old = self.path("/etc/thing/old.conf")
        return (
            (old.read_text(), old.stat().st_mode & 0o777) == ("old\n", 0o640)
            and [path.name for path in old.parent.iterdir()] == ["old.conf"]
            and self.path("/run/force").read_text() == "old\n"
        )


@pytest.fixture
def host(tmp_path: Path) -> ArmedHost:
    return ArmedHost(tmp_path / "root")


def test_the_rollback_is_there_whole_and_private_before_anything_changes(host: ArmedHost) -> None:
    host.arm()
    assert host.as_before
    assert host.pending == ["thing"]
    assert (host.folder / "rollback").stat().st_mode & 0o777 == 0o700
    assert host.folder.stat().st_mode & 0o777 == host.folder.parent.stat().st_mode & 0o777 == 0o700
    assert any(call.startswith("systemd-run") and "--on-active=60" in call for call in host.calls)


def test_a_confirmed_change_stays_and_nothing_of_its_content_is_left_over(host: ArmedHost) -> None:
    host.arm()
    assert host.tool("apply", "thing", TOKEN).returncode == 0
    assert host.path("/etc/thing/old.conf").read_text() == "changed\n"
    assert not host.path("/etc/thing/persisted").exists()
    assert host.tool("confirm", "thing", TOKEN).returncode == 0
    assert host.path("/etc/thing/persisted").read_text() == "a note\n"
    assert host.pending == []
    assert not {"new", "staged", "old"} & {path.name for path in host.folder.iterdir()}
    assert host.tool("rollback", "thing").returncode == 0
    assert host.tool("boot").returncode == 0
    assert host.path("/etc/thing/new.conf").read_text() == "new\n", "a late timer must not undo what was confirmed"
    assert host.tool("verify", "thing", TOKEN).stdout == "confirmed\n"


@pytest.mark.parametrize(("word", "at_boot"), [("rollback", "no"), ("boot", "yes")])
@pytest.mark.parametrize("applied", [True, False])
def test_an_unconfirmed_change_is_undone(host: ArmedHost, word: str, at_boot: str, applied: bool) -> None:
    host.arm()
    if applied:
        assert host.tool("apply", "thing", TOKEN).returncode == 0
        assert not host.as_before
    assert host.tool(word, "thing").returncode == 0
    assert host.as_before
    assert host.path("/run/undone").read_text() == f"undone at boot: {at_boot}\n"
    assert host.pending == []
    assert host.tool("verify", "thing", TOKEN).stdout == "undone\n"
    assert host.tool("confirm", "thing", TOKEN).returncode == 5, "too late"
    assert host.tool(word, "thing").returncode == 0
    assert host.as_before


def test_a_command_that_arrives_late_does_not_undo_a_later_change_of_the_same_name(host: ArmedHost) -> None:
    host.arm()
    host.tool("apply", "thing", TOKEN)
    assert host.tool("rollback", "thing", "8899aabbccddeeff").returncode == 0
    assert host.pending == ["thing"]
    assert not host.as_before
    assert host.tool("rollback", "thing", TOKEN).returncode == 0
    assert host.as_before


def test_a_rollback_that_was_cut_off_is_finished_by_the_next(host: ArmedHost) -> None:
    """The power goes after one of the two files was restored, while the other's copy was being written."""
    host.arm()
    host.tool("apply", "thing", TOKEN)
    host.path("/etc/thing/new.conf").unlink()
    host.write("/etc/thing/old.conf.piclusterops-new", "ol")
    assert host.tool("boot").returncode == 0
    assert host.as_before


def test_a_rollback_that_fails_stays_pending_and_restores_the_files_all_the_same(host: ArmedHost) -> None:
    host.arm(replace(CHANGE, rollback="echo old >/run/force; [ -e /run/works ]"))
    host.tool("apply", "thing", TOKEN)
    host.fake("sleep", ":")
    assert host.tool("rollback", "thing").returncode == 1
    assert host.as_before
    assert host.pending == ["thing"]
    assert host.tool("verify", "thing", TOKEN).stdout == "pending\n"
    host.write("/run/works", "")
    assert host.tool("boot").returncode == 0
    assert host.pending == []


def test_what_the_check_refuses_leaves_nothing(host: ArmedHost) -> None:
    assert host.stage(replace(CHANGE, check="echo 'no good' >&2; false")).returncode == 0
    done = host.tool("arm", "thing", TOKEN, "60")
    assert (done.returncode, done.stderr) == (3, "no good\n")
    assert host.as_before
    assert list(host.path(ARMED_DIR).iterdir()) == []
    assert not any(call.startswith("systemd-run") for call in host.calls)


@pytest.mark.parametrize("body", ["exit 1", ":"], ids=["it fails", "no timer comes of it"])
def test_without_a_timer_nothing_is_armed(host: ArmedHost, body: str) -> None:
    host.fake("systemd-run", body)
    assert host.stage().returncode == 0
    assert host.tool("arm", "thing", TOKEN, "60").returncode == 4
    assert host.as_before
    assert list(host.path(ARMED_DIR).iterdir()) == []
    assert host.tool("apply", "thing", TOKEN).returncode == 5, "what is not armed can't be applied"
    assert host.as_before


@pytest.mark.parametrize("cut", [0, 1000, -1])
def test_half_a_change_is_never_armed(host: ArmedHost, cut: int) -> None:
    """The connection breaks while it is sent: the shell only sees the end of its input."""
    assert host.stage(cut=cut).returncode != 0
    assert list(host.path(ARMED_DIR).iterdir()) == []
    assert host.tool("arm", "thing", TOKEN, "60").returncode == 3
    assert host.pending == []


def test_what_was_staged_when_the_power_went_is_gone_after_the_boot(host: ArmedHost) -> None:
    assert host.stage().returncode == 0
    assert host.tool("boot").returncode == 0
    assert list(host.path(ARMED_DIR).iterdir()) == []
    assert host.as_before


def test_one_change_at_a_time(host: ArmedHost) -> None:
    host.arm()
    host.tool("apply", "thing", TOKEN)
    other = "8899aabbccddeeff"
    assert host.run(stage_command(_payload(CHANGE, other), other), stdin=_payload(CHANGE, other)).returncode == 0
    done = host.tool("arm", "other", other, "60")
    assert (done.returncode, done.stderr) == (75, "unconfirmed: thing\n")
    assert host.pending == ["thing"]
    assert [path.name for path in host.path(ARMED_DIR).iterdir()] == ["thing"]


def test_an_unconfirmed_change_has_its_time_and_one_without_a_timer_is_undone_by_the_next_run(host: ArmedHost) -> None:
    host.arm()
    host.tool("apply", "thing", TOKEN)
    assert host.tool("settle").returncode == 75
    assert host.pending == ["thing"]
    host.path("/run/timer").unlink()
    assert host.tool("settle").returncode == 0
    assert host.as_before


def test_a_link_and_its_target_survive(host: ArmedHost) -> None:
    target = host.write("/etc/thing.target", "target\n")
    link = host.path("/etc/thing/old.conf")
    link.unlink()
    link.symlink_to(target)
    host.arm()
    host.tool("apply", "thing", TOKEN)
    assert not link.is_symlink()
    host.tool("rollback", "thing")
    assert link.readlink() == target
    assert target.read_text() == "target\n"


# sshd


def snapshot(**changes: object) -> Snapshot:
    """A host whose sshd is as it should be, but for the changes."""
    wanted = config(SETTINGS, "pi", (9, 2))
    files = operations.wanted_files(SETTINGS, wanted)
    lines = ["OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.22", "pi", "yes", "0"]
    lines += [line for user in ("root", "pi") for line in (f"for {user}", "port 22", *wanted.effective)]
    right = Snapshot(
        paths={path: file.state for path, file in files.items()},
        stamps={"sshd": operations.digest_of(files)},
        probes={"sshd": lines, "armed": []},
    )
    return replace(right, **changes)  # type: ignore[arg-type]


def names(given: Snapshot) -> list[str]:
    found = commands(operations.configure, given, node="pi-master", settings=SETTINGS)
    return [command.function.__name__ for command in found]  # type: ignore[union-attr]


def test_sshd_as_it_should_be_is_left_alone() -> None:
    assert names(snapshot()) == []


@pytest.mark.parametrize(
    "drift",
    [
        {"paths": {}},
        {"paths": {**snapshot().paths, BANNER_FILE: replace(snapshot().paths[CONFIG_FILE], mode="600")}},
        {"stamps": {}},
        {"probes": {**snapshot().probes, "armed": ["sshd"]}},
        {"probes": {**snapshot().probes, "sshd": snapshot().probes["sshd"][:4]}},
        {"probes": {**snapshot().probes, "sshd": [*snapshot().probes["sshd"], "allowusers mallory"]}},
        {
            "probes": {
                **snapshot().probes,
                "sshd": [
                    line.replace("permitrootlogin no", "permitrootlogin yes") for line in snapshot().probes["sshd"]
                ],
            }
        },
    ],
    ids=[
        "no files",
        "banner",
        "not reloaded",
        "unconfirmed",
        "sshd -T fails",
        "another file adds",
        "another file wins",
    ],
)
def test_sshd_that_is_not_as_it_should_be_is_changed_under_a_rollback(drift: dict[str, object]) -> None:
    assert names(snapshot(**drift)) == ["_can_come_back", "apply_armed"]


def test_weak_groups_leave_the_moduli_and_the_original_is_kept(host: ArmedHost) -> None:
    text = "# Time Type Tests Tries Size\n1 2 6 100 2047 2 AA\n2 2 6 100 3071 2 BB\n3 2 6 100 4095 2 CC\n"
    host.write(MODULI, text)
    (command,) = commands(operations.keys, snapshot(probes={"sshd": ["OpenSSH_9.2p1", "pi", "yes", "1"]}))
    assert host.run(command).returncode == 0
    assert host.path(MODULI).read_text() == text.replace("1 2 6 100 2047 2 AA\n", "")
    assert host.path(f"{MODULI}.piclusterops.bak").read_text() == text
    assert host.path(MODULI).stat().st_mode & 0o777 == 0o644
    host.write(MODULI, "# all weak\n1 2 6 100 2047 2 AA\n")
    assert host.run(command).returncode != 0
    assert "2047" in host.path(MODULI).read_text(), "a list without a group is of no use"


def test_a_host_without_an_ed25519_key_gets_one(host: ArmedHost) -> None:
    host.path("/etc/ssh").mkdir(parents=True)
    (command,) = commands(operations.keys, snapshot(probes={"sshd": ["OpenSSH_9.2p1", "pi", "no", "0"]}))
    assert host.run(command).returncode == 0
    assert host.path(HOST_KEY).stat().st_mode & 0o777 == 0o600
    assert host.path(f"{HOST_KEY}.pub").read_text().startswith("ssh-ed25519 ")
    assert len(list(host.path("/etc/ssh").iterdir())) == 2
