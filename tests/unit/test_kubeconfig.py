"""The user's kubeconfig: ours goes in, all else stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from piclusterops.kubeconfig import KubeconfigError, merge, merge_file, rewrite

K3S = """
apiVersion: v1
clusters:
- cluster: {certificate-authority-data: Q0E=, server: "https://127.0.0.1:6443"}
  name: default
contexts:
- context: {cluster: default, user: default}
  name: default
current-context: default
kind: Config
preferences: {}
users:
- name: default
  user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}
"""
WORK = """
apiVersion: v1
kind: Config
preferences: {colors: true}
clusters: [{name: work, cluster: {server: "https://work:6443"}}]
contexts: [{name: work, context: {cluster: work, user: me}}]
users: [{name: me, user: {token: secret}}]
current-context: work
"""


def home() -> str:
    return rewrite(K3S, "home", "192.168.0.120")


def load(text: str) -> Any:
    return yaml.safe_load(text)


def test_names_and_server_are_the_clusters_own() -> None:
    assert load(home()) == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "home", "cluster": {"certificate-authority-data": "Q0E=", "server": "https://192.168.0.120:6443"}}
        ],
        "contexts": [{"name": "home", "context": {"cluster": "home", "user": "home"}}],
        "users": [{"name": "home", "user": {"client-certificate-data": "Q0VSVA==", "client-key-data": "S0VZ"}}],
        "current-context": "home",
    }


def test_without_a_file_ours_becomes_current() -> None:
    assert load(merge("", home()))["current-context"] == "home"
    assert (
        load(merge("apiVersion: v1\nkind: Config\ncurrent-context: ''\nclusters: null\n", home()))["current-context"]
        == "home"
    )


def test_everything_else_stays_and_the_current_context_is_not_stolen() -> None:
    before, after = load(WORK), load(merge(WORK, home()))
    for name in ("clusters", "contexts", "users"):
        assert after[name][0] == before[name][0]
        assert [entry["name"] for entry in after[name]][1:] == ["home"]
    assert after["current-context"] == "work" and after["preferences"] == {"colors": True}


def test_merging_again_changes_nothing() -> None:
    once = merge(WORK, home())
    assert merge(once, home()) == once


def test_old_entries_are_refreshed_in_place_and_a_chosen_namespace_is_kept() -> None:
    once = load(merge(WORK, home()))
    once["contexts"][1]["context"]["namespace"] = "data"
    renewed = rewrite(K3S.replace("S0VZ", "TkVX"), "home", "192.168.0.130")
    after = load(merge(yaml.safe_dump(once), renewed))
    assert after["users"][1]["user"]["client-key-data"] == "TkVX"
    assert after["clusters"][1]["cluster"]["server"] == "https://192.168.0.130:6443"
    assert after["contexts"][1]["context"] == {"cluster": "home", "user": "home", "namespace": "data"}
    assert len(after["users"]) == len(after["clusters"]) == len(after["contexts"]) == 2


@pytest.mark.parametrize("text", ["", "[]", "kind: Pod", "clusters: []", "a: [", "kind: Config\nclusters: {}"])
def test_what_is_not_the_kubeconfig_of_k3s_is_refused(text: str) -> None:
    with pytest.raises(KubeconfigError):
        rewrite(text, "home", "192.168.0.120")


def test_the_file_is_private_and_its_predecessor_kept(tmp_path: Path) -> None:
    path = tmp_path / ".kube" / "config"
    path.parent.mkdir()
    path.write_text(WORK)
    path.chmod(0o644)
    assert merge_file(path, home())
    assert load(path.read_text()) == load(merge(WORK, home()))
    backup = path.with_name("config.bak")
    assert backup.read_text() == WORK
    assert {file.stat().st_mode & 0o777 for file in (path, backup)} == {0o600}
    assert sorted(file.name for file in path.parent.iterdir()) == ["config", "config.bak"]


def test_an_unchanged_file_is_left_alone_but_made_private(tmp_path: Path) -> None:
    path = tmp_path / "config"
    merge_file(path, home())
    path.chmod(0o644)
    before = path.stat().st_mtime_ns
    assert not merge_file(path, home())
    assert path.stat().st_mtime_ns == before and path.stat().st_mode & 0o777 == 0o600
    assert not path.with_name("config.bak").exists()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "kubeconfig"
    real.parent.mkdir()
    real.write_text(WORK)
    link = tmp_path / "config"
    link.symlink_to(real)
    merge_file(link, home())
    assert link.is_symlink() and "home" in real.read_text()


def test_a_damaged_file_is_left_alone_and_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("users: [ {token: hunter2")
    with pytest.raises(KubeconfigError) as error:
        merge_file(path, home())
    assert str(path) in str(error.value) and "hunter2" not in str(error.value)
    assert path.read_text() == "users: [ {token: hunter2"
