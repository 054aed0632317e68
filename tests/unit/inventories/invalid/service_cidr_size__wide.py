"""service_cidr = "10.64.0.0/11"
why: kube-apiserver refuses networks wider than /12 for ClusterIPs
fix: service_cidr = "10.43.0.0/16"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "service_cidr": "10.64.0.0/11",
    },
)
