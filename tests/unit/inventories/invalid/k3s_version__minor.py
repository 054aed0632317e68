"""k3s_version = "v1.37.0+k3s1"
why: releases before v1.37.1+k3s1 can't restore compressed etcd snapshots
fix: k3s_version = "v1.37.1+k3s1" or newer
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "k3s_version": "v1.37.0+k3s1",
    },
)
