"""ssh_port = "2222"  (pi-worker-1)
why: pyinfra wants a value of type int here
fix: ssh_port = 2222
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "ssh_port": "2222"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
