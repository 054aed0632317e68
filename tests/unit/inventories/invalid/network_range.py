"""pod_cidr = "11.42.0.0/16"
why: it holds public addresses: their owners on the internet could not be reached any more
fix: pod_cidr = "10.42.0.0/16"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "pod_cidr": "11.42.0.0/16",
    },
)
