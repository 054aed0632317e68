"""address = not set  (pi-worker-1)
why: the node's address in the LAN is unknown: 'pi1.example.org' (where SSH goes) is a name
fix: ("pi-worker-1", {"ssh_hostname": "192.168.0.121"}), or set address beside ssh_hostname
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "pi1.example.org"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
    },
)
