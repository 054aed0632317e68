"""vpn_peers[0].public_key = "Hk7mJxP0p1tQy0HkXUu6GdO0v3cJ5cD4"
why: must be a public key as wg pubkey prints it: 32 bytes in base64, 44 characters
fix: vpn_peers = [{"name": "laptop", "public_key": "
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
            {"name": "laptop", "public_key": "Hk7mJxP0p1tQy0HkXUu6GdO0v3cJ5cD4", "address": "10.8.0.2"},
        ],
    },
)
