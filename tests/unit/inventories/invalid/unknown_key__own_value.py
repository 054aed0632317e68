"""rack = "A3"
why: no setting has this name
fix: remove it; a value of your own begins with an underscore: _rack
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "rack": "A3",
    },
)
