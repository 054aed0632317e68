"""node_labels.disk = "a value with spaces"  (pi-worker-1)
why: must be a Kubernetes label value of at most 63 characters
fix: node_labels = {"disk": "nvme"}, for example
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "node_labels": {"disk": "a value with spaces"}})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
