"""vlans.services.id = 4095
why: it must be at most 4094
fix: id = 4094
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {"ssh_hostname": "192.168.0.121", "vlans": {"services": {"id": 4095, "address": "10.0.1.121/24"}}},
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24"},
)
