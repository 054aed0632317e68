"""admin_users[0].ssh_keys = []
why: without a key nobody could log in as this user
fix: admin_users = [{"name": "operator", "ssh_keys": ["ssh-ed25519 AAAA... operator"]
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "admin_users": [{"name": "operator", "ssh_keys": []}],
    },
)
