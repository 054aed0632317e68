"""The usual port of WireGuard is free when flannel does not use WireGuard; a pool that is a network."""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "vpn_cidr": "10.8.0.0/24",
        "vpn_port": 51820,
        "metallb_pool": "192.168.0.192/28",
        "registries": {"mirrors": {"docker.io": {"endpoint": ["https://mirror.example.org"]}}},
        "kube_apiserver_args": [
            "enable-admission-plugins=NodeRestriction,EventRateLimit,AlwaysPullImages",
            "audit-log-maxsize=20",
        ],
    },
)
