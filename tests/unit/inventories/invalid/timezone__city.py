"""timezone = "tokyo"
why: the IANA database has no time zone of this name
fix: did you mean "Asia/Tokyo"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "timezone": "tokyo",
    },
)
