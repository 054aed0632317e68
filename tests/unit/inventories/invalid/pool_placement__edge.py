"""metallb_pool = "192.168.0.224/27"
why: 192.168.0.255 is the network or broadcast address of 192.168.0.0/24, which no service can have
fix: metallb_pool = "192.168.0.224-192.168.0.254"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.224/27",
    },
)
