"""helm_mirror = "/nonexistent/helm"
why: there is no such directory on this machine
fix: create and fill it, correct the path, or leave it out to fetch Helm from get.helm.sh
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "helm_mirror": "/nonexistent/helm",
    },
)
