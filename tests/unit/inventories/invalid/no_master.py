"""master = empty
why: no host is in the group master, so nothing would run the control plane
fix: master = [("pi-worker-1", {"ssh_hostname": "192.168.0.120"})]
"""

worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
