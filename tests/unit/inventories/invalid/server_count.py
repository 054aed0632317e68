"""master = pi-1, pi-2
why: 2 servers have no useful quorum: 2 must be up, so they survive the loss of 0, as 1 server would
fix: use 1 or 3 servers: move one to worker, or add one to master
"""

master = [
    ("pi-1", {"ssh_hostname": "192.168.0.121"}),
    ("pi-2", {"ssh_hostname": "192.168.0.122"}),
]
cluster = (
    ["pi-1", "pi-2"],
    {
        "lan_cidr": "192.168.0.0/24",
        "datastore": "etcd",
    },
)
