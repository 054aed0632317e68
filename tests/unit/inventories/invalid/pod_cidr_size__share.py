"""pod_cidr = "10.42.0.0/25"
why: every node takes a /24 of it (node_cidr_mask), so it has room for 0 nodes, and the inventory has 2
fix: pod_cidr = "10.42.0.0/16" (room for 256 nodes)
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "pod_cidr": "10.42.0.0/25",
    },
)
