"""api_names = "https://k3s.example.org:6443"
why: it is neither an IP address nor a DNS name; no scheme, port or path belongs here
fix: did you mean "k3s.example.org"?
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {
        "lan_cidr": "192.168.0.0/24",
        "api_names": ["https://k3s.example.org:6443"],
    },
)
