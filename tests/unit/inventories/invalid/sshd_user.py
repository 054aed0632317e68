"""sshd_users = "root"
why: a user of the operating system has no business to log in
fix: list the person in admin_users, with sudo
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "sshd_users": ["root"]},
)
