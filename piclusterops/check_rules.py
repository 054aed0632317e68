"""What is good and bad about one host: a rule a topic, pure functions from a `Subject` to remarks.

Sources of the numbers: https://etcd.io/docs/v3.5/faq/ (p99 of WAL fsync below 10 ms), etcd's
rafthttp/probing_status.go (it warns of clocks more than 1 s apart), https://docs.k3s.io/installation/requirements
(ports, SD cards), https://docs.k3s.io/installation/airgap (default route), https://docs.k3s.io/advanced
(iptables 1.8.0 to 1.8.4), the Raspberry Pi documentation on vcgencmd and on thermal control (80 and 85 C).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from piclusterops import cmdline
from piclusterops.check import Finding, Remark, Severity, Subject
from piclusterops.facts.boot import boot_file, has_memory_cgroup
from piclusterops.host_releases import DOCKER, KERNEL_MODULES, PACKAGES, node_of
from piclusterops.host_report import CONTAINER_ENGINES, Listener, Report
from piclusterops.host_steps import wanted_marks
from piclusterops.k3s_config import unit_name
from piclusterops.platform_rules import selected_releases

#: etcd's own bound for the p99 of its write-ahead log's fsync, in milliseconds.
ETCD_FSYNC_MS = 10.0
#: A median from which on SQLite, too, is late: K3s' leader election writes every 2 s, each several times. A judgement.
SLOW_FSYNC_MS = 50.0
#: Seconds between two clocks: etcd warns from 1 on, leases (40 s) and one-time codes (30 s) are wrong at 60.
CLOCK_WARNING_S, CLOCK_ERROR_S = 1.0, 60.0
#: Degrees Celsius at which the firmware begins to slow down, and slows down everything.
WARM_C, HOT_C = 80.0, 85.0

#: Bits of get_throttled "now"; the same 16 bits higher mean "since the last boot".
THROTTLED: dict[int, tuple[Severity, str]] = {
    0: ("error", "under-voltage"),
    2: ("error", "throttling"),
    1: ("warning", "a capped processor frequency"),
    3: ("warning", "the soft temperature limit"),
}
_SINCE_BOOT = 16

HostRule = Callable[[Subject, Report], Iterator[Remark]]


def error(found: str, why: str, fix: str) -> Remark:
    """A remark about what must be mended first."""
    return Remark("error", found, why, fix)


def warning(found: str, why: str, fix: str) -> Remark:
    """A remark about what will do, badly."""
    return Remark("warning", found, why, fix)


def info(found: str, why: str, fix: str = "nothing to do") -> Remark:
    """A remark about what is good to know, or what the deploy changes by itself."""
    return Remark("info", found, why, fix)


def host_findings(subject: Subject) -> list[Finding]:
    """All findings about one host."""
    name, report = subject.node.name, subject.report
    if subject.connection.error:
        return [Finding.of(name, "ssh", no_connection(subject))]
    if report is None:
        remark = error(
            "the host answered, and not in full",
            "its shell ended too early, or took more than a minute",
            f"{subject.connection.ssh} uptime",
        )
        return [Finding.of(name, "ssh", remark)]
    found = [
        Finding("error", name, refusal.topic, refusal.found, refusal.why, refusal.fix) for refusal in subject.refused
    ]
    for topic, rule in HOST_RULES.items():
        found += [Finding.of(name, topic, remark) for remark in rule(subject, report)]
    return found


# -- how we got there --------------------------------------------------------------------------------------


def no_connection(subject: Subject) -> Remark:
    """Why SSH failed, by the words of pyinfra and paramiko."""
    text, ssh = subject.connection.error, subject.connection.ssh
    lower = text.lower()
    if "authentication" in lower or "private key" in lower or "passphrase" in lower:
        fix = f"ssh-copy-id to it, or check ssh_user and ssh_key; then: {ssh} true"
        return error(f"it does not let us in: {text}", "every step goes over SSH with a key", fix)
    if "does not match" in lower or "host key error" in lower:
        why = "it was flashed anew, or another machine has its address"
        return error(
            f"its host key changed: {text}", why, f"after making sure: ssh-keygen -R ADDRESS; then: {ssh} true"
        )
    if "no host key" in lower:
        why = 'ssh_strict_host_key_checking is "yes"'
        return error(f"its host key is not known: {text}", why, f"{ssh} true, and compare the fingerprint it shows")
    if "resolve" in lower:
        return error(f"its name has no address: {text}", "SSH goes to ssh_hostname, else to the host's name", ssh)
    return error(f"it can't be reached: {text}", "it is off, elsewhere, or a firewall is between", f"{ssh} true")


def ssh(subject: Subject, report: Report) -> Iterator[Remark]:
    """Keys let us in, and the host proves who it is."""
    there = subject.connection
    if there.auth in ("password", "keyboard-interactive"):
        yield warning(
            "SSH let us in with a password",
            "passwords can be guessed, and the hardened sshd takes keys only",
            "ssh-copy-id to it, set ssh_key and remove ssh_password",
        )
    if there.checking in ("no", "off"):
        yield warning(
            "its host key is not checked",
            "another machine could take its place and read everything",
            'ssh_strict_host_key_checking = "accept-new"',
        )
    elif there.is_new_key:
        yield info(
            f"its host key is new to this controller: {there.host_key}",
            "the first deploy remembers it; now is the time to compare",
            "on its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )


def sudo(subject: Subject, report: Report) -> Iterator[Remark]:
    """sudo asks for no password."""
    if not report.is_privileged:
        reason = report.sudo.removeprefix("no").strip() or "no reason given"
        yield error(
            f"no sudo without a password: {reason}",
            "every change needs root; what only root may see is missing in this table",
            'on the host: echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/010_pi-nopasswd',
        )


# -- the board ---------------------------------------------------------------------------------------------


def power(subject: Subject, report: Report) -> Iterator[Remark]:
    """The firmware reports no under-voltage and no throttling."""
    bits = report.throttled or 0
    for bit, (severity, name) in THROTTLED.items():
        if bits & 1 << bit:
            when, how_bad = "now", severity
        elif bits & 1 << bit + _SINCE_BOOT:
            when, how_bad = "since it booted", "warning"
        else:
            continue
        fix = (
            "a 5 V 5 A (27 W) supply for a Pi 5 and a short cable; fewer USB devices without a supply of their own"
            if bit in (0, 1)
            else "an active cooler; then: vcgencmd get_throttled"
        )
        why = "writes get lost, cards and file systems break" if bit == 0 else "it runs slower than it could"
        yield Remark(how_bad, f"{name} {when} (get_throttled {bits:#x})", why, fix)


def temperature(subject: Subject, report: Report) -> Iterator[Remark]:
    """The processor is cool enough to run at full speed."""
    degrees = report.temperature_c
    if degrees is not None and degrees >= WARM_C:
        make = error if degrees >= HOT_C else warning
        yield make(f"the processor has {degrees:.0f} C", f"it slows down from {WARM_C:.0f} C on", "an active cooler")


def page_size(subject: Subject, report: Report) -> Iterator[Remark]:
    """The kernel has pages of 4 KiB, which all images are built for."""
    size = report.page_size
    if size and size != 4096:
        yield warning(
            f"memory pages of {size // 1024} KiB (kernel {report.value('kernel') or 'unknown'})",
            "images with jemalloc or tcmalloc end at once: fluent-bit, Redis, MongoDB, ...",
            f'{subject.site} boots the kernel with 4 KiB, with page_size = "4k"',
        )


def system(subject: Subject, report: Report) -> Iterator[Remark]:
    """Facts that the deploy decides by are known, and the system is a 64-bit one throughout."""
    if report.facts is None:
        yield error(
            "architecture, memory, disk or release could not be read",
            "the deploy guesses nothing and refuses",
            "on the host: uname -m; free -m; df -h /var/lib; cat /etc/os-release",
        )
    elif report.facts.arch == "aarch64" and report.value("userland") == "armhf":
        yield warning(
            "a 32-bit system on a 64-bit kernel",
            "K3s runs 64-bit images, the packages of the host are 32-bit ones",
            "flash the 64-bit image of Raspberry Pi OS Lite",
        )


def cgroups(subject: Subject, report: Report) -> Iterator[Remark]:
    """The memory controller is on, or the deploy can turn it on (`/proc/cgroups` does not tell since Linux 6.12)."""
    if not report.lines("cgroup_controllers"):
        yield error(
            "there is no cgroup v2 hierarchy in /sys/fs/cgroup",
            "the kubelet of Kubernetes 1.35 and newer refuses cgroup v1",
            "take systemd.unified_cgroup_hierarchy=0 out of the kernel command line, and reboot",
        )
        return
    if has_memory_cgroup(report.snapshot):
        return
    why = "K3s does not start pods without the memory cgroup"
    if cmdline.asks_for_memory(report.first("running_cmdline")):
        yield error("no memory cgroup, although asked for", why, "sudo apt full-upgrade (kernel and firmware), reboot")
    elif boot_file(report.snapshot) is None:
        yield error("no memory cgroup, and no cmdline.txt to enable it in", why, "sudo mount /boot/firmware")
    else:
        yield info("no memory cgroup yet", why, f"{subject.site} enables it, and reboots the node")


def boot(subject: Subject, report: Report) -> Iterator[Remark]:
    """The files that the firmware reads are there, and in order."""
    if not report.is_pi:
        return
    file = boot_file(report.snapshot)
    has_config = any(path in report.snapshot.paths for path in ("/boot/firmware/config.txt", "/boot/config.txt"))
    if file is None or not has_config or file.moved:
        yield warning(
            "cmdline.txt or config.txt is not in /boot/firmware",
            "the boot partition is not mounted, so that boot settings can't be made",
            "sudo mount /boot/firmware; if it has no entry in /etc/fstab, add it",
        )
        return
    try:
        cmdline.with_memory_cgroup(file.text or "")
    except ValueError as problem:
        yield error(f"{file.path}: {problem}", "it would not boot again", "restore it from a backup before any reboot")
        return
    if len([line for line in (file.text or "").splitlines() if line.strip()]) > 1:
        yield warning(
            f"{file.path} has more than one line",
            "the firmware reads the first line only",
            f"{subject.site} joins them when it edits the file; or make it one line",
        )


# -- disk ----------------------------------------------------------------------------------------------------


def disk(subject: Subject, report: Report) -> Iterator[Remark]:
    """The file system of K3s' data can be written, and quickly."""
    if report.mount and "ro" in report.mount[2]:
        yield error(
            f"{report.mount[0]} is mounted read-only",
            "the kernel does so after errors: the card or disk may be dying",
            "sudo dmesg | grep -i -e mmc -e nvme -e ext4; then a new card",
        )
    elif report.fsync and report.fsync.p50 > SLOW_FSYNC_MS and not subject.node.is_server:
        yield warning(
            f"fsync takes long: {report.fsync}{_on(report)}",
            "images unpack and pods start slowly",
            "a better card (A2), an SSD or NVMe",
        )


def datastore(subject: Subject, report: Report) -> Iterator[Remark]:
    """The server's disk suits the datastore, judged by its measured latency."""
    if not subject.node.is_server:
        return
    fsync, is_etcd = report.fsync, subject.cluster.settings.datastore == "etcd"
    measured = f"{fsync}{_on(report)}" if fsync else f"not measured{_on(report)}"
    bound = f"etcd wants a p99 below {ETCD_FSYNC_MS:.0f} ms"
    move = (
        "an SSD or NVMe for /var/lib/rancher"
        if len(subject.cluster.servers) > 1
        else 'datastore = "sqlite", or an SSD or NVMe for /var/lib/rancher'
    )
    if is_etcd and report.is_on_card:
        yield warning(f"etcd on an SD card or eMMC: fsync {measured}", f"{bound}, and its writes wear cards out", move)
    elif is_etcd and fsync and fsync.p99 >= ETCD_FSYNC_MS:
        yield warning(f"fsync is too slow for etcd: {measured}", bound, move)
    elif not is_etcd and fsync and fsync.p50 > SLOW_FSYNC_MS:
        yield warning(
            f"fsync is slow even for SQLite: {measured}",
            "K3s loses its leader lease and restarts when writes wait for seconds",
            "a better card (A2), an SSD or NVMe",
        )
    elif not is_etcd and fsync and fsync.p99 < ETCD_FSYNC_MS and not report.is_on_card:
        yield info(f"the disk is fast enough for etcd, too: {measured}", bound)


def _on(report: Report) -> str:
    return f" on {report.disk_kind}" if report.disk_kind else ""


# -- time and network ----------------------------------------------------------------------------------------


def clock(subject: Subject, report: Report) -> Iterator[Remark]:
    """The clock is set from the network, and agrees with the controller's."""
    if report.value("synchronised") == "no":
        yield warning(
            "its clock is not synchronised",
            "certificates and backups depend on it, and a Pi without a battery starts in the past",
            "timedatectl timesync-status; let it out to udp 123, or set NTP= in /etc/systemd/timesyncd.conf",
        )
    if subject.clock is None:
        return
    offset, bound = subject.clock
    if abs(offset) - bound > CLOCK_WARNING_S:
        make = error if abs(offset) - bound > CLOCK_ERROR_S else warning
        yield make(
            f"its clock is {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the controller's "
            f"(measured to {bound:.2f} s)",
            "etcd warns from 1 s on; leases, one-time codes and certificates fail later",
            "timedatectl, here and there: one of the two is wrong",
        )


def route(subject: Subject, report: Report) -> Iterator[Remark]:
    """There is a default route."""
    if report.value("default_route") == "":
        yield warning(
            "no default route",
            "K3s needs one for the addresses of services, and for the node's interface when none is set",
            "set the gateway of the network; where there is none: ip route add default dev eth0 metric 1000",
        )


def dns(subject: Subject, report: Report) -> Iterator[Remark]:
    """Its own name and the other nodes' have the right addresses."""
    names, own = report.names, report.first("hostname")
    if own and own in names and not names[own]:
        yield warning(
            f"its own name {own} has no address",
            "sudo and K3s wait for the resolver each time",
            f"{subject.site} writes /etc/hosts; until then: 127.0.1.1 {own}",
        )
    if not report.lines("nameservers"):
        yield warning("no name server in /etc/resolv.conf", "images and packages can't be found", "nmcli device show")
    missing = []
    for node in subject.cluster.nodes:
        if node.name in (subject.node.name, own) or node.name not in names:
            continue
        if not names[node.name]:
            missing.append(node.name)
        elif node.address not in names[node.name]:
            yield warning(
                f"{node.name} is {', '.join(names[node.name])} there, {node.address} in the inventory",
                "nodes would talk to another machine",
                "correct the router's names, or address in the inventory",
            )
    if missing:
        which = f": {', '.join(missing)}" if len(missing) < len(subject.cluster.nodes) - 1 else ""
        yield info(
            f"names of other nodes are unknown{which}", "nodes call each other by name", f"{subject.site} adds them"
        )


@dataclass(frozen=True)
class _Port:
    protocol: str
    number: int
    purpose: str
    is_local: bool = False
    is_pod: bool = False


def needed_ports(subject: Subject) -> list[_Port]:
    """What K3s, and those of the platform's pods that use the node's network, listen on at this node."""
    settings = subject.cluster.settings
    ports = [
        _Port("tcp", 10250, "kubelet"),
        _Port("tcp", 10248, "kubelet", True),
        _Port("tcp", 10010, "containerd", True),
    ]
    ports += [_Port("tcp", number, "kube-proxy", True) for number in (10249, 10256)]
    ports.append(_Port("tcp", 6444, "K3s' way to the API", True))
    if settings.flannel_backend == "vxlan":
        ports.append(_Port("udp", 8472, "flannel"))
    if settings.flannel_backend == "wireguard-native":
        ports.append(_Port("udp", 51820, "flannel"))
    if settings.metallb_pool:
        ports += [_Port(protocol, 7946, "MetalLB", is_pod=True) for protocol in ("tcp", "udp")]
    if "kube-prometheus-stack" in selected_releases(settings):
        ports.append(_Port("tcp", 9100, "node-exporter", is_pod=True))
    if subject.node.is_server:
        ports.append(_Port("tcp", 6443, "Kubernetes API"))
        ports += [_Port("tcp", number, "control plane", True) for number in (10257, 10258, 10259)]
        if settings.datastore == "etcd":
            ports += [_Port("tcp", number, "etcd") for number in (2379, 2380)]
            ports.append(_Port("tcp", 2381, "etcd", True))
    return ports


def ports(subject: Subject, report: Report) -> Iterator[Remark]:
    """The ports that K3s needs are free, or K3s' own."""
    runs = bool({"k3s", "k3s-agent"} & report.running_units)
    for port in needed_ports(subject):
        taken = [
            listener
            for listener in report.listeners or []
            if (listener.protocol, listener.port) == (port.protocol, port.number)
            and not _is_ours(listener, runs, report.is_privileged, port)
        ]
        for name in dict.fromkeys(listener.process for listener in taken):
            who = name or ("the kernel" if report.is_privileged else "a process that only root can name")
            unit = next((listener.unit for listener in taken if listener.process == name and listener.unit), "")
            stop = f"sudo systemctl disable --now {unit}" if unit else f"sudo ss -lntup 'sport = :{port.number}'"
            yield error(
                f"port {port.number}/{port.protocol} ({port.purpose}) is taken by {who}{f' ({unit})' if unit else ''}",
                f"{port.purpose} can't listen there",
                f"{stop}; or give it another port",
            )


def _is_ours(listener: Listener, runs: bool, privileged: bool, port: _Port) -> bool:
    """Whether a listener is no obstacle: K3s', its pods' or the kernel's (vxlan), or on an address K3s does not use.

    A process of a pod belongs to no service of the host.
    """
    if listener.is_k3s or (port.is_pod and runs and not listener.unit):
        return True
    if not listener.process and (runs or (privileged and listener.protocol == "udp")):
        return True
    others = listener.address not in ("*", "0.0.0.0", "[::]", "::") and not listener.is_loopback
    return port.is_local and others


def iptables(subject: Subject, report: Report) -> Iterator[Remark]:
    """The iptables that K3s calls works, and is the one whose rules are in the kernel."""
    there = report.iptables
    if there is None:
        return
    if there.variant == "nf_tables" and (1, 8, 0) <= there.version <= (1, 8, 4):
        yield error(
            f"iptables {there}",
            "1.8.0 to 1.8.4 add the same rules again and again until the node stands still",
            "sudo apt update && sudo apt install iptables",
        )
    elif there.variant == "legacy":
        yield warning(
            f"iptables {there}",
            "its rules are apart from nftables', and hard to see",
            "before K3s is installed: sudo update-alternatives --set iptables /usr/sbin/iptables-nft",
        )
    elif report.value("legacy_tables"):
        yield warning(
            f"iptables {there}, and tables of the legacy one are loaded",
            "packets pass both sets of rules",
            "look: sudo iptables-legacy-save; they are gone after a reboot when nothing loads them",
        )


def docker(subject: Subject, report: Report) -> Iterator[Remark]:
    """No Docker that would take over the FORWARD chain: ours, the release of that name, leaves it alone."""
    installed = sorted(report.snapshot.packages & set(CONTAINER_ENGINES))
    drops = (report.value("forward") or "").split()[-1:] == ["DROP"]
    ours = DOCKER in report.snapshot.stamps and node_of(subject.cluster, DOCKER) == subject.node.name
    if (installed or "docker" in report.running_units) and not (ours and set(installed) <= set(PACKAGES[DOCKER])):
        policy = ", and the FORWARD policy is DROP" if drops else ""
        yield warning(
            f"Docker is on this node{policy}",
            "it sets the FORWARD policy to DROP as it starts, which cuts pods off; K3s has its own containerd",
            f"sudo apt purge {' '.join(installed) or 'docker'}, and a reboot; build images elsewhere",
        )
    elif drops:
        yield warning(
            "the FORWARD policy of iptables is DROP",
            "traffic of pods passes only where a rule accepts it",
            "find who sets it; then: sudo iptables -P FORWARD ACCEPT",
        )


def releases(subject: Subject, report: Report) -> Iterator[Remark]:
    """What the hosts' packages bring of the platform is there, or can be brought."""
    missing = set(report.lines("kernel_modules"))
    for name, (node, mark) in wanted_marks(subject.cluster).items():
        if node != subject.node.name:
            continue
        if module := next((module for module in KERNEL_MODULES.get(name, ()) if module in missing), None):
            yield error(
                f"the kernel has no module {module}",
                f"{name} (platform_releases) can't run on this node",
                "sudo modprobe -v " + module + "; after an upgrade of the kernel a reboot brings its modules back",
            )
        elif report.snapshot.stamps.get(name) == mark:
            yield info(f"{name} is on this node", "platform_releases has it here")
        else:
            there = "is not as the settings want it" if name in report.snapshot.stamps else "is not on this node yet"
            yield info(f"{name} {there}", "platform_releases has it here", f"{subject.site} sees to it")


def swap(subject: Subject, report: Report) -> Iterator[Remark]:
    """No swap on a disk; compressed memory will do."""
    on_disk = [swap for swap in report.swaps if not swap.is_zram]
    if on_disk:
        yield warning(
            f"swap on {', '.join(f'{swap.path} ({swap.size_mb} MB)' for swap in on_disk)}",
            "it wears the card out, and limits and etcd suffer from it",
            f'{subject.site} switches it off, with swap = "off"',
        )


# -- K3s -----------------------------------------------------------------------------------------------------


def k3s(subject: Subject, report: Report) -> Iterator[Remark]:
    """K3s is there, in the wanted version and role, and runs; that it can be put there is `Subject.refused`."""
    if report.facts is None:
        return
    wanted, unit = subject.cluster.settings.k3s_version, unit_name(subject.node)
    other = "k3s-agent" if unit == "k3s" else "k3s"
    if other in report.running_units:
        yield error(
            f"{other} runs, and the inventory says {subject.node.role}",
            "a node can't change between server and agent by a deploy",
            "put it into the other group; or drain it, delete the node and uninstall K3s first",
        )
        return
    if not report.facts.installed:
        yield info("K3s is not installed yet", f"{wanted} is wanted", subject.site)
        return
    if report.facts.k3s_version != wanted and not any(refusal.topic == "K3s" for refusal in subject.refused):
        yield info(f"K3s {report.facts.k3s_version or 'of an unknown version'}", f"{wanted} is wanted", subject.site)
    state = report.snapshot.units.get(unit)
    active = state.active if state else "unknown"
    if active != "active":
        make = error if active in ("failed", "activating") else warning
        yield make(f"{unit} is {active}", "this node runs no pods", f"sudo journalctl -u {unit} -n 50; {subject.site}")


# -- what there is, and what nobody knows -----------------------------------------------------------------------


def unknown(subject: Subject, report: Report) -> Iterator[Remark]:
    """What could not be measured, because a tool is missing or failed."""
    checks = {
        "page size (getconf)": report.page_size is None,
        "ports taken (ss of iproute2)": report.listeners is None,
        "default route (ip of iproute2)": report.value("default_route") is None,
        "fsync latency (mktemp, dd; is the disk full?)": report.fsync is None,
        "kind of disk (findmnt of util-linux)": report.mount is None,
        "throttling (vcgencmd of raspi-utils)": report.is_pi and report.throttled is None,
        "way to other nodes (bash)": len(subject.cluster.nodes) > 1 and not report.peers,
    }
    missing = [name for name, is_missing in checks.items() if is_missing]
    if missing:
        fix = "install the tool that is named" if report.is_privileged else "sudo without a password, and again"
        yield info(f"not known: {', '.join(missing)}", "what was not measured is not judged", fix)


def host(subject: Subject, report: Report) -> Iterator[Remark]:
    """The host in one line."""
    facts, degrees = report.facts, report.temperature_c
    parts = [
        report.value("model") or "",
        f"{facts.memory_mb} MB memory, {facts.disk_free_mb} MB free" if facts else "",
        report.disk_kind,
        f"fsync {report.fsync}" if report.fsync else "",
        facts.os_name if facts else "",
        f"kernel {report.value('kernel')}" if report.value("kernel") else "",
        f"{degrees:.0f} C" if degrees is not None else "",
        f"clock {subject.clock[0]:+.2f} s (to {subject.clock[1]:.2f} s)" if subject.clock else "",
    ]
    yield info("; ".join(filter(None, parts)), "")


HOST_RULES: dict[str, HostRule] = {
    "ssh": ssh,
    "sudo": sudo,
    "power": power,
    "temperature": temperature,
    "system": system,
    "disk": disk,
    "cgroups": cgroups,
    "boot": boot,
    "clock": clock,
    "ports": ports,
    "route": route,
    "dns": dns,
    "K3s": k3s,
    "datastore": datastore,
    "page size": page_size,
    "iptables": iptables,
    "docker": docker,
    "releases": releases,
    "swap": swap,
    "unknown": unknown,
    "host": host,
}
