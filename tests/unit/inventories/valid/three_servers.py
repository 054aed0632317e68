"""Three servers on NVMe, and no other node."""

master = [
    ("pi-1", {"ssh_hostname": "192.168.0.121"}),
    ("pi-2", {"ssh_hostname": "192.168.0.122"}),
    ("pi-3", {"ssh_hostname": "192.168.0.123"}),
]
cluster = (
    ["pi-1", "pi-2", "pi-3"],
    {
        "lan_cidr": "192.168.0.0/24",
        "datastore": "etcd",
        "api_names": ["k3s.home.arpa", "192.168.0.119"],
    },
)
