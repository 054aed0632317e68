"""node_cidr_mask = 26
why: a /26 has addresses for 61 pods, and the kubelet admits 110
fix: node_cidr_mask = 24, or kubelet_args = ["max-pods=61"]
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "node_cidr_mask": 26,
    },
)
