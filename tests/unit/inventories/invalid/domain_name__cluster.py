"""domain = "nodes.cluster.local"
why: it is in cluster_domain cluster.local, which the cluster's own DNS answers for
fix: domain = "home.arpa"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "domain": "nodes.cluster.local",
    },
)
