"""vpn_address = "10.8.0.255"
why: it is the broadcast address of 10.8.0.0/24
fix: vpn_address = "10.8.0.1", or leave it out
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
        "vpn_address": "10.8.0.255",
    },
)
