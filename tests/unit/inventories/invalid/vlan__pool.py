"""vlans.services = {"id": 10, "address": "10.0.1.121/24"}  (pi-worker-1)
why: MetalLB would give this address, of metallb_pool 10.0.1.100-10.0.1.150, to a service
fix: use one outside the pool
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {"ssh_hostname": "192.168.0.121", "vlans": {"services": {"id": 10, "address": "10.0.1.121/24"}}},
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "services_cidr": "10.0.1.0/24", "metallb_pool": "10.0.1.100-10.0.1.150"},
)
