"""helm_mirror = "/etc"
why: Helm v4.1.4 (helm_version) is not in this directory: there is no helm-v4.1.4-linux-arm64.tar.gz
fix: put the archive and its .sha256sum into /etc/
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "helm_version": "v4.1.4",
        "helm_mirror": "/etc",
    },
)
