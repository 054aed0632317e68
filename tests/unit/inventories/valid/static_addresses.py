"""Nodes that set their own addresses, and one that is in two VLANs."""

_static = {"static_address": True, "gateway": "192.168.0.1", "dns": ["192.168.0.1", "1.1.1.1"]}

master = [
    (
        "pi-master",
        {
            "ssh_hostname": "192.168.0.57",
            "address": "192.168.0.120",
            "vlans": {
                "services": {"id": 10, "address": "10.0.1.120/24"},
                "management": {"id": 20, "address": "10.0.2.120/24"},
            },
            **_static,
        },
    )
]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121", **_static})]
cluster = (["pi-master", "pi-worker-1"], {"lan_cidr": "192.168.0.0/24", "services_cidr": "10.0.1.0/24"})
