"""admin_users[0].ssh_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AA
why: admin_users has only the parts name, ssh_keys, sudo
fix: did you mean ssh_keys?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "admin_users": [
            {
                "name": "operator",
                "ssh_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
            }
        ],
    },
)
