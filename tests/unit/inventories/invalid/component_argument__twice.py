"""kubelet_args = "feature-gates"
why: it is given 2 times, and only the last one counts
fix: give it once, with all its values
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "kubelet_args": ["feature-gates=A=true", "feature-gates=B=true"],
    },
)
