"""A reboot counts when another boot answers over a new connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from paramiko import SSHException
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.connectors.util import CommandOutput, OutputLine

from piclusterops.operations.reboot import RebootError, wait_for_new_boot

OLD, NEW = "0d6c28d7-old", "9b1f3c55-new"


class Client:
    closed = False

    def close(self) -> None:
        self.closed = True


class ScriptedHost:
    """A host that answers each connection with the next boot id or error of a script; the last one repeats."""

    def __init__(self, *script: str | Exception) -> None:
        self._answers: Iterator[str | Exception] = iter([*script, *[script[-1]] * 10_000])
        self.connector = self
        self.connector_data: dict[str, Any] = {"piclusterops_facts": {"stale": 1}}
        self.connected = True
        self.client = Client()
        self.clients = [self.client]

    def connect(self) -> None:
        assert self.client.closed, "a new connection beside the old one"
        self._answer = next(self._answers)
        if isinstance(self._answer, ConnectError):
            raise self._answer
        self.client = Client()
        self.clients.append(self.client)

    def disconnect(self) -> None:
        pass

    def run_shell_command(self, command: object, **_: object) -> tuple[bool, CommandOutput]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return True, CommandOutput([OutputLine("stdout", self._answer)])


def wait(host: ScriptedHost, old: str = OLD, timeout_s: float = 0.05) -> str:
    return wait_for_new_boot(cast(Host, host), old, timeout_s, interval_s=0.001)


def test_the_new_boot_is_found_after_the_old_one_answered_and_none_did() -> None:
    host = ScriptedHost(OLD, OLD, ConnectError("refused"), SSHException("banner"), EOFError(), NEW)
    assert wait(host, timeout_s=5) == NEW
    assert host.connected
    assert "piclusterops_facts" not in host.connector_data
    assert all(client.closed for client in host.clients[:-1])


def test_an_answer_without_a_boot_id_is_no_new_boot() -> None:
    assert wait(ScriptedHost("", "", NEW), timeout_s=5) == NEW


def test_a_host_that_never_went_down_is_reported_as_such() -> None:
    host = ScriptedHost(OLD)
    with pytest.raises(RebootError, match="still runs the old boot"):
        wait(host)
    assert not host.connected
    assert all(client.closed for client in host.clients)


def test_a_host_that_stays_away_is_reported_with_the_last_error() -> None:
    with pytest.raises(RebootError, match=r"no new boot within .*Connection refused"):
        wait(ScriptedHost(OLD, ConnectError("Connection refused")))


def test_without_the_old_boot_id_nothing_can_be_proved() -> None:
    host = ScriptedHost(NEW)
    with pytest.raises(RebootError, match="unknown"):
        wait(host, old=" ")
    assert host.connected, "the connection is left as it was"
