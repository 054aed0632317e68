"""platform_releases
why: minio and seaweedfs both fulfil the contract object-store; only one of them can be on
fix: turn seaweedfs off: platform_releases = {"seaweedfs": {"enabled": False}}
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "platform_releases": {"minio": {"enabled": True}, "seaweedfs": {"enabled": True}},
    },
)
