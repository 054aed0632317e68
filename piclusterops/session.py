"""Connect to hosts of an inventory from our own command line, through pyinfra's API."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import gevent
from pyinfra.api import Config, Inventory, State, StringCommand
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.context import ctx_host, ctx_state

T = TypeVar("T")


class HostUnreachable(Exception):
    """No SSH connection to a host; the message names the host, the cause and the next command."""


class CommandFailed(Exception):
    """A command ended with an error on a host; the message names the host and the cause."""


class _RememberErrors(BaseStateCallback):
    errors: dict[str, str]

    def __init__(self) -> None:
        self.errors = {}

    def host_connect_error(self, state: State, host: Host, error: Exception) -> None:  # type: ignore[override]
        self.errors[host.name] = str(error)


def ssh_command(host: Host) -> str:
    """The ``ssh`` command line that a person would type to reach a host."""
    data = host.data
    words = ["ssh"]
    if data.get("ssh_port"):
        words += ["-p", str(data.ssh_port)]
    if data.get("ssh_key"):
        words += ["-i", str(data.ssh_key)]
    if data.get("ssh_known_hosts_file"):
        words += ["-o", f"UserKnownHostsFile={data.ssh_known_hosts_file}"]
    address = data.get("ssh_hostname") or host.name
    words.append(f"{data.ssh_user}@{address}" if data.get("ssh_user") else address)
    return " ".join(words)


@contextmanager
def connected(inventory: Inventory, name: str) -> Iterator[Host]:
    """One host of the inventory, connected, as pyinfra's current host.

    Raises:
        HostUnreachable: no connection could be made.
    """
    host = inventory.get_host(name)
    state = State(inventory, Config(), initial_limit=[host])
    remember = _RememberErrors()
    state.add_callback_handler(remember)
    with ctx_state.use(state):
        state.set_stage(StateStage.Connect)
        try:
            connect_all(state)
        except PyinfraError as error:
            cause = remember.errors.get(name, str(error))
            raise HostUnreachable(f"{name} can't be reached: {cause}\nTry: {ssh_command(host)} true") from error
        state.set_stage(StateStage.Prepare)
        try:
            with ctx_host.use(host):
                yield host
        finally:
            state.set_stage(StateStage.Disconnect)
            disconnect_all(state)


@contextmanager
def connected_hosts(inventory: Inventory, names: Collection[str]) -> Iterator[tuple[list[Host], dict[str, str]]]:
    """Hosts of the inventory, connected all at once: those that can be reached, and why the others can't, by name."""
    wanted = [inventory.get_host(name) for name in names]
    state = State(inventory, Config(), initial_limit=wanted)
    remember = _RememberErrors()
    state.add_callback_handler(remember)
    with ctx_state.use(state):
        state.set_stage(StateStage.Connect)
        # raised when none of them is left
        with suppress(PyinfraError):
            connect_all(state)
        state.set_stage(StateStage.Prepare)
        try:
            reached = [host for host in wanted if host.connected]
            yield reached, {host.name: remember.errors.get(host.name, "") for host in wanted if host not in reached}
        finally:
            state.set_stage(StateStage.Disconnect)
            for host in wanted:
                if host.connected:
                    host.disconnect()


def ask_all(hosts: Iterable[Host], question: Callable[[Host], T]) -> dict[str, T]:
    """The answers of connected hosts by name, each asked as pyinfra's current host, all at the same time."""

    def ask(host: Host) -> T:
        with ctx_state.use(host.state), ctx_host.use(host):
            return question(host)

    jobs = {host.name: gevent.spawn(ask, host) for host in hosts}
    return {name: job.get() for name, job in jobs.items()}


def output_of(host: Host, command: str, stdin: str = "") -> str:
    """What a command prints on a connected host, run with the privileges the inventory gives.

    Nothing of it is shown or logged; what is secret goes into `stdin`, for the command shows in `ps`.

    Raises:
        CommandFailed: its exit status is not zero.
    """
    ok, output = host.run_shell_command(
        StringCommand(command),
        print_output=False,
        print_input=False,
        _sudo=bool(host.data.get("_sudo")),
        **({"_stdin": stdin} if stdin else {}),
    )
    if not ok:
        raise CommandFailed(f"{host.name}: {output.stderr.strip() or 'the command failed'}")
    return str(output.stdout)
