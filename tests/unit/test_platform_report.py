"""The end of a run of the platform: what was left unchanged and is down, after a while of patience."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from platform_samples import platform, release
from pyinfra.api import FunctionCommand
from pyinfra.context import ctx_host, ctx_state
from pyinfra_testing.util import FakeState, create_host

from piclusterops import helm_commands as shell
from piclusterops.helm_releases import HelmRelease, HelmState, Outcome, Workload
from piclusterops.operations import platform as operations
from piclusterops.platform_run import Progress

TRINO = release("trino", health=["Deployment/trino"])
RELEASE = HelmRelease("data-platform", "trino", 4, "deployed")
POD = {
    "kind": "Pod",
    "metadata": {"name": "trino-1", "labels": {"app.kubernetes.io/instance": "trino"}},
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "trino",
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 3}},
            }
        ],
    },
}


def live(ready: int | None = None) -> HelmState:
    workload = {} if ready is None else {("Deployment", "data-platform", "trino"): Workload(1, ready)}
    return HelmState({RELEASE.key: RELEASE}, workloads=workload)


class Run:
    """A host that answers so, one after the other, and what was said while the report was made."""

    def __init__(self, *answers: HelmState) -> None:
        self.answers = list(answers)
        self.asked = self.executed = 0
        self.said: list[str] = []
        self.progress = Progress(platform([TRINO]))
        self.progress.tell(Outcome("trino", "unchanged"))

    def fact(self, *_: Any, **__: Any) -> HelmState:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def execute(self, command: Any, **_: Any) -> tuple[bool, Any]:
        self.executed += 1
        lines = [
            f"{shell.LOG_MARK}trino-1",
            "password hunter2 is wrong",
            shell.OBJECTS_MARK,
            json.dumps({"items": [POD]}),
        ]
        return True, SimpleNamespace(stdout="\n".join(lines), stdout_lines=lines, stderr="")

    def report(self) -> bool:
        """Whether the report fails the run."""
        state = FakeState()
        state.is_executing = True
        host = create_host(state)
        host.name = "pi-master"
        host.connector_data = {}
        host.current_op_global_arguments = {}
        host.get_fact, host.run_shell_command = self.fact, self.execute
        host.noop = lambda _: None
        host.log = host.log_styled = lambda text, **_: self.said.append(text)
        with ctx_state.use(state), ctx_host.use(host):
            commands = list(operations.report._inner(self.progress, "prune", lambda: ("hunter2",)))
            for command in commands:
                assert isinstance(command, FunctionCommand)
                command.function(state, host)
        return bool(commands)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_POLL_S", 0.01)
    monkeypatch.setattr(operations, "_READY_S", 0.3)


def test_what_is_ready_costs_no_more_than_what_was_read_already() -> None:
    run = Run(live(1))
    assert not run.report()
    assert (run.asked, run.executed, run.said) == (1, 0, ["Platform: 1 unchanged"])


def test_what_is_just_starting_is_waited_for() -> None:
    run = Run(live(0), live(0), live(1))
    assert not run.report()
    assert (run.asked, run.executed) == (3, 0)
    assert run.said == ["waiting until these are ready: trino", "Platform: 1 unchanged"]


def test_what_is_down_fails_the_run_with_its_cause_and_shows_no_secret() -> None:
    run = Run(live(0))
    assert run.report()
    assert run.said[-1].splitlines() == [
        "Platform: 1 not ready",
        "  not ready: trino: of Deployment trino 0 of 1 pods are ready",
        "      pod trino-1: container trino ends again and again (exit code 3); its log ends with: "
        "password (hidden) is wrong",
        "    next: ssh pi-master sudo k3s kubectl -n data-platform logs trino-1 -c trino --previous",
    ]


def test_what_is_gone_is_made_anew_by_the_command_that_is_told() -> None:
    run = Run(live())
    assert run.report()
    assert "trino: Deployment trino is not there" in run.said[-1]
    assert " -n data-platform rollback trino 4  # makes anew what is missing" in run.said[-1]
