"""kube_controller_manager_args = "node-cidr-mask-size=26"
why: node-cidr-mask-size is set by this project
fix: leave it out; use node_cidr_mask
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "kube_controller_manager_args": ["node-cidr-mask-size=26"],
    },
)
