"""sshd_options.LogLevel = "INFO\\nMatch all"
why: a keyword has a value, on one line
fix: correct it or leave it out
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "sshd_options": {"LogLevel": "INFO\nMatch all"}},
)
