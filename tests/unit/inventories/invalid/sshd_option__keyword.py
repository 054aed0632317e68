"""sshd_options.Log Level = "INFO"
why: it is no keyword of sshd_config
fix: see man sshd_config
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "sshd_options": {"Log Level": "INFO"}},
)
