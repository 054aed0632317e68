"""controllers[0] = "192.168.0.7/24"
why: it is no IPv4 network (network/prefix, as in 192.168.0.0/24)
fix: controllers = ["192.168.0.0/24", "203.0.113.7/32"], for example
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "controllers": ["192.168.0.7/24"]},
)
