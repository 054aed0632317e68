"""firewall.rules.agent.port = 10050
why: firewall has only the parts from, proto, ports, to, destinations, roles, nodes, rate, comment
fix: did you mean ports?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "firewall": {"rules": {"agent": {"from": "management", "port": 10050}}}},
)
