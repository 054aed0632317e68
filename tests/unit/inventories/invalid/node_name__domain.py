"""host name = "pi1.example.org"
why: it becomes the hostname
fix: did you mean "pi1"? Write ("pi1", {"ssh_hostname": "pi1.example.org"})
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi1.example.org", {"address": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi1.example.org"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
