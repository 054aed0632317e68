"""node_taints[0] = "dedicated=database"  (pi-worker-1)
why: must look like key=value:NoSchedule
fix: node_taints = ["dedicated=database:NoSchedule"], for example
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "node_taints": ["dedicated=database"]})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
