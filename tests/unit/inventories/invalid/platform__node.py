"""platform_releases.metallb.node = "pi-worker-2"
why: the inventory has no node of this name
fix: did you mean "pi-worker-1"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "platform_releases": {"metallb": {"node": "pi-worker-2"}},
    },
)
