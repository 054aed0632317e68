"""vlans.services = {"id": 10, "address": "10.0.1.121/32"}  (pi-worker-1)
why: an address without the prefix length of its network reaches nobody
fix: "address": "10.0.1.121/24"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {"ssh_hostname": "192.168.0.121", "vlans": {"services": {"id": 10, "address": "10.0.1.121"}}},
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "services_cidr": "10.0.1.0/24"},
)
