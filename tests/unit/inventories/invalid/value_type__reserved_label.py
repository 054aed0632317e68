"""node_labels = {"node-role.kubernetes.io/worker": "true"}  (pi-worker-1)
why: the prefixes kubernetes.io and k8s.io are reserved: node-role.kubernetes.io/worker
fix: node_labels = {"disk": "nvme"}, for example
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "node_labels": {"node-role.kubernetes.io/worker": "true"}})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
