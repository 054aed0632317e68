"""node_taints = ["dedicated=database:NoSchedule"]
why: every node has a taint that keeps ordinary pods away
fix: leave at least one node without taints
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "node_taints": ["dedicated=database:NoSchedule"],
    },
)
