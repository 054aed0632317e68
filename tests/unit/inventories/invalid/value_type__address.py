"""address = "192.168.0.1210"  (pi-worker-1)
why: it is no IPv4 address
fix: address = "192.168.0.121", for example
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "address": "192.168.0.1210"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
