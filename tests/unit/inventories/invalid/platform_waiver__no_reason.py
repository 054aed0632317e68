"""platform_waivers.grafana = " "
why: a waiver is worth its reason, and has none
fix: platform_waivers = {"grafana": "used unchanged, at home"}, for example
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_waivers": {"grafana": " "},
    },
)
