"""metallb_pool = "192.168.9.200-192.168.9.250"
why: no router would find these addresses: they must all be in lan_cidr or services_cidr
fix: metallb_pool = "192.168.0.200-192.168.0.250", or another range in lan_cidr 192.168.0.0/24
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.9.200-192.168.9.250",
    },
)
