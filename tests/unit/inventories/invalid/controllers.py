"""controllers = "0.0.0.0/0"
why: everyone in it could try to log in without end
fix: list the networks, or the single addresses (203.0.113.7/32), that you run pyinfra from
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "controllers": ["192.168.0.0/24", "0.0.0.0/0"]},
)
