"""service_cidr = "10.42.128.0/17"
why: it overlaps pod_cidr 10.42.0.0/16: an address of both could be one of the pods and one of the ClusterIPs
fix: service_cidr = "10.43.0.0/16"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "service_cidr": "10.42.128.0/17",
    },
)
