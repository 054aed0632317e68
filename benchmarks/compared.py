"""The settings that both sides keep: how to read each on a host, and how to undo it.

What is not undone is a state to wait for, or needs a reboot. Counted carefully: all packages are one setting, and so
is each file, but for the kernel parameters, of which each is set and read by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

from piclusterops import baseline
from piclusterops.settings import ClusterSettings
from piclusterops.sysctl import PARAMETERS

_CMDLINE = "/boot/firmware/cmdline.txt"
# The kernel's own values. Only parameters that the lab keeps apart from the machine it runs on: none else is touched.
_KERNEL_DEFAULTS = {"kernel.panic": "0", "vm.max_map_count": "65530", "vm.overcommit_memory": "0"}


@dataclass(frozen=True)
class Setting:
    """One setting; both texts are POSIX shell for root."""

    name: str
    read: str
    undo: str = ""


def settings_of(settings: ClusterSettings) -> list[Setting]:
    """What is compared on every host."""
    users = [quote(user.name) for user in settings.admin_users]
    packages = " ".join(sorted({*settings.packages, *settings.extra_packages}))
    return [
        Setting("host name", "uname -n; cat /etc/hostname", "hostname bench-undone; echo bench-undone >/etc/hostname"),
        Setting("/etc/hosts", "cat /etc/hosts", "sed -i '/^# BEGIN piclusterops/,/^# END piclusterops/d' /etc/hosts"),
        Setting(
            "time zone",
            "readlink /etc/localtime; cat /etc/timezone",
            "ln -sfn /usr/share/zoneinfo/Pacific/Chatham /etc/localtime; echo Pacific/Chatham >/etc/timezone",
        ),
        Setting("time daemon", "systemctl is-enabled systemd-timesyncd", "systemctl disable --quiet systemd-timesyncd"),
        Setting("clock", "ls /run/systemd/timesync/synchronized"),
        Setting("packages", f"dpkg-query -Wf '${{Package}} ${{Status}}\\n' {packages}", "dpkg --purge jq"),
        *(
            setting
            for user in users
            for setting in (
                Setting(
                    f"keys of {user}",
                    f"cd /home/{user}/.ssh; stat -c '%a %U' . authorized_keys; cat authorized_keys",
                    f"rm -r /home/{user}/.ssh",
                ),
                Setting(
                    f"user {user}",
                    f"getent passwd {user}; getent shadow {user} | cut -d: -f2",
                    f"userdel -r {user} 2>&1",
                ),
            )
        ),
        _file("sudo policy", baseline.SUDOERS_FILE),
        _file("rotation of the sudo log", baseline.LOGROTATE_FILE),
        _file("cloud-init", baseline.CLOUD_INIT_FILE),
        _file("journal", baseline.JOURNALD_FILE),
        _file("NetworkManager", baseline.NETWORKMANAGER_FILE),
        _file("kernel modules", baseline.MODULES_FILE),
        *(_parameter(key) for key in PARAMETERS),
        Setting("kernel command line", f"cat {_CMDLINE}", f"sed -i 's/ cgroup_enable=memory//' {_CMDLINE}"),
        Setting("memory cgroup", "tr ' ' '\\n' </sys/fs/cgroup/cgroup.controllers | grep -x memory"),
    ]


def _file(name: str, path: str) -> Setting:
    return Setting(name, f"stat -c '%a %U %G' {path}; cat {path}", f"echo '# undone' >>{path}")


def _parameter(key: str) -> Setting:
    undo = f"sed -i '/{key} =/d' {baseline.SYSCTL_FILE}"
    if key in _KERNEL_DEFAULTS:
        undo += f"; sysctl -qw {key}={_KERNEL_DEFAULTS[key]}"
    return Setting(key, f"grep '{key} =' {baseline.SYSCTL_FILE}; sysctl -en {key}", undo)
