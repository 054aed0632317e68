"""flannel_backend = "wireguard"
why: it must be one of vxlan, host-gw, wireguard-native
fix: did you mean "wireguard-native"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "flannel_backend": "wireguard",
    },
)
