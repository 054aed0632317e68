"""vpn_cidr = "169.254.8.0/24"
why: it overlaps 169.254.0.0/16, which no host can use
fix: vpn_cidr = "10.0.0.0/24"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "vpn_cidr": "169.254.8.0/24",
    },
)
