"""node_taints = ["dedicated=database:NoSchedule", "dedicated=backup:NoSchedule"]  (pi-worker-1)
why: Kubernetes allows one taint of a key and effect on a node
fix: keep one of them, such as "dedicated=backup:NoSchedule"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {
            "ssh_hostname": "192.168.0.121",
            "node_taints": ["dedicated=database:NoSchedule", "dedicated=backup:NoSchedule"],
        },
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
