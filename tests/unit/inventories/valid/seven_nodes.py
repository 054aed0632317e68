"""Three servers, two workers, two data nodes; every network is given; a share of 64 addresses per node."""

master = [
    ("pi-1", {"ssh_hostname": "10.20.0.11"}),
    ("pi-2", {"ssh_hostname": "10.20.0.12"}),
    ("pi-3", {"ssh_hostname": "10.20.0.13"}),
]
worker = [
    ("pi-4", {"ssh_hostname": "10.20.0.14", "node_labels": {"disk": "sd"}}),
    ("pi-5", {"ssh_hostname": "10.20.0.15", "node_labels": {"disk": "sd"}}),
]
data_node = (
    [
        ("pi-6", {"ssh_hostname": "10.20.0.16"}),
        ("pi-7", {"ssh_hostname": "10.20.0.17"}),
    ],
    {"node_labels": {"disk": "nvme"}, "node_taints": ["dedicated=database:PreferNoSchedule"]},
)
cluster = (
    ["pi-1", "pi-2", "pi-3", "pi-4", "pi-5", "pi-6", "pi-7"],
    {
        "lan_cidr": "10.20.0.0/24",
        "services_cidr": "10.0.1.0/24",
        "vpn_cidr": "10.8.0.0/24",
        "metallb_pool": "10.0.1.100-10.0.1.150",
        "pod_cidr": "10.42.0.0/22",
        "service_cidr": "10.43.0.0/20",
        "node_cidr_mask": 26,
        "kubelet_args": ["max-pods=60"],
        "datastore": "etcd",
        "flannel_backend": "wireguard-native",
        "k3s_version": "v1.37.1+k3s1",
    },
)
