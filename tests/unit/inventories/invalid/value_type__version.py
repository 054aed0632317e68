"""k3s_version = "1.36.5"
why: must look like v1.36.5+k3s1
fix: did you mean "v1.36.5+k3s1"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "k3s_version": "1.36.5",
    },
)
