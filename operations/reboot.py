"""Reboots that are proved: a new boot id, over a new connection."""

from __future__ import annotations

import time
from typing import Any

import gevent
from paramiko import SSHException
from pyinfra.api import StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.connectors.util import clear_askpass_cache

from piclusterops.facts.cache import forget
from piclusterops.facts.snapshot import Query, Snapshot, parse, script
from piclusterops.operations.quiet import privileges

#: Detached, so that the connection is closed before the host goes down. Without AccuracySec a timer may be a
#: minute late.
REBOOT = (
    "systemd-run --quiet --collect --on-active=1 --timer-property=AccuracySec=100ms systemctl reboot || "
    "{ setsid sh -c 'sleep 1; reboot' </dev/null >/dev/null 2>&1 & }"
)
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
# One attempt may hang longer than a connection may take: the old system answers, and then does not.
_ATTEMPT_S = 30.0


class RebootError(Exception):
    """A host that did not come back from a reboot; the message says what was last seen of it."""


def wait_for_new_boot(target: Host, old_boot_id: str, timeout_s: float, interval_s: float = 1.0) -> str:
    """Wait until a rebooting host answers from another boot than the old one.

    A host that was told to reboot still answers for a while, from the old boot: only a different boot id over a new
    connection proves the reboot. What was remembered of the host is dropped. On return the host is connected.

    Args:
        target: the host; its present connection is closed.
        old_boot_id: what `/proc/sys/kernel/random/boot_id` said before the reboot.
        timeout_s: how long to wait, in seconds.
        interval_s: pause between two attempts, in seconds.

    Returns:
        The new boot id.

    Raises:
        RebootError: the old boot id is empty, or there was no new boot in time.
    """
    if not old_boot_id.strip():
        raise RebootError("its boot id before the reboot is unknown, so a new boot could not be told from the old one")
    forget(target)
    clear_askpass_cache(target)
    deadline = time.monotonic() + timeout_s
    while True:
        _close(target)
        gevent.sleep(interval_s)
        seen = _attempt(target)
        if isinstance(seen, str) and seen != old_boot_id.strip():
            target.connected = True
            forget(target)
            return seen
        if time.monotonic() >= deadline:
            _close(target)
            cause = "it still runs the old boot" if isinstance(seen, str) else f"last attempt: {seen}"
            raise RebootError(f"no new boot within {timeout_s:.0f} s ({cause})")


def read(target: Host, command: str, **arguments: Any) -> list[str]:
    """The output lines of a command; `arguments` are pyinfra's for connectors, such as ``_sudo``.

    Raises:
        RebootError: the command failed.
        OSError, SSHException: the connection did.
    """
    arguments |= {"_timeout": _ATTEMPT_S, "print_output": False, "print_input": False}
    done, output = target.run_shell_command(StringCommand(command), **arguments)
    if not done:
        raise RebootError(output.stderr or f"{command.splitlines()[0]} failed")
    return output.stdout_lines


def snapshot_after_boot(target: Host, query: Query) -> Snapshot:
    """What a host answers to a query after `wait_for_new_boot`.

    Raises:
        RebootError: it could not be read.
        OSError, SSHException: the connection failed.
    """
    try:
        return parse(read(target, script(query), **privileges(target)))
    except (KeyError, ValueError) as error:
        raise RebootError(f"its state could not be read: {error}") from error


def _attempt(target: Host) -> str | Exception:
    """The boot id of the host over a new connection, or what went wrong."""
    try:
        with gevent.Timeout(_ATTEMPT_S, TimeoutError("it did not answer in time")):
            target.connector.connect()
            boot_id = "".join(read(target, _BOOT_ID)).strip()
    except (ConnectError, SSHException, OSError, EOFError, RebootError) as error:
        return error
    return boot_id or RebootError("its boot id is empty")


def _close(target: Host) -> None:
    """Close the connection for good; `Host.disconnect` leaves the transport open, and may use it once more."""
    target.connector.disconnect()
    client = getattr(target.connector, "client", None)
    if client is not None:
        client.close()
    target.connected = False
