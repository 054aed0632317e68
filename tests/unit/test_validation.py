"""Inventories that can't work are refused with every fault; those that can become a cluster.

Each file in inventories/invalid/ breaks the rule that it is named after (what follows `__` is a variant); its
docstring has the lines that the message must contain: key and value, why, and fix.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piclusterops.faults import Fault, SettingsError, render
from piclusterops.inventory import load_inventory
from piclusterops.networks import (
    AddressRange,
    free_network,
    node_shares,
    parse_network,
    parse_range,
    prefix_for_nodes,
)
from piclusterops.rules import RULES
from piclusterops.settings import Cluster
from piclusterops.validation import VALUE_RULES, HostData, cluster_from_hosts, cluster_from_inventory, find_faults

CHECKOUT = Path(__file__).resolve().parents[2]
INVENTORIES = Path(__file__).parent / "inventories"
INVALID = sorted((INVENTORIES / "invalid").glob("*.py"))
VALID = sorted((INVENTORIES / "valid").glob("*.py"))
ONE_RULE = [path for path in INVALID if path.stem != "many"]
SECRET = "correct-horse-battery-staple"


@cache
def faults_in(path: Path) -> tuple[Fault, ...]:
    with pytest.raises(SettingsError) as caught:
        cluster_from_inventory(load_inventory(path))
    return caught.value.faults


def expected_lines(path: Path) -> list[str]:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()


def hosts_with(data: Mapping[str, Any], *names: str) -> list[HostData]:
    """A master and workers of these names, all with the same settings."""
    return [
        HostData(
            name,
            ("worker" if number else "master",),
            {
                "ssh_hostname": f"192.168.0.{120 + number}",
                "lan_cidr": "192.168.0.0/24",
                "platform_profile": "none",
                **data,
            },
        )
        for number, name in enumerate(names or ("pi-master",))
    ]


def rules_broken(data: Mapping[str, Any], *names: str) -> list[str]:
    return [fault.rule for fault in find_faults(hosts_with(data, *names))]


# -- inventories that can't work ---------------------------------------------------------------------------


def test_every_rule_has_an_inventory_that_breaks_it() -> None:
    assert {path.stem.partition("__")[0] for path in ONE_RULE} == {*VALUE_RULES, *RULES}


@pytest.mark.parametrize("path", ONE_RULE, ids=lambda path: path.stem)
def test_fault_is_reported_with_key_value_why_and_fix(path: Path) -> None:
    faults = faults_in(path)
    message = render(fault for fault in faults if fault.rule == path.stem.partition("__")[0])
    lines = expected_lines(path)
    assert len(lines) == 3 and lines[1].startswith("why: ") and lines[2].startswith("fix: "), "a fixture states all"
    for line in lines:
        assert line in message


@pytest.mark.parametrize("path", ONE_RULE, ids=lambda path: path.stem)
def test_one_mistake_makes_one_fault(path: Path) -> None:
    assert [fault.rule for fault in faults_in(path)] == [path.stem.partition("__")[0]]


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_message_shows_no_secret(path: Path) -> None:
    message = render(faults_in(path))
    assert SECRET not in message
    assert "OPENSSH PRIVATE" not in message


def test_all_faults_are_listed_at_once() -> None:
    faults = faults_in(INVENTORIES / "invalid" / "many.py")
    assert [(fault.rule, fault.key) for fault in faults] == [
        ("unknown_key", "timezon"),
        ("unknown_key", "ssh_prot"),
        ("network_format", "pod_cidr"),
        ("value_type", "journal_max_size_mb"),
        ("value_type", "k3s_version"),
        ("node_role", "role"),
        ("server_count", "master"),
        ("servers_on_sqlite", "datastore"),
        ("duplicate_address", "address"),
        ("network_overlap", "service_cidr"),
        ("pool_placement", "metallb_pool"),
        ("vpn_port", "vpn_port"),
    ]
    message = render(faults)
    assert message.startswith("The inventory has 12 faults; nothing was changed on any host.")
    assert all(f"{number:3}. " in message for number in range(1, 13))
    assert "Next: correct the inventory file" in message.splitlines()[-2]


def test_inventory_without_hosts_has_no_master() -> None:
    assert [fault.rule for fault in find_faults([])] == ["no_master"]


def test_fault_of_some_hosts_names_them() -> None:
    first, *others = hosts_with({}, "pi-1", "pi-2", "pi-3")
    broken = [HostData(host.name, host.groups, {**host.data, "rakc": 1}) for host in others]
    (fault,) = find_faults([first, *broken])
    assert fault.host == "pi-2, pi-3"


def test_value_of_a_secret_key_and_credentials_in_a_url_are_hidden() -> None:
    data = {"registry_password": SECRET, "k3s_mirror": f"ftp://reader:{SECRET}@mirror.example.org"}
    message = render(find_faults(hosts_with(data)))
    assert "registry_password = (hidden)" in message
    assert "k3s_mirror = (hidden)" in message
    assert SECRET not in message


@pytest.mark.parametrize(("release", "hint"), [("v1.36.6+k3s1", "v1.36.6+k3s1"), ("v1.20.0+k3s1", None)])
def test_mirror_without_the_release_says_what_it_has(tmp_path: Path, release: str, hint: str | None) -> None:
    (tmp_path / release).mkdir()
    (fault,) = find_faults(hosts_with({"k3s_mirror": str(tmp_path), "k3s_version": "v1.36.5+k3s1"}))
    assert fault.rule == "k3s_mirror"
    assert f"it has {release}" in fault.why
    assert f"put the files of the release into {tmp_path}/v1.36.5+k3s1/" in fault.fix
    assert (hint or "no hint") in fault.fix or hint is None


def test_mirror_with_the_release_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "v1.36.5+k3s1").mkdir()
    assert not find_faults(hosts_with({"k3s_mirror": str(tmp_path), "k3s_version": "v1.36.5+k3s1"}))


# -- inventories that can work -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_inventory_becomes_a_cluster(path: Path) -> None:
    cluster = cluster_from_inventory(load_inventory(path))
    assert cluster.first_server.is_server


def test_an_inventory_is_validated_once_a_run_and_anew_when_its_data_change() -> None:
    inventory = load_inventory(INVENTORIES / "valid" / "seven_nodes.py")
    first = cluster_from_inventory(inventory)
    assert cluster_from_inventory(inventory) is first
    for host in inventory:
        host.data.domain = "other.test"
    assert cluster_from_inventory(inventory).settings.domain == "other.test"


def test_cluster_has_the_nodes_of_the_inventory_in_its_order() -> None:
    cluster = cluster_from_inventory(load_inventory(INVENTORIES / "valid" / "seven_nodes.py"))
    assert [(node.name, node.role, node.address) for node in cluster.nodes] == [
        ("pi-1", "master", "10.20.0.11"),
        ("pi-2", "master", "10.20.0.12"),
        ("pi-3", "master", "10.20.0.13"),
        ("pi-4", "worker", "10.20.0.14"),
        ("pi-5", "worker", "10.20.0.15"),
        ("pi-6", "data_node", "10.20.0.16"),
        ("pi-7", "data_node", "10.20.0.17"),
    ]
    assert cluster.node("pi-4").registration_labels == {"piclusterops.io/role": "worker", "disk": "sd"}
    assert cluster.node("pi-4").labels["node-role.kubernetes.io/worker"] == "true"
    assert cluster.settings.node_cidr_mask == 26


@pytest.mark.parametrize("name", ["prod", "staging", "dev"])
def test_shipped_inventory_is_valid(name: str) -> None:
    cluster = cluster_from_inventory(load_inventory(CHECKOUT / "inventories" / f"{name}.py"))
    assert cluster.settings.cluster_name == name
    assert cluster.settings.lock_file == str(CHECKOUT / "inventories" / f"{name}.lock")


def test_prod_is_the_home_lab() -> None:
    inventory = load_inventory(CHECKOUT / "inventories" / "prod.py")
    cluster = cluster_from_inventory(inventory)
    assert [(node.name, node.role, node.address) for node in cluster.nodes] == [
        ("pi-master", "master", "192.168.0.120"),
        ("pi-worker-1", "worker", "192.168.0.121"),
        ("pi-worker-2", "data_node", "192.168.0.122"),
        ("pi-worker-3", "data_node", "192.168.0.123"),
    ]
    assert cluster.settings.metallb_pool == "192.168.0.200-192.168.0.250"
    assert inventory.get_host("pi-master").data.ssh_user == "pi"
    assert inventory.get_host("pi-master").data.get("_sudo") is True


# -- through pyinfra's own command line, against hosts that record what they are asked -----------------------


@pytest.fixture
def ssh_config(tmp_path: Path) -> Iterator[Path]:
    """An ssh_config that leads every host to a server which records what it is asked to run."""
    script = Path(__file__).parent / "recording_sshd.py"
    server = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "asked"), str(tmp_path / "key")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout
        port = server.stdout.readline().strip()
        config = tmp_path / "ssh_config"
        config.write_text(
            f"Host *\n  HostName 127.0.0.1\n  Port {port}\n  UserKnownHostsFile {tmp_path / 'known_hosts'}\n"
            f"  IdentityFile {tmp_path / 'key'}\n  IdentitiesOnly yes\n"
        )
        yield config
    finally:
        server.terminate()
        server.wait(timeout=10)


def run_pyinfra(inventory: Path, ssh_config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    deploy = ssh_config.parent / "deploy.py"
    deploy.write_text(
        "from piclusterops.validation import cluster_from_inventory\n"
        "from pyinfra import inventory\n"
        "from pyinfra.operations import server\n"
        "cluster_from_inventory(inventory)\n"
        "server.shell(name='Change something', commands=['touch /tmp/changed'])\n"
    )
    command = [sys.executable, "-m", "pyinfra", "--data", f"ssh_config_file={ssh_config}", "--data", "ssh_user=pi"]
    return subprocess.run(
        [*command, *options, str(inventory), str(deploy)],
        cwd=CHECKOUT,
        env={**os.environ, "HOME": str(ssh_config.parent), "PYINFRA_PROGRESS": "off"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("name", "options"), [("network_overlap", "-y"), ("many", "--dry"), ("duplicate_name", "-y")], ids=str
)
def test_pyinfra_refuses_an_invalid_inventory_before_it_asks_a_host_anything(
    name: str, options: str, ssh_config: Path
) -> None:
    path = INVENTORIES / "invalid" / f"{name}.py"
    (ssh_config.parent / ".ssh").mkdir()
    result = run_pyinfra(path, ssh_config, options)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    for fault in faults_in(path):
        assert f"why: {fault.why}" in result.stderr
        assert f"fix: {fault.fix}" in result.stderr
    asked = (ssh_config.parent / "asked").read_text().splitlines()
    assert asked, "the hosts were reached"
    assert {line.split()[0] for line in asked} == {"connected"}


def test_recording_server_sees_the_commands_of_a_valid_inventory(ssh_config: Path) -> None:
    (ssh_config.parent / ".ssh").mkdir()
    result = run_pyinfra(INVENTORIES / "valid" / "single_node.py", ssh_config, "-y")
    assert result.returncode == 0, result.stderr
    assert "touch /tmp/changed" in (ssh_config.parent / "asked").read_text()


# -- arithmetic, for all networks ----------------------------------------------------------------------------


#: The tests share the machine with others: how long an example takes says nothing.
untimed = settings(deadline=None)


def networks(min_prefix: int = 8, max_prefix: int = 30) -> st.SearchStrategy[IPv4Network]:
    return st.builds(
        lambda number, prefix: IPv4Network((number, prefix), strict=False),
        st.integers(min_value=int(IPv4Address("10.0.0.0")), max_value=int(IPv4Address("10.255.255.255"))),
        st.integers(min_value=min_prefix, max_value=max_prefix),
    )


@untimed
@given(networks(16, 28), networks(16, 28))
def test_overlap_is_found_exactly_when_an_address_is_shared(pods: IPv4Network, services: IPv4Network) -> None:
    shared = pods.network_address in services or services.network_address in pods
    found = "network_overlap" in rules_broken({"pod_cidr": str(pods), "service_cidr": str(services)})
    assert found == shared


@untimed
@given(networks(16, 24), networks(16, 24))
def test_fix_of_an_overlap_removes_it(pods: IPv4Network, services: IPv4Network) -> None:
    data = {"pod_cidr": str(pods), "service_cidr": str(services), "node_cidr_mask": 24}
    for fault in find_faults(hosts_with(data)):
        if fault.rule == "network_overlap":
            mended = {**data, fault.key: fault.fix.split('"')[1]}
            assert "network_overlap" not in rules_broken(mended)


@untimed
@given(st.integers(1, 40), networks(14, 27), st.integers(20, 27))
def test_pod_network_is_refused_exactly_when_a_node_gets_no_share(nodes: int, pods: IPv4Network, mask: int) -> None:
    shares = 0 if mask < pods.prefixlen else len(list(pods.subnets(new_prefix=mask)))
    names = [f"pi-{number}" for number in range(nodes)]
    data = {
        "pod_cidr": str(pods),
        "node_cidr_mask": mask,
        "service_cidr": "172.16.0.0/16",
        "kubelet_args": ["max-pods=2"],
    }
    found = [fault for fault in find_faults(hosts_with(data, *names)) if fault.rule == "pod_cidr_size"]
    assert bool(found) == (shares < nodes)
    for fault in found:
        mended = {**data, "pod_cidr": fault.fix.split('"')[1]}
        assert not rules_broken(mended, *names)


@untimed
@given(st.integers(1, 5000), st.integers(17, 28))
def test_prefix_for_nodes_is_the_longest_that_has_room(nodes: int, mask: int) -> None:
    prefix = prefix_for_nodes(nodes, mask)
    if prefix >= 0:
        assert node_shares(IPv4Network((0, prefix)), mask) >= nodes
        assert prefix == mask or node_shares(IPv4Network((0, prefix + 1)), mask) < nodes


@untimed
@given(st.lists(networks(), max_size=8), st.integers(8, 16))
def test_free_network_overlaps_nothing_and_is_found_when_there_is_one(taken: list[IPv4Network], prefix: int) -> None:
    free = free_network(prefix, taken)
    if free is None:
        candidates = IPv4Network("10.0.0.0/8").subnets(new_prefix=prefix)
        assert all(any(candidate.overlaps(other) for other in taken) for candidate in candidates)
    else:
        assert free.prefixlen == prefix
        assert not any(free.overlaps(other) for other in taken)


@untimed
@given(networks(1, 32))
def test_network_is_read_back_and_refused_with_host_bits(network: IPv4Network) -> None:
    assert parse_network(str(network)) == network
    if network.prefixlen < 32:
        with pytest.raises(ValueError, match=f"is an address in {network}"):
            parse_network(f"{network.network_address + 1}/{network.prefixlen}")


@untimed
@given(st.integers(0, 255), st.integers(0, 255), st.integers(120, 123))
def test_pool_with_the_address_of_a_node_is_refused(one: int, other: int, node: int) -> None:
    first, last = sorted((one, other))
    hosts = [HostData("pi", ("master",), {"ssh_hostname": f"192.168.0.{node}", "lan_cidr": "192.168.0.0/24"})]
    pool = {"metallb_pool": f"192.168.0.{first}-192.168.0.{last}", "platform_profile": "none"}
    faults = find_faults([HostData(host.name, host.groups, {**host.data, **pool}) for host in hosts])
    assert bool(faults) == (first <= node <= last or first == 0 or last == 255)


@untimed
@given(networks(8, 30), networks(8, 30))
def test_range_of_a_network_overlaps_what_the_network_overlaps(one: IPv4Network, other: IPv4Network) -> None:
    found = parse_range(str(one))
    assert found == AddressRange(one.network_address, one.broadcast_address)
    assert found.overlaps(other) == one.overlaps(other)
    assert found.within(other) == one.subnet_of(other)


def test_valid_hosts_become_a_cluster_without_pyinfra() -> None:
    assert isinstance(cluster_from_hosts(hosts_with({}, "pi-1", "pi-2")), Cluster)
