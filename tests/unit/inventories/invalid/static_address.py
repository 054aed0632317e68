"""static_address = True  (pi-worker-1)
why: without DHCP nobody tells the node its gateway and dns
fix: gateway = "192.168.0.1", dns = ["192.168.0.1"], or leave out static_address
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {"ssh_hostname": "192.168.0.121", "static_address": True},
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24"},
)
