"""metallb_pool = "192.168.0.100-192.168.0.199"
why: it contains 192.168.0.120 (pi-master) and 192.168.0.121 (pi-worker-1): MetalLB would give the address of a node
fix: metallb_pool = "192.168.0.122-192.168.0.199"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.100-192.168.0.199",
    },
)
