"""extra_packages = "htop=3.2.2-2"
why: it is no name of a Debian package (versions are not given here)
fix: did you mean "htop"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "extra_packages": ["htop=3.2.2-2"],
    },
)
