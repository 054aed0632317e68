"""K3s' configuration of a cluster, rendered: pure functions from settings to the text of files.

Sources: the K3s documentation (installation/configuration, cli/server, security/hardening-guide for the
CIS arguments) and its install script for the systemd unit and the paths.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from piclusterops.settings import Cluster, ClusterSettings, Node, Reservation
from piclusterops.templates import render

BINARY = "/usr/local/bin/k3s"
DATA_DIR = "/var/lib/rancher/k3s"
CONFIG_DIR = "/etc/rancher/k3s"
CONFIG = f"{CONFIG_DIR}/config.yaml"
REGISTRATION = f"{CONFIG_DIR}/config.yaml.d/20-registration.yaml"
REGISTRIES = f"{CONFIG_DIR}/registries.yaml"
#: What a node joins with, and, on servers, what its agents join with. Secret.
TOKEN = f"{CONFIG_DIR}/token"
AGENT_TOKEN = f"{CONFIG_DIR}/agent-token"
#: What K3s itself writes on a server: the same, with the hash of the cluster's CA (the K10 form). Secret.
SERVER_K10_TOKEN = f"{DATA_DIR}/server/token"
AGENT_K10_TOKEN = f"{DATA_DIR}/server/agent-token"
POD_SECURITY = f"{DATA_DIR}/server/psa.yaml"
AUDIT_POLICY = f"{DATA_DIR}/server/audit.yaml"
AUDIT_LOG_DIR = f"{DATA_DIR}/server/logs"
#: Where volumes of the class local-path are, on every node.
STORAGE_DIR = f"{DATA_DIR}/storage"
KUBELET = f"{DATA_DIR}/agent/etc/kubelet.conf.d/50-piclusterops.conf"
KUBECONFIG = f"{CONFIG_DIR}/k3s.yaml"

API_PORT = 6443

#: Values that K3s wants to be the same on all servers (docs: cli/server, "Critical Configuration Values").
CRITICAL_KEYS: tuple[str, ...] = (
    "agent-token-file",
    "cluster-cidr",
    "cluster-dns",
    "cluster-domain",
    "disable",
    "disable-cloud-controller",
    "disable-helm-controller",
    "disable-network-policy",
    "egress-selector-mode",
    "embedded-registry",
    "flannel-backend",
    "flannel-external-ip",
    "flannel-ipv6-masq",
    "secrets-encryption",
    "secrets-encryption-provider",
    "service-cidr",
)

_MARK = "# Written by PiClusterOps: changes made here are overwritten.\n"
_TLS_CIPHERS = ",".join(
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    )
)
_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:-rc(\d+))?\+k3s(\d+)")


def unit_name(node: Node) -> str:
    """The systemd unit: `k3s` on servers, `k3s-agent` on agents, as K3s' install script names them."""
    return "k3s" if node.is_server else "k3s-agent"


def unit_path(node: Node) -> str:
    """Where the systemd unit lies."""
    return f"/etc/systemd/system/{unit_name(node)}.service"


def environment_path(node: Node) -> str:
    """The unit's environment file; only its mode is ours, proxies may be set in it."""
    return f"{unit_path(node)}.env"


def server_url(cluster: Cluster) -> str:
    """Where the other nodes join."""
    return f"https://{cluster.first_server.address}:{API_PORT}"


def server_config(cluster: Cluster, node: Node) -> dict[str, Any]:
    """The `config.yaml` of a server. It contains no secret: tokens are named by file."""
    settings = cluster.settings
    config: dict[str, Any] = _node_config(node)
    if node.name != cluster.first_server.name:
        config["server"] = server_url(cluster)
    elif settings.datastore == "etcd":
        config["cluster-init"] = True
    return {
        **config,
        "token-file": TOKEN,
        "agent-token-file": AGENT_TOKEN,
        "tls-san": _certificate_names(cluster),
        "disable": list(settings.k3s_disable),
        "cluster-cidr": str(settings.pod_cidr),
        "service-cidr": str(settings.service_cidr),
        "cluster-dns": str(settings.service_cidr[10]),
        "cluster-domain": settings.cluster_domain,
        "flannel-backend": settings.flannel_backend,
        "secrets-encryption": settings.secrets_encryption,
        "protect-kernel-defaults": True,
        "kube-apiserver-arg": _arguments(_apiserver_defaults(), settings.kube_apiserver_args),
        "kube-controller-manager-arg": _arguments(
            {"terminated-pod-gc-threshold": "100", "node-cidr-mask-size": str(settings.node_cidr_mask)},
            settings.kube_controller_manager_args,
        ),
        "kubelet-arg": _kubelet_arguments(settings),
    }


def agent_config(cluster: Cluster, node: Node) -> dict[str, Any]:
    """The `config.yaml` of an agent. It contains no secret: the token is named by file."""
    return {
        **_node_config(node),
        "server": server_url(cluster),
        "token-file": TOKEN,
        "protect-kernel-defaults": True,
        "kubelet-arg": _kubelet_arguments(cluster.settings),
    }


def registration_config(node: Node) -> dict[str, Any]:
    """Labels and taints, which K3s applies only when the node registers for the first time."""
    labels = [f"{key}={value}" for key, value in sorted(node.registration_labels.items())]
    config: dict[str, Any] = {"node-label": labels}
    if node.settings.node_taints:
        config["node-taint"] = list(node.settings.node_taints)
    return config


def kubelet_config(settings: ClusterSettings) -> dict[str, Any]:
    """The kubelet's drop-in: graceful shutdown, which has no command line flag, and reservations."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "shutdownGracePeriod": f"{settings.shutdown_grace_s}s",
        "shutdownGracePeriodCriticalPods": f"{settings.shutdown_grace_critical_s}s",
        "systemReserved": _reservation(settings.system_reserved),
        "kubeReserved": _reservation(settings.kube_reserved),
    }


def restart_files(cluster: Cluster, node: Node) -> dict[str, str]:
    """Path and text of every file that takes effect when K3s starts."""
    settings = cluster.settings
    texts = {
        unit_path(node): unit_text(node),
        CONFIG: _yaml(server_config(cluster, node) if node.is_server else agent_config(cluster, node)),
        KUBELET: _yaml(kubelet_config(settings)),
    }
    if node.is_server:
        texts[POD_SECURITY] = render("psa.yaml")
        texts[AUDIT_POLICY] = render("audit.yaml")
    if settings.registries:
        texts[REGISTRIES] = _yaml(settings.registries)
    return texts


def registration_files(node: Node) -> dict[str, str]:
    """Path and text of the file that only the first registration reads, so that it needs no restart."""
    return {REGISTRATION: _yaml(registration_config(node))}


def unit_text(node: Node) -> str:
    """The systemd unit, equal to the one K3s' install script writes."""
    command = "server" if node.is_server else "agent"
    return render("k3s.service.j2", environment=environment_path(node), command=command)


def is_managed(first_line: str) -> bool:
    """Whether a file on a host was written by us, judged by its first line."""
    return first_line == _MARK.strip()


def version_fault(installed: str, wanted: str) -> str | None:
    """Why K3s may not go from one version to the other, or None when it may.

    Kubernetes supports neither a downgrade nor skipping a minor version (K3s docs: upgrades/manual).
    """
    old, new = _version(installed), _version(wanted)
    if old is None or new is None:
        return f"K3s {installed} is installed, whose version cannot be compared with {wanted}"
    if new < old:
        return f"K3s {installed} is installed and {wanted} is older: K3s cannot go back. Raise k3s_version"
    if new[0] != old[0] or new[1] > old[1] + 1:
        return (
            f"K3s {installed} is installed and {wanted} skips minor versions: "
            f"go to v{old[0]}.{old[1] + 1} first, then on"
        )
    return None


def _version(text: str) -> tuple[int, ...] | None:
    found = _VERSION.fullmatch(text)
    if not found:
        return None
    major, minor, patch, candidate, build = found.groups()
    return (int(major), int(minor), int(patch), 1 if candidate is None else 0, int(candidate or 0), int(build))


def _node_config(node: Node) -> dict[str, Any]:
    config: dict[str, Any] = {"node-name": node.name, "node-ip": node.address}
    if node.settings.interface:
        config["flannel-iface"] = node.settings.interface
    return config


def _certificate_names(cluster: Cluster) -> list[str]:
    names: list[str] = []
    for server in cluster.servers:
        names += [server.name, f"{server.name}.{cluster.settings.domain}", server.address]
    return list(dict.fromkeys([*names, *cluster.settings.api_names]))


def _apiserver_defaults() -> dict[str, str]:
    return {
        "enable-admission-plugins": "NodeRestriction,EventRateLimit",
        "admission-control-config-file": POD_SECURITY,
        "audit-log-path": f"{AUDIT_LOG_DIR}/audit.log",
        "audit-policy-file": AUDIT_POLICY,
        "audit-log-maxage": "30",
        "audit-log-maxbackup": "10",
        "audit-log-maxsize": "100",
        "service-account-extend-token-expiration": "false",
    }


def _kubelet_arguments(settings: ClusterSettings) -> list[str]:
    return _arguments(
        {
            "streaming-connection-idle-timeout": "5m",
            "tls-cipher-suites": _TLS_CIPHERS,
            "pod-max-pids": str(settings.pod_max_pids),
        },
        settings.kubelet_args,
    )


def _arguments(defaults: dict[str, str], extra: Sequence[str]) -> list[str]:
    """`name=value` of each argument; an extra one replaces the default of the same name."""
    merged = dict(defaults)
    for argument in extra:
        name, _, value = argument.partition("=")
        merged[name] = value
    return [f"{name}={value}" for name, value in merged.items()]


def _reservation(reservation: Reservation) -> dict[str, str]:
    return {"cpu": reservation.cpu, "memory": reservation.memory}


def _yaml(value: dict[str, Any]) -> str:
    return _MARK + yaml.safe_dump(value, sort_keys=False, default_flow_style=False, width=1000)
