"""role = none  (pi-master)
why: its groups (masters, cluster, node_role__misspelt) are no role
fix: rename the group masters: did you mean master?
"""

masters = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
