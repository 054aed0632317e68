"""firewall
why: controller 203.0.113.7/32 is in zone public, from which SSH (tcp 22) is not accepted on every node
fix: correct firewall, as docs/how-to/open-a-port.md shows
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "controllers": ["192.168.0.0/24", "203.0.113.7/32"]},
)
