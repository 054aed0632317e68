"""host name = "pi-worker-1" and "PI-worker-1"
why: names that differ only by case are one name in DNS and in Kubernetes
fix: give each node a name of its own
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    ("pi-worker-1", {"ssh_hostname": "192.168.0.121"}),
    ("PI-worker-1", {"ssh_hostname": "192.168.0.122"}),
]
cluster = (
    ["pi-master", "pi-worker-1", "PI-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
