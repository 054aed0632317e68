"""platform_releases.minio
why: its licence AGPL-3.0-only is not permissive, and platform_profile is clean
fix: use seaweedfs (Apache-2.0) in its place: platform_releases = {"minio": {"enabled": False}}; or platform_waivers
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "clean",
        "platform_releases": {"minio": {"enabled": True}, "seaweedfs": {"enabled": False}},
    },
)
