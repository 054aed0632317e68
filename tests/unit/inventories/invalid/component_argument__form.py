"""kubelet_args = "--max-pods 60"
why: it is not of the form name=value, without --
fix: did you mean "max-pods=60"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "kubelet_args": ["--max-pods 60"],
    },
)
