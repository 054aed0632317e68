"""firewall.vpn_interface = "wg1"
why: the zone vpn of firewall has other interfaces, so that what comes by wg1 would not be of it
fix: zones = {"vpn": {"interfaces": ["wg0", "wg1"], ...}}
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
        "firewall": {"vpn_interface": "wg1", "zones": {"vpn": {"interfaces": "wg0", "sources": "10.8.0.0/24"}}},
    },
)
