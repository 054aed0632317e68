"""A cluster while it moves from bookworm to trixie: the release is found on the host and is no setting.

Images of the two differ in the user they come with.
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120", "ssh_user": "pi"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", "ssh_user": "debian", "interface": "end0"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "timezone": "Europe/Vienna",
        "admin_users": [
            {
                "name": "operator",
                "ssh_keys": [
                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB operator"
                ],
                "sudo": "nopasswd",
            }
        ],
    },
)
