"""k3s_mirror = "ftp://mirror.example.org/k3s"
why: nothing can be fetched with a URL of this kind
fix: use a http, https or file URL, or a directory
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "k3s_mirror": "ftp://mirror.example.org/k3s",
    },
)
