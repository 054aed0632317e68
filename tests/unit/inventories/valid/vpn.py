"""A VPN with peers, an NFS server and Docker."""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "platform_profile": "none",
        "vpn_cidr": "10.8.0.0/24",
        "vpn_endpoint": "home.example.org",
        "vpn_address": "10.8.0.254",
        "platform_releases": {
            "wireguard": {"enabled": True},
            "nfs-server": {"enabled": True, "node": "pi-worker-1"},
            "docker": {"enabled": True},
        },
        "vpn_peers": [
            {"name": "laptop", "public_key": "Hk7mJxP0p1tQy0HkXUu6GdO0v3cJ5cD4c0mU0Tq2bWc=", "address": "10.8.0.2"},
            {"name": "phone", "public_key": "lk3mJxP0p1tQy0HkXUu6GdO0v3cJ5cD4c0mU0Tq2bWc=", "address": "10.8.0.3"},
        ],
    },
)
