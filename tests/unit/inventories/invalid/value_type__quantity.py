"""system_reserved.memory = "256MB"
why: it must be a Kubernetes quantity
fix: write it like "256Mi" (memory) or "100m" (cpu)
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "system_reserved": {"memory": "256MB"},
    },
)
