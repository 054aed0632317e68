"""registries['mirror']
why: K3s knows only mirrors and configs in registries.yaml and would ignore this
fix: did you mean mirrors?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "registries": {"mirror": {"docker.io": {"endpoint": ["https://mirror.example.org"]}}},
    },
)
