"""ssh_prot = 2222  (pi-worker-1)
why: pyinfra's SSH connector has no such option
fix: did you mean ssh_port?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "ssh_prot": 2222})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
