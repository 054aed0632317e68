"""vpn_cidr = not set
why: the release wireguard is on, and its peers have addresses in a network of their own
fix: vpn_cidr = "10.8.0.0/24", or platform_releases = {"wireguard": {"enabled": False}}
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "platform_profile": "none",
        "platform_releases": {"wireguard": {"enabled": True}},
    },
)
