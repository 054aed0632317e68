"""The shape of prod on other hosts, in a network of its own: a change is tried here first.

pyinfra inventories/staging.py deploys/site.py
"""

master = [
    ("pi-staging-master", {"ssh_hostname": "192.168.1.120"}),
]

worker = [
    ("pi-staging-worker-1", {"ssh_hostname": "192.168.1.121"}),
]

data_node = [
    ("pi-staging-worker-2", {"ssh_hostname": "192.168.1.122"}),
    ("pi-staging-worker-3", {"ssh_hostname": "192.168.1.123"}),
]
