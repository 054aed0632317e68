"""role = none  (pi-worker-1)
why: its groups (gpu, cluster, node_role) are no role; roles are master, worker, data_node
fix: list pi-worker-1 in master, worker or data_node
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
gpu = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
