"""Releases, platforms and nodes for the tests of budget, plan and checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k3s_samples import cluster

from piclusterops.capacity import NodeRoom
from piclusterops.catalogue import Release
from piclusterops.platform import Planned, Platform, place
from piclusterops.settings import Cluster

#: What a Pi 5 with 8 GB has for pods with the default reservations, as its kubelet says, and a card of 64 GB.
PI5 = NodeRoom(memory_mib=7450, cpu_m=3800, free_mib=45_000)


def release(name: str, **changes: Any) -> Release:
    """A release of wave 9 with one pod of 500 MiB (limit 1000) on a worker, sound unless said otherwise."""
    memory = changes.pop("memory", 500)
    return Release.model_validate(
        {
            "name": name,
            "title": f"{name.title()}, a sample",
            "chart": {
                "name": name,
                "version": "1.2.3",
                "repository": "https://charts.example.org",
                "app_version": "4.5",
            },
            "namespace": "data-platform",
            "wave": 9,
            "profiles": ["named", "clean"],
            "place": {"role": "worker"},
            "pods": [{"name": name, "memory_mib": memory, "memory_limit_mib": 2 * memory, "cpu_m": 100}],
            "licence": {"spdx": "Apache-2.0", "source": "LICENSE"},
            "maintenance": {"maintained": True, "note": "released 2026-08"},
            "arm64": "its build file lists linux/arm64",
            **changes,
        }
    )


def pods(memory: int = 100, on: str = "node", limit: int | None = None, cpu: int = 50) -> dict[str, Any]:
    """An entry of `pods`."""
    return {
        "name": "pod",
        "memory_mib": memory,
        "memory_limit_mib": 2 * memory if limit is None else limit,
        "cpu_m": cpu,
        "on": on,
    }


def platform(releases: Sequence[Release], base: Cluster | None = None) -> Platform:
    """The platform that has exactly these releases, in this order."""
    whole = base or cluster()
    planned = tuple(
        Planned(entry, entry.chart.version, place(whole, entry), {"name": entry.name}, entry.timeout_s)
        for entry in releases
        if entry.installable and entry.chart
    )
    return Platform(whole, planned, tuple(entry for entry in releases if not entry.installable))
