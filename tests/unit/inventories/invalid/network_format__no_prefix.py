"""vpn_cidr = "10.8.0.0"
why: the prefix length is missing
fix: did you mean "10.8.0.0/16"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "vpn_cidr": "10.8.0.0",
    },
)
