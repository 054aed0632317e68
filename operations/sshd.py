"""The SSH server: changed so that nobody is locked out by it."""

from __future__ import annotations

from typing import Any

from pyinfra import host
from pyinfra.api import FunctionCommand, operation
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.connectors.ssh import SSHConnector

from piclusterops import sshd
from piclusterops.facts.armed import is_pending
from piclusterops.facts.node import SshdState, sshd_state
from piclusterops.facts.snapshot import Query, Snapshot, snapshot_of
from piclusterops.operations.armed import ArmedChange, armed
from piclusterops.operations.managed import UNFINISHED, ManagedFile, digest_of, refuse, set_stamp, unknown_state
from piclusterops.session import ssh_command
from piclusterops.settings import ClusterSettings

NAME = "sshd"
_CONFIG_DIR = "/etc/ssh/sshd_config.d"

_NEW_HOST_KEY = (
    f"umask 077; rm -f {sshd.HOST_KEY}.new {sshd.HOST_KEY}.new.pub && "
    f"ssh-keygen -q -t ed25519 -N '' -C '' -f {sshd.HOST_KEY}.new && chmod 644 {sshd.HOST_KEY}.new.pub && "
    f"sync {sshd.HOST_KEY}.new && mv -f {sshd.HOST_KEY}.new.pub {sshd.HOST_KEY}.pub && "
    f"mv -f {sshd.HOST_KEY}.new {sshd.HOST_KEY} && sync /etc/ssh"
)
# The original is kept once; a list without a strong group is left alone.
_STRONG_MODULI = (
    f'f={sshd.MODULI}; b="$f.piclusterops.bak"; t="$f{UNFINISHED}"; trap \'rm -f "$t"\' EXIT; '
    '[ -e "$b" ] || { cp -p "$f" "$t" && sync "$t" && mv -f "$t" "$b"; } || exit 1; '
    f'awk \'/^#/ || $5 >= {sshd.MODULI_BITS}\' "$f" >"$t" && grep -qv \'^#\' "$t" && '
    'chmod --reference="$f" "$t" && sync "$t" && mv -f "$t" "$f" && sync /etc/ssh'
)
# `systemctl reload` returns before sshd has read its files anew: until it has, a new connection proves nothing. It
# then has other sockets to listen on. A server that systemd starts for each connection needs no reload.
_RELOAD = """\
listening() {
    pid=$(systemctl show --property=MainPID --value ssh.service)
    ss -Hltnpe | grep -F "pid=$pid," | grep -o 'ino:[0-9]*' || :
}
reload() {
    ! systemctl is-active --quiet ssh.socket || return 0
    before=$(listening)
    systemctl reload-or-restart ssh.service
    i=0
    while [ "$i" -lt 100 ]; do
        i=$((i + 1))
        after=$(listening)
        [ -z "$after" ] || printf '%s\\n' "$after" | grep -qxF -- "${before:-none}" || return 0
        sleep 0.1
    done
    echo "sshd does not read its files anew" >&2
    return 1
}
"""
# The files as sshd would read them, with ours at its place in their order; then what it makes of them.
_CHECK = f"""\
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
{{ ls {_CONFIG_DIR}/*.conf 2>/dev/null || :; echo {sshd.CONFIG_FILE}; }} | LC_ALL=C sort -u |
    sed "s|^{sshd.CONFIG_FILE}\\$|$new&|; s/^/Include /" >"$t/includes"
awk -v list="$t/includes" '
    tolower($1) != "include" || $2 !~ /sshd_config[.]d\\/[*][.]conf$/ {{ print; next }}
    {{ while ((getline line <list) > 0) print line }}' /etc/ssh/sshd_config >"$t/sshd_config"
sshd -t -f "$t/sshd_config"
while read -r who; do
    sshd -T -f "$t/sshd_config" -C "user=$who,{sshd.STRANGER}" >"$t/effective"
    {{
        grep -vxFf "$t/effective" "$staged/wanted" || :
        grep '^allowusers ' "$t/effective" | grep -vxFf "$staged/wanted" | sed 's/$/ (from another file)/' || :
    }} >"$t/not-in-force"
    [ ! -s "$t/not-in-force" ] || {{
        echo "/etc/ssh/sshd_config, or another file that it includes, is against these lines for $who:"
        cat "$t/not-in-force"
        exit 1
    }}
done <"$staged/users"
"""


def wanted_files(settings: ClusterSettings, wanted: sshd.SshdConfig) -> dict[str, ManagedFile]:
    """The files of the configuration."""
    files = {sshd.CONFIG_FILE: ManagedFile(wanted.text)}
    if settings.sshd_banner:
        files[sshd.BANNER_FILE] = ManagedFile(settings.sshd_banner.rstrip("\n") + "\n")
    return files


def change(node: str, settings: ClusterSettings, wanted: sshd.SshdConfig, user: str) -> ArmedChange:
    """The change that puts a configuration into force on a node."""
    files = wanted_files(settings, wanted)
    return ArmedChange(
        name=NAME,
        files=files,
        staged={
            "wanted": ManagedFile("".join(f"{line}\n" for line in wanted.effective)),
            "users": ManagedFile(f"root\n{user}\n"),
        },
        check=_CHECK,
        fingerprint="sshd -T",
        apply=f"{_RELOAD}reload",
        rollback=f'{_RELOAD}[ "$boot" = yes ] || reload',
        persist=set_stamp(NAME, digest_of(files)),
        keep=settings.firewall.ways_in(node),
        timeout_s=settings.armed_timeout_s,
    )


@operation()
def keys(query: Query) -> Any:
    """
    Give sshd an Ed25519 host key where it has none, and take weak groups out of its moduli.

    + query: the role's query

    The groups serve only a key exchange that we turn off: who turns it on again gets the strong ones.
    """
    snapshot = snapshot_of(query)
    state = sshd_state(snapshot) if snapshot else None
    if state is None:
        yield unknown_state()
        return
    if not state.has_host_key:
        yield _NEW_HOST_KEY
    if state.weak_moduli:
        yield _STRONG_MODULI
    if state.has_host_key and not state.weak_moduli:
        host.noop("sshd has an Ed25519 key and strong groups")


@operation()
def configure(node: str, settings: ClusterSettings, query: Query) -> Any:
    """
    Configure sshd: keys only, modern algorithms, named users. Kept only after a new login, else undone.

    + node: name of the node; the operation does nothing on any other host
    + settings: the cluster's settings
    + query: the role's query

    To be called on every host for every node, in the same order: so one node changes at a time, and the next is only
    touched when this one has let us in again.
    """
    if host.name != node:
        host.noop(f"this is about {node}")
        return
    snapshot = snapshot_of(query)
    state = sshd_state(snapshot) if snapshot else None
    if snapshot is None or state is None:
        yield unknown_state()
        return
    if state.version is None or state.version < sshd.OLDEST:
        yield refuse(
            f"{host.name}: it has no OpenSSH of version {sshd.OLDEST[0]}.{sshd.OLDEST[1]} or newer. "
            f"Next: {ssh_command(host)} ssh -V, and upgrade it to Debian 12 or newer"
        )
        return
    if state.user == "root":
        yield refuse(
            f"{host.name}: pyinfra logs in as root, which sshd would no longer allow. Next: create a user with sudo "
            "and no password for it, and set ssh_user"
        )
        return
    wanted = sshd.config(settings, state.user, state.version)
    if _in_force(snapshot, state, settings, wanted):
        host.noop("sshd is configured")
        return
    yield FunctionCommand(_can_come_back, (wanted,), {})
    yield armed(change(node, settings, wanted, state.user))


def _in_force(snapshot: Snapshot, state: SshdState, settings: ClusterSettings, wanted: sshd.SshdConfig) -> bool:
    files = wanted_files(settings, wanted)
    return (
        not is_pending(snapshot, NAME)
        and all(snapshot.paths.get(path) == file.state for path, file in files.items())
        and snapshot.stamps.get(NAME) == digest_of(files)
        and bool(state.effective)
        and not any(sshd.not_in_force(effective, wanted.effective) for effective in state.effective)
    )


def _can_come_back(state: State, host: Host, wanted: sshd.SshdConfig) -> bool:
    """Whether this controller, with the login it has, will be let in by the wanted configuration."""
    fault = _obstacle(host, wanted)
    if fault:
        host.log_styled(f"{host.name}: sshd was left as it is: {fault}", fg="red")
    return fault is None


def _obstacle(host: Host, wanted: sshd.SshdConfig) -> str | None:
    transport = None
    if isinstance(host.connector, SSHConnector) and host.connector.client is not None:
        transport = host.connector.client.get_transport()
    if transport is None:
        return "it is not reached by SSH. Next: name it by its address in the inventory"
    method = getattr(transport.auth_handler, "auth_method", "")
    if method != "publickey":
        address = ssh_command(host).removeprefix("ssh ")
        return (
            f"pyinfra logged in by {method or 'no key'}, and only keys would be accepted. Next: ssh-copy-id {address}"
        )
    offered = transport.get_security_options()
    client = {keyword: getattr(offered, name) for keyword, name in sshd.NEGOTIATED.items()}
    lacking = sshd.without_common(wanted.options, client)
    if lacking:
        return f"pyinfra knows none of the wanted {', '.join(lacking)}. Next: correct sshd_options, or upgrade pyinfra"
    return None
