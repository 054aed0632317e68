"""k3s_mirror = "/nonexistent/mirror"
why: there is no such directory on this machine
fix: create and fill it, correct the path, or leave it out
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "k3s_mirror": "/nonexistent/mirror",
    },
)
