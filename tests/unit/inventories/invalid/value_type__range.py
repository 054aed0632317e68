"""vpn_port = 70000
why: it must be at most 65535
fix: vpn_port = 65535
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "vpn_port": 70000,
    },
)
