"""Settings of the cluster of inventories/prod.py; all of them are explained in docs/reference/settings.md."""

from pathlib import Path

cluster_name = "prod"

# Digests of the artefacts that were installed, kept under version control beside the inventory.
lock_file = str(Path(__file__).resolve().parents[1] / "prod.lock")

# Networks. Give the pool's addresses to no DHCP server.
lan_cidr = "192.168.0.0/24"
services_cidr = "10.0.1.0/24"  # VLAN of the published services
vpn_cidr = "10.8.0.0/24"
metallb_pool = "192.168.0.200-192.168.0.250"
pod_cidr = "10.42.0.0/16"
service_cidr = "10.43.0.0/16"

# One server on an SD card: SQLite. With SSDs or NVMe, and for three servers, etcd.
datastore = "sqlite"

# People who may log in to every node, each with all of their public keys:
# admin_users = [{"name": "operator", "ssh_keys": ["ssh-ed25519 AAAA... operator"], "sudo": "password"}]
