"""host name = "Pi_Worker_1"
why: it becomes the hostname and the name of the Kubernetes node, which is one DNS label
fix: did you mean "pi-worker-1"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("Pi_Worker_1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "Pi_Worker_1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
