"""Answers of hosts as the tools of Raspberry Pi OS print them, and subjects made from these."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from k3s_samples import cluster

from piclusterops.check import Connection, Subject
from piclusterops.facts.snapshot import PathState, Snapshot, UnitState
from piclusterops.host_report import Report

CMDLINE = "console=serial0,115200 console=tty1 root=PARTUUID=4e6b12a3-02 rootfstype=ext4 fsck.repair=yes rootwait"
FIRMWARE = "reboot=w coherent_pool=1M 8250.nr_uarts=1 pci=pcie_bus_safe cgroup_disable=memory numa_policy=interleave"

#: A fresh Raspberry Pi 5 with Raspberry Pi OS Lite bookworm on an SD card, kernel8.img chosen.
BOOKWORM: dict[str, list[str]] = {
    "boot_id": ["0cc0dc93-d9f9-4c9a-b2a2-0dd583696b9d"],
    "cgroup_controllers": ["cpuset cpu io memory pids"],
    "running_cmdline": [f"{FIRMWARE} {CMDLINE} cgroup_enable=memory"],
    "cmdline": ["/boot/firmware/cmdline.txt", b64encode(f"{CMDLINE} cgroup_enable=memory\n".encode()).decode()],
    "hostname": ["pi-master"],
    "system": [
        "kernel=6.6.74+rpt-rpi-v8",
        "page_size=4096",
        "userland=arm64",
        "machine_id=6f1b1d0c5b7e4a6d8b6f0a4a3f3c9d21",
        "default_route=default via 192.168.0.1 dev eth0 proto dhcp src 192.168.0.120 metric 100",
        "iptables=iptables v1.8.9 (nf_tables)",
        "forward=-P FORWARD ACCEPT",
        "throttled=throttled=0x0",
        "temperature=temp=48.3'C",
        "model=Raspberry Pi 5 Model B Rev 1.0",
        "synchronised=yes",
    ],
    "disk": ["mount=/dev/mmcblk0p2 ext4   rw,noatime", "disk=mmcblk0", "card=SD"],
    "fsync": ["0.00312"] * 90 + ["0.0084"] * 10,
    "ports": [
        'tcp   LISTEN 0      128          0.0.0.0:22        0.0.0.0:*    users:(("sshd",pid=712,fd=3))',
        'tcp   LISTEN 0      128             [::]:22           [::]:*    users:(("sshd",pid=712,fd=4))',
        'udp   UNCONN 0      0            0.0.0.0:5353      0.0.0.0:*    users:(("avahi-daemon",pid=530,fd=12))',
        "unit 712 ssh.service",
        "unit 530 avahi-daemon.service",
    ],
    "swaps": [],
    "nameservers": ["192.168.0.1"],
    "names": ["pi-master 127.0.1.1", "pi-worker-1 192.168.0.121", "pi-worker-2 192.168.0.122"],
    "peers": [
        f"192.168.0.{octet}:{port} {how}" for octet in (121, 122) for port, how in ((22, "open"), (10250, "refused"))
    ],
    "preflight": [
        "arch=aarch64",
        "memory_kb=8256480",
        "disk_free_kb=54525952",
        "volumes_kb=61254656",
        "volumes_free_kb=54525952",
        "cpus=4",
        "os_id=debian",
        "os_version=12",
        "os_name=Debian GNU/Linux 12 (bookworm)",
    ],
}

#: Raspberry Pi OS trixie as it comes: kernel_2712.img with 16 KiB pages, zram, no memory cgroup yet, NVMe.
TRIXIE: dict[str, list[str]] = {
    **BOOKWORM,
    "cgroup_controllers": ["cpuset cpu io pids"],
    "running_cmdline": [f"{FIRMWARE} {CMDLINE} resize"],
    "cmdline": ["/boot/firmware/cmdline.txt", b64encode(f"{CMDLINE} resize\n".encode()).decode()],
    "system": [
        "kernel=6.12.47+rpt-rpi-2712",
        "page_size=16384",
        *[line for line in BOOKWORM["system"] if not line.startswith(("kernel", "page_size", "iptables"))],
        "iptables=iptables v1.8.11 (nf_tables)",
    ],
    "disk": ["mount=/dev/nvme0n1p2 ext4   rw,noatime", "disk=nvme0n1"],
    "fsync": ["0.00041"] * 99 + ["0.0012"],
    "swaps": ["/dev/zram0                              partition\t2097136\t\t0\t\t100"],
    "preflight": [
        *[line for line in BOOKWORM["preflight"] if not line.startswith("os_")],
        "os_id=debian",
        "os_version=13",
        "os_name=Debian GNU/Linux 13 (trixie)",
    ],
}


def report(base: dict[str, list[str]] = BOOKWORM, sudo: str = "yes", **probes: list[str]) -> Report:
    """The answer of a host; keyword arguments replace whole probes."""
    snapshot = Snapshot(
        paths={"/boot/firmware/config.txt": PathState("regular file", "755", "root", "root", "ab")},
        units={"k3s": UnitState("inactive", ""), "k3s-agent": UnitState("inactive", "")},
        probes={**base, **probes},
    )
    return Report(snapshot, sudo, 1000.0, 1002.0)


def system(base: dict[str, list[str]] = BOOKWORM, without: Sequence[str] = (), **values: str) -> list[str]:
    """The lines of the probe `system` with other values."""
    kept = [line for line in base["system"] if line.partition("=")[0] not in {*values, *without}]
    return [*kept, *(f"{key}={value}" for key, value in values.items())]


def subject(answer: Report | None = None, name: str = "pi-master", **changes: Any) -> Subject:
    """A host of a cluster of three, sound unless said otherwise; `settings` are those of the cluster."""
    whole = cluster(**changes.pop("settings", {}))
    there = Connection("ssh pi@192.168.0.120", "", "publickey", f"ssh-ed25519 SHA256:{name}", False, "accept-new")
    sound = Subject(whole.node(name), whole, there, answer or report(), clock=(0.01, 0.02), site="site")
    return replace(sound, **changes)
