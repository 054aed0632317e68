"""sshd_options.AllowUsers = "operator"
why: the user that pyinfra logs in as must stay in it
fix: use admin_users and sshd_users
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "sshd_options": {"AllowUsers": "operator"}},
)
