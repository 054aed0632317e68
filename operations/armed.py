"""Changes that could lock the operator out: undone by the host itself unless a new connection confirms them.

A host that refuses new connections still serves the one that is open, so the connection that made a change says
nothing about it. Here the host is told how to undo the change, and when, before the change is made; the change
stays only when the controller could log in anew afterwards. What runs on the host is `files/armed/armed`.
"""

from __future__ import annotations

import base64
import io
import secrets
import socket
import tarfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.resources import files as resources
from typing import Any, TypeVar

import gevent
from paramiko import SSHException
from pyinfra.api import FunctionCommand, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.connectors.ssh import SSHConnector

from piclusterops.facts.armed import ARMED_DIR
from piclusterops.facts.cache import forget
from piclusterops.operations.managed import ManagedFile
from piclusterops.operations.quiet import privileges
from piclusterops.session import ssh_command

TOOL = "/usr/local/lib/piclusterops/armed"
BOOT_UNIT = "piclusterops-rollback.service"

_BUSY, _CHECK_FAILED, _NO_TIMER, _TOO_LATE, _NOT_KEPT = 75, 3, 4, 5, 6
#: How long a host may take over one step that changes nothing, in seconds.
_STEP_S = 60.0
#: What is left of the time for the confirmation itself, and what a rollback may take after the timer, in seconds.
_MARGIN_S = 5.0
_ROLLBACK_S = 30.0
#: What is in force may follow the restored files a little later, in seconds.
_FOLLOW_S = 10.0
_CONNECT_S = 10.0
_RETRY_S = 1.0
#: A change of another run that was killed is undone by its own timer; no timer is longer.
MAX_TIMEOUT_S = 600
_FINAL = ("Authentication error", "SSH host key error")

T = TypeVar("T")
Confirmation = Callable[["NewConnection"], "str | None"]


@dataclass(frozen=True)
class ArmedChange:
    """A change, and how to undo it. All shell is POSIX, runs as root, and must not need its input.

    Shell may use ``$new`` (folder that holds `files` under their own paths: ``"$new/etc/ssh/..."``), ``$staged``
    (folder that holds `staged`) and ``$boot`` (see `rollback`).

    Attributes:
        name: what is changed, as a short word: ``sshd``. One change of a name is on a host at a time.
        apply: shell that puts the change into force, after `files` were put in place. It may cut the connection.
        rollback: shell that puts the old state into force, after `files` were put back (removed, where there were
            none). It runs on the living host, or with ``$boot`` = ``yes`` at the next boot, before network and
            services have started: then it has only to undo what outlives a boot. It may run twice.
        files: files to replace, by path; their former content, owner and mode are kept and restored.
        staged: more files for the shell to use, by plain name; never put anywhere by themselves.
        check: shell that refuses a bad change by its exit status; it runs first, and what it prints is the reason.
        fingerprint: shell that prints what identifies the state in force, to compare before and after a rollback.
        persist: shell to run after the confirmation, such as renaming a staged file to where the next boot finds it.
            A change that must survive a power cut only once it is confirmed does its permanent part here.
        paths: (address, port) pairs that the controller must reach anew; None is the way that the inventory goes,
            with its jump hosts. Other paths are direct, and must show the same host key.
        keep: more such pairs. What the controller reaches before the change must be reached after it; what it does
            not is said and left out.
        confirm: functions that say over the new connection what is wrong, or None; tried again until `probe_s`.
        timeout_s: when the host undoes the change by itself, in seconds from before it is applied.
        probe_s: how long the new connection and `confirm` may take to succeed, in seconds.
    """

    name: str
    apply: str
    rollback: str
    files: Mapping[str, ManagedFile] = field(default_factory=dict)
    staged: Mapping[str, ManagedFile] = field(default_factory=dict)
    check: str = ""
    fingerprint: str = ""
    persist: str = ""
    paths: tuple[tuple[str, int] | None, ...] = (None,)
    keep: tuple[tuple[str, int], ...] = ()
    confirm: tuple[Confirmation, ...] = ()
    timeout_s: int = 90
    probe_s: int = 20

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").isalnum() or not self.paths:
            raise ValueError(f"{self.name!r}: a change has a plain name and a path to probe")
        if not 2 * _MARGIN_S < self.timeout_s <= MAX_TIMEOUT_S:
            raise ValueError(f"timeout_s = {self.timeout_s}: more than {2 * _MARGIN_S:.0f}, at most {MAX_TIMEOUT_S}")


class ArmedError(Exception):
    """Why a change was not made or not kept."""


def armed(change: ArmedChange) -> FunctionCommand:
    """The command that makes a change, for an operation to yield; see `apply_armed`."""
    return FunctionCommand(apply_armed, (change,), {})


# -- connections --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a command gave: its exit status is 0 when `ok`."""

    ok: bool
    stdout: str
    stderr: str


class NewConnection:
    """An SSH connection of its own, made the way that pyinfra makes it: credentials, known hosts, jump hosts."""

    def __init__(self, target: Host, path: tuple[str, int] | None = None) -> None:
        """Connect.

        Args:
            target: the host.
            path: another address and port to reach it at, directly.

        Raises:
            ArmedError: it can't be reached, or does not let us in.
            PermanentError: trying again would not help.
        """
        self.host = target
        self.path = path
        self.connector = SSHConnector(target.state, target)
        self.connector.data["ssh_connect_retries"] = 0
        options: dict[str, Any] = dict(self.connector.data["ssh_paramiko_connect_kwargs"] or {})
        options |= {"timeout": _CONNECT_S, "banner_timeout": _CONNECT_S, "auth_timeout": _CONNECT_S}
        try:
            with gevent.Timeout(3 * _CONNECT_S, TimeoutError("it did not answer in time")):
                if path:
                    options["sock"] = socket.create_connection(path, timeout=_CONNECT_S)
                self.connector.data["ssh_paramiko_connect_kwargs"] = options
                self.connector.connect()
        except (ConnectError, SSHException, OSError, EOFError) as error:
            self.close()
            if str(error).startswith(_FINAL):
                raise PermanentError(str(error)) from error
            raise ArmedError(str(error) or type(error).__name__) from error

    def run(self, command: str, timeout_s: float = _STEP_S) -> Answer:
        """Run a command as root over this connection.

        Raises:
            ArmedError: the connection failed, or it took too long.
        """
        return _run(self.connector, command, timeout_s)

    def close(self) -> None:
        """Close it."""
        if self.connector.client is not None:
            self.connector.client.close()


class PermanentError(ArmedError):
    """A connection that is refused for good: by our key, or by the host's."""


def _run(connector: SSHConnector, command: str, timeout_s: float, stdin: str = "") -> Answer:
    """Run a command with the operation's privileges; nothing of it is printed at any verbosity."""
    arguments = privileges(connector.host)
    if stdin:
        arguments["_stdin"] = stdin
    try:
        with gevent.Timeout(timeout_s, TimeoutError(f"no answer within {timeout_s:.0f} s")):
            ok, output = connector.run_shell_command(
                StringCommand(command), print_output=False, print_input=False, **arguments
            )
    except (SSHException, OSError, EOFError) as error:
        raise ArmedError(f"the connection failed: {error or type(error).__name__}") from error
    return Answer(ok, str(output.stdout), str(output.stderr))


def _open(target: Host) -> SSHConnector:
    """The connection that the run has.

    Raises:
        ArmedError: it is not SSH.
    """
    if not isinstance(target.connector, SSHConnector):
        raise ArmedError("it is not reached by SSH, so that nothing could be confirmed")
    return target.connector


def _adopt(target: Host, new: NewConnection) -> None:
    """Let the rest of the run use the new connection."""
    connector = _open(target)
    connector.disconnect()
    if connector.client is not None:
        connector.client.close()
    connector.client = new.connector.client


# -- what is sent to the host --------------------------------------------------------------------------------


def _payload(change: ArmedChange, token: str) -> str:
    """The change as a tar in base64: it travels on standard input, so that nothing of it is in an argument list."""
    shell = {"check": change.check, "apply": change.apply, "undo": change.rollback, "persist": change.persist}
    entries = {name: ManagedFile(f"set -eu\n{text}\n", "700") for name, text in shell.items()}
    entries["fingerprint"] = ManagedFile(f"{change.fingerprint}\n", "700")
    entries["rollback"] = ManagedFile(f"#!/bin/sh\nexec {TOOL} rollback {change.name}\n", "700")
    entries["token"] = ManagedFile(f"{token}\n", "600")
    entries["files"] = ManagedFile("".join(f"{path}\n" for path in change.files), "600")
    entries |= {f"new{path}": file for path, file in change.files.items()}
    entries |= {f"staged/{name}": file for name, file in change.staged.items()}
    source = resources("piclusterops.files") / "armed"
    entries["tool"] = ManagedFile((source / "armed").read_text(), "755")
    entries["unit"] = ManagedFile((source / BOOT_UNIT).read_text(), "644")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("new", "staged"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o700, int(time.time())
            archive.addfile(entry)
        for name, file in entries.items():
            content = file.content.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), int(file.mode, 8), int(time.time())
            entry.uname, entry.gname = file.user, file.group
            archive.addfile(entry, io.BytesIO(content))
    return base64.encodebytes(buffer.getvalue()).decode()


def stage_command(payload: str, token: str) -> str:
    """Shell that unpacks a payload from its input, whole or not at all, and installs the tool and the boot unit."""
    digest = sha256(payload.encode()).hexdigest()
    unit = f"/etc/systemd/system/{BOOT_UNIT}"
    return f"""umask 077; d={ARMED_DIR}/.new-{token}
mkdir -p -m 755 /var/lib/piclusterops && mkdir -p {ARMED_DIR} && mkdir "$d" && cd "$d" || exit 1
trap 'cd /; [ -e "$d/whole" ] || rm -rf "$d"' EXIT
cat >payload && [ "$(sha256sum <payload)" = "{digest}  -" ] && base64 -d payload | tar -xp && rm payload || exit 1
put() {{
    cmp -s "$1" "$2" && return
    (umask 022; mkdir -p "${{2%/*}}") && cp -p "$1" "$2.new" && sync "$2.new" && mv -f "$2.new" "$2"
}}
put tool {TOOL} && put unit {unit} && rm tool unit || exit 1
systemctl is-enabled -q {BOOT_UNIT} || systemctl enable -q {BOOT_UNIT} || exit 1
systemctl is-enabled -q {BOOT_UNIT} && sync -f /etc && : >whole && cd / || exit 1"""


def _rollback_command(change: ArmedChange, token: str) -> str:
    """Shell that undoes a change, in a unit of its own for the same reason as `_apply_command`."""
    return (
        f"systemd-run --quiet --wait --pipe --collect --unit=piclusterops-undo-{token}-{secrets.token_hex(2)} "
        f"{TOOL} rollback {change.name} {token} </dev/null"
    )


def _apply_command(change: ArmedChange, token: str) -> str:
    """Shell that applies a change in a unit of its own: it goes on when the connection, or sudo's terminal, goes."""
    return (
        f"systemd-run --quiet --wait --pipe --collect --unit=piclusterops-apply-{change.name} "
        f"--property=Type=exec --property=RuntimeMaxSec={change.timeout_s // 2} "
        f"{TOOL} apply {change.name} {token} </dev/null"
    )


# -- the change ----------------------------------------------------------------------------------------------


def apply_armed(state: State, host: Host, change: ArmedChange) -> bool:
    """Make a change that the host undoes unless it is confirmed over a new connection.

    A change that an earlier run left unconfirmed, or that another run has under way, is waited for first. When the
    change can't be confirmed it is undone at once, over the old connection if that still lives, else by the host's
    timer, and it is checked that the host is as before.

    Returns:
        Whether the change is in force and kept. If not, the reason was printed, with the next command.
    """
    token = secrets.token_hex(8)
    try:
        _settle(host, change)
        change = replace(change, paths=(*change.paths, *_reached(host, change)), keep=())
        _arm(host, change, token)
    except ArmedError as error:
        look = f"mend that, and run this again. To look at the host: {ssh_command(host)}"
        _report(host, f"{change.name}: nothing was changed: {error}", look)
        return False
    finally:
        forget(host)
    due = time.monotonic() + change.timeout_s
    try:
        _apply(host, change, token)
        connection = _confirmed(host, change, token, due)
    except ArmedError as error:
        return _undo(host, change, token, due, str(error))
    finally:
        forget(host)
    _adopt(host, connection)
    return True


def _settle(host: Host, change: ArmedChange) -> None:
    """Wait until no earlier change is unconfirmed.

    Raises:
        ArmedError: one still is, or could not be undone.
    """
    end = time.monotonic() + MAX_TIMEOUT_S + _ROLLBACK_S
    said = False
    while True:
        answer = _run(_open(host), f"[ -x {TOOL} ] || exit 0; {TOOL} settle; echo $?", 2 * _STEP_S)
        status = answer.stdout.strip() or "0"
        if answer.ok and status == "0":
            return
        if status != str(_BUSY):
            raise ArmedError(f"an earlier change can't be undone: {answer.stderr.strip() or answer.stdout}")
        if time.monotonic() > end:
            raise ArmedError("an earlier change stays unconfirmed")
        if not said:
            host.log(f"{change.name}: an earlier change was not confirmed; waiting until the host has undone it")
            said = True
        gevent.sleep(2 * _RETRY_S)


def _reached(host: Host, change: ArmedChange) -> list[tuple[str, int]]:
    """The further ways in that are open before the change."""
    found = []
    for path in change.keep:
        try:
            NewConnection(host, path).close()
        except ArmedError as error:
            host.log_styled(
                f"{host.name}: {change.name}: {path[0]} port {path[1]} does not let us in as it is, and so this way in "
                f"is not watched: {error}",
                fg="yellow",
            )
        else:
            found.append(path)
    return found


def _arm(host: Host, change: ArmedChange, token: str) -> None:
    payload = _payload(change, token)
    # In one command, so that nothing stays behind when we die in between. When the answer is lost the host may have
    # armed it: then its timer restores what is there anyway.
    command = f"{stage_command(payload, token)}\n{TOOL} arm {change.name} {token} {change.timeout_s}; echo $?"
    answer = _run(_open(host), command, 3 * _STEP_S, stdin=payload)
    if not answer.ok:
        raise ArmedError(f"it could not be sent whole: {_text(answer) or 'no reason given'}")
    *output, status = answer.stdout.strip().splitlines() or ["?"]
    if status == "0":
        return
    reasons = {
        str(_BUSY): "another run has a change under way",
        str(_CHECK_FAILED): "the check refused it",
        str(_NO_TIMER): "the host could not set the timer that would undo it",
    }
    detail = "\n".join([*output, answer.stderr.strip()]).strip()
    raise ArmedError(f"{reasons.get(status, 'it could not be prepared')}{f': {detail}' if detail else ''}")


def _apply(host: Host, change: ArmedChange, token: str) -> None:
    """Run the change; when only the connection is lost it may have worked, and the new connection will tell.

    Raises:
        ArmedError: the host said that it failed.
    """
    try:
        answer = _run(_open(host), _apply_command(change, token), change.timeout_s / 2 + _MARGIN_S)
    except ArmedError:
        return
    if not answer.ok:
        raise ArmedError(f"it could not be applied: {_text(answer) or 'no reason given'}")


def _confirmed(host: Host, change: ArmedChange, token: str, due: float) -> NewConnection:
    """The new connection over which the change was confirmed.

    Raises:
        ArmedError: the change can't be confirmed.
    """
    end = min(time.monotonic() + change.probe_s, due - _MARGIN_S)
    connections: list[NewConnection] = []
    try:
        for path in change.paths:
            connections.append(_reach(host, path, end))
        first = connections[0]
        for confirmation in change.confirm:
            _until(end, lambda check=confirmation: _checked(check, first))  # type: ignore[misc]
        answer = first.run(f"{TOOL} confirm {change.name} {token}; echo $?", _STEP_S)
        status = (answer.stdout.strip().splitlines() or ["?"])[-1]
        if status == str(_NOT_KEPT):
            raise ArmedError(f"it is in force, but could not be kept for the next boot: {answer.stderr.strip()}")
        if status != "0":
            raise ArmedError(answer.stderr.strip() or "the host did not take the confirmation")
    except ArmedError:
        for connection in connections:
            connection.close()
        raise
    for connection in connections[1:]:
        connection.close()
    return first


def _reach(host: Host, path: tuple[str, int] | None, end: float) -> NewConnection:
    """A new connection that can become root.

    Raises:
        ArmedError: there is none until `end`.
    """

    def attempt() -> NewConnection:
        connection = NewConnection(host, path)
        try:
            answer = connection.run("true", _CONNECT_S)
            if not answer.ok:
                raise ArmedError(f"a command as root failed: {_text(answer)}")
        except ArmedError:
            connection.close()
            raise
        return connection

    try:
        return _until(end, attempt)
    except ArmedError as error:
        where = f" to {path[0]} port {path[1]}" if path else ""
        raise ArmedError(f"a new connection{where} failed: {error}") from error


def _checked(check: Confirmation, connection: NewConnection) -> None:
    fault = check(connection)
    if fault:
        raise ArmedError(fault)


def _until(end: float, attempt: Callable[[], T], patient: bool = False) -> T:
    """Try again until it works; only when `patient` also after a refusal that looks final.

    Raises:
        ArmedError: it did not until `end`, or never will.
    """
    while True:
        try:
            return attempt()
        except ArmedError as error:
            if time.monotonic() + _RETRY_S > end or (isinstance(error, PermanentError) and not patient):
                raise
        gevent.sleep(_RETRY_S)


# -- undoing it ----------------------------------------------------------------------------------------------


def _undo(host: Host, change: ArmedChange, token: str, due: float, cause: str) -> bool:
    """Have the change undone, see to it that it is, and report; returns True if it turns out to be confirmed."""
    command = _rollback_command(change, token)
    with suppress(ArmedError):
        _run(_open(host), command, _CONNECT_S)
    try:
        # Our key may be refused until the timer has put the old state back.
        connection, outcome = _until(due + _ROLLBACK_S, lambda: _outcome(host, change, token), patient=True)
    except ArmedError as error:
        _report(
            host,
            f"{change.name}: {cause}. It should have undone the change by itself, and can't be reached: {error}",
            f"{ssh_command(host)}, or go to its screen and restart it: at boot it undoes what was not confirmed",
        )
        return False
    _adopt(host, connection)
    return _reported(host, change, cause, outcome)


def _outcome(host: Host, change: ArmedChange, token: str) -> tuple[NewConnection, list[str]]:
    """A new connection, and what the host says of the change over it.

    Raises:
        ArmedError: there is no such connection.
    """
    connection = NewConnection(host)
    try:
        connection.run(_rollback_command(change, token), _ROLLBACK_S)
        end = time.monotonic() + _FOLLOW_S
        while True:
            outcome = connection.run(f"{TOOL} verify {change.name} {token}").stdout.split("\n")
            if outcome[0] != "undone" or len(outcome) == 1 or time.monotonic() > end:
                return connection, outcome
            gevent.sleep(_RETRY_S)
    except ArmedError:
        connection.close()
        raise


def _reported(host: Host, change: ArmedChange, cause: str, outcome: list[str]) -> bool:
    journal = f"{ssh_command(host)} sudo journalctl -b -u 'piclusterops-*-{change.name}*'"
    if outcome == ["undone"]:
        _report(host, f"{change.name}: {cause}. The change was undone: the host is as before", journal)
    elif outcome[0] == "undone":
        _report(host, f"{change.name}: {cause}. The change was undone, but differs: {', '.join(outcome[1:])}", journal)
    elif outcome[0] == "confirmed":
        if "could not be kept" in cause:
            _report(host, f"{change.name}: {cause}", journal)
            return False
        host.log(f"{change.name}: {cause}; the host took the confirmation all the same")
        return True
    else:
        _report(host, f"{change.name}: {cause}. THE CHANGE COULD NOT BE UNDONE ({outcome[0]})", journal)
    return False


def _text(answer: Answer) -> str:
    return "\n".join(text for text in (answer.stdout.strip(), answer.stderr.strip()) if text)


def _report(host: Host, what: str, following: str) -> None:
    host.log_styled(f"{host.name}: {what}. Next: {following}", fg="red")
