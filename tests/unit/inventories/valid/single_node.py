"""One node that is everything, with defaults."""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
cluster = (
    ["pi-master"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
