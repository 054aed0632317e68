"""firewall.vpn_interface = "vpn:0"
why: wg-quick takes letters, digits, _, . and - only
fix: leave it out for "wg0"
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
        "firewall": {"vpn_interface": "vpn:0"},
    },
)
