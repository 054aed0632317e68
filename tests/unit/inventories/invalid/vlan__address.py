"""vlans.services = {"id": 10, "address": "10.0.1.120/24"}  (pi-worker-1)
why: address 10.0.1.120 is that of pi-master services already
fix: give it an address of its own
"""

master = [
    ("pi-master", {"ssh_hostname": "192.168.0.120", "vlans": {"services": {"id": 10, "address": "10.0.1.120/24"}}})
]
worker = [
    (
        "pi-worker-1",
        {"ssh_hostname": "192.168.0.121", "vlans": {"services": {"id": 10, "address": "10.0.1.120/24"}}},
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24"},
)
