"""service_cidr = "10.43.0.0/28"
why: it has 16 addresses for all services there will ever be
fix: service_cidr = "10.43.0.0/16"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "service_cidr": "10.43.0.0/28",
    },
)
