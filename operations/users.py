"""People's accounts: who may log in, with which keys, and who may become root."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, operation

from piclusterops.baseline import SUDOERS_FILE, sudoers
from piclusterops.facts.node import UserState, user_states
from piclusterops.facts.snapshot import Query, snapshot_of
from piclusterops.operations.managed import UNFINISHED, ManagedFile, receive, unknown_state, write_file
from piclusterops.settings import AdminUser


def _write_keys(user: str, home: str, keys: str) -> StringCommand:
    """Write a user's keys as that user: a link planted in the home directory leads no further than its permissions.

    The home directory is missing when an earlier `useradd` was cut off.
    """
    script = (
        f'umask 077; d="$1/.ssh"; mkdir -p "$d" && chmod 700 "$d" && t="$d/authorized_keys{UNFINISHED}" && '
        f'trap \'rm -f "$t"\' EXIT && {receive(keys)} && sync "$t" && mv -f "$t" "$d/authorized_keys"'
    )
    return StringCommand(
        f"cd / && {{ [ -d {quote(home)} ] || mkhomedir_helper {quote(user)} 0077; }} && "
        f"runuser -u {quote(user)} -- sh -c {quote(script)} sh {quote(home)}",
        _stdin=keys,
    )


def wanted_keys(user: AdminUser, present: str | None, deploy_user: str) -> str:
    """The content of a user's `authorized_keys`.

    It holds the user's keys and no other, except for the user that deploys: its keys are added to, so that the
    access this run came in with is never taken away.
    """
    lines = (present or "").splitlines() if user.name == deploy_user else []
    return "\n".join([*lines, *(key for key in user.ssh_keys if key not in lines)]) + "\n"


def _create(name: str, home: str) -> str:
    user = quote(name)
    # A group of that name is the system's own (Debian has `operator`, `backup`, `sudo`): don't make it the user's.
    # `*` is no password, like the default `!`, but does not lock the account for sshd without PAM.
    return (
        f"if getent group {user} >/dev/null; then o=-N; else o=-U; fi; "
        f"useradd -m \"$o\" -d {quote(home)} -s /bin/bash -p '*' {user}"
    )


@operation()
def accounts(users: Sequence[AdminUser], query: Query) -> Any:
    """
    Create the users that are missing, and keep their SSH keys.

    + users: the people who may log in
    + query: the role's query

    A new user has no password. The accounts of people who left the list stay: remove those with `deluser`.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    states = user_states(snapshot)
    changed = False
    for user in users:
        state = states.get(user.name)
        if state is None:
            state = UserState(f"/home/{user.name}", (), ("", ""), None)
            yield _create(user.name, state.home)
            changed = True
        keys = wanted_keys(user, state.keys, host.data.get("ssh_user", ""))
        if state.keys != keys or not state.has_private_keys(user.name):
            yield _write_keys(user.name, state.home, keys)
            changed = True
    if not changed:
        host.noop(f"{len(users)} users have their keys")


@operation()
def sudo_policy(users: Sequence[AdminUser], query: Query) -> Any:
    """
    Set who may become root, and have sudo keep a log and use a terminal of its own.

    + users: the people of the sudo policy
    + query: the role's query

    The policy is checked by `visudo` before it is installed. Users with `sudo: none` also leave the group sudo. The
    user that deploys keeps what it has. The rules of other files in /etc/sudoers.d stay.
    """
    snapshot = snapshot_of(query)
    if snapshot is None:
        yield unknown_state()
        return
    deploy_user = host.data.get("ssh_user", "")
    states = user_states(snapshot)
    leaving = [
        user.name
        for user in users
        if user.sudo == "none"
        and user.name in states
        and user.name != deploy_user
        and "sudo" in states[user.name].groups
    ]
    for name in leaving:
        yield f"gpasswd -d {quote(name)} sudo"
    file = ManagedFile(sudoers(users, deploy_user), mode="440")
    if snapshot.paths.get(SUDOERS_FILE) != file.state:
        yield StringCommand("visudo -c -f -", _stdin=file.content)
        yield write_file(SUDOERS_FILE, file)
    elif not leaving:
        host.noop("the sudo policy is in place")
