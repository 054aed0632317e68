"""The files of the baseline: where each is and what it holds."""

from __future__ import annotations

from collections.abc import Sequence

from piclusterops.settings import AdminUser, ClusterSettings
from piclusterops.sysctl import MODULES, PARAMETERS
from piclusterops.templates import render

SYSCTL_FILE = "/etc/sysctl.d/90-piclusterops.conf"
MODULES_FILE = "/etc/modules-load.d/piclusterops.conf"
# Sorts after Raspberry Pi OS's 40-rpi-volatile-storage.conf, so that persistent storage wins.
JOURNALD_FILE = "/etc/systemd/journald.conf.d/90-piclusterops.conf"
NETWORKMANAGER_FILE = "/etc/NetworkManager/conf.d/90-piclusterops.conf"
CLOUD_INIT_FILE = "/etc/cloud/cloud.cfg.d/99-piclusterops.cfg"
# No dot in the name: sudo skips such files, and so never reads one that is being written.
SUDOERS_FILE = "/etc/sudoers.d/90-piclusterops"
LOGROTATE_FILE = "/etc/logrotate.d/piclusterops"
FILES: tuple[str, ...] = (
    SYSCTL_FILE,
    MODULES_FILE,
    JOURNALD_FILE,
    NETWORKMANAGER_FILE,
    CLOUD_INIT_FILE,
    SUDOERS_FILE,
    LOGROTATE_FILE,
)


def sysctl_conf() -> str:
    """The kernel parameters."""
    return render("sysctl.conf.j2", parameters=PARAMETERS)


def modules_conf() -> str:
    """The kernel modules to load at boot."""
    return render("modules.conf.j2", modules=MODULES)


def journald_conf(settings: ClusterSettings) -> str:
    """Journal on disk, with a limit in size and in age."""
    return render(
        "journald.conf.j2",
        max_size_mb=settings.journal_max_size_mb,
        retention_days=settings.journal_retention_days,
    )


def networkmanager_conf() -> str:
    """NetworkManager leaves the pods' interfaces alone."""
    return render("networkmanager.conf.j2")


def cloud_init_cfg() -> str:
    """cloud-init leaves the host name and `/etc/hosts` alone."""
    return render("cloud-init.cfg.j2")


def logrotate_conf() -> str:
    """Rotation of the sudo log."""
    return render("logrotate-sudo.j2")


def sudoers(users: Sequence[AdminUser], deploy_user: str) -> str:
    """The sudo policy.

    The user that deploys gets no line: a later line wins, and could take its password-less access away.
    """
    tags = {"nopasswd": "NOPASSWD: ", "password": ""}
    rules = [(user.name, tags[user.sudo]) for user in users if user.sudo in tags and user.name != deploy_user]
    return render("sudoers.j2", rules=rules)
