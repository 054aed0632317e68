"""extra_packages = "htop"
why: it must be a list: [...]
fix: extra_packages = ["htop"]
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "extra_packages": "htop",
    },
)
