"""interface = "flannel.1"  (pi-worker-1)
why: this interface is made by the cluster, the VPN or the kernel itself
fix: interface = "eth0"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "interface": "flannel.1"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
