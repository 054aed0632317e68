"""K3s' configuration files: what is in them, and what must not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from k3s_samples import cluster, with_node

from piclusterops import k3s_config
from piclusterops.k3s_config import (
    CONFIG,
    CRITICAL_KEYS,
    KUBELET,
    POD_SECURITY,
    REGISTRATION,
    REGISTRIES,
    agent_config,
    is_managed,
    registration_files,
    restart_files,
    server_config,
    unit_text,
    version_fault,
)
from piclusterops.settings import Cluster

GOLDEN = Path(__file__).parent / "golden"


def files(of: Cluster, name: str) -> dict[str, str]:
    node = of.node(name)
    return {**restart_files(of, node), **registration_files(node)}


def parsed(of: Cluster, name: str, path: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(files(of, name)[path])
    return content


@pytest.mark.parametrize(
    ("node", "path", "golden"),
    [
        ("pi-master", CONFIG, "k3s-server.yaml"),
        ("pi-worker-1", CONFIG, "k3s-joining-server.yaml"),
        ("pi-worker-3", CONFIG, "k3s-agent.yaml"),
        ("pi-worker-3", REGISTRATION, "k3s-registration.yaml"),
        ("pi-worker-3", KUBELET, "k3s-kubelet.yaml"),
        ("pi-master", "/etc/systemd/system/k3s.service", "k3s.service"),
    ],
)
def test_files_are_as_written_down(node: str, path: str, golden: str) -> None:
    three = cluster(("master", "master", "master", "worker"), datastore="etcd", api_names=("k8s.example.org",))
    three = with_node(
        three, "pi-worker-3", node_labels={"disk": "nvme"}, node_taints=("a=b:NoSchedule",), interface="eth1"
    )
    assert files(three, node)[path] == (GOLDEN / golden).read_text()


def test_only_the_first_server_starts_a_cluster() -> None:
    three = cluster(("master", "master", "master"), datastore="etcd")
    configs = [server_config(three, node) for node in three.nodes]
    assert [config.get("cluster-init") for config in configs] == [True, None, None]
    join = "https://192.168.0.120:6443"
    assert [config.get("server") for config in configs] == [None, join, join]


def test_sqlite_starts_no_etcd() -> None:
    one = cluster(datastore="sqlite")
    assert "cluster-init" not in server_config(one, one.first_server)


def test_critical_values_are_the_same_on_all_servers() -> None:
    three = cluster(("master", "master", "master"), datastore="etcd", k3s_disable=("servicelb", "traefik"))
    three = with_node(three, "pi-worker-1", node_labels={"disk": "nvme"}, interface="eth1")
    critical = [
        {key: value for key, value in server_config(three, node).items() if key in CRITICAL_KEYS}
        for node in three.nodes
    ]
    assert critical[0] == critical[1] == critical[2]
    assert {"agent-token-file", "cluster-cidr", "secrets-encryption", "flannel-backend"} <= set(critical[0])


def test_agents_get_no_key_that_only_servers_know() -> None:
    # An agent ends at a key of config.yaml that it does not know.
    four = with_node(cluster(), "pi-worker-1", interface="eth1")
    known_to_agents = {
        "node-name", "node-ip", "flannel-iface", "server", "token-file", "protect-kernel-defaults", "kubelet-arg"
    }  # fmt: skip
    assert set(agent_config(four, four.node("pi-worker-1"))) == known_to_agents


def test_no_file_contains_a_token() -> None:
    for node in cluster().nodes:
        for text in restart_files(cluster(), node).values():
            content = yaml.safe_load(text) if not text.startswith("[Unit]") else {}
            assert not {"token", "agent-token"} & set(content)


def test_a_plugin_that_needs_limits_has_them() -> None:
    arguments = server_config(cluster(), cluster().first_server)["kube-apiserver-arg"]
    assert any("EventRateLimit" in argument for argument in arguments)
    plugins = {
        plugin["name"]: plugin["configuration"] for plugin in parsed(cluster(), "pi-master", POD_SECURITY)["plugins"]
    }
    assert plugins["EventRateLimit"]["limits"]
    assert plugins["PodSecurity"]["defaults"]["enforce"] == "restricted"


def test_the_audit_policy_keeps_no_bodies() -> None:
    policy = parsed(cluster(), "pi-master", k3s_config.AUDIT_POLICY)
    assert {rule["level"] for rule in policy["rules"]} == {"Metadata", "None"}
    assert policy["rules"][0]["resources"][0]["resources"][0] == "secrets"
    assert policy["rules"][-1] == {"level": "Metadata"}


def test_an_argument_of_the_user_replaces_the_default_of_its_name() -> None:
    changed = cluster(kube_apiserver_args=("audit-log-maxage=7", "request-timeout=300s"), kubelet_args=("max-pods=60",))
    config = server_config(changed, changed.first_server)
    arguments = config["kube-apiserver-arg"]
    assert "audit-log-maxage=7" in arguments and "audit-log-maxage=30" not in arguments
    assert arguments[-1] == "request-timeout=300s"
    assert config["kubelet-arg"][-1] == "max-pods=60"


def test_a_label_changes_no_file_that_needs_a_restart() -> None:
    labelled = with_node(cluster(), "pi-worker-1", node_labels={"disk": "nvme"}, node_taints=("a:NoSchedule",))
    node = labelled.node("pi-worker-1")
    assert restart_files(labelled, node) == restart_files(cluster(), cluster().node("pi-worker-1"))
    assert registration_files(node) != registration_files(cluster().node("pi-worker-1"))


def test_registries_are_written_only_when_set_and_recognised_as_ours() -> None:
    assert REGISTRIES not in files(cluster(), "pi-master")
    registries = {"mirrors": {"docker.io": {"endpoint": ["https://mirror.example.org"]}}}
    text = files(cluster(registries=registries), "pi-master")[REGISTRIES]
    assert yaml.safe_load(text) == registries
    assert is_managed(text.splitlines()[0])
    assert not is_managed("mirrors:") and not is_managed("")


def test_the_cluster_dns_address_is_in_the_service_network() -> None:
    other = cluster(service_cidr="10.96.0.0/16", pod_cidr="10.95.0.0/16")
    config = server_config(other, other.first_server)
    assert (config["cluster-dns"], config["service-cidr"]) == ("10.96.0.10", "10.96.0.0/16")


def test_agents_have_their_own_unit() -> None:
    text = unit_text(cluster().node("pi-worker-1"))
    assert "EnvironmentFile=-/etc/systemd/system/k3s-agent.service.env\n" in text
    assert text.endswith("ExecStart=/usr/local/bin/k3s \\\n    agent \\\n\n")


@pytest.mark.parametrize(
    ("installed", "wanted", "reason"),
    [
        ("v1.36.5+k3s1", "v1.36.5+k3s1", None),
        ("v1.36.3+k3s1", "v1.36.5+k3s1", None),
        ("v1.36.5+k3s1", "v1.36.5+k3s2", None),
        ("v1.36.5-rc1+k3s1", "v1.36.5+k3s1", None),
        ("v1.36.5+k3s1", "v1.37.1+k3s1", None),
        ("v1.36.10+k3s1", "v1.36.9+k3s1", "cannot go back"),
        ("v1.36.5+k3s1", "v1.36.5-rc1+k3s1", "cannot go back"),
        ("v1.37.1+k3s1", "v1.36.5+k3s1", "cannot go back"),
        ("v1.35.1+k3s1", "v1.37.1+k3s1", "go to v1.36 first"),
        ("v1.36.5+k3s1", "v2.0.0+k3s1", "skips"),
        ("of an unknown version", "v1.36.5+k3s1", "cannot be compared"),
    ],
)
def test_versions_go_forward_one_minor_at_a_time(installed: str, wanted: str, reason: str | None) -> None:
    fault = version_fault(installed, wanted)
    assert fault is None if reason is None else fault is not None and reason in fault
