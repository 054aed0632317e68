"""gateway = "192.168.0.120"  (pi-worker-1)
why: it is the address of pi-master
fix: use the address of the LAN's router
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {"ssh_hostname": "192.168.0.121", "static_address": True, "gateway": "192.168.0.120", "dns": ["192.168.0.1"]},
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24"},
)
