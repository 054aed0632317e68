"""Settings of the single node of inventories/dev.py."""

from pathlib import Path

cluster_name = "dev"
lock_file = str(Path(__file__).resolve().parents[1] / "dev.lock")

lan_cidr = "192.168.0.0/24"
metallb_pool = "192.168.0.192-192.168.0.199"

# What every cluster needs, and what is worked on: platform_releases = {"trino": {"enabled": True}, ...}
platform_profile = "minimal"
