"""Settings of the cluster of inventories/staging.py."""

from pathlib import Path

cluster_name = "staging"
lock_file = str(Path(__file__).resolve().parents[1] / "staging.lock")

lan_cidr = "192.168.1.0/24"
services_cidr = "10.1.1.0/24"
vpn_cidr = "10.9.0.0/24"
metallb_pool = "192.168.1.200-192.168.1.250"
pod_cidr = "10.42.0.0/16"
service_cidr = "10.43.0.0/16"

# The platform of prod, at the same places.
platform_profile = "named"
service_addresses = {
    "nifi": "10.1.1.10",
    "trino": "10.1.1.11",
    "grafana": "10.1.1.12",
    "jupyterlab": "10.1.1.13",
}
