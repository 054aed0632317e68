"""vpn_peers.laptop.address = "10.9.0.2"
why: it is not in the VPN's network 10.8.0.0/24 (vpn_cidr)
fix: use "10.8.0.2"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "platform_profile": "none",
        "vpn_cidr": "10.8.0.0/24",
        "platform_releases": {"wireguard": {"enabled": True}},
        "vpn_peers": [
            {"name": "laptop", "public_key": "Hk7mJxP0p1tQy0HkXUu6GdO0v3cJ5cD4c0mU0Tq2bWc=", "address": "10.9.0.2"},
        ],
    },
)
