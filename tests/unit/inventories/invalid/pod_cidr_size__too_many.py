"""node_cidr_mask = 25
why: kube-controller-manager refuses to cut pod_cidr 10.0.0.0/8 into more than 2^16 shares
fix: node_cidr_mask = 24
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "pod_cidr": "10.0.0.0/8",
        "service_cidr": "172.16.0.0/16",
        "node_cidr_mask": 25,
    },
)
