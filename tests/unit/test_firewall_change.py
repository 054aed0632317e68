"""When the firewall of a host is left alone: only if disk, units, table and stamp are all as they should be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from firewall_samples import cluster

from piclusterops.facts.armed import PROBE as ARMED
from piclusterops.facts.firewall import FILE, PROBE, UNIT_FILE, FirewallState, firewall_state
from piclusterops.facts.snapshot import Snapshot
from piclusterops.operations.firewall import NAME, _in_force, change, wanted_files
from piclusterops.operations.managed import digest_of

CLUSTER = cluster(["master", "worker"])
NODE = CLUSTER.nodes[0]
FILES = wanted_files(CLUSTER, NODE)
DIGEST = "0" * 64
STATE = FirewallState("active", "enabled", "masked", DIGEST)


def snapshot(**changes: Any) -> Snapshot:
    """A host whose firewall is as it should be, but for the changes."""
    right = Snapshot(
        paths={path: file.state for path, file in FILES.items()},
        stamps={NAME: f"{digest_of(FILES)}:{DIGEST}"},
        probes={ARMED[0]: []},
    )
    return replace(right, **changes)


def test_a_host_that_is_as_it_should_be_is_left_alone() -> None:
    assert _in_force(snapshot(), STATE, FILES)


@pytest.mark.parametrize(
    "changes",
    [
        {"paths": {UNIT_FILE: FILES[UNIT_FILE].state}},
        {"paths": {path: replace(file.state, mode="666") for path, file in FILES.items()}},
        {"stamps": {}},
        {"stamps": {NAME: f"{'1' * 64}:{DIGEST}"}},
        {"probes": {ARMED[0]: [NAME]}},
    ],
    ids=["no ruleset", "writable for all", "no stamp", "other ruleset stamped", "unconfirmed"],
)
def test_what_differs_on_disk_is_put_right(changes: dict[str, Any]) -> None:
    assert not _in_force(snapshot(**changes), STATE, FILES)


@pytest.mark.parametrize(
    "changes", [{"active": "failed"}, {"enabled": "disabled"}, {"other": "enabled"}, {"digest": "2" * 64}]
)
def test_what_differs_in_force_is_put_right(changes: dict[str, str]) -> None:
    assert not _in_force(snapshot(), replace(STATE, **changes), FILES)


def test_probe_is_understood_or_nothing_is_guessed() -> None:
    lines = ["active", "enabled", "masked", DIGEST]
    assert firewall_state(Snapshot(probes={PROBE[0]: lines})) == STATE
    assert firewall_state(Snapshot(probes={PROBE[0]: [*lines[:3], ""]})) is None
    assert firewall_state(Snapshot()) is None


def test_nothing_is_written_for_the_next_boot_before_the_confirmation() -> None:
    made = change(CLUSTER, NODE)
    assert not made.files, "files of an armed change are put in place before it is confirmed"
    assert FILE in made.persist and FILE not in made.apply and UNIT_FILE not in made.apply


def test_the_ruleset_is_for_root_only_and_no_one_else_s_rules_are_touched() -> None:
    assert FILES[FILE].mode == "600"
    unit = FILES[UNIT_FILE].content
    assert "ExecStop=/usr/sbin/nft delete table inet piclusterops" in unit
    commands = [line for line in unit.splitlines() if line.startswith("Exec")]
    assert "flush" not in "".join([*commands, FILES[FILE].content])
