"""The lab itself: hosts that behave like bare Raspberry Pis, and a machine that stays as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from piclusterops.lab import engine
from piclusterops.lab.fleet import Lab, Node
from piclusterops.lab.state import address
from piclusterops.paths import cache_root

pytestmark = pytest.mark.lab

#: What the deploy sets, and more that has no namespace: the machine must keep its own.
MACHINE_SYSCTLS = {
    "vm.overcommit_memory": "1",
    "vm.panic_on_oom": "1",
    "vm.max_map_count": "524288",
    "vm.swappiness": "7",
    "kernel.panic": "11",
    "kernel.panic_on_oops": "1",
    "kernel.keys.root_maxbytes": "24999999",
    "kernel.keys.root_maxkeys": "999999",
    "kernel.core_pattern": "lab-core",
    "fs.inotify.max_user_instances": "8191",
}
#: TEST-NET-3 (RFC 5737): belongs to nobody.
OUTSIDE = "203.0.113.7"


def machine_sysctls() -> dict[str, str]:
    return {name: Path("/proc/sys", *name.split(".")).read_text() for name in MACHINE_SYSCTLS}


def boot_id(lab: Lab, host: str) -> str:
    return lab.exec(host, ["cat", "/proc/sys/kernel/random/boot_id"]).stdout


def reboot(lab: Lab, host: str) -> None:
    """Reboot as the product does, over SSH, and wait until the next boot answers."""
    before = boot_id(lab, host)
    lab.ssh(host, ["sudo", "systemctl", "reboot"])
    end = time.monotonic() + 60
    while time.monotonic() < end:
        now = lab.ssh(host, ["cat", "/proc/sys/kernel/random/boot_id"], connect_timeout=1)
        if now.returncode == 0 and now.stdout != before:
            return
        time.sleep(0.1)
    raise AssertionError(f"{host} is not back: {lab.logs(host, 30)}")


def connect(lab: Lab, host: str, target: str, port: int = 22) -> bool:
    return lab.exec(host, ["nc", "-z", "-w", "2", target, str(port)]).returncode == 0


def processes_about(path: Path) -> list[str]:
    """Command lines of running processes that mention `path`."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_text().replace("\0", " "))
    return [line for line in lines if str(path) in line]


@pytest.fixture(scope="module")
def second() -> Iterator[Lab]:
    """Another lab beside the first: one node, its boot files in the old place."""
    lab = Lab("test-second")
    lab.up([Node("pi-master", "master", boot="/boot")])
    yield lab
    lab.down()


def test_all_hosts_let_pi_in_over_ssh_with_a_known_host_key(lab: Lab) -> None:
    for host in lab.fleet.hosts:
        assert lab.ssh(host.name, ["whoami;", "sudo", "-n", "whoami"]).stdout == "pi\nroot\n", host.name


def test_a_host_with_another_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    command = lab.ssh_command("pi-master")
    keys = Path(lab.fleet.known_hosts).read_text().splitlines()
    other = next(line.split(" ", 1)[1] for line in keys if line.startswith("pi-worker-1,"))
    (tmp_path / "known_hosts").write_text(f"{lab.fleet.host('pi-master').address} {other}\n")
    command = [word.replace(lab.fleet.known_hosts, str(tmp_path / "known_hosts")) for word in command]
    done = subprocess.run([*command, "true"], capture_output=True, text=True)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_a_bare_host_looks_like_a_raspberry_pi(lab: Lab) -> None:
    script = """
    set -e
    tr -d '\\0' </sys/firmware/devicetree/base/model; echo
    cat /etc/hostname
    vcgencmd get_throttled
    test "$(wc -l </boot/firmware/cmdline.txt)" = 1
    test -f /boot/firmware/config.txt
    test -f /run/systemd/timesync/synchronized
    systemctl is-active systemd-timesyncd
    systemctl is-system-running
    ! command -v nft && ! command -v jq && ! command -v iptables
    test -z "$(/opt/piclusterops-lab/nft/run list ruleset)"
    """
    done = lab.exec("pi-worker-2", ["sh", "-c", script])
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == [
        "Raspberry Pi 5 Model B Rev 1.0",
        "raspberrypi",
        "throttled=0x0",
        "active",
        "running",
    ]


def test_vcgencmd_answers_what_a_test_tells_it(lab: Lab) -> None:
    lab.exec("pi-worker-2", ["tee", "/etc/piclusterops-lab/vcgencmd"], input="get_throttled throttled=0x50005\n")
    assert lab.ssh("pi-worker-2", ["vcgencmd", "get_throttled"]).stdout == "throttled=0x50005\n"


def test_a_reboot_gives_a_new_boot_id_and_keeps_what_was_written(lab: Lab) -> None:
    host = "pi-worker-1"
    assert "memory" not in lab.exec(host, ["cat", "/sys/fs/cgroup/cgroup.controllers"]).stdout.split()
    lab.exec(host, ["hostnamectl", "set-hostname", "pi-worker-1"])
    lab.exec(
        host, ["sh", "-c", "echo kept >/root/kept; sed -i 's/$/ cgroup_enable=memory/' /boot/firmware/cmdline.txt"]
    )
    lab.exec(host, ["sh", "-c", "echo vm.overcommit_memory=1 >/etc/sysctl.d/90-test.conf; sysctl -w kernel.panic=11"])
    before = boot_id(lab, host)
    interfaces = lab.exec(host, ["ip", "-br", "-4", "address", "show", "scope", "global"]).stdout
    reboot(lab, host)
    assert boot_id(lab, host) != before
    assert lab.exec(host, ["cat", "/root/kept", "/etc/hostname"]).stdout == "kept\npi-worker-1\n"
    assert lab.exec(host, ["hostname"]).stdout == "pi-worker-1\n"
    assert "cgroup_enable=memory" in lab.exec(host, ["cat", "/proc/cmdline"]).stdout
    assert "memory" in lab.exec(host, ["cat", "/sys/fs/cgroup/cgroup.controllers"]).stdout.split()
    assert "memory" not in lab.exec(host, ["cat", "/proc/cgroups"]).stdout  # as on kernels from 6.12 on
    assert lab.exec(host, ["sysctl", "-n", "vm.overcommit_memory", "kernel.panic"]).stdout == "1\n0\n"
    assert len(lab.exec(host, ["journalctl", "--list-boots", "--no-pager", "-q"]).stdout.splitlines()) >= 2
    after = lab.exec(host, ["ip", "-br", "-4", "address", "show", "scope", "global"]).stdout
    octet = lab.fleet.host(host).octet
    expected = {f"eth{n}": address(lab.fleet.block, net, octet) for n, net in enumerate(("lan", "public", "vpn"))}
    for text in (interfaces, after):
        found = {line.split("@")[0]: line.split()[2].split("/")[0] for line in text.splitlines()}
        assert found == expected


def test_a_power_cut_stays_until_the_power_is_back(lab: Lab) -> None:
    host, before = "pi-worker-3", boot_id(lab, "pi-worker-3")
    lab.power_cut(host)
    assert lab.status()[host] == "exited"
    assert lab.ssh(host, ["true"], connect_timeout=1).returncode == 255
    lab.power_on(host)
    lab.wait_ssh([host])
    assert boot_id(lab, host) != before


def test_a_recreated_host_is_bare_again_under_the_same_key(lab: Lab) -> None:
    lab.exec("pi-worker-1", ["touch", "/etc/marker"])
    lab.recreate("pi-worker-1")
    assert lab.ssh("pi-worker-1", ["test", "!", "-e", "/etc/marker"]).returncode == 0
    assert lab.exec("pi-worker-1", ["cat", "/etc/hostname"]).stdout == "raspberrypi\n"


def test_sysctls_without_a_namespace_are_the_hosts_own(lab: Lab) -> None:
    before = machine_sysctls()
    same = [name for name, value in MACHINE_SYSCTLS.items() if before[name].strip() == value]
    assert not same, "the machine has these values itself: no proof"
    one, other = "pi-worker-1", "pi-worker-2"
    untouched = lab.exec(other, ["sysctl", "-n", *MACHINE_SYSCTLS]).stdout
    lines = "".join(f"{name} = {value}\n" for name, value in MACHINE_SYSCTLS.items())
    lab.exec(one, ["tee", "/etc/sysctl.d/90-test.conf"], input=lines)
    wanted = [*MACHINE_SYSCTLS.values()]
    for command in (["systemctl", "restart", "systemd-sysctl"], ["sysctl", "--system"]):
        assert lab.exec(one, command).returncode == 0
        assert lab.exec(one, ["sysctl", "-n", *MACHINE_SYSCTLS]).stdout.split() == wanted, command
    assert lab.exec(one, ["sysctl", "-w", "vm.swappiness=1"]).returncode == 0
    assert lab.exec(one, ["sysctl", "-n", "vm.swappiness"]).stdout == "1\n"
    assert lab.exec(other, ["sysctl", "-n", *MACHINE_SYSCTLS]).stdout == untouched
    assert machine_sysctls() == before
    assert all(before[name].strip() != value for name, value in MACHINE_SYSCTLS.items()), (
        "no proof: equal from the start"
    )


def test_sysctls_with_a_namespace_are_real(lab: Lab) -> None:
    assert lab.exec("pi-worker-1", ["sysctl", "-w", "net.ipv4.ip_forward=1"]).returncode == 0
    assert lab.exec("pi-worker-1", ["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout == "1\n"
    assert lab.exec("pi-worker-2", ["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout == "0\n"


def test_no_host_has_a_way_out(lab: Lab) -> None:
    for host in lab.fleet.hosts:
        assert lab.exec(host.name, ["ip", "route", "show", "default"]).stdout == "", host.name
        start = time.monotonic()
        done = lab.exec(host.name, ["nc", "-z", "-v", "-w", "5", OUTSIDE, "443"])
        assert done.returncode != 0
        assert "unreachable" in done.stderr.lower(), done
        assert time.monotonic() - start < 2
    nowhere = f"10.{lab.fleet.block}.200.1"  # of the lab, but in none of its networks
    done = subprocess.run(["ip", "route", "get", nowhere], capture_output=True, text=True)
    assert "No route to host" in done.stderr, done


def test_operator_is_inside_and_stranger_outside(lab: Lab) -> None:
    for node in lab.fleet.nodes:
        reach = {
            (client, network): connect(lab, client, address(lab.fleet.block, network, node.octet))
            for client in ("operator", "stranger")
            for network in ("lan", "public", "vpn")
        }
        assert reach == {
            ("operator", "lan"): True,
            ("operator", "public"): False,
            ("operator", "vpn"): True,
            ("stranger", "lan"): False,
            ("stranger", "public"): True,
            ("stranger", "vpn"): False,
        }, node.name


def test_a_package_of_the_deploy_installs_without_a_network(lab: Lab) -> None:
    done = lab.ssh(
        "pi-worker-2", ["sudo", "apt-get", "update", "-qq", "&&", "sudo", "apt-get", "install", "-y", "-qq", "jq"]
    )
    assert done.returncode == 0, done
    assert lab.ssh("pi-worker-2", ["jq", "--version"]).stdout.startswith("jq-")


def test_the_kubernetes_programs_run_in_a_host(lab: Lab) -> None:
    for program in ("kube-apiserver --version", "etcd --version", "kubectl version --client --short"):
        done = lab.ssh("pi-master", [f"/opt/piclusterops-lab/kube/{program}"])
        assert done.returncode == 0, done


def test_exec_passes_input_and_tells_the_exit_code(lab: Lab) -> None:
    text = "line\n" * 40_000
    assert lab.exec("pi-master", ["cat"], input=text).stdout == text
    done = lab.exec("pi-master", ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_exec_wakes_what_was_stopped_as_a_host_does_that_shuts_down(lab: Lab) -> None:
    done = lab.exec("pi-master", ["sh", "-c", "kill -STOP $$; echo awake"])
    assert (done.returncode, done.stdout) == (0, "awake\n")


def test_boot_files_can_be_in_the_old_place(second: Lab) -> None:
    host = "pi-master"
    assert second.exec(host, ["test", "-d", "/boot/firmware"]).returncode == 1
    second.exec(host, ["sed", "-i", "s/$/ cgroup_enable=memory/", "/boot/cmdline.txt"])
    reboot(second, host)
    assert "memory" in second.exec(host, ["cat", "/sys/fs/cgroup/cgroup.controllers"]).stdout.split()


def test_a_node_can_be_added_and_taken_away(second: Lab) -> None:
    second.add_node("pi-worker-1", "worker")
    assert [node.name for node in second.fleet.nodes] == ["pi-master", "pi-worker-1"]
    assert second.ssh("pi-worker-1", ["true"]).returncode == 0
    second.remove_node("pi-worker-1")
    assert [node.name for node in second.fleet.nodes] == ["pi-master"]
    assert "pi-worker-1" not in second.status()


def test_the_mirror_can_offer_another_version(second: Lab) -> None:
    second.add_version("v1.36.6+k3s1")
    versions = sorted(path.parent.name for path in Path(second.fleet.mirror).glob("*/sha256sum-*.txt"))
    assert versions == sorted([second.fleet.k3s_version, "v1.36.6+k3s1"])


def test_down_leaves_nothing_and_can_be_repeated(lab: Lab, second: Lab) -> None:
    block = second.fleet.block
    assert block != lab.fleet.block
    containers = [second.container(host.name).id for host in second.fleet.hosts]
    second.down()
    second.down()
    client = engine.running()
    assert client is not None, "the first lab still needs the engine"
    assert [c.name for c in client.containers.list(all=True) if "test-second" in str(c.name)] == []
    assert [n.name for n in client.networks.list() if "test-second" in str(n.name)] == []
    for command in (["ip", "route", "show", "table", "all"], ["ip", "-br", "link"]):
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert f"10.{block}." not in output and f"plab{block}" not in output
    assert not (cache_root() / "lab" / "test-second").exists()
    groups = [path.name for depth in ("*/*", "*/*/*") for path in Path("/sys/fs/cgroup").glob(depth)]
    assert not [name for name in groups for identity in containers if str(identity) in name]
    assert lab.ssh("pi-master", ["true"]).returncode == 0, "the first lab is untouched"


def test_the_last_lab_takes_its_engine_along(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    if not engine.is_own(lab.client):
        pytest.skip("this machine's own Docker Engine runs the lab; there is none to stop")
    cache = cache_root() / "engine-test"
    for part in ("images", "apt", "kube"):
        shutil.copytree(cache_root() / part, cache / part, copy_function=os.link)
    strays = [path for path in engine.STRAYS if path.exists()]
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("PICLUSTEROPS_CACHE", str(cache))
    alone = Lab("alone")
    try:
        alone.up(1)
        assert engine.is_own(alone.client)
        assert processes_about(cache)
        alone.down()
        assert not processes_about(cache)
        assert str(cache) not in Path("/proc/self/mountinfo").read_text()
        assert [path for path in engine.STRAYS if path.exists()] == strays
        left = {path.name for path in cache.rglob("*") if path.is_socket() or path.suffix in (".pid", ".json")}
        assert not {name for name in left if name.startswith(("docker", "engine", "fleet"))}
    finally:
        alone.down()
        shutil.rmtree(cache)
    assert lab.ssh("pi-master", ["true"]).returncode == 0, "the other engine goes on"
