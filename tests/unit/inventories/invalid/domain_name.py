"""domain = "home_lab.arpa"
why: it is no DNS domain: labels of a-z, 0-9 and - with dots
fix: domain = "home-lab.arpa"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "domain": "home_lab.arpa",
    },
)
