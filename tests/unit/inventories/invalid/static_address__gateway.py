"""gateway = "192.168.1.1"  (pi-worker-1)
why: it is not in lan_cidr 192.168.0.0/24, so the node could not reach it
fix: gateway = "192.168.0.1"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {"ssh_hostname": "192.168.0.121", "static_address": True, "gateway": "192.168.1.1", "dns": ["192.168.0.1"]},
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24"},
)
