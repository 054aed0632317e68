"""lan_cidr = not set
why: it has no default: the network the nodes are in.
fix: lan_cidr = "192.168.0.0/24"
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
