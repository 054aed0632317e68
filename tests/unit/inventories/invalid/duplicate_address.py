"""address = "192.168.0.120"  (pi-master, pi-worker-1)
why: pi-master and pi-worker-1 have the same address
fix: give each its own: ssh_hostname, or address where SSH goes another way
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.120"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
