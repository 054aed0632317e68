"""address = "192.168.0.255"  (pi-worker-1)
why: it is the broadcast address of lan_cidr 192.168.0.0/24, which no host can have
fix: use one from 192.168.0.1 to 192.168.0.254
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.255"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
