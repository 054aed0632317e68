"""vlans.management = {"id": 20, "address": "192.168.0.221/25"}  (pi-worker-1)
why: it overlaps lan_cidr 192.168.0.0/24, which is another network
fix: use a network that nothing else uses
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {"ssh_hostname": "192.168.0.121", "vlans": {"management": {"id": 20, "address": "192.168.0.221/25"}}},
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24"},
)
