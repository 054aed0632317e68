"""What the baseline and the boot part want to know of a host, as one query, and how to read the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from piclusterops import sshd
from piclusterops.baseline import FILES
from piclusterops.facts import armed, boot, docker, firewall, network, nfs_server, wireguard
from piclusterops.facts.snapshot import Query, Snapshot
from piclusterops.facts.text import decoded
from piclusterops.host_releases import DOCKER, NFS_SERVER, WIREGUARD, is_selected
from piclusterops.settings import ClusterSettings
from piclusterops.sysctl import MODULES, PARAMETERS

#: Daemons that set the clock; systemd-timesyncd is the one we enable when there is none.
TIME_DAEMONS = ("systemd-timesyncd", "chrony", "ntpsec", "ntp", "openntpd")
#: Shell that succeeds when the clock is synchronised.
CLOCK_IS_SYNCHRONISED = (
    "{ [ -e /run/systemd/timesync/synchronized ] || "
    '[ "$(timedatectl show -p NTPSynchronized --value 2>/dev/null)" = yes ]; }'
)
CLOUD_INIT_DISABLED = "/etc/cloud/cloud-init.disabled"

# Text files travel in base64: blanks at the end of a line and a missing last newline matter, and no line of a file
# can be taken for something else.
_CMDLINE = (
    "for f in /boot/firmware/cmdline.txt /boot/cmdline.txt; do "
    '[ -f "$f" ] && { echo "$f"; base64 -w0 <"$f"; echo; break; }; done'
)
_MODULES = (
    f"for m in {' '.join(MODULES)}; do "
    'if [ -d "/sys/module/$m" ] || grep -qs "/$m\\.ko" "/lib/modules/$(uname -r)/modules.builtin"; '
    'then echo "$m loaded"; elif modprobe -nq "$m"; then echo "$m available"; fi; done'
)
# The user-data of an image overrides every file in /etc/cloud/cloud.cfg.d (cloud-init, helpers.ConfigMerger).
_CLOUD_INIT = (
    f"[ ! -e {CLOUD_INIT_DISABLED} ] && "
    "grep -Eqs '^manage_etc_hosts: *[^ ]*([Tt]rue|yes|on|template|localhost)' /var/lib/cloud/instance/cloud-config.txt "
    "&& echo claims-hosts-file"
)
# What sshd makes of its files for root and for the user that pyinfra logs in as, from an address that no file names.
_SSHD = (
    'u="${SUDO_USER:-$(id -un)}"; ssh -V 2>&1 | head -n 1; echo "$u"; '
    f"[ -s {sshd.HOST_KEY} ] && echo yes || echo no; "
    f"awk '!/^#/ && $5 < {sshd.MODULI_BITS} {{ n++ }} END {{ print n + 0 }}' {sshd.MODULI} || echo 0; "
    f'for w in root "$u"; do echo "for $w"; sshd -T -C "user=$w,{sshd.STRANGER}"; done'
)


def _users_shell(names: Sequence[str]) -> str:
    return (
        f"for u in {' '.join(quote(name) for name in names)}; do "
        'e=$(getent passwd "$u") || continue; h=$(printf %s "$e" | cut -d: -f6); k="$h/.ssh/authorized_keys"; '
        'printf "%s|%s|%s|%s|%s|%s\\n" "$u" "$h" "$(id -nG "$u")" "$(stat -c "%a %U %F" "$h/.ssh")" '
        '"$(stat -c "%a %U %F" "$k")" "$([ -f "$k" ] && head -c 1000000 "$k" | base64 -w0)"; done'
    )


def node_query(settings: ClusterSettings) -> Query:
    """The one query of what the hosts themselves are; the same for every node of a cluster."""
    more = [
        part.query(settings)
        for name, part in ((WIREGUARD, wireguard), (NFS_SERVER, nfs_server), (DOCKER, docker))
        if is_selected(settings, name)
    ]
    probes = {
        "boot_id": "cat /proc/sys/kernel/random/boot_id",
        "cgroup_controllers": "cat /sys/fs/cgroup/cgroup.controllers",
        "running_cmdline": "cat /proc/cmdline",
        "cmdline": _CMDLINE,
        "hostname": 'printf "%s\\n" "$(uname -n)" "$(cat /etc/hostname)"',
        "hosts": "base64 -w0 </etc/hosts && echo",
        "fstab": "base64 -w0 </etc/fstab && echo",
        "root_options": "findmnt -n -o OPTIONS /",
        "timezone": 'printf "%s\\n" "$(readlink /etc/localtime)" "$(cat /etc/timezone)"',
        "clock": f"{CLOCK_IS_SYNCHRONISED} && echo synchronised",
        "time_daemon": f"systemctl is-enabled {' '.join(TIME_DAEMONS)} | grep -xE 'enabled|alias|static'",
        "modules": _MODULES,
        "cloud_init": _CLOUD_INIT,
        "sshd": _SSHD,
        armed.PROBE[0]: armed.PROBE[1],
        **boot.PROBES,
        network.PROBE[0]: network.PROBE[1],
        firewall.PROBE[0]: firewall.PROBE[1],
        "users": _users_shell([user.name for user in settings.admin_users]) if settings.admin_users else "",
    }
    return Query(
        paths=(*FILES, *sshd.FILES, *boot.FILES, *firewall.FILES, *(path for part in more for path in part.paths)),
        packages=(*wanted_packages(settings), *(package for part in more for package in part.packages)),
        sysctls=tuple(PARAMETERS),
        units=tuple(unit for part in more for unit in part.units),
        probes=(
            *((name, shell) for name, shell in probes.items() if shell),
            *(probe for part in more for probe in part.probes),
        ),
    )


def wanted_packages(settings: ClusterSettings) -> tuple[str, ...]:
    """The packages of every node, each once."""
    return tuple(sorted({*settings.packages, *settings.extra_packages}))


@dataclass(frozen=True)
class UserState:
    """An account and its SSH keys: `modes` is what ``stat -c "%a %U %F"`` says of `.ssh` and `authorized_keys`."""

    home: str
    groups: tuple[str, ...]
    modes: tuple[str, str]
    keys: str | None

    def has_private_keys(self, name: str) -> bool:
        """Whether sshd accepts the files: owned by the user, and readable by no other."""
        return self.modes == (f"700 {name} directory", f"600 {name} regular file")


def user_states(snapshot: Snapshot) -> dict[str, UserState]:
    """The accounts of the query's users that exist; lines that are not understood count as no account."""
    states = {}
    for line in snapshot.probes.get("users", []):
        fields = line.split("|")
        if len(fields) == 6:
            name, home, groups, directory, file, keys = fields
            states[name] = UserState(home, tuple(groups.split()), (directory, file), decoded(keys))
    return states


@dataclass(frozen=True)
class SshdState:
    """The SSH server: its version, who logged in, and what ``sshd -T`` prints for each of two users."""

    version: sshd.Version | None
    user: str
    has_host_key: bool
    weak_moduli: int
    effective: tuple[tuple[str, ...], ...]


def sshd_state(snapshot: Snapshot) -> SshdState | None:
    """The SSH server as it is; None when it was not understood."""
    match snapshot.probes.get("sshd", []):
        case [version, user, key, weak, *rest] if weak.isdigit():
            sections: list[list[str]] = []
            for line in rest:
                if line.startswith("for "):
                    sections.append([])
                elif sections:
                    sections[-1].append(line)
            effective = tuple(tuple(section) for section in sections)
            return SshdState(sshd.parse_version(version), user, key == "yes", int(weak), effective)
    return None
