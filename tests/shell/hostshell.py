"""Run under dash what the operations would run on a host, with the host's folders in a temporary one."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyinfra.api import FunctionCommand, StringCommand
from pyinfra.context import ctx_host, ctx_state
from pyinfra_testing.util import FakeState, create_host

from piclusterops.facts.snapshot import Query, Snapshot

Command = StringCommand | FunctionCommand


class _HostData(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


def commands(operation: Callable[..., Any], snapshot: Snapshot, **kwargs: Any) -> list[Command]:
    """What an operation would do on the host pi-master, whose snapshot this is."""
    state, query = FakeState(), Query()
    host = create_host(
        state, data=_HostData(ssh_user="pi"), facts={"snapshot.HostSnapshot": {f"query={query}": snapshot}}
    )
    host.name = "pi-master"
    with ctx_state.use(state), ctx_host.use(host):
        found = list(operation._inner(query=query, **kwargs))  # type: ignore[attr-defined]
    return [StringCommand(command) if isinstance(command, str) else command for command in found]


class Host:
    """A folder that stands for the root of a host, and for the commands that a test replaces."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "fake-bin"
        self.bin.mkdir(parents=True)

    def path(self, path: str) -> Path:
        """Where a file of the host is."""
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        """Create a file of the host."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def fake(self, command: str, body: str) -> None:
        """Replace a command; it also notes how it was called."""
        script = self.bin / command
        script.write_text(f'#!/bin/sh\necho "{command} $*" >>{self.root}/calls\n{body}\n')
        script.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """How the replaced commands were called."""
        log = self.root / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def shell(self, text: str) -> str:
        """The shell with the host's folders moved into ours."""
        return re.sub(r"(?<![\w./-])/(etc|boot|run|usr/share/zoneinfo|var|sys|lib/modules)\b", rf"{self.root}/\1", text)

    def run(
        self, command: Command | str, stdin: str | None = None, timeout: float = 20
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as pyinfra would: its standard input is the content, or empty."""
        if isinstance(command, StringCommand):
            stdin = command.connector_arguments.get("_stdin", "") if stdin is None else stdin
            text = command.get_raw_value()
        else:
            assert isinstance(command, str)
            text = command
        return subprocess.run(
            ["dash", "-c", self.shell(text)],
            input=stdin or "",
            env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"},
            text=True,
            capture_output=True,
            timeout=timeout,
        )
