"""The operating system's own settings: names, clock, packages, kernel parameters, mounts.

Every operation takes the role's query and reads nothing but its snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, operation

from piclusterops import fstab, hosts_file
from piclusterops.baseline import CLOUD_INIT_FILE, MODULES_FILE, SYSCTL_FILE, cloud_init_cfg, modules_conf, sysctl_conf
from piclusterops.facts.node import CLOCK_IS_SYNCHRONISED, CLOUD_INIT_DISABLED
from piclusterops.facts.snapshot import Query, snapshot_of
from piclusterops.facts.text import decoded, first_line
from piclusterops.operations.managed import UNFINISHED, ManagedFile, receive, refuse, unknown_state, write_file
from piclusterops.session import ssh_command
from piclusterops.sysctl import PARAMETERS, drift

# The option waits for dpkg's lock; the lock of the package lists has none, so `update` waits by itself.
_APT_FUNCTIONS = r"""
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none
apt() {
    apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" </dev/null
}
update() {
    i=0
    while ! o=$(apt update 2>&1); do
        i=$((i + 1))
        case $o in *'get lock'*) [ "$i" -lt 120 ] && sleep 5 && continue ;; esac
        printf '%s\n' "$o" >&2
        return 1
    done
}
"""


def replace_file(path: str, content: str) -> StringCommand:
    """Replace a file that the host can't boot without: the original is kept once, and only a whole file is put in.

    The first call leaves the original as `<path>.piclusterops.bak`; no later call touches that. The mode stays,
    where the file system has modes: on the FAT of the boot partition all files have the same, and the same owner.
    """
    return StringCommand(
        f'f={quote(path)}; b="$f.piclusterops.bak"; d=$(dirname "$f"); umask 077; t="$f{UNFINISHED}"; '
        'trap \'rm -f "$t"\' EXIT; like_the_original() { chmod --reference="$f" "$t" 2>/dev/null; sync "$t"; }; '
        '[ -e "$b" ] || { cp "$f" "$t" && like_the_original && mv "$t" "$b"; } || exit 1; '
        f"{receive(content)} && "
        'like_the_original && mv -f "$t" "$f" && sync "$d" && sync -f "$d"',
        _stdin=content,
    )


def install_command(packages: Sequence[str]) -> str:
    """Shell that installs packages in one transaction.

    The package lists are only fetched, and an interrupted dpkg only repaired, when the installation fails at first.
    Waits for another apt to finish: ten minutes for each of its two locks.
    """
    install = f"apt install --no-install-recommends {' '.join(quote(package) for package in packages)}"
    return f"{_APT_FUNCTIONS}{install} || {{ dpkg --configure -a && update && {install}; }}"


def installation(packages: Sequence[str]) -> str:
    """Shell that installs packages in one transaction, and says on failure what to do next."""
    fault = (
        f"{host.name}: {' '.join(packages)} could not be installed. "
        f"Next: read apt's message above; {ssh_command(host)} sudo apt-get update"
    )
    return f"( {install_command(packages)}\n) || {{ echo {quote(fault)} >&2; exit 1; }}"


@operation()
def hosts(nodes: Sequence[tuple[str, str]], domain: str, query: Query) -> Any:
    """
    Keep the names of the cluster's nodes in /etc/hosts.

    + nodes: (address, name) of every node
    + domain: DNS domain of the nodes
    + query: the role's query
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    text = decoded(first_line(snapshot, "hosts"))
    if text is None:
        yield refuse(
            f"{host.name}: /etc/hosts is not UTF-8 text, so it is left alone. Next: {ssh_command(host)} cat /etc/hosts"
        )
        return
    wanted = hosts_file.with_cluster(text, nodes, domain, host.name)
    if wanted == text:
        host.noop("/etc/hosts names all nodes")
        return
    yield write_file("/etc/hosts", ManagedFile(wanted))


@operation()
def hostname(query: Query) -> Any:
    """
    Give the host its name of the inventory, now and at the next boot.

    + query: the role's query
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    names = [name.strip() for name in snapshot.probes.get("hostname", [])]
    if names == [host.name, host.name]:
        host.noop(f"the host name is {host.name}")
        return
    yield write_file("/etc/hostname", ManagedFile(f"{host.name}\n"))
    yield f"hostname {quote(host.name)}"


@operation()
def cloud_init(query: Query) -> Any:
    """
    Keep cloud-init off the host name and /etc/hosts.

    + query: the role's query

    The user-data of an image overrides cloud-init's own files. Where it claims /etc/hosts (Raspberry Pi Imager
    writes `manage_etc_hosts: true`), that file would be replaced at every boot: there cloud-init, whose work is done
    after the first boot, is switched off by its own marker file.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    file = ManagedFile(cloud_init_cfg())
    written = snapshot.paths.get(CLOUD_INIT_FILE) == file.state
    claimed = first_line(snapshot, "cloud_init") != ""
    if written and not claimed:
        host.noop("cloud-init leaves the host name and /etc/hosts alone")
        return
    if not written:
        yield write_file(CLOUD_INIT_FILE, file)
    if claimed:
        yield write_file(CLOUD_INIT_DISABLED, ManagedFile("Switched off by PiClusterOps: it replaced /etc/hosts.\n"))


@operation()
def timezone(zone: str, query: Query) -> Any:
    """
    Set the time zone.

    + zone: name of the IANA database, such as Europe/Bern
    + query: the role's query
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    link = f"/usr/share/zoneinfo/{zone}"
    current = [line.strip() for line in snapshot.probes.get("timezone", [])]
    if current == [link, zone]:
        host.noop(f"the time zone is {zone}")
        return
    fault = f"{host.name}: there is no time zone {zone}. Next: set timezone to a name of: timedatectl list-timezones"
    yield (
        f"[ -f {quote(link)} ] || {{ echo {quote(fault)} >&2; exit 1; }}; "
        f"cd /etc && ln -sfn {quote(link)} localtime{UNFINISHED} && mv -fT localtime{UNFINISHED} localtime && "
        f"echo {quote(zone)} >timezone{UNFINISHED} && mv -f timezone{UNFINISHED} timezone"
    )


@operation()
def synchronised_clock(timeout_s: int, query: Query) -> Any:
    """
    Wait until the clock is synchronised; fail the host when it does not get there.

    + timeout_s: how long to wait, in seconds
    + query: the role's query

    A Pi 5 without a battery starts with a wrong clock, on which TLS, tokens and log retention fail in strange ways.
    systemd-timesyncd is enabled when no time daemon is.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    daemon, synchronised = first_line(snapshot, "time_daemon"), first_line(snapshot, "clock")
    if daemon and synchronised:
        host.noop("the clock is synchronised")
        return
    if not daemon:
        yield (
            "systemctl cat systemd-timesyncd.service >/dev/null 2>&1 || { "
            f"{install_command(['systemd-timesyncd'])}\n}} && systemctl enable --now systemd-timesyncd.service"
        )
    if not synchronised:
        fault = (
            f"{host.name}: the clock is not synchronised after {timeout_s} s. "
            f"Next: {ssh_command(host)} timedatectl timesync-status; let UDP port 123 out, or name a time server of "
            "the LAN as NTP= in /etc/systemd/timesyncd.conf"
        )
        yield (
            f"end=$(($(cut -d. -f1 /proc/uptime) + {timeout_s})); until {CLOCK_IS_SYNCHRONISED}; do "
            f'[ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || {{ echo {quote(fault)} >&2; exit 1; }}; sleep 1; done'
        )


@operation()
def packages(names: Sequence[str], query: Query) -> Any:
    """
    Install the Debian packages that are missing, in one transaction.

    + names: the packages
    + query: the role's query; it must contain the packages
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    missing = [name for name in names if name not in snapshot.packages]
    if not missing:
        host.noop(f"{len(names)} packages are installed")
        return
    yield installation(missing)


@operation()
def kernel_parameters(query: Query) -> Any:
    """
    Set the kernel parameters, now and at every boot, and load the modules that K3s needs.

    + query: the role's query

    A parameter that something else changed since is set again. Modules that the kernel does not have are left out.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    files = {SYSCTL_FILE: ManagedFile(sysctl_conf()), MODULES_FILE: ManagedFile(modules_conf())}
    changed = [path for path, file in files.items() if snapshot.paths.get(path) != file.state]
    for path in changed:
        yield write_file(path, files[path])
    modules = [line.split()[0] for line in snapshot.probes.get("modules", []) if line.endswith(" available")]
    if modules:
        yield f"modprobe -a {' '.join(quote(module) for module in modules)}"
    if modules or drift(PARAMETERS, snapshot.sysctls):
        yield f"sysctl -q -e -p {SYSCTL_FILE}"
    elif not changed:
        host.noop(f"{len(PARAMETERS)} kernel parameters are set")


@operation()
def noatime(query: Query) -> Any:
    """
    Mount the root file system with noatime: reading a file writes nothing to the card.

    + query: the role's query

    A host without an entry for / in /etc/fstab is left alone.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    text = decoded(first_line(snapshot, "fstab"))
    if text is None:
        yield refuse(
            f"{host.name}: /etc/fstab is not UTF-8 text, so it is left alone. Next: {ssh_command(host)} cat /etc/fstab"
        )
        return
    if not fstab.has_root(text):
        host.noop("/etc/fstab has no entry for /")
        return
    wanted = fstab.with_noatime(text)
    mounted = "noatime" in first_line(snapshot, "root_options").split(",")
    if wanted != text:
        yield replace_file("/etc/fstab", wanted)
    if not mounted:
        yield "mount -o remount,noatime /"
    elif wanted == text:
        host.noop("/ is mounted with noatime")
