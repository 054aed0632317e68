"""service_cidr = "fd00:43::/112"
why: only IPv4 is supported
fix: did you mean "10.43.0.0/16"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "service_cidr": "fd00:43::/112",
    },
)
