"""The files of the baseline, and the kernel parameters."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from piclusterops import baseline, sysctl
from piclusterops.settings import AdminUser, ClusterSettings
from piclusterops.templates import render

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHWZ me"
USERS = (
    AdminUser(name="alice", ssh_keys=(KEY,), sudo="password"),
    AdminUser(name="bob", ssh_keys=(KEY,), sudo="nopasswd"),
    AdminUser(name="carol", ssh_keys=(KEY,), sudo="none"),
)


def settings(**values: object) -> ClusterSettings:
    return ClusterSettings.model_validate({"lan_cidr": "192.168.0.0/24", **values})


def rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith(("#", "Defaults"))]


def test_the_kubelet_finds_every_parameter_that_protect_kernel_defaults_wants() -> None:
    wanted = {
        "vm.overcommit_memory": "1",
        "vm.panic_on_oom": "0",
        "kernel.panic": "10",
        "kernel.panic_on_oops": "1",
        "kernel.keys.root_maxkeys": "1000000",
        "kernel.keys.root_maxbytes": "25000000",
    }
    assert wanted.items() <= sysctl.PARAMETERS.items()


def test_the_sysctl_file_sets_every_parameter_and_lets_only_those_of_the_bridge_be_missing() -> None:
    lines = [line for line in baseline.sysctl_conf().splitlines() if not line.startswith("#")]
    assert len(lines) == len(sysctl.PARAMETERS)
    for line in lines:
        key, value = line.removeprefix("-").split(" = ")
        assert sysctl.PARAMETERS[key] == value
        assert line.startswith("-") == key.startswith("net.bridge.")


def test_drift_is_a_value_that_differs_and_not_one_that_the_kernel_lacks() -> None:
    wanted = {"vm.a": "1", "vm.b": "2", "net.bridge.c": "1"}
    assert sysctl.drift(wanted, {"vm.a": "1", "vm.b": "3"}) == ["vm.b"]


def test_the_journal_is_kept_on_disk_within_the_limits_of_the_settings() -> None:
    parser = ConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(baseline.journald_conf(settings(journal_max_size_mb=123, journal_retention_days=7)))
    journal = parser["Journal"]
    assert journal["Storage"] == "persistent"
    assert journal["SystemMaxUse"] == "123M"
    assert journal["MaxRetentionSec"] == "7day"


def test_the_journal_drop_in_wins_over_the_volatile_one_of_raspberry_pi_os() -> None:
    assert Path(baseline.JOURNALD_FILE).name > "40-rpi-volatile-storage.conf"


def test_sudo_follows_each_users_policy() -> None:
    assert rules(baseline.sudoers(USERS, "pi")) == ["alice ALL=(ALL:ALL) ALL", "bob ALL=(ALL:ALL) NOPASSWD: ALL"]


def test_the_user_that_deploys_gets_no_line_that_could_take_its_access_away() -> None:
    assert rules(baseline.sudoers(USERS, "alice")) == ["bob ALL=(ALL:ALL) NOPASSWD: ALL"]


def test_the_sudoers_file_has_a_name_that_sudo_reads() -> None:
    assert "." not in Path(baseline.SUDOERS_FILE).name  # sudoers(5): names with a dot are skipped


def test_every_file_of_the_baseline_says_whose_it_is() -> None:
    texts = [
        baseline.sysctl_conf(),
        baseline.modules_conf(),
        baseline.journald_conf(settings()),
        baseline.networkmanager_conf(),
        baseline.cloud_init_cfg(),
        baseline.sudoers(USERS, "pi"),
        baseline.logrotate_conf(),
    ]
    assert len(texts) == len(baseline.FILES)
    for text in texts:
        assert text.startswith("# Managed by PiClusterOps")
        assert text.endswith("\n") and not text.endswith("\n\n")


def test_a_template_without_its_values_is_a_fault_and_no_empty_text() -> None:
    with pytest.raises(UndefinedError):
        render("journald.conf.j2")
