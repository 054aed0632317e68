"""pod_cidr = "10.0.2.0/24"
why: every node takes a /24 of it (node_cidr_mask), so it has room for 1 node, and the inventory has 4
fix: pod_cidr = "10.0.0.0/16" (room for 256 nodes)
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    ("pi-worker-1", {"ssh_hostname": "192.168.0.121"}),
    ("pi-worker-2", {"ssh_hostname": "192.168.0.122"}),
    ("pi-worker-3", {"ssh_hostname": "192.168.0.123"}),
]
cluster = (
    ["pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3"],
    {
        "lan_cidr": "192.168.0.0/24",
        "pod_cidr": "10.0.2.0/24",
    },
)
