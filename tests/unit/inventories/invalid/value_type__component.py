"""k3s_disable[0] = "service-lb"
why: it must be one of coredns, servicelb, traefik
fix: did you mean "servicelb"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "k3s_disable": ["service-lb"],
    },
)
