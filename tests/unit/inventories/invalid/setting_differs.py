"""pod_cidr = "10.42.0.0/16" for pi-master, "10.44.0.0/16" for pi-worker-1
why: it is a setting of the whole cluster, and the hosts have different ones
fix: set it once, in group_data/all.py
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "pod_cidr": "10.44.0.0/16"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
