"""What a host must have before K3s is put on it: a probe for the host, and rules over its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from piclusterops.artefacts import RELEASES
from piclusterops.settings import ClusterSettings

#: Suites that the deployment is made for, by VERSION_ID of os-release; Raspberry Pi OS (64-bit) calls itself debian.
SUITES = {"12": "bookworm", "13": "trixie"}
DISTRIBUTIONS = ("debian", "raspbian")

#: Prints `key=value` lines and changes nothing. The data directory may not exist yet: then its parent counts.
PROBE = (
    'echo "arch=$(uname -m)"\n'
    "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/memory_kb=\\1/p' /proc/meminfo\n"
    'd=/var/lib/rancher/k3s; while [ ! -d "$d" ]; do d=$(dirname "$d"); done\n'
    'df -Pk "$d" | awk \'NR==2 {print "disk_free_kb=" $4}\'\n'
    # volumes may have a disk of their own
    'd=/var/lib/rancher/k3s/storage; while [ ! -d "$d" ]; do d=$(dirname "$d"); done\n'
    'df -Pk "$d" | awk \'NR==2 {print "volumes_kb=" $2; print "volumes_free_kb=" $4}\'\n'
    'echo "cpus=$(nproc)"\n'
    '(. /etc/os-release; echo "os_id=$ID"; echo "os_version=$VERSION_ID"; echo "os_name=$PRETTY_NAME")\n'
    "[ -x /usr/local/bin/k3s ] && timeout 20 /usr/local/bin/k3s --version "
    '| awk \'$1 == "k3s" && $2 == "version" {print "k3s_version=" $3}\'\n'
    "[ -x /usr/local/bin/k3s ] && echo installed=yes"
)


@dataclass(frozen=True)
class HostFacts:
    """What the probe says. Sizes in MB of 1024 kB; `k3s_version` is empty when K3s is missing or silent.

    `volumes_mb` and `volumes_free_mb` are the size of the file system that volumes lie on and what is free of it; with
    `cpus` they are 0 when unknown.
    """

    arch: str
    memory_mb: int
    disk_free_mb: int
    os_id: str
    os_version: str
    os_name: str
    installed: bool = False
    k3s_version: str = ""
    cpus: int = 0
    volumes_mb: int = 0
    volumes_free_mb: int = 0


def parse(lines: Sequence[str]) -> HostFacts | None:
    """The probe's answer; None when a part of it is missing, so that nothing is guessed."""
    values = dict(line.partition("=")[::2] for line in lines if "=" in line)
    try:
        return HostFacts(
            arch=values["arch"],
            memory_mb=int(values["memory_kb"]) // 1024,
            disk_free_mb=int(values["disk_free_kb"]) // 1024,
            os_id=values["os_id"],
            os_version=values["os_version"],
            os_name=values["os_name"],
            installed=values.get("installed") == "yes",
            k3s_version=values.get("k3s_version", ""),
            cpus=int(values.get("cpus", 0)),
            volumes_mb=int(values.get("volumes_kb", 0)) // 1024,
            volumes_free_mb=int(values.get("volumes_free_kb", 0)) // 1024,
        )
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True)
class Refusal:
    """Why K3s cannot be put on a host: what was found, why that won't do, and what to do. `text` says all of it."""

    topic: str
    found: str
    why: str
    fix: str
    text: str = ""

    def __str__(self) -> str:
        return self.text or f"{self.found}, {self.why}: {self.fix}"


def refusals(facts: HostFacts, settings: ClusterSettings) -> list[Refusal]:
    """Why K3s cannot be put on this host; empty when it can."""
    found: list[Refusal] = []
    if facts.arch not in RELEASES:
        found.append(
            Refusal(
                "architecture",
                f"its architecture is {facts.arch}",
                f"K3s is installed on {' and '.join(RELEASES)}",
                "use a 64-bit image",
            )
        )
    if facts.os_id not in DISTRIBUTIONS or facts.os_version not in SUITES:
        known = " or ".join(f"{version} ({name})" for version, name in SUITES.items())
        found.append(
            Refusal(
                "system",
                f"it runs {facts.os_name}",
                f"only Debian and Raspberry Pi OS {known} are known",
                "flash one of these",
            )
        )
    if facts.memory_mb < settings.min_memory_mb:
        found.append(
            Refusal(
                "memory",
                f"it has {facts.memory_mb} MB of memory",
                f"min_memory_mb is {settings.min_memory_mb}",
                "use a larger board",
            )
        )
    if not facts.installed and facts.disk_free_mb < settings.min_disk_mb:
        found.append(
            Refusal(
                "disk",
                f"/var/lib/rancher has {facts.disk_free_mb} MB free",
                f"min_disk_mb is {settings.min_disk_mb}",
                "make room (sudo apt-get clean; df -h) or use a larger card",
            )
        )
    return found
