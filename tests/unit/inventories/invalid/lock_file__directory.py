"""lock_file = "/tmp"
why: it is a directory
fix: lock_file = "/tmp/cluster.lock"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "lock_file": "/tmp",
    },
)
