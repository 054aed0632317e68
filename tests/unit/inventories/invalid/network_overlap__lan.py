"""vpn_cidr = "192.168.0.128/25"
why: it overlaps lan_cidr 192.168.0.0/24
fix: vpn_cidr = "10.0.0.0/25"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "vpn_cidr": "192.168.0.128/25",
    },
)
