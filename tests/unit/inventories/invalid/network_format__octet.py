"""lan_cidr = "192.168.300.0/24"
why: 192.168.300.0 is no IPv4 address
fix: did you mean "192.168.0.0/24"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.300.0/24",
    },
)
