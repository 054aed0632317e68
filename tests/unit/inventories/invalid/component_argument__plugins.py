"""kube_apiserver_args = "enable-admission-plugins=AlwaysPullImages"
why: this list replaces the default and lacks NodeRestriction and EventRateLimit
fix: did you mean "enable-admission-plugins=NodeRestriction,EventRateLimit,AlwaysPullImages"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "kube_apiserver_args": ["enable-admission-plugins=AlwaysPullImages"],
    },
)
