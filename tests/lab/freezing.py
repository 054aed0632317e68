"""``python freezing.py POINT MARK <pyinfra arguments>``: run pyinfra's command line and stand still at one point.

The point is an SSH execution or upload: ``operation`` (null: before any), its ``nth`` within that operation, and
``how`` far it has come: `before` it is sent, `sent` without any of its input, `half` of its input, `after` its answer
was read. Where an operation has fewer executions than that, the next one counts. Standing still, the run writes to MARK
where it is, and can then be killed exactly there, however fast or slow the machine is.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import gevent.monkey
import pyinfra_cli.main
from paramiko import SFTPClient, SSHClient
from pyinfra.api.state import StateStage
from pyinfra.connectors.ssh import SSHConnector

sleep_for_real = gevent.monkey.get_original("time", "sleep")


class Freezer:
    """Counts executions until the point is reached."""

    def __init__(self, point: dict[str, Any], mark: Path) -> None:
        self.operation: str | None = point["operation"]
        self.nth: int = point["nth"]
        self.how: str = point["how"]
        self.mark = mark
        self.count = 0
        self.now: dict[str, Any] | None = None

    def reached(self, connector: SSHConnector) -> bool:
        """Whether this execution, which is about to begin, is the one."""
        if self.now:
            return False
        state, host = connector.state, connector.host
        executing = state.current_stage == StateStage.Execute
        op_hash = host.nested_executing_op_hash or host.executing_op_hash if executing else None
        names = state.op_meta[op_hash].names if op_hash in state.op_meta else set()
        if not self._has_come(state, op_hash, names):
            return False
        self.now = {"host": host.name, "operation": ", ".join(sorted(names)) or None, "how": self.how}
        return True

    def _has_come(self, state: Any, op_hash: str | None, names: set[str]) -> bool:
        if self.operation is None or self.operation in names:
            self.count += self.operation is None or op_hash is not None
            return self.count >= self.nth
        if op_hash is None:
            return False
        order = state.get_op_order()
        wanted = [place for place, other in enumerate(order) if self.operation in state.op_meta[other].names]
        return bool(wanted) and order.index(op_hash) > wanted[0]

    def freeze(self) -> NoReturn:
        """Stand still: nothing of this process goes on, and only a signal ends it."""
        new = self.mark.with_suffix(".new")
        new.write_text(json.dumps(self.now))
        new.rename(self.mark)
        while True:
            sleep_for_real(3600)


def install(freezer: Freezer) -> None:
    """Have all SSH of this process ask the freezer."""
    run, put = SSHConnector.run_shell_command, SSHConnector.put_file
    execute, upload = SSHClient.exec_command, SFTPClient.putfo
    chosen: list[SSHClient] = []

    def due(connector: SSHConnector) -> bool:
        if not freezer.reached(connector):
            return False
        if freezer.how == "before":
            freezer.freeze()
        assert connector.client is not None
        chosen.append(connector.client)
        return True

    @functools.wraps(run)
    def run_shell_command(self: SSHConnector, *args: Any, **kwargs: Any) -> Any:
        mine = due(self)
        answer = run(self, *args, **kwargs)
        if mine:
            freezer.freeze()
        return answer

    @functools.wraps(put)
    def put_file(self: SSHConnector, *args: Any, **kwargs: Any) -> Any:
        mine = due(self)
        answer = put(self, *args, **kwargs)
        if mine:
            freezer.freeze()
        return answer

    @functools.wraps(execute)
    def exec_command(self: SSHClient, *args: Any, **kwargs: Any) -> Any:
        stdin, stdout, stderr = execute(self, *args, **kwargs)
        if self in chosen and freezer.how == "sent":
            freezer.freeze()
        if self in chosen and freezer.how == "half":
            stdin.write = functools.partial(half, stdin)  # type: ignore[method-assign]
            stdin.close = freezer.freeze  # type: ignore[method-assign]
        return stdin, stdout, stderr

    def half(stdin: Any, data: bytes) -> None:
        type(stdin).write(stdin, data[: len(data) // 2])
        stdin.flush()
        freezer.freeze()

    @functools.wraps(upload)
    def putfo(self: SFTPClient, *args: Any, **kwargs: Any) -> Any:
        if chosen and freezer.how in ("sent", "half"):
            kwargs["callback"] = lambda done, size: freezer.freeze() if 2 * done >= size else None
        return upload(self, *args, **kwargs)

    SSHConnector.run_shell_command = run_shell_command  # type: ignore[method-assign]
    SSHConnector.put_file = put_file  # type: ignore[method-assign]
    SSHClient.exec_command = exec_command  # type: ignore[method-assign]
    SFTPClient.putfo = putfo  # type: ignore[method-assign]


def main() -> None:
    point, mark = sys.argv[1:3]
    sys.argv = ["pyinfra", *sys.argv[3:]]
    install(Freezer(json.loads(Path(point).read_text()), Path(mark)))
    pyinfra_cli.main.main()


main()
