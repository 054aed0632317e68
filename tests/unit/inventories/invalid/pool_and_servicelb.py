"""k3s_disable = ["traefik"]
why: metallb_pool is set, and K3s' own servicelb would answer for the same LoadBalancer services
fix: k3s_disable = ["traefik", "servicelb"], or leave out metallb_pool
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "k3s_disable": ["traefik"],
    },
)
