"""What hosts boot with: one reboot for all of it, one node after the other, and none that can't help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import FINGERPRINT, Run, out, pyinfra

from piclusterops.config_txt import effective, parameter
from piclusterops.lab.fleet import Lab, Node

pytestmark = pytest.mark.lab

MASTER, WORKER = NODES = ("pi-master", "pi-worker-1")
PI_5 = "Raspberry Pi 5 Model B Rev 1.0"
CONFIG = "/boot/firmware/config.txt"
DEPLOY = """
from pyinfra import inventory

from piclusterops.deploys.boot import boot
from piclusterops.deploys.stop import stop_at_first_failure
from piclusterops.validation import cluster_from_inventory

stop_at_first_failure()
boot(cluster=cluster_from_inventory(inventory))
"""
# Containers share the machine's kernel: what a Raspberry Pi 5 says of its pages is played, for as long as a file says.
PAGES = """\
#!/bin/sh
read -r boot </proc/sys/kernel/random/boot_id
if [ "$1" = PAGESIZE ] && grep -qsx -e always -e "$boot" /var/lib/pages-of-16-kib; then echo 16384; exit; fi
exec /usr/bin/getconf "$@"
"""
# A host as Raspberry Pi OS has it: both kernels, and everything that makes swap or takes the watchdog.
AS_FLASHED = f"""
truncate -s 2M /boot/firmware/kernel8.img /boot/firmware/kernel_2712.img
cat >/usr/local/bin/getconf; chmod 755 /usr/local/bin/getconf
cat /proc/sys/kernel/random/boot_id >/var/lib/pages-of-16-kib
printf '[cm4]\\r\\notg_mode=1\\r\\n' >{CONFIG}
echo '/swapfile none swap sw 0 0' >>/etc/fstab
ln -s /bin/true /usr/lib/systemd/system-generators/rpi-swap-generator
for unit in dphys-swapfile watchdog; do
    printf '%s\\n' '[Service]' Type=oneshot RemainAfterExit=yes ExecStart=true '[Install]' WantedBy=multi-user.target \
        >/etc/systemd/system/$unit.service
    systemctl enable --quiet --now $unit
done
"""


@pytest.fixture(scope="module")
def boot_lab() -> Iterator[Lab]:
    """Bare hosts of their own: the second as flashed, the first as the lab makes it, without kernels of its own."""
    lab = Lab("test-boot")
    lab.up([Node(MASTER, "master"), Node(WORKER, "worker")])
    done = lab.exec(WORKER, ["sh", "-ec", AS_FLASHED], input=PAGES)
    assert done.returncode == 0, done
    yield lab
    lab.down()


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deploy of this part alone."""
    file = tmp_path_factory.mktemp("deploy") / "boot.py"
    file.write_text(DEPLOY)
    return file


def run(lab: Lab, deploy: Path, *args: str) -> Run:
    return pyinfra(*args, lab=lab.name, deploy=str(deploy))


def boots(lab: Lab, host: str) -> list[tuple[int, int]]:
    """First and last entry of each boot in the journal, in microseconds."""
    rows = json.loads(out(lab, host, "journalctl --list-boots -o json"))
    return [(row["first_entry"], row["last_entry"]) for row in sorted(rows, key=lambda row: row["index"])]


def test_a_dry_run_names_the_changes_and_the_reboots_and_makes_none(boot_lab: Lab, deploy: Path) -> None:
    before = {node: out(boot_lab, node, FINGERPRINT) for node in NODES}
    dry = run(boot_lab, deploy, "--dry", "--json")
    assert dry.returncode == 0, dry.output
    assert dry.plan == {
        "Boot | Ask for the memory cgroup in cmdline.txt": list(NODES),
        "Boot | Set the firmware's config.txt": list(NODES),
        "Boot | Let the watchdog restart a hung node": list(NODES),
        "Boot | Switch swap off": [WORKER],
        "Boot | Reboot pi-master if its running state differs": [MASTER],
        "Boot | Reboot pi-worker-1 if its running state differs": [WORKER],
    }
    assert {node: out(boot_lab, node, FINGERPRINT) for node in NODES} == before


def test_the_first_run_reboots_each_node_once_and_one_after_the_other(boot_lab: Lab, deploy: Path) -> None:
    before = {node: len(boots(boot_lab, node)) for node in NODES}
    first = run(boot_lab, deploy, "-y", "--json")
    assert first.returncode == 0, first.output
    after = {node: boots(boot_lab, node) for node in NODES}
    assert {node: len(after[node]) for node in NODES} == {node: before[node] + 1 for node in NODES}
    assert after[MASTER][-1][0] < after[WORKER][-2][1], "the worker went down before the master was back"
    for node in NODES:
        assert "memory" in out(boot_lab, node, "cat /sys/fs/cgroup/cgroup.controllers").split()
        assert out(boot_lab, node, "getconf PAGESIZE; sed 1d /proc/swaps") == "4096"
        assert out(boot_lab, node, "ls /var/lib/piclusterops/stamps") == ""


def test_config_txt_is_effective_and_keeps_what_was_there(boot_lab: Lab) -> None:
    with_images = boot_lab.exec(WORKER, ["cat", CONFIG]).stdout
    assert with_images.startswith("[cm4]\r\notg_mode=1\r\n")
    assert effective(with_images, "kernel", PI_5, "") == {"kernel8.img"}
    assert parameter(with_images, "watchdog", PI_5) == {"on"}
    assert out(boot_lab, WORKER, f"cat {CONFIG}.piclusterops.bak") == "[cm4]\r\notg_mode=1"
    without = out(boot_lab, MASTER, f"cat {CONFIG}")
    assert "kernel" not in without, "it would not boot with an image that is not there"
    assert out(boot_lab, WORKER, "ls /boot/firmware | sort").split() == [
        "cmdline.txt",
        "cmdline.txt.piclusterops.bak",
        "config.txt",
        "config.txt.piclusterops.bak",
        "kernel8.img",
        "kernel_2712.img",
    ]


def test_nothing_makes_swap_any_more_and_nothing_was_removed(boot_lab: Lab) -> None:
    states = out(boot_lab, WORKER, "systemctl is-enabled dphys-swapfile watchdog dev-zram0.swap || true").split()
    assert states == ["disabled", "disabled", "masked"]
    assert out(boot_lab, WORKER, "systemctl is-active dphys-swapfile watchdog || true").split() == ["inactive"] * 2
    assert out(boot_lab, WORKER, "cat /etc/rpi/swap.conf.d/90-piclusterops.conf").endswith("[Main]\nMechanism=none")
    assert out(boot_lab, WORKER, "grep swapfile /etc/fstab").startswith("# ")
    assert "[Manager]" in out(boot_lab, WORKER, "systemd-analyze cat-config systemd/system.conf")
    assert out(boot_lab, WORKER, "systemctl show -p RebootWatchdogUSec --value") == "2min"


def test_the_second_run_changes_nothing_in_one_ssh_execution_a_host(boot_lab: Lab, deploy: Path) -> None:
    second = run(boot_lab, deploy, "-y", "--json")
    assert second.returncode == 0, second.output
    assert second.changes == {}
    assert second.executions == dict.fromkeys(NODES, 1)


def test_drift_is_repaired_without_a_reboot(boot_lab: Lab, deploy: Path) -> None:
    before = out(boot_lab, WORKER, "cat /proc/sys/kernel/random/boot_id")
    out(boot_lab, WORKER, f"echo kernel=kernel_2712.img >>{CONFIG}; systemctl enable --quiet --now dphys-swapfile")
    repaired = run(boot_lab, deploy, "-y", "--json")
    assert repaired.returncode == 0, repaired.output
    assert repaired.changes == {"Boot | Set the firmware's config.txt": [WORKER], "Boot | Switch swap off": [WORKER]}
    assert effective(boot_lab.exec(WORKER, ["cat", CONFIG]).stdout, "kernel", PI_5, "") == {"kernel8.img"}
    assert out(boot_lab, WORKER, "cat /proc/sys/kernel/random/boot_id") == before


def test_a_reboot_that_does_not_help_ends_the_run_and_is_not_repeated(boot_lab: Lab, deploy: Path) -> None:
    """The master's pages stay at 16 KiB, whatever its config.txt says."""
    out(
        boot_lab,
        MASTER,
        "echo always >/var/lib/pages-of-16-kib; truncate -s 2M /boot/firmware/kernel8.img; "
        f"printf %s '{PAGES}' >/usr/local/bin/getconf; chmod 755 /usr/local/bin/getconf",
    )
    out(boot_lab, WORKER, "cat /proc/sys/kernel/random/boot_id >/var/lib/pages-of-16-kib")
    before = {node: len(boots(boot_lab, node)) for node in NODES}
    failed = run(boot_lab, deploy, "-y")
    assert failed.returncode == 1
    assert "pi-master: it was rebooted, and still has pages of 16 KiB: the firmware did not boot" in failed.output
    assert {node: len(boots(boot_lab, node)) for node in NODES} == {MASTER: before[MASTER] + 1, WORKER: before[WORKER]}

    again = run(boot_lab, deploy, "-y")
    assert again.returncode == 1
    assert "pi-master: it was rebooted to run with pages of 4 KiB, and still has pages of 16 KiB" in again.output
    assert "so it is not rebooted again" in again.output
    assert "Next: " in again.output and "Traceback" not in failed.output + again.output
    assert len(boots(boot_lab, MASTER)) == before[MASTER] + 1

    out(boot_lab, MASTER, "rm /var/lib/pages-of-16-kib")
    resumed = run(boot_lab, deploy, "-y", "--json")
    assert resumed.returncode == 0, resumed.output
    assert resumed.changes == {"Boot | Reboot pi-worker-1 if its running state differs": [WORKER]}
    # what would forbid a later reboot for the same reason
    assert out(boot_lab, MASTER, "ls /var/lib/piclusterops/stamps") == ""


def test_16_kib_takes_back_only_what_is_ours(boot_lab: Lab, deploy: Path) -> None:
    out(boot_lab, MASTER, "rm /boot/firmware/kernel8.img")
    out(boot_lab, WORKER, "rm /boot/firmware/kernel_2712.img")
    changed = run(boot_lab, deploy, "-y", "--json", "--data", "page_size=16k", "--data", "watchdog=False")
    assert changed.returncode == 0, changed.output
    assert out(boot_lab, MASTER, f"cat {CONFIG}") == out(boot_lab, MASTER, f"cat {CONFIG}.piclusterops.bak")
    now = boot_lab.exec(WORKER, ["cat", CONFIG]).stdout
    assert now == "[cm4]\r\notg_mode=1\r\n[all]\r\ndtoverlay=\r\nkernel=kernel_2712.img\n", "somebody else's line stays"
    assert not [name for name in changed.changes if "Reboot" in name]
    assert out(boot_lab, WORKER, "ls /etc/systemd/system.conf.d") == ""
