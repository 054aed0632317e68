"""datastore = "sqlite"
why: SQLite is a file on one server and can't be shared by 3
fix: datastore = "etcd"
"""

master = [
    ("pi-1", {"ssh_hostname": "192.168.0.121"}),
    ("pi-2", {"ssh_hostname": "192.168.0.122"}),
    ("pi-3", {"ssh_hostname": "192.168.0.123"}),
]
cluster = (
    ["pi-1", "pi-2", "pi-3"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
