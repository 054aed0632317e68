"""platform_waivers.seaweedfs = "used unchanged"
why: seaweedfs needs none: its licence Apache-2.0 is permissive, and it is maintained
fix: remove it
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_waivers": {"seaweedfs": "used unchanged"},
    },
)
