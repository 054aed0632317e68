"""The shell of the base and boot operations, run for real under dash."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hostshell import Host, commands
from pyinfra.api import StringCommand

from piclusterops.facts import boot, node
from piclusterops.facts.snapshot import Snapshot, parse, script
from piclusterops.facts.text import first_line
from piclusterops.operations import system, users
from piclusterops.operations.managed import ManagedFile, write_file
from piclusterops.operations.reboot import REBOOT
from piclusterops.operations.system import install_command, replace_file
from piclusterops.settings import AdminUser, ClusterSettings

PI_OS = "console=tty1 root=PARTUUID=4a6b1e2c-02 rootwait\n"
CMDLINE = "/boot/firmware/cmdline.txt"
BACKUP = f"{CMDLINE}.piclusterops.bak"
NEW = PI_OS.replace("\n", " cgroup_enable=memory\n")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHWZ alice"
SETTINGS = ClusterSettings.model_validate(
    {"lan_cidr": "10.0.0.0/24", "admin_users": [{"name": "alice", "ssh_keys": [KEY]}]}
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "root")


def files(host: Host, folder: str) -> set[str]:
    return {file.name for file in host.path(folder).iterdir()}


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


# Files that the host can't boot without


def test_a_boot_file_is_replaced_and_the_original_kept(host: Host) -> None:
    file = host.write(CMDLINE, PI_OS, mode=0o644)
    done = host.run(replace_file(CMDLINE, NEW))
    assert (done.returncode, done.stderr) == (0, "")
    assert file.read_text() == NEW
    assert host.path(BACKUP).read_text() == PI_OS
    assert (mode(file), mode(host.path(BACKUP))) == (0o644, 0o644)
    assert files(host, "/boot/firmware") == {"cmdline.txt", "cmdline.txt.piclusterops.bak"}


def test_a_later_change_leaves_the_original_alone(host: Host) -> None:
    host.write(CMDLINE, PI_OS)
    host.run(replace_file(CMDLINE, NEW))
    assert host.run(replace_file(CMDLINE, "root=/dev/sda2\n")).returncode == 0
    assert host.path(BACKUP).read_text() == PI_OS
    assert host.path(CMDLINE).read_text() == "root=/dev/sda2\n"


def test_half_a_file_is_never_put_in(host: Host) -> None:
    """The connection breaks while the content is on its way: the shell only sees the end of its input."""
    file = host.write(CMDLINE, PI_OS)
    assert host.run(replace_file(CMDLINE, NEW), stdin=NEW[:20]).returncode != 0
    assert file.read_text() == PI_OS
    assert files(host, "/boot/firmware") == {"cmdline.txt", "cmdline.txt.piclusterops.bak"}


def test_a_file_system_without_modes_is_no_obstacle(host: Host) -> None:
    """As on the FAT of the boot partition, where chmod may be refused."""
    file = host.write(CMDLINE, PI_OS)
    host.fake("chmod", "echo 'Operation not permitted' >&2; exit 1")
    assert host.run(replace_file(CMDLINE, NEW)).returncode == 0
    assert file.read_text() == NEW


@as_root
@pytest.mark.parametrize("sent", [0, 10], ids=["nothing", "some"])
def test_what_did_not_come_whole_replaces_no_file(host: Host, sent: int) -> None:
    """The controller was killed: the shell only sees the end of its input, and goes on."""
    file = host.write("/etc/thing", "old\n")
    broken = host.run(write_file("/etc/thing", ManagedFile("new and longer\n")), stdin="new and longer\n"[:sent])
    assert broken.returncode != 0
    assert (file.read_text(), files(host, "/etc")) == ("old\n", {"thing"})


@as_root
def test_what_a_power_cut_left_of_a_file_is_gone_after_the_next_try(host: Host) -> None:
    host.write("/etc/thing.piclusterops-new", "sec", mode=0o644)
    host.fake("mv", f'stat -c %a {host.path("/etc/thing.piclusterops-new")} >{host.root}/seen; exec /bin/mv "$@"')
    assert host.run(write_file("/etc/thing", ManagedFile("secret\n", "600"))).returncode == 0
    assert (host.path("/etc/thing").read_text(), files(host, "/etc")) == ("secret\n", {"thing"})
    assert host.path("/seen").read_text() == "600\n"


# Packages


def test_packages_install_without_fetching_the_lists_when_that_works(host: Host) -> None:
    host.fake("apt-get", "exit 0")
    assert host.run(install_command(["curl", "jq"])).returncode == 0
    (call,) = host.calls
    assert call.endswith("install --no-install-recommends curl jq")
    assert "DPkg::Lock::Timeout=600" in call


def test_a_failed_installation_repairs_dpkg_fetches_the_lists_and_tries_once_more(host: Host) -> None:
    host.fake("apt-get", f'case "$*" in *update*) touch {host.root}/lists;; *) [ -e {host.root}/lists ];; esac')
    host.fake("dpkg", "exit 0")
    assert host.run(install_command(["curl"])).returncode == 0
    assert [call.split()[0] for call in host.calls] == ["apt-get", "dpkg", "apt-get", "apt-get"]
    assert host.calls[1] == "dpkg --configure -a"
    assert host.calls[2].endswith(" update")


def test_the_lock_of_the_lists_is_waited_for(host: Host) -> None:
    lock = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)"
    host.fake(
        "apt-get",
        f'case "$*" in *update*) echo x >>{host.root}/tries; [ "$(wc -l <{host.root}/tries)" -ge 3 ] || '
        f'{{ echo "{lock}" >&2; exit 100; }};; *) [ -e {host.root}/tries ];; esac',
    )
    host.fake("dpkg", "exit 0")
    host.fake("sleep", "exit 0")
    assert host.run(install_command(["curl"])).returncode == 0
    assert [call for call in host.calls if call.startswith("sleep")] == ["sleep 5", "sleep 5"]


def test_packages_that_do_not_exist_end_with_apts_message_and_the_next_command(host: Host) -> None:
    host.fake("apt-get", "echo 'E: Unable to locate package nonesuch' >&2; exit 100")
    host.fake("dpkg", "exit 0")
    (command,) = commands(system.packages, Snapshot(), names=["nonesuch"])
    done = host.run(command)
    assert done.returncode == 1
    assert "Unable to locate package" in done.stderr
    assert "pi-master: nonesuch could not be installed. Next: " in done.stderr


# Clock and names


def test_a_clock_that_never_synchronises_fails_in_time_and_says_what_to_do(host: Host) -> None:
    host.fake("timedatectl", "echo no")
    snapshot = Snapshot(probes={"time_daemon": ["enabled"]})
    (command,) = commands(system.synchronised_clock, snapshot, timeout_s=1)
    done = host.run(command, timeout=10)
    assert done.returncode == 1
    assert "pi-master: the clock is not synchronised after 1 s. Next: " in done.stderr


@pytest.mark.parametrize("how", ["systemd-timesyncd", "another daemon"])
def test_a_synchronised_clock_is_seen(host: Host, how: str) -> None:
    host.fake("timedatectl", "echo yes" if how == "another daemon" else "echo no")
    if how == "systemd-timesyncd":
        host.write("/run/systemd/timesync/synchronized", "")
    (command,) = commands(system.synchronised_clock, Snapshot(probes={"time_daemon": ["enabled"]}), timeout_s=5)
    assert host.run(command).returncode == 0


def test_without_a_time_daemon_systemd_timesyncd_is_enabled(host: Host) -> None:
    host.fake("systemctl", "exit 0")
    (command,) = commands(system.synchronised_clock, Snapshot(probes={"clock": ["synchronised"]}), timeout_s=5)
    assert host.run(command).returncode == 0
    assert host.calls[-1] == "systemctl enable --now systemd-timesyncd.service"


def test_the_time_zone_is_set_for_libc_and_for_debian(host: Host) -> None:
    host.write("/usr/share/zoneinfo/Europe/Bern", "TZif")
    host.write("/etc/timezone", "Etc/UTC\n")
    (command,) = commands(system.timezone, Snapshot(), zone="Europe/Bern")
    assert host.run(command).returncode == 0
    assert host.path("/etc/localtime").readlink() == host.path("/usr/share/zoneinfo/Europe/Bern")
    assert host.path("/etc/timezone").read_text() == "Europe/Bern\n"


def test_a_time_zone_that_does_not_exist_changes_nothing(host: Host) -> None:
    host.write("/etc/timezone", "Etc/UTC\n")
    (command,) = commands(system.timezone, Snapshot(), zone="Europe/Bärn")
    done = host.run(command)
    assert done.returncode == 1
    assert "pi-master: there is no time zone Europe/Bärn. Next: " in done.stderr
    assert files(host, "/etc") == {"timezone"}


# People


def _keys_command(host: Host, home: str) -> StringCommand:
    # As on the host, but for the user nobody, who exists everywhere.
    alice = AdminUser(name="alice", ssh_keys=(KEY,))
    state = f"alice|{home}|alice|755 root directory|644 root regular file|"
    (command,) = commands(users.accounts, Snapshot(probes={"users": [state]}), users=[alice])
    text = command.get_raw_value().replace("runuser -u alice", "runuser -u nobody")
    return StringCommand(text, _stdin=command.connector_arguments["_stdin"])


@pytest.fixture
def home() -> Iterator[Path]:
    """The home directory of nobody, where nobody can get to it."""
    with TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        home = Path(parent) / "alice"
        home.mkdir()
        os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
        yield home


@as_root
def test_keys_are_written_as_the_user_and_private(host: Host, home: Path) -> None:
    done = host.run(_keys_command(host, str(home)))
    assert (done.returncode, done.stderr) == (0, "")
    written = home / ".ssh" / "authorized_keys"
    assert written.read_text() == f"{KEY}\n"
    assert (mode(home / ".ssh"), mode(written)) == (0o700, 0o600)
    assert written.owner() == "nobody"


@as_root
def test_a_link_in_the_home_directory_gives_no_access_to_what_is_roots(host: Host, home: Path) -> None:
    precious = home.parent / "precious"
    precious.mkdir(mode=0o700)
    (home / ".ssh").symlink_to(precious)
    assert host.run(_keys_command(host, str(home))).returncode != 0
    assert not list(precious.iterdir())
    assert mode(precious) == 0o700


@as_root
def test_half_a_list_of_keys_locks_nobody_out(host: Host, home: Path) -> None:
    host.run(_keys_command(host, str(home)))
    assert host.run(_keys_command(host, str(home)), stdin=KEY[:20]).returncode != 0
    assert [file.name for file in (home / ".ssh").iterdir()] == ["authorized_keys"]
    assert (home / ".ssh" / "authorized_keys").read_text() == f"{KEY}\n"


@as_root
def test_a_user_whose_creation_was_cut_off_gets_a_home_directory(host: Host, home: Path) -> None:
    home.rmdir()
    host.fake("mkhomedir_helper", f"install -d -m 700 -o nobody {home}")
    assert host.run(_keys_command(host, str(home))).returncode == 0
    assert host.calls == ["mkhomedir_helper alice 0077"]
    assert (home / ".ssh" / "authorized_keys").read_text() == f"{KEY}\n"


def test_keys_of_a_user_are_exactly_those_of_the_inventory() -> None:
    alice = AdminUser(name="alice", ssh_keys=(KEY,))
    assert users.wanted_keys(alice, "ssh-ed25519 AAAA former\n", "pi") == f"{KEY}\n"


def test_the_user_that_deploys_keeps_the_keys_it_came_in_with() -> None:
    pi = AdminUser(name="pi", ssh_keys=(KEY,))
    assert users.wanted_keys(pi, "ssh-ed25519 AAAA deploy\n", "pi") == f"ssh-ed25519 AAAA deploy\n{KEY}\n"
    assert users.wanted_keys(pi, f"{KEY}\n", "pi") == f"{KEY}\n"


# Reboot


def test_a_reboot_is_left_to_systemd(host: Host) -> None:
    host.fake("systemd-run", "exit 0")
    host.fake("setsid", "exit 0")
    assert host.run(REBOOT).returncode == 0
    (call,) = host.calls
    assert call.endswith("systemctl reboot")


def test_a_reboot_without_systemd_run_does_not_hold_the_connection(host: Host) -> None:
    host.fake("systemd-run", "exit 1")
    host.fake("sleep", "exec /bin/sleep 0.2")
    host.fake("reboot", "exit 0")
    assert host.run(f"{REBOOT}", timeout=5).returncode == 0
    subprocess.run(["sleep", "1"], check=True)
    assert "reboot " in host.calls


# What is read


def read(host: Host) -> Snapshot:
    done = host.run(script(node.node_query(SETTINGS)))
    assert done.returncode == 0
    return parse(done.stdout.splitlines())


def test_the_query_is_answered_by_any_host_and_complains_of_nothing(host: Host) -> None:
    done = host.run(script(node.node_query(SETTINGS)))
    assert (done.returncode, done.stderr) == (0, "")
    snapshot = parse(done.stdout.splitlines())
    assert first_line(snapshot, "boot_id")
    assert set(snapshot.probes) == {name for name, _ in node.node_query(SETTINGS).probes}


@pytest.mark.parametrize("text", ["a b", "a b\n", "a  b \r\n", "@@\n@@hosts\n", "grün\n", ""])
def test_cmdline_txt_is_read_to_the_last_blank(host: Host, text: str) -> None:
    host.write(CMDLINE, "").write_bytes(text.encode())
    host.write("/boot/cmdline.txt", "DO NOT EDIT THIS FILE\n")
    assert boot.boot_file(read(host)) == boot.BootFile(str(host.path(CMDLINE)), text)


def test_the_old_boot_path_is_read_when_it_is_the_only_one(host: Host) -> None:
    host.write("/boot/cmdline.txt", PI_OS)
    assert boot.boot_file(read(host)) == boot.BootFile(str(host.path("/boot/cmdline.txt")), PI_OS)


def test_a_host_without_cmdline_txt_is_seen_as_such(host: Host) -> None:
    assert boot.boot_file(read(host)) is None


@pytest.mark.parametrize(
    ("config", "disabled", "claims"),
    [
        ("hostname: x\nmanage_etc_hosts: true\n", False, True),
        ("manage_etc_hosts: localhost\n", False, True),
        ("manage_etc_hosts: false\n", False, False),
        ("hostname: x\n", False, False),
        ("manage_etc_hosts: true\n", True, False),
    ],
)
def test_cloud_init_claims_the_hosts_file_by_its_user_data(
    host: Host, config: str, disabled: bool, claims: bool
) -> None:
    host.write("/var/lib/cloud/instance/cloud-config.txt", config)
    if disabled:
        host.write("/etc/cloud/cloud-init.disabled", "")
    assert bool(first_line(read(host), "cloud_init")) is claims


def test_modules_are_loaded_available_or_missing(host: Host) -> None:
    host.path("/sys/module/overlay").mkdir(parents=True)
    host.fake("modprobe", "exit 0")
    assert read(host).probes["modules"] == ["br_netfilter available", "overlay loaded"]
    host.fake("modprobe", "exit 1")
    assert read(host).probes["modules"] == ["overlay loaded"]


def test_accounts_are_read_with_their_keys(host: Host) -> None:
    home = host.path("/home/alice")
    home.mkdir(parents=True)
    (home / ".ssh").mkdir(mode=0o700)
    host.write("/home/alice/.ssh/authorized_keys", f"{KEY}\n", mode=0o600)
    host.fake("getent", f"echo 'alice:x:1001:1001::{home}:/bin/bash'")
    host.fake("id", "echo alice sudo")
    (state,) = node.user_states(read(host)).values()
    me = home.owner()
    assert (state.home, state.groups, state.keys) == (str(home), ("alice", "sudo"), f"{KEY}\n")
    assert state.has_private_keys(me)
    assert not state.has_private_keys("somebody-else")
