"""k3s_mirror = "/proc/self/fdinfo"
why: the release v1.36.5+k3s1 (k3s_version) is not in this directory: it has no release
fix: put the files of the release into /proc/self/fdinfo/v1.36.5+k3s1/
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "k3s_mirror": "/proc/self/fdinfo",
    },
)
