"""ssh_strict_host_key_checking = "accept_new"
why: it is one of accept-new, yes, ask, no, off
fix: ssh_strict_host_key_checking = "accept-new"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "ssh_strict_host_key_checking": "accept_new",
    },
)
