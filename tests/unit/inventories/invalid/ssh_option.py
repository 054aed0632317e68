"""ssh_port = 65536  (pi-worker-1)
why: a port is a number from 1 to 65535
fix: ssh_port = 22
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "ssh_port": 65536})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
