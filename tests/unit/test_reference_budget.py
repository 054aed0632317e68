"""The reference platform on four Raspberry Pi 5 with 8 GB: what it asks of each node, kept as text.

A change of the catalogue changes these pages: read the difference, then write them anew with

    python tests/unit/test_reference_budget.py
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from piclusterops.capacity import Budget, budget_of, findings, rooms_of
from piclusterops.catalogue import Profile
from piclusterops.inventory import load_inventory
from piclusterops.plan_report import budget_table
from piclusterops.platform import platform_of
from piclusterops.preflight import HostFacts
from piclusterops.settings import Cluster
from piclusterops.validation import cluster_from_inventory

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
PROFILES: tuple[Profile, ...] = ("named", "clean", "minimal")
#: 8 GB less what the firmware takes, and an SSD of 256 GB.
PI5 = HostFacts("aarch64", 8062, 200_000, "debian", "12", "Debian", cpus=4, volumes_mb=240_000, volumes_free_mb=200_000)


def prod(profile: Profile) -> Cluster:
    cluster = cluster_from_inventory(load_inventory(REPOSITORY / "inventories" / "prod.py"))
    settings = cluster.settings.model_copy(update={"platform_profile": profile})
    return cluster.model_copy(update={"settings": settings})


def budget(profile: Profile) -> Budget:
    cluster = prod(profile)
    rooms = rooms_of(cluster, {node.name: PI5 for node in cluster.nodes}, None)
    return budget_of(platform_of(cluster), rooms)


def page(profile: Profile) -> str:
    """The table of a profile, what is said of it, and each node's releases."""
    found = budget(profile)
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(budget_table(found))
    lines = [f"{finding.severity} {finding.host}: {finding.found}" for finding in findings(found)]
    for node in found.nodes:
        lines.append(f"\n{node.name}")
        for name, use in node.uses.items():
            asked = f"{use.memory_mib:5} to {use.memory_limit_mib:5} MiB {use.cpu_m:5}m {use.disk_mib // 1024:4} GiB"
            lines.append(f"  {name:26} {asked}")
    return "\n".join([console.file.getvalue(), *lines, ""])  # type: ignore[attr-defined]


@pytest.mark.parametrize("profile", PROFILES)
def test_budget_of_the_reference_platform(profile: Profile) -> None:
    assert page(profile) == (GOLDEN / f"budget-{profile}.txt").read_text()


@pytest.mark.parametrize("profile", PROFILES)
def test_the_reference_platform_fits_on_its_nodes(profile: Profile) -> None:
    assert [finding.found for finding in findings(budget(profile)) if finding.severity == "error"] == []


if __name__ == "__main__":
    for each in PROFILES:
        (GOLDEN / f"budget-{each}.txt").write_text(page(each))
