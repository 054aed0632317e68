"""Commands that functions of operations run themselves, because nobody may see their input or output."""

from __future__ import annotations

from typing import Any

from gevent.lock import BoundedSemaphore
from pyinfra.api import StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS
from pyinfra.api.host import Host
from pyinfra.connectors.util import CommandOutput

#: To be held while a host other than the current one is asked: sshd allows ten sessions on a connection.
peer_guard = BoundedSemaphore(1)


def privileges(current: Host) -> dict[str, Any]:
    """The privileges of the operation that runs, for commands that a function runs."""
    arguments: dict[str, Any] = dict(current.current_op_global_arguments or {})
    return {key: value for key, value in arguments.items() if key in CONNECTOR_ARGUMENT_KEYS and value is not None}


def run_quietly(
    target: Host, command: str | StringCommand, arguments: dict[str, Any], stdin: str = ""
) -> tuple[bool, CommandOutput]:
    """Run a command with nothing of it printed at any verbosity."""
    if isinstance(command, str):
        command = StringCommand(command)
    options = {**arguments, **command.connector_arguments}
    if stdin:
        options["_stdin"] = stdin
    ok, output = target.run_shell_command(command, print_output=False, print_input=False, **options)
    return ok, output


def fail(target: Host, reason: str) -> bool:
    target.log_styled(reason, fg="red")
    return False
