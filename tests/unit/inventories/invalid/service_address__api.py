"""service_addresses.trino = "192.168.0.210"
why: it is an address of the Kubernetes API (api_names) already
fix: use another one from metallb_pool 192.168.0.200-192.168.0.250
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "api_names": ["192.168.0.210"],
        "service_addresses": {"trino": "192.168.0.210"},
    },
)
