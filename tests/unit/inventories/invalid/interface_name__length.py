"""interface = "a-very-long-interface"  (pi-worker-1)
why: the name of a Linux interface has at most 15 characters
fix: interface = "eth0"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "interface": "a-very-long-interface"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
