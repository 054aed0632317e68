"""The kernel parameters of every node."""

from __future__ import annotations

from collections.abc import Mapping

#: Kernel modules that K3s' network and its containers need.
MODULES: tuple[str, ...] = ("br_netfilter", "overlay")

#: Kernel parameters, with the reason for each.
PARAMETERS: dict[str, str] = {
    # The kubelet refuses to start without these under protect-kernel-defaults (K3s hardening guide; the
    # keys.* pair is in the kubelet's own list).
    "kernel.keys.root_maxbytes": "25000000",
    "kernel.keys.root_maxkeys": "1000000",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "vm.overcommit_memory": "1",
    "vm.panic_on_oom": "0",
    # Elasticsearch's bootstrap check.
    "vm.max_map_count": "262144",
    # Every container and log shipper watches files; the defaults of 128 instances run out on a full node.
    "fs.inotify.max_user_instances": "8192",
    "fs.inotify.max_user_watches": "524288",
    # Pods are behind the node, and their bridge must show its traffic to netfilter.
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
}


def drift(wanted: Mapping[str, str], running: Mapping[str, str]) -> list[str]:
    """The parameters whose running value is not the wanted one; those the kernel does not have are left out."""
    return [key for key, value in wanted.items() if key in running and running[key] != value]
