"""The baseline of every node."""

from __future__ import annotations

from pyinfra.api import deploy

from piclusterops import baseline
from piclusterops.facts import cache
from piclusterops.facts.node import node_query, wanted_packages
from piclusterops.operations import managed, system, users
from piclusterops.operations.managed import ManagedFile
from piclusterops.settings import Cluster

# A NetworkManager that starts later reads the file then.
_RELOAD_NETWORKMANAGER = "if systemctl is-active -q NetworkManager; then systemctl reload NetworkManager; fi"


@deploy("Base")
def base(cluster: Cluster) -> None:
    """Names, clock, packages, people, kernel parameters, journal: what a node needs before K3s.

    All operations read the same snapshot: a run that changes nothing costs one SSH execution a host.
    """
    cache.install()
    settings = cluster.settings
    query = node_query(settings)
    # The names first: sudo looks the host's own name up at every command.
    system.cloud_init(name="Keep cloud-init off the host name", query=query)
    system.hosts(
        name="Name the cluster's nodes in /etc/hosts",
        nodes=tuple((node.address, node.name) for node in cluster.nodes),
        domain=settings.domain,
        query=query,
    )
    system.hostname(name="Set the host name", query=query)
    system.timezone(name="Set the time zone", zone=settings.timezone, query=query)
    system.synchronised_clock(name="Wait for a synchronised clock", timeout_s=settings.time_sync_timeout_s, query=query)
    system.packages(name="Install packages", names=wanted_packages(settings), query=query)
    users.accounts(name="Keep the administrators' accounts", users=settings.admin_users, query=query)
    users.sudo_policy(name="Set the sudo policy", users=settings.admin_users, query=query)
    managed.file_set(
        name="Rotate the sudo log",
        files={baseline.LOGROTATE_FILE: ManagedFile(baseline.logrotate_conf())},
        query=query,
    )
    system.kernel_parameters(name="Set kernel parameters", query=query)
    managed.file_set(
        name="Cap the journal",
        files={baseline.JOURNALD_FILE: ManagedFile(baseline.journald_conf(settings))},
        query=query,
        apply="systemctl restart systemd-journald && journalctl --flush",
        stamp="journald",
    )
    system.noatime(name="Mount the root file system with noatime", query=query)
    managed.file_set(
        name="Keep NetworkManager off the pods' interfaces",
        files={baseline.NETWORKMANAGER_FILE: ManagedFile(baseline.networkmanager_conf())},
        query=query,
        apply=_RELOAD_NETWORKMANAGER,
        stamp="networkmanager",
    )
