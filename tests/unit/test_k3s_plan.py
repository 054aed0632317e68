"""What a node needs: from what it is to what is done, for one difference at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from k3s_samples import cluster, with_node

from piclusterops.facts.k3s import STAMP, has_joined, query
from piclusterops.facts.snapshot import PathState, Snapshot, UnitState
from piclusterops.k3s_config import (
    AGENT_K10_TOKEN,
    AGENT_TOKEN,
    AUDIT_LOG_DIR,
    BINARY,
    CONFIG,
    REGISTRATION,
    REGISTRIES,
    SERVER_K10_TOKEN,
    STORAGE_DIR,
    TOKEN,
    environment_path,
    registration_files,
    restart_files,
    unit_name,
)
from piclusterops.operations.k3s import Plan, make_plan, token_sources
from piclusterops.operations.managed import ManagedFile
from piclusterops.settings import Cluster, Node

OURS = "# Written by PiClusterOps: changes made here are overwritten."
SHA = "a" * 64
DIGESTS = {TOKEN: "1" * 64, AGENT_TOKEN: "2" * 64, SERVER_K10_TOKEN: "3" * 64, AGENT_K10_TOKEN: "4" * 64}
PRIVATE = PathState("regular file", "600", "root", "root", "0" * 64)


def converged(of: Cluster, node: Node) -> Snapshot:
    """A node on which all is as it should be."""
    first = node.name == of.first_server.name
    texts = {**restart_files(of, node), **registration_files(node)}
    paths = {
        path: ManagedFile(text, "644" if path.endswith(".service") else "600").state for path, text in texts.items()
    }
    paths |= {
        BINARY: PathState("regular file", "755", "root", "root", SHA),
        TOKEN: PRIVATE,
        environment_path(node): PRIVATE,
        STORAGE_DIR: PathState("directory", "700", "root", "root"),
    }
    here = {TOKEN: DIGESTS[TOKEN] if first else DIGESTS[token_sources(of, node)[TOKEN]]}
    if node.is_server:
        paths |= {AGENT_TOKEN: PRIVATE, SERVER_K10_TOKEN: PRIVATE}
        paths[AUDIT_LOG_DIR] = PathState("directory", "700", "root", "root")
        here |= {key: DIGESTS[key] for key in (AGENT_TOKEN, SERVER_K10_TOKEN, AGENT_K10_TOKEN)}
    snapshot = Snapshot(
        paths=paths,
        units={unit_name(node): UnitState("active", "enabled")},
        probes={"tokens": [f"{path} {digest}" for path, digest in here.items()], "tools": [], "registries": []},
    )
    snapshot.stamps[STAMP] = make_plan(of, node, snapshot, None, SHA).digest
    return snapshot


def plan(of: Cluster, name: str, snapshot: Snapshot, binary: str = SHA) -> Plan:
    node = of.node(name)
    first = snapshot if node == of.first_server else converged(of, of.first_server)
    return make_plan(of, node, snapshot, first, binary)


@pytest.mark.parametrize("name", ["pi-master", "pi-worker-1", "pi-worker-2"])
@pytest.mark.parametrize("roles", [("master", "worker", "data_node"), ("master", "master", "master")])
def test_a_node_that_is_right_needs_nothing(name: str, roles: tuple[str, ...]) -> None:
    of = cluster(roles, datastore="etcd")
    assert not plan(of, name, converged(of, of.node(name))).is_needed


@pytest.mark.parametrize("name", ["pi-master", "pi-worker-1"])
def test_a_unit_that_still_starts_after_a_boot_is_not_restarted(name: str) -> None:
    of = cluster()
    snapshot = converged(of, of.node(name))
    snapshot.units[unit_name(of.node(name))] = UnitState("activating", "enabled", "start")
    found = plan(of, name, snapshot)
    assert found.starting and not found.is_needed
    # unless something else is wrong, or systemd tries again because it failed
    assert plan(of, name, snapshot, binary="b" * 64).restart
    snapshot.units[unit_name(of.node(name))] = UnitState("activating", "enabled", "auto-restart")
    assert plan(of, name, snapshot).restart


@pytest.mark.parametrize("name", ["pi-master", "pi-worker-1"])
def test_a_bare_host_needs_everything(name: str) -> None:
    of = cluster()
    snapshot = Snapshot(probes={"tools": ["kubectl", "crictl"]})
    found = make_plan(of, of.node(name), snapshot, None, SHA)
    assert found.binary == SHA and found.restart
    assert {path for path, _ in found.files} == {*restart_files(of, of.node(name)), REGISTRATION}
    assert found.tokens == ((TOKEN, AGENT_TOKEN) if name == "pi-master" else (TOKEN,))
    assert found.tools == ("kubectl", "crictl")
    assert not has_joined(snapshot, of.node(name))


def test_nothing_but_the_unit_is_readable_by_others() -> None:
    of = cluster(registries={"mirrors": {}})
    found = make_plan(of, of.first_server, Snapshot(), None, SHA)
    assert {path: file.mode for path, file in found.files if file.mode != "600"} == {
        "/etc/systemd/system/k3s.service": "644"
    }


Change = Callable[[Snapshot], Any]
CHANGES: dict[str, tuple[Change, dict[str, Any]]] = {
    "binary": (lambda s: s.paths.update({BINARY: PRIVATE}), {"binary": SHA, "restart": True}),
    "a file": (lambda s: s.paths.pop(CONFIG), {"files": (CONFIG,), "restart": True}),
    "the mode of a file": (
        lambda s: s.paths.update({CONFIG: replace(s.paths[CONFIG], mode="644")}),
        {"files": (CONFIG,), "restart": True},
    ),
    "registration": (lambda s: s.paths.pop(REGISTRATION), {"files": (REGISTRATION,)}),
    "an earlier run was killed": (lambda s: s.stamps.clear(), {"restart": True}),
    "another state is in force": (lambda s: s.stamps.update({STAMP: "x"}), {"restart": True}),
    "stopped": (lambda s: s.units.update({"k3s-agent": UnitState("failed", "enabled")}), {"restart": True}),
    "not enabled": (lambda s: s.units.update({"k3s-agent": UnitState("active", "disabled")}), {"restart": True}),
    "token missing": (lambda s: (s.paths.pop(TOKEN), s.probes.update(tokens=[])), {"tokens": (TOKEN,)}),
    "token of another cluster": (lambda s: s.probes.update(tokens=[f"{TOKEN} {'9' * 64}"]), {"tokens": (TOKEN,)}),
    "token readable by others": (
        lambda s: s.paths.update({TOKEN: replace(PRIVATE, mode="644")}),
        {"tokens": (TOKEN,)},
    ),
    "environment readable by others": (
        lambda s: s.paths.update({"/etc/systemd/system/k3s-agent.service.env": replace(PRIVATE, mode="644")}),
        {"private": ("/etc/systemd/system/k3s-agent.service.env",)},
    ),
    "volumes that others may look at": (
        lambda s: s.paths.update({STORAGE_DIR: PathState("directory", "755", "root", "root")}),
        {"private": (STORAGE_DIR,)},
    ),
    "a tool is missing": (lambda s: s.probes.update(tools=["crictl"]), {"tools": ("crictl",)}),
    "our registries are no longer wanted": (
        lambda s: s.probes.update(registries=[OURS]),
        {"remove": (REGISTRIES,), "restart": True},
    ),
    "registries of the user": (lambda s: s.probes.update(registries=["mirrors:"]), {}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_difference_leads_to_what_it_needs_and_no_more(name: str) -> None:
    of = cluster()
    snapshot = converged(of, of.node("pi-worker-1"))
    change, expected = CHANGES[name]
    change(snapshot)
    found = plan(of, "pi-worker-1", snapshot)
    shown = {**found.__dict__, "files": tuple(path for path, _ in found.files)}
    assert {key: value for key, value in shown.items() if value and key != "digest"} == expected


def test_a_label_needs_no_restart_and_an_argument_does() -> None:
    before = converged(cluster(), cluster().node("pi-worker-1"))
    label = plan(with_node(cluster(), "pi-worker-1", node_labels={"disk": "nvme"}), "pi-worker-1", before)
    assert not label.restart and [path for path, _ in label.files] == [REGISTRATION]
    argument = plan(cluster(kubelet_args=("max-pods=60",)), "pi-worker-1", before)
    assert argument.restart and [path for path, _ in argument.files] == [CONFIG]


def test_a_token_that_cannot_be_compared_is_left_alone() -> None:
    of = cluster()
    node = of.node("pi-worker-1")
    assert make_plan(of, node, converged(of, node), None, SHA).tokens == ()


def test_servers_get_the_server_token_and_agents_never_do() -> None:
    of = cluster(("master", "master", "master", "worker"), datastore="etcd")
    assert [token_sources(of, node) for node in of.nodes] == [
        {},
        {TOKEN: SERVER_K10_TOKEN, AGENT_TOKEN: AGENT_TOKEN},
        {TOKEN: SERVER_K10_TOKEN, AGENT_TOKEN: AGENT_TOKEN},
        {TOKEN: AGENT_K10_TOKEN},
    ]


def test_a_node_that_an_administrator_installed_counts_as_running() -> None:
    agent = cluster().node("pi-worker-1")
    assert has_joined(Snapshot(units={"k3s-agent": UnitState("active", "enabled")}), agent)
    assert has_joined(Snapshot(stamps={STAMP: "x"}), agent)
    assert not has_joined(Snapshot(units={"k3s-agent": UnitState("inactive", "")}), agent)


def test_the_query_never_asks_for_the_content_of_a_token() -> None:
    for node in cluster().nodes:
        for _, shell in query(cluster(), node).probes:
            for path in (TOKEN, AGENT_TOKEN, SERVER_K10_TOKEN):
                assert path not in shell or "sha256sum" in shell
