"""host name = "pi-worker-1" and "pi-worker-1"
why: pyinfra takes entries of one name for one host, so that a node would silently be left out
fix: give each node a name of its own
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    ("pi-worker-1", {"ssh_hostname": "192.168.0.121"}),
    ("pi-worker-1", {"ssh_hostname": "192.168.0.122"}),
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
