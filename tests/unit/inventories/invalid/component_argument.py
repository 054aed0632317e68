"""kube_apiserver_args = "admission-control-config-file=/etc/psa.yaml"
why: admission-control-config-file is set by this project, and what it sets would no longer hold
fix: leave it out
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "kube_apiserver_args": ["admission-control-config-file=/etc/psa.yaml"],
    },
)
