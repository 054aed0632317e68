"""pod_cidr = "10.0.0.0/14"
why: it overlaps services_cidr 10.0.1.0/24
fix: pod_cidr = "10.42.0.0/16"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "services_cidr": "10.0.1.0/24",
        "pod_cidr": "10.0.0.0/14",
    },
)
