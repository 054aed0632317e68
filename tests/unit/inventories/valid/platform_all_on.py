"""Everything that goes together, on at once."""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
data_node = [
    ("pi-worker-2", {"ssh_hostname": "192.168.0.122"}),
    ("pi-worker-3", {"ssh_hostname": "192.168.0.123"}),
]
cluster = (
    ["pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3"],
    {
        "lan_cidr": "192.168.0.0/24",
        "vpn_cidr": "10.8.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "named",
        "platform_releases": {
            "longhorn": {"enabled": True},
            "csi-driver-nfs": {"enabled": True},
            "nfs-server": {"enabled": True},
            "docker": {"enabled": True},
            "wireguard": {"enabled": True},
            "external-dns": {"enabled": True},
            "code-server": {"enabled": True},
        },
    },
)
