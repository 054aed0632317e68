"""The operations on the API: what they would run."""

from __future__ import annotations

from typing import Any

import pytest
from k3s_samples import cluster
from pyinfra.api import FunctionCommand
from pyinfra.context import ctx_host, ctx_state
from pyinfra_testing.util import FakeState, create_host

from piclusterops.facts.kube import ApiState
from piclusterops.kube_nodes import MANAGED_LABELS, MANAGED_TAINTS, KubeNode
from piclusterops.operations.kube import NodeMarks, healthy, node_marks

KUBECTL = "/usr/local/bin/k3s kubectl --request-timeout=30s"


def run(operation: Any, api: ApiState | None, executing: bool = False, **kwargs: Any) -> tuple[list[Any], str | None]:
    """The commands of an operation on the host pi-master, and why it has none."""
    state = FakeState()
    state.is_executing = executing
    state.failed_hosts = {"another"}
    host = create_host(state, facts={"kube.KubeApi": api})
    host.name = "pi-master"
    host.get_fact = lambda fact, **_: api
    with ctx_state.use(state), ctx_host.use(host):
        commands = list(operation._inner(**kwargs))
    return [command if isinstance(command, FunctionCommand) else str(command) for command in commands], (
        host.noop_description
    )


def node(name: str, labels: dict[str, str], taints: tuple[str, ...] = (), **annotations: str) -> KubeNode:
    return KubeNode(name, True, "v1.36.5+k3s1", labels=labels, taints=taints, annotations=annotations)


WANTED = {
    "pi-1": NodeMarks({"disk": "it's"}, ("a=c:NoSchedule",)),
    "pi-2": NodeMarks({"disk": "ssd"}),
    "not-joined": NodeMarks({"disk": "ssd"}),
}


def test_only_differences_are_applied_taints_before_what_remembers_them() -> None:
    taints = ("a=b:NoSchedule", "old:NoExecute", "foreign:NoExecute")
    remembered = {MANAGED_LABELS: "old", MANAGED_TAINTS: "a:NoSchedule,old:NoExecute"}
    nodes = [node("pi-1", {"old": "x", "foreign": "x"}, taints, **remembered), node("pi-2", {"disk": "ssd"})]
    commands, _ = run(node_marks, ApiState("", nodes), wanted=WANTED, server="pi-master")
    assert commands == [
        f"{KUBECTL} taint node pi-1 --overwrite a=c:NoSchedule old:NoExecute-",
        f"{KUBECTL} patch node pi-1 --type=merge -p "
        '\'{"metadata":{"labels":{"disk":"it\'"\'"\'s","old":null},"annotations":'
        '{"piclusterops.io/managed-labels":"disk","piclusterops.io/managed-taints":"a:NoSchedule"}}}\'',
        f"{KUBECTL} patch node pi-2 --type=merge -p "
        '\'{"metadata":{"annotations":{"piclusterops.io/managed-labels":"disk"}}}\'',
    ]


def test_nodes_that_are_right_and_nodes_of_others_are_left_alone() -> None:
    remembered = {MANAGED_LABELS: "disk"}
    nodes = [node("pi-2", {"disk": "ssd", "foreign": "x"}, ("c:NoExecute",), **remembered), node("another", {})]
    assert run(node_marks, ApiState("", nodes), wanted=WANTED, server="pi-master") == (
        [],
        "labels and taints are up to date",
    )


@pytest.mark.parametrize("operation", [node_marks, healthy])
def test_only_the_first_server_is_asked(operation: Any) -> None:
    of = cluster(("worker", "master"))
    arguments = {"wanted": WANTED, "server": "pi-worker-1"} if operation is node_marks else {"cluster": of}
    assert run(operation, None, executing=True, **arguments) == ([], "done on pi-worker-1")


def test_a_dry_run_before_the_first_start_finds_nothing_to_label() -> None:
    assert run(node_marks, None, wanted=WANTED, server="pi-master") == ([], "there is no cluster yet")


@pytest.mark.parametrize("api", [None, ApiState("refused", None)])
def test_an_api_that_does_not_answer_is_refused_in_a_run(api: ApiState | None) -> None:
    commands, _ = run(node_marks, api, executing=True, wanted=WANTED, server="pi-master")
    assert [command.function.__name__ for command in commands] == ["fail"]


@pytest.mark.parametrize("api", [None, ApiState("etcd failed", []), ApiState("", None), ApiState("", [])])
def test_an_unhealthy_cluster_fails_the_run(api: ApiState | None) -> None:
    commands, _ = run(healthy, api, executing=True, cluster=cluster())
    assert [command.function.__name__ for command in commands] == ["fail"]


def test_a_dry_run_does_not_judge_the_cluster() -> None:
    assert run(healthy, None, cluster=cluster()) == ([], "checked at the end of a run")
