"""chart_mirror = "ftp://mirror.example.org/charts"
why: nothing can be fetched with a URL of this kind
fix: use a http, https or file URL, or a directory
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "minimal",
        "chart_mirror": "ftp://mirror.example.org/charts",
    },
)
