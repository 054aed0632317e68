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

# The platform (docs/reference/catalogue.md). "clean" takes permissively licensed systems in the place of MinIO, Vault
# and Elasticsearch, and leaves Grafana out: picluster check names the licences, picluster plan what fits on the nodes.
platform_profile = "named"

# Fixed addresses of published services. Nodes answer for those of services_cidr once they are in its VLAN (vlans beside
# a host in prod.py, {"services": {"id": 10, "address": "10.0.1.120/24"}}), or when the router has a route to a node.
service_addresses = {
    "nifi": "10.0.1.10",
    "trino": "10.0.1.11",
    "grafana": "10.0.1.12",
    "jupyterlab": "10.0.1.13",
}

# People who may log in to every node, each with all of their public keys:
# admin_users = [{"name": "operator", "ssh_keys": ["ssh-ed25519 AAAA... operator"], "sudo": "password"}]
