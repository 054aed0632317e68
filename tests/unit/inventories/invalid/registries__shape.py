"""registries['configs']
why: it must be a mapping by registry, and is a list
fix: registries = {"configs": {"registry.example.org": {...}}}
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "registries": {"configs": [{"auth": {"password": "correct-horse-battery-staple"}}]},
    },
)
