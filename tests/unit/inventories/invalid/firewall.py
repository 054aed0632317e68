"""firewall
why: rule agent: managment is neither a zone nor nodes or servers
fix: correct firewall, as docs/how-to/open-a-port.md shows
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "firewall": {"rules": {"agent": {"from": "managment", "ports": 10050}}}},
)
