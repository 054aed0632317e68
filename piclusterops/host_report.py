"""What a host answered to the checks, with the words of its tools turned into values.

A value that the host's tools did not give is None or missing, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address

from piclusterops import preflight
from piclusterops.facts.snapshot import Snapshot

#: Begins the lines around a snapshot.
REPORT_MARK = "%%"
#: Packages of Docker: each sets the FORWARD policy to DROP as it starts (moby/moby#50566).
CONTAINER_ENGINES = ("docker.io", "docker-ce", "moby-engine")
K3S_UNITS = ("k3s.service", "k3s-agent.service")

_PROCESS = re.compile(r'\("([^"]*)",pid=(\d+)')
_TEMPERATURE = re.compile(r"temp=(-?[\d.]+)")
_IPTABLES = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?: \((\w+)\))?")


@dataclass(frozen=True)
class Listener:
    """A socket that waits for connections; `process` and `unit` (systemd's) are empty when unknown."""

    protocol: str
    address: str
    port: int
    process: str = ""
    unit: str = ""

    @property
    def is_k3s(self) -> bool:
        """Whether it is K3s itself, or a child of its unit."""
        return self.unit in K3S_UNITS

    @property
    def is_loopback(self) -> bool:
        """Whether it can be reached from the host alone."""
        try:
            return ip_address(self.address.partition("%")[0].strip("[]")).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class Swap:
    """A line of `/proc/swaps`; the size in MB of 1024 kB."""

    path: str
    size_mb: int

    @property
    def is_zram(self) -> bool:
        """Compressed memory, not a disk."""
        return self.path.startswith("/dev/zram")


@dataclass(frozen=True)
class Latency:
    """Times of synchronous writes of 4 KiB, in milliseconds."""

    p50: float
    p99: float
    count: int

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms"


@dataclass(frozen=True)
class Iptables:
    """Version and variant (`nf_tables` or `legacy`) of the iptables command."""

    version: tuple[int, int, int]
    variant: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.version))} ({self.variant})"


@dataclass(frozen=True)
class Report:
    """The answer of one host. `sudo` is `root`, `yes`, or `no` and the reason; times are the host's, in seconds."""

    snapshot: Snapshot
    sudo: str
    began_s: float
    ended_s: float

    @property
    def is_privileged(self) -> bool:
        """Whether the answer is root's: else what only root may see is missing in it."""
        return not self.sudo.startswith("no")

    def lines(self, probe: str) -> Sequence[str]:
        """All lines of a probe's answer."""
        return self.snapshot.probes.get(probe, [])

    def first(self, probe: str) -> str:
        """The first line of a probe's answer, empty when there is none."""
        return next(iter(self.lines(probe)), "").strip()

    @cached_property
    def _values(self) -> dict[str, str]:
        pairs = [line.partition("=")[::2] for probe in ("system", "disk") for line in self.lines(probe)]
        return {key: value.strip() for key, value in pairs}

    def value(self, key: str) -> str | None:
        """What a tool said; None when it is not there or failed, which is not the same as an empty answer."""
        return self._values.get(key)

    @cached_property
    def facts(self) -> preflight.HostFacts | None:
        """What decides whether K3s can be put on the host."""
        return preflight.parse(self.lines("preflight"))

    @property
    def is_pi(self) -> bool:
        """Whether the board is a Raspberry Pi."""
        return "Raspberry Pi" in (self.value("model") or "")

    @property
    def page_size(self) -> int | None:
        """Of the kernel, in bytes."""
        return _number(self.value("page_size"))

    @property
    def throttled(self) -> int | None:
        """The bits of ``vcgencmd get_throttled``."""
        text = (self.value("throttled") or "").removeprefix("throttled=")
        try:
            return int(text, 16)
        except ValueError:
            return None

    @property
    def temperature_c(self) -> float | None:
        """Of the processor, in degrees Celsius."""
        found = _TEMPERATURE.match(self.value("temperature") or "")
        if found:
            return float(found.group(1))
        zone = _number(self.value("thermal_zone"))
        return None if zone is None else zone / 1000

    @cached_property
    def fsync(self) -> Latency | None:
        """How long synchronous writes take where K3s' data is."""
        return latency(self.lines("fsync"))

    @property
    def mount(self) -> tuple[str, str, frozenset[str]] | None:
        """Source, file system and options of the mount that K3s' data is on."""
        words = (self.value("mount") or "").split()
        return (words[0], words[1], frozenset(words[2].split(","))) if len(words) == 3 else None

    @property
    def is_on_card(self) -> bool:
        """Whether K3s' data is on an SD card or eMMC."""
        return (self.value("disk") or "").startswith("mmcblk")

    @property
    def disk_kind(self) -> str:
        """What K3s' data is on, in words; empty when unknown."""
        disk = self.value("disk") or ""
        if disk.startswith("mmcblk"):
            return "eMMC" if self.value("card") == "MMC" else "SD card"
        return "NVMe" if disk.startswith("nvme") else f"disk {disk}" if disk else ""

    @cached_property
    def listeners(self) -> list[Listener] | None:
        """What waits for connections; None without ``ss``."""
        return listeners(self.lines("ports"))

    @property
    def swaps(self) -> list[Swap]:
        """Swap in use."""
        rows = [line.split() for line in self.lines("swaps")]
        return [Swap(row[0], int(row[2]) // 1024) for row in rows if len(row) == 5 and row[2].isdigit()]

    @property
    def names(self) -> dict[str, list[str]]:
        """Name to the IPv4 addresses that the host's resolver gives."""
        rows = [line.split() for line in self.lines("names")]
        return {row[0]: row[1:] for row in rows if row}

    @property
    def peers(self) -> dict[str, str]:
        """``address:port`` to `open`, `refused`, `silent` or `unreachable`."""
        rows = [line.split() for line in self.lines("peers")]
        return {row[0]: row[1] for row in rows if len(row) == 2}

    @property
    def iptables(self) -> Iptables | None:
        """The iptables command of the host."""
        found = _IPTABLES.search(self.value("iptables") or "")
        if not found:
            return None
        major, minor, patch, variant = found.groups()
        return Iptables((int(major), int(minor), int(patch)), variant or "legacy")

    @property
    def running_units(self) -> set[str]:
        """Those of the units we asked for that are active."""
        return {name for name, unit in self.snapshot.units.items() if unit.active in ("active", "activating")}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def latency(seconds: Sequence[str]) -> Latency | None:
    """Percentiles (nearest rank) of times as dd prints them; None when there is none."""
    times = []
    for text in seconds:
        try:
            times.append(float(text) * 1000)
        except ValueError:
            continue
    if not times:
        return None
    times.sort()
    last = len(times)
    return Latency(times[(last + 1) // 2 - 1], times[-(-99 * last // 100) - 1], last)


def listeners(lines: Sequence[str]) -> list[Listener] | None:
    """The sockets in the output of ``ss -H -lntup``, followed by ``unit PID UNIT`` lines; None for no output."""
    units = {words[1]: words[2] for words in map(str.split, lines) if len(words) == 3 and words[0] == "unit"}
    found = []
    for words in map(str.split, lines):
        if len(words) < 6 or words[0] not in ("tcp", "udp"):
            continue
        address, _, port = words[4].rpartition(":")
        if not port.isdigit():
            continue
        process = _PROCESS.search(" ".join(words[6:]))
        name, pid = process.groups() if process else ("", "")
        found.append(Listener(words[0], address, int(port), name, units.get(pid, "")))
    return found or None


def clock_offset(sent_s: float, began_s: float, ended_s: float, received_s: float) -> tuple[float, float]:
    """How far a host's clock is ahead of the controller's, and the bound of the error, both in seconds.

    The four times of NTP (RFC 5905, section 8): sent and received by the controller's clock, began and ended by the
    host's. Half of what the way took both ways is what the offset may be wrong by.
    """
    way = (received_s - sent_s) - (ended_s - began_s)
    return ((began_s - sent_s) + (ended_s - received_s)) / 2, max(way, 0.0) / 2
