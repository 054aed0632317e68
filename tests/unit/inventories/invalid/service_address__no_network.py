"""service_addresses.grafana = "10.0.1.10"
why: it is not in metallb_pool 192.168.0.200-192.168.0.250, and there is no services_cidr
fix: use an address from metallb_pool 192.168.0.200-192.168.0.250
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "service_addresses": {"grafana": "10.0.1.10"},
    },
)
