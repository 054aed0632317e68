"""service_addresses.trino = "192.168.0.121"
why: it is the address of pi-worker-1 already
fix: use another one from metallb_pool 192.168.0.200-192.168.0.250 or services_cidr 10.0.1.0/24
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "services_cidr": "10.0.1.0/24",
        "service_addresses": {"trino": "192.168.0.121"},
    },
)
