"""address = "192.168.1.121"  (pi-worker-1)
why: it is not in lan_cidr 192.168.0.0/24, so the other nodes would not reach it
fix: correct ssh_hostname or address, or set lan_cidr to the network of all nodes (lan_cidr = "192.168.0.0/23"?)
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.1.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
