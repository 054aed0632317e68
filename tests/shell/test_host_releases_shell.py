"""What is done on hosts for WireGuard, NFS and Docker, run for real under dash."""

from __future__ import annotations

import stat
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from host_samples import LAPTOP, PHONE, with_release, with_vpn
from hostshell import Command, Host, commands
from pyinfra.api import FunctionCommand, StringCommand

from piclusterops import docker
from piclusterops.facts import wireguard as facts
from piclusterops.facts.snapshot import PathState, Snapshot, UnitState, parse, script
from piclusterops.nfs_server import nfs_server_of
from piclusterops.operations import docker as docker_operations
from piclusterops.operations import nfs_server as nfs_operations
from piclusterops.operations import wireguard as operations
from piclusterops.operations.managed import ManagedFile
from piclusterops.settings import Cluster
from piclusterops.wireguard import ROUTE_FILE, ROUTE_UNIT, vpn_of

KEY, CONF = "/etc/wireguard/wg0.key", "/etc/wireguard/wg0.conf"
UNIT = "wg-quick@wg0.service"
RUNNING = UnitState("active", "enabled")


@pytest.fixture(autouse=True)
def from_the_lan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run does not come by the VPN."""
    monkeypatch.setattr(operations, "_own_address", lambda: IPv4Address("192.168.0.7"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path / "root")
    host.fake("systemctl", "case $* in *is-active*) exit 3 ;; esac")
    host.fake("chown", ":")
    return host


def text(found: list[Command]) -> str:
    return "\n".join("REFUSED" if isinstance(each, FunctionCommand) else each.get_raw_value() for each in found)


def up(cluster: Cluster) -> Snapshot:
    """A node that ends the VPN of a cluster, as it should be."""
    vpn = vpn_of(cluster)
    assert vpn
    return Snapshot(
        paths={
            KEY: PathState("regular file", "600", "root", "root", "ab"),
            **{path: file.state for path, file in operations.wanted_files(vpn).items()},
        },
        packages={"wireguard-tools"},
        units={UNIT: RUNNING},
        stamps={"wireguard": vpn.mark},
        probes={"wireguard": vpn.in_force},
    )


# WireGuard


def test_a_bare_node_gets_stamp_package_key_files_and_unit_in_this_order() -> None:
    found = text(commands(operations.vpn_end, Snapshot(), cluster=with_vpn()))
    places = [found.index(word) for word in ("wg0 begun", "wireguard-tools", "wg genkey", "cat >", "enable", "restart")]
    assert places == sorted(places)


def test_a_node_that_has_it_all_is_left_alone() -> None:
    assert commands(operations.vpn_end, up(with_vpn()), cluster=with_vpn()) == []


def test_peers_are_reloaded_and_all_else_is_a_restart() -> None:
    found = text(commands(operations.vpn_end, up(with_vpn()), cluster=with_vpn(LAPTOP, PHONE)))
    assert f"systemctl reload {UNIT}" in found and "systemctl restart" not in found
    found = text(commands(operations.vpn_end, up(with_vpn()), cluster=with_vpn(vpn_port=51999)))
    assert f"systemctl restart {UNIT}" in found


def test_what_the_kernel_lacks_is_put_back_though_the_files_are_right() -> None:
    snapshot = up(with_vpn())
    snapshot.probes["wireguard"] = [line for line in snapshot.probes["wireguard"] if not line.startswith("peer")]
    assert f"systemctl reload {UNIT}" in text(commands(operations.vpn_end, snapshot, cluster=with_vpn()))
    snapshot = up(with_vpn())
    snapshot.probes["wireguard"].remove("key ours")
    assert f"systemctl restart {UNIT}" in text(commands(operations.vpn_end, snapshot, cluster=with_vpn()))


def test_a_run_that_was_stopped_is_finished() -> None:
    snapshot = up(with_vpn())
    snapshot.stamps["wireguard"] = "wg0 begun"
    snapshot.paths.pop(CONF)
    snapshot.probes["wireguard"] = []
    found = text(commands(operations.vpn_end, snapshot, cluster=with_vpn()))
    assert CONF in found and "restart" in found and "REFUSED" not in found


def test_a_file_of_somebody_else_is_not_replaced() -> None:
    snapshot = Snapshot(paths={CONF: PathState("regular file", "600", "root", "root", "cd")})
    assert text(commands(operations.vpn_end, snapshot, cluster=with_vpn())) == "REFUSED"


@pytest.mark.parametrize("cluster", [with_vpn(vpn_port=51999), with_vpn(node="pi-worker-1")], ids=["port", "moved"])
def test_who_comes_by_the_vpn_does_not_cut_himself_off(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_own_address", lambda: IPv4Address("10.8.0.2"))
    assert text(commands(operations.vpn_end, up(with_vpn()), cluster=cluster)) == "REFUSED"
    more = text(commands(operations.vpn_end, up(with_vpn()), cluster=with_vpn(LAPTOP, PHONE)))
    assert "REFUSED" not in more, "one more peer breaks nothing"
    monkeypatch.setattr(operations, "_own_address", lambda: IPv4Address("192.168.0.7"))
    assert "REFUSED" not in text(commands(operations.vpn_end, up(with_vpn()), cluster=cluster))


def test_the_key_is_made_once_private_and_in_no_command(host: Host) -> None:
    host.fake("wg", "echo the-private-key")
    make = operations._new_key(KEY)
    assert host.run(make).returncode == 0
    file = host.path(KEY)
    assert file.read_text() == "the-private-key\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    host.fake("wg", "echo another-key")
    file.chmod(0o644)
    assert host.run(make).returncode == 0
    assert file.read_text() == "the-private-key\n" and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "the-private-key" not in "".join(host.calls)


def test_a_key_that_could_not_be_made_leaves_none(host: Host) -> None:
    host.fake("wg", "exit 1")
    assert host.run(operations._new_key(KEY)).returncode != 0
    assert not host.path(KEY).exists()


@pytest.mark.parametrize("cluster", [with_release("docker"), with_vpn(node="pi-worker-1")], ids=["off", "moved"])
def test_off_or_moved_away_the_key_alone_stays(host: Host, cluster: Cluster) -> None:
    for path in (KEY, CONF, "/etc/systemd/system/wg-quick@wg0.service.d/piclusterops.conf"):
        host.write(path, "x")
    host.write("/var/lib/piclusterops/stamps/wireguard", "wg0 ab")
    (command,) = commands(operations.vpn_end, Snapshot(stamps={"wireguard": "wg0 ab"}), cluster=cluster)
    assert host.run(command).returncode == 0
    left = {str(file.relative_to(host.root)) for file in host.root.rglob("*") if file.is_file()}
    assert left - {"calls", "fake-bin/systemctl", "fake-bin/chown"} == {KEY.lstrip("/")}
    assert f"systemctl disable --quiet --now {UNIT}" in host.calls


def test_where_it_never_was_nothing_is_done() -> None:
    assert commands(operations.vpn_end, Snapshot(), cluster=with_release("docker")) == []
    assert commands(operations.way_back, Snapshot(), cluster=with_release("docker")) == []


def test_the_probe_says_what_the_kernel_has_and_no_key(host: Host) -> None:
    vpn = vpn_of(with_vpn(LAPTOP, PHONE))
    assert vpn
    peers = "\n".join(f"printf '{peer.public_key}\\t{peer.address}/32\\n'" for peer in vpn.peers)
    host.fake(
        "wg", f'case $* in pubkey|"show wg0 public-key") echo PUB ;; *listen-port) echo 51900 ;; *ips) {peers} ;; esac'
    )
    host.fake("ip", "echo '4: wg0    inet 10.8.0.1/24 scope global wg0'")
    host.write("/sys/class/net/wg0/mtu", "1420\n")
    host.write(KEY, "the-private-key\n")
    query = facts.query(with_vpn().settings)
    done = host.run(script(query))
    assert facts.in_kernel(parse(done.stdout.splitlines())) == vpn.in_force
    assert "the-private-key" not in done.stdout + "".join(host.calls)
    host.path(KEY).unlink()
    host.fake("wg", 'case $* in pubkey) cat >/dev/null; exit 1 ;; *public-key) echo "(none)" ;; esac')
    assert "key ours" not in facts.in_kernel(parse(host.run(script(query)).stdout.splitlines()))


def test_the_other_nodes_keep_their_way_back_and_the_vpns_own_does_not() -> None:
    elsewhere = with_vpn(node="pi-worker-1")
    found = text(commands(operations.way_back, Snapshot(), cluster=elsewhere))
    assert f"systemctl enable --quiet {ROUTE_UNIT}" in found
    vpn = vpn_of(elsewhere)
    assert vpn and "ip route replace 10.8.0.0/24 via 192.168.0.121" in vpn.route
    file = ManagedFile(vpn.route).state
    right = Snapshot(paths={ROUTE_FILE: file}, units={ROUTE_UNIT: RUNNING}, stamps={"vpn-route": file.sha256})
    assert commands(operations.way_back, right, cluster=elsewhere) == []
    right.units[ROUTE_UNIT] = UnitState("inactive", "enabled")
    assert "restart" in text(commands(operations.way_back, right, cluster=elsewhere))
    assert "disable" in text(commands(operations.way_back, right, cluster=with_vpn())), "the VPN moved here"


# NFS


NFS = with_release("nfs-server", "pi-master")


def test_nfs_has_its_files_before_its_package() -> None:
    found = text(commands(nfs_operations.exported, Snapshot(), cluster=NFS))
    names = (
        "chmod 711 /srv/nfs",
        "/etc/nfs.conf.d/",
        "/etc/exports.d/",
        "nfs-kernel-server",
        "exportfs -ra",
        "restart",
    )
    places = [found.index(name) for name in names]
    assert places == sorted(places)


def nfs_up(cluster: Cluster) -> Snapshot:
    server = nfs_server_of(cluster)
    assert server
    return Snapshot(
        paths={
            "/srv/nfs": PathState("directory", "711", "root", "root"),
            **{path: file.state for path, file in nfs_operations.wanted_files(server).items()},
        },
        packages={"nfs-kernel-server"},
        units={"nfs-server.service": RUNNING},
        stamps={"nfs-server": server.mark},
    )


def test_nfs_that_is_right_is_left_alone_and_one_more_node_restarts_nothing() -> None:
    assert commands(nfs_operations.exported, nfs_up(NFS), cluster=NFS) == []
    fewer = with_release("nfs-server", "pi-master")
    fewer = fewer.model_copy(update={"nodes": fewer.nodes[:2]})
    found = text(commands(nfs_operations.exported, nfs_up(fewer), cluster=NFS))
    assert "exportfs -ra" in found and "systemctl reload nfs-server.service" in found
    assert "systemctl restart" not in found


@pytest.mark.parametrize(("others", "stopped"), [("", True), ("/srv/own  10.0.0.9(rw)", False)], ids=["none", "own"])
def test_nfs_off_exports_nothing_of_ours_and_keeps_what_others_export(host: Host, others: str, stopped: bool) -> None:
    host.write("/etc/exports.d/piclusterops.exports", "x")
    host.write("/etc/nfs.conf.d/piclusterops.conf", "x")
    host.write("/var/lib/piclusterops/stamps/nfs-server", "x")
    host.fake("exportfs", f"[ \"$1\" = -s ] && printf '{others}' || exit 0")
    (command,) = commands(nfs_operations.exported, Snapshot(stamps={"nfs-server": "x"}), cluster=with_vpn())
    assert host.run(command).returncode == 0
    assert not list(host.path("/etc").rglob("piclusterops*"))
    assert not host.path("/var/lib/piclusterops/stamps/nfs-server").exists()
    assert ("systemctl disable --quiet --now nfs-server.service" in host.calls) is stopped


# Docker


DOCKER = with_release("docker", "pi-master")


def test_docker_has_its_configuration_before_its_package() -> None:
    found = text(commands(docker_operations.engine, Snapshot(), cluster=DOCKER))
    places = [
        found.index(name) for name in ("begun", "/etc/docker/daemon.json", "docker.io", "docker.socket", "restart")
    ]
    assert places == sorted(places)


def test_docker_that_runs_is_left_alone() -> None:
    file = ManagedFile(docker.daemon_json()).state
    snapshot = Snapshot(
        paths={docker.CONF_FILE: file},
        packages={"docker.io"},
        units=dict.fromkeys(docker.UNITS, RUNNING),
        stamps={"docker": docker.mark()},
    )
    assert commands(docker_operations.engine, snapshot, cluster=DOCKER) == []


@pytest.mark.parametrize(
    "snapshot",
    [
        Snapshot(packages={"docker-ce"}),
        Snapshot(paths={docker.CONF_FILE: PathState("regular file", "644", "root", "root", "ab")}),
    ],
    ids=["package", "file"],
)
def test_a_docker_of_somebody_else_is_left_alone(snapshot: Snapshot) -> None:
    assert text(commands(docker_operations.engine, snapshot, cluster=DOCKER)) == "REFUSED"


def test_docker_off_stops_containers_and_keeps_images_and_configuration(host: Host) -> None:
    host.fake("systemctl", "case $* in *is-active*) [ ! -e $0.off ] ;; *disable*) : >$0.off ;; esac")
    host.fake("docker", "[ $1 = ps ] && echo c0ffee || :")
    host.write("/etc/docker/daemon.json", "{}")
    host.write("/var/lib/piclusterops/stamps/docker", "x")
    (command,) = commands(docker_operations.engine, Snapshot(stamps={"docker": "x"}), cluster=with_vpn())
    assert isinstance(command, StringCommand)
    assert host.run(command).returncode == 0
    assert "docker stop c0ffee" in host.calls
    assert "systemctl disable --quiet --now docker.socket docker.service containerd.service" in host.calls
    assert host.path("/etc/docker/daemon.json").exists()
    assert not host.path("/var/lib/piclusterops/stamps/docker").exists()
