"""A profile whose releases are all off, but for what K3s brings."""

from piclusterops.catalogue import catalogue

_off = [release.name for release in catalogue().values() if release.installable]

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
cluster = (
    ["pi-master"],
    {
        "lan_cidr": "192.168.0.0/24",
        "platform_profile": "minimal",
        "platform_releases": {name: {"enabled": False} for name in _off},
    },
)
