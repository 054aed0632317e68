"""journal_max_size_mb = "500M"
why: it must be a whole number
fix: journal_max_size_mb = 500, for example
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "journal_max_size_mb": "500M",
    },
)
