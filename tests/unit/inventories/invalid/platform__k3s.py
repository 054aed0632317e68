"""platform_releases.traefik.enabled
why: K3s brings it, and Helm does not install it
fix: remove it; to do without traefik, add "traefik" to k3s_disable
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "platform_releases": {"traefik": {"enabled": False}},
    },
)
