"""What a host boots with: command line, firmware and bootloader settings, and the reboot that puts them in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from shlex import quote
from typing import Any

from paramiko import SSHException
from pyinfra import host
from pyinfra.api import FunctionCommand, operation
from pyinfra.api.host import Host
from pyinfra.api.state import State

from piclusterops import cmdline, swap
from piclusterops.boot_targets import BootTarget
from piclusterops.facts import boot
from piclusterops.facts.boot import BootFile, ConfigFault, Difference
from piclusterops.facts.snapshot import STAMP_DIR, Query, Snapshot, snapshot_of
from piclusterops.facts.text import decoded, first_line
from piclusterops.operations.managed import Commands, ManagedFile, refuse, set_stamp, unknown_state, write_file
from piclusterops.operations.quiet import privileges, run_quietly
from piclusterops.operations.reboot import REBOOT, RebootError, snapshot_after_boot, wait_for_new_boot
from piclusterops.operations.system import replace_file
from piclusterops.session import ssh_command

_FORGET_REBOOT = f"rm -f {STAMP_DIR}/{boot.REBOOT_STAMP}"


def _edit(snapshot: Snapshot) -> Commands:
    """What goes before a change of what the host boots with: then another reboot can bring what the last did not."""
    if boot.REBOOT_STAMP in snapshot.stamps:
        yield _FORGET_REBOOT


# -- cmdline.txt --------------------------------------------------------------------------------------------


def _unusable(host: Host, file: BootFile) -> str | None:
    """Why a `cmdline.txt` can't be edited; None when it can."""
    name, ssh = host.name, ssh_command(host)
    look = f"Next: {ssh} cat {file.path}"
    if file.text is None:
        return f"{name}: {file.path} is not UTF-8 text, so it is left alone. {look}"
    if file.moved:
        return (
            f"{name}: {file.path} only says that the file has moved, and /boot/firmware/cmdline.txt is not there: "
            f"the boot partition is not mounted. Next: {ssh} sudo mount /boot/firmware"
        )
    try:
        cmdline.with_memory_cgroup(file.text)
    except ValueError as error:
        return f"{name}: {file.path}: {error}. {look}, and restore it from a backup before any reboot"
    return None


@operation()
def memory_in_cmdline(query: Query) -> Any:
    """
    Ask for the memory cgroup on the kernel command line.

    + query: the role's query

    Edits `/boot/firmware/cmdline.txt`, or `/boot/cmdline.txt` on a host that boots from there. The original is kept
    as `cmdline.txt.piclusterops.bak`. A host with neither is left alone when it has the memory cgroup, else refused.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    file = boot.boot_file(snapshot)
    if file is None:
        if boot.has_memory_cgroup(snapshot):
            host.noop("the memory cgroup is there, and no cmdline.txt to keep it in")
        else:
            yield refuse(
                f"{host.name}: the kernel runs without the memory cgroup that K3s needs, and there is no cmdline.txt "
                "in /boot/firmware or /boot to enable it in. Next: add cgroup_enable=memory to the kernel command line "
                "of its boot loader and reboot it"
            )
        return
    fault = _unusable(host, file)
    if fault or file.text is None:
        yield refuse(fault or f"{host.name}: {file.path} is unreadable")
        return
    wanted = cmdline.with_memory_cgroup(file.text)
    if wanted == file.text:
        host.noop(f"{file.path} asks for the memory cgroup")
        return
    yield from _edit(snapshot)
    yield replace_file(file.path, wanted)


# -- config.txt and the EEPROM ------------------------------------------------------------------------------


@operation()
def config_txt(targets: Mapping[str, BootTarget], query: Query) -> Any:
    """
    Set kernel, watchdog and PCIe in the firmware's `config.txt`.

    + targets: what each node should boot with, by its name
    + query: the role's query

    A host that is no Raspberry Pi is left alone. The original is kept as `config.txt.piclusterops.bak`.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    try:
        wanted = boot.planned_config(snapshot, targets[host.name])
    except ConfigFault as fault:
        yield refuse(f"{host.name}: {fault}. Next: {ssh_command(host)} {fault.following}")
        return
    file = boot.boot_file(snapshot, "config_txt")
    if wanted is None or wanted.text is None:
        host.noop("there is no config.txt to keep")
    elif wanted == file:
        host.noop(f"{wanted.path} is up to date")
    else:
        yield from _edit(snapshot)
        yield replace_file(wanted.path, wanted.text)


@operation()
def eeprom(targets: Mapping[str, BootTarget], query: Query) -> Any:
    """
    Set keys of the bootloader's configuration, which is in an EEPROM of the board.

    + targets: what each node should boot with, by its name
    + query: the role's query

    The update is made ready here; the bootloader takes it at the next boot. Other keys stay.
    """
    wanted = dict(targets[host.name].eeprom)
    if not wanted:
        host.noop("no setting of the EEPROM is asked for")
        return
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    have = boot.eeprom(snapshot)
    if boot.model(snapshot) is None or not have:
        cause = "it is no Raspberry Pi" if boot.model(snapshot) is None else "vcgencmd can't read it"
        yield refuse(
            f"{host.name}: {' '.join(sorted(wanted))} can't be set in its EEPROM: {cause}. "
            f"Next: leave out the settings eeprom_* of this node, or {ssh_command(host)} vcgencmd bootloader_config"
        )
        return
    stamp = sha256(f"{first_line(snapshot, 'boot_id')} {sorted(wanted.items())}".encode()).hexdigest()
    if all(have.get(key) == value for key, value in wanted.items()):
        host.noop("the EEPROM is up to date")
    elif snapshot.stamps.get("eeprom") == stamp:
        host.noop("the EEPROM takes its update at the next boot")
    else:
        yield from _edit(snapshot)
        yield f"{eeprom_command(host, wanted)} && {set_stamp('eeprom', stamp)}"


def eeprom_command(host: Host, wanted: Mapping[str, str]) -> str:
    """Shell that sets keys of the bootloader's configuration; a key that is there in several sections, in each."""
    lacking = (
        f"{host.name}: {' '.join(wanted)} can't be set in its EEPROM: there is no rpi-eeprom-config. "
        f"Next: {ssh_command(host)} sudo apt-get install rpi-eeprom, or leave out the settings eeprom_* of this node"
    )
    edits = "; ".join(
        f'if grep -q "^{key}=" "$t"; then sed -i "s/^{key}=.*/{key}={value}/" "$t"; '
        f'else printf "[all]\\n{key}={value}\\n" >>"$t"; fi'
        for key, value in wanted.items()
    )
    return (
        f"command -v rpi-eeprom-config >/dev/null || {{ echo {quote(lacking)} >&2; exit 1; }}; "
        't=$(mktemp) || exit 1; trap \'rm -f "$t"\' EXIT; rpi-eeprom-config >"$t" && [ -s "$t" ] || exit 1; '
        f'{edits}; rpi-eeprom-config --apply "$t"'
    )


# -- the watchdog, and swap ---------------------------------------------------------------------------------


def watchdog_conf() -> ManagedFile:
    """systemd feeds the watchdog, and leaves it on for a reboot that hangs."""
    return ManagedFile(
        "# Managed by PiClusterOps: changes are overwritten.\n"
        f"[Manager]\nRuntimeWatchdogSec={boot.WATCHDOG_S}s\nRebootWatchdogSec=2min\n"
    )


@operation()
def watchdog(targets: Mapping[str, BootTarget], query: Query) -> Any:
    """
    Let the hardware watchdog restart a node that hangs: systemd feeds it, and no other daemon.

    + targets: what each node should boot with, by its name
    + query: the role's query

    A host that is no Raspberry Pi is left alone.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    board = boot.model(snapshot)
    commands = list(_fed_by_systemd(snapshot)) if targets[host.name].watchdog and board else list(_not_fed(snapshot))
    if not commands:
        host.noop("the watchdog is as it should be")
    yield from commands


def _fed_by_systemd(snapshot: Snapshot) -> Commands:
    states, answers = boot.unit_states(snapshot), snapshot.probes.get("watchdog", [])
    rivals = [unit for unit in boot.WATCHDOG_SERVICES if states.get(unit) == "enabled"]
    written = snapshot.paths.get(boot.WATCHDOG_FILE) == watchdog_conf().state
    if rivals:
        yield f"systemctl disable --quiet --now {' '.join(rivals)}"
    if not written:
        yield write_file(boot.WATCHDOG_FILE, watchdog_conf())
    if not written or ("device" in answers and f"RuntimeWatchdogUSec={boot.WATCHDOG_S}s" not in answers):
        yield "systemctl daemon-reload"


def _not_fed(snapshot: Snapshot) -> Commands:
    if boot.WATCHDOG_FILE in snapshot.paths:
        yield f"rm -f {boot.WATCHDOG_FILE} && systemctl daemon-reload"


RPI_SWAP_CONF = ManagedFile("# Managed by PiClusterOps: changes are overwritten.\n[Main]\nMechanism=none\n")

# Swap units that a generator or a file made: those of /etc/fstab went with their line, those that systemd only saw
# come up (dphys-swapfile) have no file.
_STOP_SWAP = (
    "systemctl list-units --type=swap --state=active --no-legend --no-pager --plain | while read -r u _; do "
    'case $(systemctl show -p SourcePath -p FragmentPath "$u") in '
    '*SourcePath=/etc/fstab*) ;; *FragmentPath=/*) systemctl mask --quiet "$u" ;; esac; done; '
    "swapoff -a || echo 'not enough memory to switch it off now' >&2"
)


@operation()
def no_swap(targets: Mapping[str, BootTarget], query: Query) -> Any:
    """
    Switch swap off, now and at the next boot; whatever makes it is disabled or masked, and nothing is removed.

    + targets: what each node should boot with, by its name
    + query: the role's query

    What does not fit into memory now is left to a reboot; see `running_state`.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    if not targets[host.name].swap_off:
        host.noop("swap is kept")
        return
    text = decoded(first_line(snapshot, "fstab"))
    if text is None:
        yield refuse(
            f"{host.name}: /etc/fstab is not UTF-8 text, so it is left alone. Next: {ssh_command(host)} cat /etc/fstab"
        )
        return
    commands = list(_without_swap(snapshot, text))
    if not commands:
        host.noop("there is no swap")
        return
    yield from _edit(snapshot)
    yield from commands


def _without_swap(snapshot: Snapshot, text: str) -> Commands:
    makers, states = snapshot.probes.get("swap_makers", []), boot.unit_states(snapshot)
    if swap.has_swap(text):
        yield replace_file("/etc/fstab", swap.without_swap(text))
    if "rpi-swap-generator" in makers and snapshot.paths.get(boot.RPI_SWAP_FILE) != RPI_SWAP_CONF.state:
        yield write_file(boot.RPI_SWAP_FILE, RPI_SWAP_CONF)
    services = [unit for unit in boot.SWAP_SERVICES if states.get(unit) == "enabled"]
    if services:
        yield f"systemctl disable --quiet --now {' '.join(services)}"
    # rpi-swap with Mechanism=none leaves the default device of zram-generator (raspberrypi/rpi-swap#4).
    if makers and states.get(boot.ZRAM_SWAP) != "masked":
        yield f"systemctl mask --quiet {boot.ZRAM_SWAP}"
    if boot.swaps(snapshot):
        yield _STOP_SWAP


# -- reboots ------------------------------------------------------------------------------------------------


def _and(words: Sequence[str]) -> str:
    return " and ".join(words)


def _digest(snapshot: Snapshot, target: BootTarget) -> str:
    """What a reboot would start: the same digest means that nothing has changed since the last one."""
    read = [snapshot.probes.get(probe, []) for probe in ("cmdline", "config_txt", "kernels")]
    return sha256(repr([read, asdict(target)]).encode()).hexdigest()


def _hopeless(host: Host, snapshot: Snapshot, target: BootTarget, lacks: Sequence[Difference]) -> str | None:
    """Why a reboot would not bring what is lacking; None when it should."""
    name, ssh = host.name, ssh_command(host)
    if not first_line(snapshot, "boot_id"):
        return f"{name}: its boot id can't be read, so a reboot could not be proved. Next: {ssh} uptime"
    asked = cmdline.asks_for_memory(first_line(snapshot, "running_cmdline"))
    if target.memory_cgroup and not boot.has_memory_cgroup(snapshot) and asked:
        return (
            f"{name}: the kernel was started with {cmdline.MEMORY}, and has no memory cgroup all the same: it is built "
            f"without it, or older than the firmware. Next: {ssh} sudo apt full-upgrade, and reboot it"
        )
    digest, _, old = snapshot.stamps.get(boot.REBOOT_STAMP, "").partition(" ")
    if digest == _digest(snapshot, target) and old != first_line(snapshot, "boot_id"):
        return (
            f"{name}: it was rebooted to {_and([lack.purpose for lack in lacks])}, and still has "
            f"{_and([lack.lack for lack in lacks])}, so it is not rebooted again: "
            f"{_and([lack.cause for lack in lacks])}. Next: {ssh} sudo journalctl -b; once that is mended, reboot it"
        )
    return None


@operation()
def running_state(node: str, targets: Mapping[str, BootTarget], timeout_s: int, query: Query) -> Any:
    """
    Reboot a node whose running system lacks what it should boot with, and check that it has it afterwards.

    + node: name of the node; the operation does nothing on any other host
    + targets: what each node should boot with, by its name
    + timeout_s: how long the node may take to come back, in seconds
    + query: the role's query

    To be called on every host for every node, in the same order: so one node is down at a time, and the next is only
    touched when this one is back. Pods are not drained. A reboot that did not help is not repeated.
    """
    if host.name != node:
        host.noop(f"this is about {node}")
        return
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    target = targets[node]
    lacks = boot.differences(snapshot, target)
    if not lacks:
        host.noop("what it should boot with is in force")
        if boot.REBOOT_STAMP in snapshot.stamps and host.state.is_executing:
            # The note of a run that ended while the node was down. No more than a note: it is not told as a change.
            run_quietly(host, _FORGET_REBOOT, privileges(host))
        return
    fault = _hopeless(host, snapshot, target, lacks)
    if fault:
        yield refuse(fault)
        return
    old_boot_id = first_line(snapshot, "boot_id")
    yield set_stamp(boot.REBOOT_STAMP, f"{_digest(snapshot, target)} {old_boot_id}")
    yield REBOOT
    yield FunctionCommand(_confirm, (old_boot_id, timeout_s, _and([lack.purpose for lack in lacks]), target, query), {})
    yield _FORGET_REBOOT


def _confirm(
    state: State, host: Host, old_boot_id: str, timeout_s: int, purpose: str, target: BootTarget, query: Query
) -> bool:
    backup = "the former boot files are beside them on the boot partition as *.piclusterops.bak"
    stopped = "No other node was rebooted after it."
    try:
        wait_for_new_boot(host, old_boot_id, timeout_s)
        lacks = boot.differences(snapshot_after_boot(host, query), target)
    except (RebootError, SSHException, OSError) as error:
        host.log_styled(
            f"{host.name}: it was rebooted to {purpose}: {error}. {stopped} Next: look at its screen or "
            f"serial console ({backup}); once it answers: {ssh_command(host)} journalctl -b, and run this again",
            fg="red",
        )
        return False
    if not lacks:
        return True
    host.log_styled(
        f"{host.name}: it was rebooted, and still has {_and([lack.lack for lack in lacks])}: "
        f"{_and([lack.cause for lack in lacks])}. {stopped} "
        f"Next: {ssh_command(host)} cat /proc/cmdline /sys/fs/cgroup/cgroup.controllers; {backup}",
        fg="red",
    )
    return False
