"""role = worker and data_node  (pi-worker-1)
why: a node has one role, and its groups give it several
fix: list pi-worker-1 in one of them only
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
data_node = ["pi-worker-1"]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
