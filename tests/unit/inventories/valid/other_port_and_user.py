"""SSH on another port, as another user, and through names; values of one's own begin with an underscore."""

master = [("pi-master", {"ssh_hostname": "gate.example.org", "ssh_port": 2201, "address": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "gate.example.org", "ssh_port": 2202, "address": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "ssh_user": "deploy",
        "ssh_connect_retry_min_delay": 1,
        "_rack": "A3",
        "_sudo": True,
        "vpn_port": 51820,
        "admin_users": [
            {
                "name": "deploy",
                "ssh_keys": [
                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC",
                ],
                "sudo": "nopasswd",
            }
        ],
    },
)
