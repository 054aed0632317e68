"""vpn_endpoint = "https://home.example.org:51900/"
why: it is no name and no IPv4 address; the port is vpn_port
fix: vpn_endpoint = "home.example.org"
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
        "vpn_endpoint": "https://home.example.org:51900/",
    },
)
