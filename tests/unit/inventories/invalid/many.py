"""Everything at once; tests/unit/test_validation.py lists the rules that must be named."""

masters = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
master = [
    ("pi-1", {"ssh_hostname": "192.168.0.121"}),
    ("pi-2", {"ssh_hostname": "192.168.0.121", "ssh_prot": 2222}),
]
cluster = (
    ["pi-master", "pi-1", "pi-2"],
    {
        "lan_cidr": "192.168.0.0/24",
        "pod_cidr": "10.42.0.1/16",
        "service_cidr": "10.42.128.0/17",
        "metallb_pool": "192.168.7.1-192.168.7.9",
        "k3s_version": "1.36",
        "vpn_cidr": "10.8.0.0/24",
        "vpn_port": 8472,
        "timezon": "Europe/Vienna",
        "journal_max_size_mb": 5,
    },
)
