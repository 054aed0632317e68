"""admin_users = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCAAQEB
why: this RSA key of operator has 2048 bits, and sshd takes those of 3072 or more
fix: make a new one: ssh-keygen -t ed25519
"""

# A modulus of a pattern: nobody has the private half.
_body = "AAAAB3NzaC1yc2EAAAADAQABAAABAQCA" + "AQEB" * 85

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "admin_users": [{"name": "operator", "ssh_keys": [f"ssh-rsa {_body} operator"]}],
    },
)
