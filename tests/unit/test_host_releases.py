"""The releases that are packages of the hosts: where they are, what they consist of, and what is said about them."""

from __future__ import annotations

import configparser
import json
import re
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest
from check_samples import report, subject, system
from host_samples import LAPTOP, PHONE, cluster, with_release, with_vpn

from piclusterops import docker
from piclusterops.check_rules import host_findings
from piclusterops.facts.check import check_query
from piclusterops.facts.node import node_query
from piclusterops.firewall import Destination, FirewallError, decide, firewall_of, zone_of
from piclusterops.host_releases import DOCKER, NFS_SERVER, WIREGUARD, node_of
from piclusterops.host_steps import host_steps, wanted_marks
from piclusterops.nfs_server import nfs_server_of
from piclusterops.ruleset import compile_ruleset
from piclusterops.settings import Cluster
from piclusterops.vpn_command import peer_states
from piclusterops.wireguard import Vpn, client_config, reachable, vpn_of
from piclusterops.zones import FirewallSettings


def vpn(*peers: dict[str, object], **more: object) -> Vpn:
    found = vpn_of(with_vpn(*peers, **more))  # type: ignore[arg-type]
    assert found
    return found


# -- where -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "node"), [(WIREGUARD, "pi-master"), (NFS_SERVER, "pi-worker-2"), (DOCKER, "pi-worker-1")]
)
def test_a_release_is_on_one_node_of_its_role_or_on_the_one_that_is_named(name: str, node: str) -> None:
    assert node_of(with_release(name), name) == node
    assert node_of(with_release(name, "pi-worker-1"), name) == "pi-worker-1"
    assert node_of(with_release(name, "elsewhere"), name) is None, "which is a fault of its own"
    assert node_of(cluster(), name) is None


def test_hosts_are_asked_for_what_is_selected_only() -> None:
    bare, whole = cluster(), with_release(WIREGUARD)
    assert node_query(bare.settings).units == ()
    assert "wg-quick@wg0.service" in node_query(whole.settings).units
    assert "kernel_modules" not in dict(check_query(bare.settings, (), ()).probes)
    assert "modprobe -nq wireguard" in dict(check_query(whole.settings, (), ()).probes)["kernel_modules"]


# -- WireGuard ---------------------------------------------------------------------------------------------


def test_the_configuration_has_every_peer_and_no_key() -> None:
    text = vpn(LAPTOP, PHONE).config
    assert "Address = 10.8.0.1/24\nListenPort = 51900\nMTU = 1420\n" in text
    assert f"[Peer]\nPublicKey = {LAPTOP['public_key']}\nAllowedIPs = 10.8.0.2/32\n" in text
    assert text.count("[Peer]") == 2
    assert "PrivateKey" not in text and "iptables" not in text


def test_the_node_may_have_another_address_than_the_first() -> None:
    found = vpn(vpn_address="10.8.0.254", vpn_port=51999)
    assert found.address == IPv4Address("10.8.0.254")
    assert {"address 10.8.0.254/24", "port 51999"} <= set(found.in_force)


def test_only_what_a_node_has_to_do_something_about_is_another_mark() -> None:
    marks = [vpn().mark, vpn(vpn_endpoint="home.example.org").mark, vpn({**LAPTOP, "keepalive_s": 5}).mark]
    assert len(set(marks)) == 1
    assert len({vpn().mark, vpn(PHONE).mark, vpn(vpn_port=51999).mark}) == 3


def test_a_client_is_told_all_but_its_key() -> None:
    whole = with_vpn(vpn_endpoint="home.example.org", services_cidr="10.0.1.0/24", metallb_pool="192.168.0.200/29")
    found = vpn_of(whole)
    assert found
    text = client_config(whole, found, found.peer("laptop"), "NODE=")
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert dict(parser["Interface"]) == {
        "privatekey": "<the content of laptop.key>",
        "address": "10.8.0.2/32",
        "mtu": "1420",
    }
    assert dict(parser["Peer"]) == {
        "publickey": "NODE=",
        "endpoint": "home.example.org:51900",
        "allowedips": "10.0.1.0/24, 10.8.0.0/24, 192.168.0.0/24",
        "persistentkeepalive": "25",
    }


def test_a_client_behind_no_nat_needs_no_keepalive_and_finds_the_node_in_the_lan() -> None:
    whole = with_vpn({**LAPTOP, "keepalive_s": 0})
    found = vpn_of(whole)
    assert found
    text = client_config(whole, found, found.peer("laptop"), "NODE=")
    assert "PersistentKeepalive" not in text and "Endpoint = 192.168.0.120:51900" in text


def test_addresses_of_services_beside_the_lan_are_behind_the_vpn_too() -> None:
    settings = with_vpn(service_addresses={"trino": "10.0.7.10"}, metallb_pool="10.0.8.1-10.0.8.2").settings
    assert {"10.0.7.10/32", "10.0.8.1/32"} <= {str(network) for network in reachable(settings)}


# -- the firewall ------------------------------------------------------------------------------------------


def ruleset(whole: Cluster, node: str) -> str:
    return compile_ruleset(firewall_of(whole).at(node), whole.node(node).role)


def test_the_port_of_the_vpn_is_open_on_its_node_only() -> None:
    whole = with_vpn(node="pi-worker-1")
    assert "udp dport 51900 accept" in ruleset(whole, "pi-worker-1")
    assert not any("51900" in ruleset(whole, node) for node in ("pi-master", "pi-worker-2"))
    by_hand = cluster(vpn_cidr="10.8.0.0/24")
    assert "udp dport 51900 accept" in ruleset(by_hand, "pi-master"), "a VPN that somebody made himself"


def test_nfs_is_open_on_its_node_only_and_to_nodes_only() -> None:
    whole = with_release(NFS_SERVER)
    assert "tcp dport { 2049, 7946" in ruleset(whole, "pi-worker-2") or "2049" in ruleset(whole, "pi-worker-2")
    assert not any("2049" in ruleset(whole, node) for node in ("pi-master", "pi-worker-1"))
    wall = firewall_of(whole)
    assert wall.rules["nfs-server"].from_ == ("nodes",)


def test_a_peer_of_the_vpn_is_no_node_for_any_node() -> None:
    wall = firewall_of(with_vpn())
    assert zone_of(wall, ip_address("10.8.0.2")) == "vpn"
    assert wall.policies["vpn"]["management"] == "accept"


def test_a_rule_for_a_node_that_does_not_exist_is_a_fault() -> None:
    given = FirewallSettings.model_validate({"rules": {"x": {"from": "management", "ports": 1, "nodes": "pi-9"}}})
    with pytest.raises(FirewallError, match="rule x: pi-9 is no node"):
        firewall_of(cluster(), given)


def test_ssh_to_one_node_only_would_lock_us_out_of_the_others() -> None:
    rule = {"from": ["management"], "ports": 22, "nodes": "pi-master"}
    with pytest.raises(FirewallError, match="nobody could log in again"):
        firewall_of(cluster(), FirewallSettings.model_validate({"rules": {"ssh": rule}}))


def test_what_a_rule_says_of_a_node_is_decided_there() -> None:
    given = {"rules": {"x": {"from": "management", "ports": 1234, "nodes": "pi-master"}}}
    wall = firewall_of(cluster(), FirewallSettings.model_validate(given))
    row = Destination("host", "tcp", 1234)
    assert decide(wall.at("pi-master"), "master", "management", row).verdict == "accept"
    assert decide(wall.at("pi-worker-1"), "worker", "management", row).verdict == "drop"


# -- NFS and Docker ----------------------------------------------------------------------------------------


def test_exports_are_for_the_nodes_and_nobody_else() -> None:
    server = nfs_server_of(with_release(NFS_SERVER))
    assert server
    (line,) = [line for line in server.exports.splitlines() if line and not line.startswith("#")]
    path, *clients = line.split()
    assert path == "/srv/nfs"
    found = [re.fullmatch(r"([\d.]+)\(([a-z_,]+)\)", client) for client in clients]
    assert [match and match[1] for match in found] == ["192.168.0.120", "192.168.0.121", "192.168.0.122"]
    assert {match and match[2] for match in found} == {"rw,sync,no_subtree_check,no_root_squash"}


def test_nfs_is_of_version_4_1_or_newer() -> None:
    server = nfs_server_of(with_release(NFS_SERVER))
    assert server
    parser = configparser.ConfigParser()
    parser.read_string(server.conf)
    on = {key for key, value in parser["nfsd"].items() if value == "y"}
    assert on == {"vers4", "vers4.1", "vers4.2", "tcp"}


def test_docker_leaves_the_network_alone_and_listens_on_no_port() -> None:
    conf = json.loads(docker.daemon_json())
    assert [conf[key] for key in ("iptables", "ip6tables", "ip-forward")] == [False] * 3
    assert conf["bridge"] == "none" and conf["live-restore"] is True
    assert "hosts" not in conf and conf["log-opts"]["max-size"] == "10m"


# -- plan and check ----------------------------------------------------------------------------------------


def test_a_plan_tells_what_becomes_of_packages_on_hosts() -> None:
    whole = with_release(NFS_SERVER)
    mark = wanted_marks(whole)[NFS_SERVER][1]

    def actions(**stamps: dict[str, str]) -> list[tuple[str, str, str]]:
        noted = {name.replace("_", "-"): value for name, value in stamps.items()}
        return [(step.release, step.node, step.action) for step in host_steps(whole, noted)]

    assert actions(pi_worker_2={}) == [(NFS_SERVER, "pi-worker-2", "install")]
    assert actions(pi_worker_2={NFS_SERVER: mark}) == [(NFS_SERVER, "pi-worker-2", "unchanged")]
    assert actions(pi_worker_2={NFS_SERVER: "begun"}) == [(NFS_SERVER, "pi-worker-2", "upgrade")]
    moved = actions(pi_worker_1={NFS_SERVER: mark, "sshd": "x"}, pi_worker_2={})
    assert moved == [(NFS_SERVER, "pi-worker-2", "install"), (NFS_SERVER, "pi-worker-1", "disable")]
    assert actions() == [(NFS_SERVER, "pi-worker-2", "install")]
    assert host_steps(cluster(), {"pi-master": {"sshd": "x"}}) == ()


def test_every_release_of_the_hosts_has_a_mark() -> None:
    names = (WIREGUARD, NFS_SERVER, DOCKER)
    whole = with_vpn(platform_releases={name: {"enabled": True} for name in names})
    assert set(wanted_marks(whole)) == set(names)


def found(
    whole: Cluster, stamps: dict[str, str], name: str = "pi-master", **probes: list[str]
) -> list[tuple[str, str]]:
    answer = report(**probes)
    answer.snapshot.stamps.update(stamps)
    one = replace(subject(answer, name), cluster=whole, node=whole.node(name))
    return [(each.severity, each.found) for each in host_findings(one) if each.topic in ("releases", "docker")]


def test_a_check_tells_what_is_on_a_host_and_what_will_be() -> None:
    whole = with_vpn()
    assert found(whole, {}) == [("info", "wireguard is not on this node yet")]
    assert found(whole, {WIREGUARD: "wg0 begun"}) == [("info", "wireguard is not as the settings want it")]
    assert found(whole, {WIREGUARD: vpn().mark}) == [("info", "wireguard is on this node")]
    assert found(whole, {}, "pi-worker-1") == []


def test_a_kernel_without_wireguard_is_an_error_before_anything_is_changed() -> None:
    assert found(with_vpn(), {}, kernel_modules=["wireguard"]) == [("error", "the kernel has no module wireguard")]
    assert found(with_vpn(), {}, "pi-worker-1", kernel_modules=["wireguard"]) == []


def test_our_own_docker_is_no_fault_and_somebody_elses_is() -> None:
    whole = with_release(DOCKER, "pi-master")

    def topics(
        *packages: str, stamps: tuple[str, ...] = (DOCKER,), name: str = "pi-master", policy: str = "ACCEPT"
    ) -> str:
        answer = report(system=system(forward=f"-P FORWARD {policy}"))
        answer.snapshot.packages.update(packages)
        answer.snapshot.stamps.update(dict.fromkeys(stamps, docker.mark()))
        one = replace(subject(answer, name), cluster=whole, node=whole.node(name))
        return " ".join(each.found for each in host_findings(one) if each.topic == "docker")

    assert topics("docker.io") == ""
    assert "Docker is on this node" in topics("docker.io", stamps=())
    assert "Docker is on this node" in topics("docker.io", name="pi-worker-1")
    assert "Docker is on this node" in topics("docker.io", "docker-ce")
    assert "policy of iptables is DROP" in topics("docker.io", policy="DROP")


# -- who is in ---------------------------------------------------------------------------------------------


def test_status_has_every_peer_once_with_what_is_wrong_about_it() -> None:
    wanted = vpn(LAPTOP, PHONE)
    known, other = str(LAPTOP["public_key"]), "Zk3mJxP0p1tQy0HkXUu6GdO0v3cJ5cD4c0mU0Tq2bWc="
    lines = [
        f"allowed-ips\t{known}\t10.8.0.2/32",
        f"allowed-ips\t{other}\t10.8.0.9/32",
        f"endpoints\t{known}\t203.0.113.7:40000",
        f"endpoints\t{other}\t(none)",
        f"latest-handshakes\t{known}\t1000",
        f"latest-handshakes\t{other}\t0",
        f"transfer\t{known}\t2048\t4096",
        f"transfer\t{other}\t0\t0",
    ]
    laptop, phone, stray = peer_states(wanted, lines, now=1060)
    assert (laptop.name, laptop.address, laptop.handshake_s, laptop.fault) == ("laptop", "10.8.0.2", 60, "")
    assert (laptop.endpoint, laptop.received, laptop.sent) == ("203.0.113.7:40000", 2048, 4096)
    assert (phone.name, phone.handshake_s, phone.fault) == ("phone", None, "not on the node")
    assert (stray.name, stray.endpoint, stray.fault) == ("", "", "not in the inventory")
