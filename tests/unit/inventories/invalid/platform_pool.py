"""metallb_pool = not set
why: metallb (platform_profile "minimal") would have no address to give to a service
fix: metallb_pool = "192.168.0.200-192.168.0.250", or platform_profile = "none" for K3s alone
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "platform_profile": "minimal",
    },
)
