"""shutdown_grace_critical_s = 60
why: it is the part of shutdown_grace_s (60) for critical pods, and leaves no time for the others
fix: shutdown_grace_critical_s = 20, or shutdown_grace_s = 180
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "shutdown_grace_critical_s": 60,
    },
)
