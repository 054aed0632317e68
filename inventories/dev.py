"""One Raspberry Pi that is a whole cluster.

pyinfra inventories/dev.py deploys/site.py
"""

master = [
    ("pi-dev", {"ssh_hostname": "192.168.0.130"}),
]
