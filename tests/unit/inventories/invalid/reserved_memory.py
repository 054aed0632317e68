"""system_reserved = 2Gi, kube_reserved 256Mi
why: 2415 MB would be kept from pods, and a node may have only 1800 (min_memory_mb)
fix: system_reserved = {"memory": "256Mi"}
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "system_reserved": {"memory": "2Gi"},
    },
)
