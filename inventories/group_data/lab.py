"""Settings of the container lab, from what `picluster lab up` wrote."""

import os
from pathlib import Path

from piclusterops.catalogue import catalogue
from piclusterops.lab.state import Fleet, LabError, address6, default_name, state_dir

try:
    _fleet = Fleet.read(state_dir(default_name()) / "fleet.json")
except (OSError, LabError):
    # pyinfra reads this file for the other inventories too; inventories/lab.py says that there is no lab.
    _fleet = None

if _fleet:
    _key = Path(_fleet.ssh_key)

    cluster_name = _fleet.name
    lock_file = str(_key.parent / "lab.lock")

    # The lab made the hosts, so that their keys are known beforehand.
    ssh_key = str(_key)
    ssh_known_hosts_file = _fleet.known_hosts
    ssh_strict_host_key_checking = "yes"
    ssh_look_for_keys = False
    ssh_allow_agent = False

    lan_cidr = _fleet.subnet
    vpn_cidr = f"10.{_fleet.block}.8.0/24"
    metallb_pool = f"10.{_fleet.block}.0.200-10.{_fleet.block}.0.250"

    # The networks have IPv6 as well, and each a few addresses for services. Tests log in more often than people do: the
    # machine of the lab is not limited.
    firewall = {
        "controllers": [f"10.{_fleet.block}.0.1"],
        "zones": {
            "management": {"sources": [_fleet.subnet, f"fd00:{_fleet.block}:0::/64"]},
            "vpn": {"interfaces": "wg0", "sources": [vpn_cidr, f"fd00:{_fleet.block}:8::/64"]},
        },
        "service_addresses": [
            *(f"10.{_fleet.block}.{_net}.200/29" for _net in (1, 8)),
            *(f"fd00:{_fleet.block}:{_net}::200:0/112" for _net in (0, 1, 8)),
        ],
        "node_addresses": {_node.name: address6(_fleet.block, "lan", _node.octet) for _node in _fleet.nodes},
    }

    k3s_mirror = _fleet.mirror
    k3s_version = _fleet.k3s_version
    datastore = "etcd"

    admin_users = [
        {"name": "operator", "ssh_keys": [_key.with_suffix(".pub").read_text().strip()], "sudo": "nopasswd"},
    ]

    # The platform, from the lab's own mirror; a lab without Helm has none.
    chart_mirror = f"{_fleet.mirror}/charts"
    helm_mirror = f"{_fleet.mirror}/helm"
    _helm = any(Path(helm_mirror).glob("helm-*.tar.gz"))
    platform_profile = os.environ.get("PICLUSTEROPS_LAB_PLATFORM", "minimal") if _helm else "none"
    _published = ("traefik", *sorted(r.name for r in catalogue().values() if r.interface and r.interface.address))
    service_addresses = {name: f"10.{_fleet.block}.0.{octet}" for octet, name in enumerate(_published, start=201)}
    secrets_file = str(_key.parent / "lab.secrets.age")
    secrets_key = str(_key.parent / "age.key")
    del _helm, _published

    # Hosts of the lab are containers of one machine: small, and quick to come back.
    system_reserved = {"cpu": "50m", "memory": "64Mi"}
    kube_reserved = {"cpu": "50m", "memory": "64Mi"}
    min_memory_mb = 512
    reboot_timeout_s = 120
    ready_timeout_s = 120
    time_sync_timeout_s = 30
    shutdown_grace_s = 6
    shutdown_grace_critical_s = 2

    del _key
del _fleet
