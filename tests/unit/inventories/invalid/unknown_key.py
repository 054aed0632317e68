"""pod_cird = "10.42.0.0/16"
why: no setting has this name
fix: did you mean pod_cidr?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "pod_cird": "10.42.0.0/16",
    },
)
