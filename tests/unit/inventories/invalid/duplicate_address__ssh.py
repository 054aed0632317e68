"""ssh_hostname = "bastion.example.org:22"  (pi-master, pi-worker-1)
why: SSH would reach the same machine for pi-master and pi-worker-1
fix: correct the ssh_hostname or the ssh_port of one of them
"""

master = [("pi-master", {"ssh_hostname": "bastion.example.org", "address": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "bastion.example.org", "address": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
