"""The lab's files and addresses."""

from __future__ import annotations

import multiprocessing
import time
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from piclusterops.lab.state import (
    BLOCKS,
    Fleet,
    FleetHost,
    LabError,
    address,
    address6,
    default_name,
    free_block,
    locked,
    next_octet,
    routed_networks,
    state_dir,
)
from piclusterops.paths import cache_root


def fleet(**changes: object) -> Fleet:
    values: dict[str, object] = {
        "name": "lab",
        "subnet": "10.78.0.0/24",
        "ssh_key": "/s/id_ed25519",
        "known_hosts": "/s/known_hosts",
        "mirror": "/s/mirror",
        "k3s_version": "v1.36.5+k3s1",
        "standin": True,
        "nodes": [FleetHost("pi-master", "10.78.0.10", "master")],
        "clients": [FleetHost("stranger", "10.78.1.66", "client")],
    }
    return Fleet(**{**values, **changes})  # type: ignore[arg-type]


def test_a_fleet_reads_back_what_was_written(tmp_path: Path) -> None:
    fleet().write(tmp_path / "fleet.json")
    assert Fleet.read(tmp_path / "fleet.json") == fleet()
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": [{"name": "a"}], "clients": []}'])
def test_a_damaged_fleet_names_the_file_and_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "fleet.json").write_text(text)
    with pytest.raises(LabError, match=r"fleet\.json is damaged.*picluster lab down"):
        Fleet.read(tmp_path / "fleet.json")


def test_an_unknown_host_is_answered_with_those_there_are() -> None:
    with pytest.raises(LabError, match="no host 'pi-mastr'; it has pi-master, stranger"):
        fleet().host("pi-mastr")


def test_addresses_keep_their_last_octet_in_all_networks() -> None:
    host = fleet().host("pi-master")
    found = [address(fleet().block, network, host.octet) for network in ("lan", "public", "vpn")]
    assert found == ["10.78.0.10", "10.78.1.10", "10.78.8.10"]


@pytest.mark.parametrize(
    ("taken", "block"),
    [
        ([], 77),
        (["10.77.0.0/24"], 78),
        (["10.77.8.0/24", "10.78.0.0/16", "192.168.0.0/16"], 79),
        (["10.76.0.0/14"], 80),
        (["172.17.0.0/16", "10.78.0.0/24"], 77),
    ],
)
def test_a_lab_takes_the_first_block_that_nobody_uses(taken: list[str], block: int) -> None:
    assert free_block(IPv4Network(network) for network in taken) == block


def test_no_free_block_is_an_error_that_says_how_to_get_one() -> None:
    with pytest.raises(LabError, match="picluster lab down"):
        free_block(IPv4Network(f"10.{block}.0.0/16") for block in BLOCKS)


def test_routes_become_networks_without_the_default_ones() -> None:
    routes: list[dict[str, object]] = [
        {"dst": "default", "gateway": "192.0.2.1"},
        {"dst": "0.0.0.0/0"},
        {"type": "unreachable", "dst": "10.77.0.0/16"},
        {"dst": "192.0.2.1"},
    ]
    assert routed_networks(routes) == [IPv4Network("10.77.0.0/16"), IPv4Network("192.0.2.1/32")]


def test_a_new_node_gets_the_lowest_free_address() -> None:
    hosts = [FleetHost(str(octet), f"10.77.0.{octet}", "worker") for octet in (10, 11, 13, 66)]
    assert next_octet(hosts) == 12
    assert next_octet([]) == 10


@pytest.mark.parametrize("name", ["", "Lab", "../lab", "a b", "-x", "x" * 31])
def test_a_name_that_no_container_can_have_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        state_dir(name)


def test_the_ipv6_address_reads_like_the_other_one() -> None:
    assert (address(77, "vpn", 12), address6(77, "vpn", 12)) == ("10.77.8.12", "fd00:77:8::12")


def test_environment_chooses_cache_and_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PICLUSTEROPS_CACHE", str(tmp_path))
    monkeypatch.setenv("PICLUSTEROPS_LAB", "mine")
    assert state_dir(default_name()) == tmp_path / "lab" / "mine"
    monkeypatch.delenv("PICLUSTEROPS_CACHE")
    monkeypatch.delenv("PICLUSTEROPS_LAB")
    assert cache_root() == Path.home() / ".cache" / "piclusterops"
    assert default_name() == "lab"


def _hold(path: Path, log: Path) -> None:
    with locked(path):
        for _ in range(2):
            with log.open("a") as handle:
                handle.write(f"{multiprocessing.current_process().pid}\n")
            time.sleep(0.05)


def test_a_lock_keeps_other_processes_out(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_hold, args=(tmp_path / "lock", tmp_path / "log")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    holders = (tmp_path / "log").read_text().split()
    assert len(holders) == 6
    assert all(holders[number] == holders[number + 1] for number in (0, 2, 4))
