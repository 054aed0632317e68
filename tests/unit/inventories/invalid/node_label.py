"""node_labels = {"piclusterops.io/role": "gpu"}  (pi-worker-1)
why: labels below piclusterops.io/ are set by this project from the node's role
fix: remove it; the role is the group that the host is listed in
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "node_labels": {"piclusterops.io/role": "gpu"}})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
