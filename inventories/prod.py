"""The home lab: four Raspberry Pi 5s with 8 GB each.

    pyinfra inventories/prod.py deploys/site.py

This file says which hosts there are and what each one is. What holds for all of them is in group_data/all.py and
group_data/prod.py, for the hosts of a role in group_data/<role>.py. Each host is in exactly one of the groups

    master     runs the control plane of K3s (and pods)
    worker     runs pods
    data_node  runs pods, and keeps the data of databases and buckets on its disk

All changes are changes of data; a faulty one is refused, with the fix, before any host is touched:

    one more worker     add ("pi-worker-4", {"ssh_hostname": "192.168.0.124"}) to worker
    three servers       move two hosts into master, put SSDs into them, and set datastore = "etcd" in
                        group_data/prod.py (two servers are refused: they are less available than one)
    other addresses     change ssh_hostname here, lan_cidr and metallb_pool in group_data/prod.py
    SSH port or user    {"ssh_hostname": "192.168.0.124", "ssh_port": 2222, "ssh_user": "admin"}
    SSH another way     {"ssh_hostname": "pi4.example.org", "address": "192.168.0.124"}: address is the one in the LAN
    labels and taints   {"ssh_hostname": "192.168.0.124", "node_labels": {"disk": "nvme"},
                         "node_taints": ["dedicated=database:NoSchedule"]}
"""

master = [
    ("pi-master", {"ssh_hostname": "192.168.0.120"}),
]

worker = [
    ("pi-worker-1", {"ssh_hostname": "192.168.0.121"}),
]

data_node = [
    ("pi-worker-2", {"ssh_hostname": "192.168.0.122"}),
    ("pi-worker-3", {"ssh_hostname": "192.168.0.123"}),
]
