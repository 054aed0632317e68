"""admin_users[0].ssh_keys[0] = (hidden)
why: this is a private key, which belongs on no other machine and in no inventory
fix: put the line of the .pub file here
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "admin_users": [{"name": "operator", "ssh_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk"]}],
    },
)
