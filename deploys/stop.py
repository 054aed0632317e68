"""Stop a run at the first host that fails, and before any change when a host can't be reached."""

from __future__ import annotations

from pyinfra import state
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import BaseStateCallback, State

from piclusterops.session import ssh_command


class _StopAtFirstFailure(BaseStateCallback):
    @staticmethod
    def operation_start(state: State, op_hash: str) -> None:
        # Set here and not in a deploy file: pyinfra restores its configuration after each of these.
        state.config.FAIL_PERCENT = 0


def stop_at_first_failure() -> None:
    """Make pyinfra end the run with the operation in which a host failed: no other node is touched after it."""
    if not any(isinstance(handler, _StopAtFirstFailure) for handler in state.callback_handlers):
        state.add_callback_handler(_StopAtFirstFailure())


def refuse_unreachable() -> None:
    """End the run, nothing changed, when a host of the inventory can't be reached.

    Raises:
        PyinfraError: names each such host and the command to try.
    """
    if not state.failed_hosts:
        return
    lines = [f"  {host.name}: try {ssh_command(host)} true" for host in state.inventory if host in state.failed_hosts]
    raise PyinfraError(
        "These hosts can't be reached, so nothing was changed on any host:\n" + "\n".join(lines) + "\n"
        "Run again when they answer, or name the hosts you want with --limit."
    )
