"""What a host must have, and that an unreadable answer is not guessed."""

from __future__ import annotations

import subprocess

import pytest
from k3s_samples import cluster

from piclusterops.preflight import PROBE, HostFacts, parse, refusals

PI5 = HostFacts("aarch64", 8045, 50_000, "debian", "12", "Debian GNU/Linux 12 (bookworm)")
ANSWER = [
    "arch=aarch64",
    "memory_kb=8239000",
    "disk_free_kb=51200000",
    "os_id=debian",
    "os_version=12",
    "os_name=Debian GNU/Linux 12 (bookworm)",
]


def changed(**values: object) -> HostFacts:
    return HostFacts(**{**PI5.__dict__, **values})


def test_the_probe_is_answered_in_this_form() -> None:
    done = subprocess.run(["dash", "-c", PROBE], capture_output=True, text=True)
    found = parse(done.stdout.splitlines())
    assert found is not None
    assert found.memory_mb > 100 and found.disk_free_mb > 0 and found.arch


def test_a_fresh_pi_is_good() -> None:
    assert parse(ANSWER) == PI5
    assert refusals(PI5, cluster().settings) == []


@pytest.mark.parametrize("missing", range(len(ANSWER)))
def test_an_answer_with_a_part_missing_is_unknown(missing: int) -> None:
    assert parse(ANSWER[:missing] + ANSWER[missing + 1 :]) is None


def test_an_answer_that_is_no_number_is_unknown() -> None:
    assert parse([*ANSWER, "memory_kb=many"]) is None


@pytest.mark.parametrize(
    ("facts", "part"),
    [
        (changed(arch="armv7l"), "64-bit"),
        (changed(os_id="ubuntu", os_version="24.04", os_name="Ubuntu 24.04"), "it runs Ubuntu 24.04"),
        (changed(os_version="11", os_name="Debian GNU/Linux 11 (bullseye)"), "12 (bookworm) or 13 (trixie)"),
        (changed(memory_mb=900), "it has 900 MB of memory, min_memory_mb is 1800"),
        (changed(disk_free_mb=700), "/var/lib/rancher has 700 MB free, min_disk_mb is 4096"),
    ],
)
def test_what_is_missing_is_named(facts: HostFacts, part: str) -> None:
    found = refusals(facts, cluster().settings)
    assert len(found) == 1
    assert part in str(found[0])


def test_all_faults_are_listed_at_once() -> None:
    assert len(refusals(changed(arch="riscv64", memory_mb=1, disk_free_mb=1, os_id="alpine"), cluster().settings)) == 4


def test_disk_that_k3s_itself_uses_is_no_fault() -> None:
    assert refusals(changed(disk_free_mb=700, installed=True), cluster().settings) == []
