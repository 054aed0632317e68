"""chart_mirror = "/etc"
why: charts of selected releases are not in this directory: cert-manager-v1.21.1.tgz, metallb-0.16.1.tgz
fix: put them there (helm pull), or turn these releases off in platform_releases
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "chart_mirror": "/etc",
    },
)
