"""vlans.management = {"id": 10, "address": "10.0.2.121/24"}  (pi-worker-1)
why: id 10 is that of pi-worker-1 services already
fix: give it an id of its own
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {
            "ssh_hostname": "192.168.0.121",
            "vlans": {
                "services": {"id": 10, "address": "10.0.1.121/24"},
                "management": {"id": 10, "address": "10.0.2.121/24"},
            },
        },
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24"},
)
