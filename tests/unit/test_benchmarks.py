"""The comparison with ansible-core is a fair one on paper; that it is one on hosts, benchmarks/run.py proves itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from piclusterops.settings import AdminUser, ClusterSettings

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NO_MODULE = {"name", "loop", "loop_control", "notify", "register", "changed_when", "when", "throttle"}


@pytest.fixture
def play() -> Any:
    [play] = yaml.safe_load((BENCHMARKS / "playbook.yaml").read_text())
    return play


def test_the_playbook_needs_nothing_but_ansible_core_and_our_templates(play: Any) -> None:
    for task in play["tasks"] + play["handlers"]:
        [module] = set(task) - NO_MODULE
        assert module.startswith("ansible.builtin."), task
        if module == "ansible.builtin.template":
            assert (BENCHMARKS / task[module]["src"]).is_file(), task


def test_every_notified_handler_exists(play: Any) -> None:
    notified = {task["notify"] for task in play["tasks"] if "notify" in task}
    assert notified == {handler["name"] for handler in play["handlers"]}


def test_at_least_25_settings_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from compared import settings_of  # type: ignore[import-not-found]

    admin = AdminUser(name="operator", ssh_keys=("ssh-ed25519 AAAA operator",), sudo="nopasswd")
    names = [setting.name for setting in settings_of(ClusterSettings(lan_cidr="10.77.0.0/24", admin_users=(admin,)))]
    assert len(names) == len(set(names)) >= 25
