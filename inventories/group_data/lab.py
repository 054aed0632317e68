"""Settings of the container lab, from what `picluster lab up` wrote."""

from pathlib import Path

from piclusterops.lab.state import Fleet, LabError, default_name, state_dir

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

    # Tests log in more often than people do: the machine of the lab is not limited.
    firewall = {"controllers": [f"10.{_fleet.block}.0.1"]}

    k3s_mirror = _fleet.mirror
    k3s_version = _fleet.k3s_version
    datastore = "etcd"

    admin_users = [
        {"name": "operator", "ssh_keys": [_key.with_suffix(".pub").read_text().strip()], "sudo": "nopasswd"},
    ]

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
