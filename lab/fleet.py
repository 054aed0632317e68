"""A lab: containers that behave like Raspberry Pis, on networks without a way out."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from subprocess import PIPE
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from docker.client import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import IPAMConfig, IPAMPool

from piclusterops.lab import engine, image, kube, mirror
from piclusterops.lab.progress import say, step
from piclusterops.lab.state import (
    NETWORKS,
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

LABEL = "piclusterops.lab"
HOST_LABEL = "piclusterops.lab-host"
#: A server with etcd and an apiserver takes about 1 GiB, so this leaves room; three of them fit 8 GiB.
NODE_MEMORY = "2600m"
CLIENT_MEMORY = "256m"
#: The last route that the kernel tries: lab addresses never leave by the default route when a bridge is gone.
ROUTE_METRIC = "4278198272"
#: Seconds that a host gets from its start to SSH; it takes about 2 s on two idle cores, more when four start at once.
SSH_TIMEOUT = 90.0
#: Seconds after which `Lab.exec` looks whether its program has been stopped.
WAKE_S = 3.0
#: systemd, logind and dbus of an idle host hold 6 to 7 (counted), and a few more while it boots.
INOTIFY_PER_HOST = 8
#: Where a Raspberry Pi has its boot files since bookworm; it was /boot before.
BOOT = "/boot/firmware"
#: Where a host looks for programs.
HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Last octets of the clients.
OPERATOR, STRANGER = 5, 66


@dataclass(frozen=True)
class Node:
    """A node to be: its name, role (master, worker or data_node), and the folder of its boot files."""

    name: str
    role: str = "worker"
    boot: str = BOOT


@dataclass(frozen=True)
class Result:
    """What a command in a host gave."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Recipe:
    """What the hosts of a lab are made from; kept, so that a host made anew is the same one."""

    image: str
    repository: str
    kube: str
    boot: dict[str, str]


def default_nodes(count: int, roles: Sequence[str] | None = None) -> list[Node]:
    """`count` nodes called pi-master, pi-worker-1 ...; by default one master, one worker, data nodes.

    Raises:
        LabError: if there is no node, or not one role for each.
    """
    if count < 1:
        raise LabError(f"a lab of {count} nodes: it needs at least one; try --nodes 4")
    given = list(roles) if roles else ["master", "worker", *["data_node"] * count][:count]
    if len(given) != count:
        raise LabError(f"{count} nodes and {len(given)} roles: give one role for each node")
    names = ["pi-master", *(f"pi-worker-{number}" for number in range(1, count))]
    return [Node(name, role) for name, role in zip(names, given, strict=True)]


class Lab:
    """One lab of this machine, by its name; several can be up side by side."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or default_name()
        self.state = state_dir(self.name)
        self._client: DockerClient | None = None

    # What there is

    @property
    def fleet(self) -> Fleet:
        """The hosts, as ``fleet.json`` has them.

        Raises:
            LabError: if this lab is not up.
        """
        try:
            return Fleet.read(self.state / "fleet.json")
        except FileNotFoundError as error:
            raise LabError(f"lab {self.name} is not up; start it: picluster lab up --name {self.name}") from error

    @property
    def client(self) -> DockerClient:
        """The engine that runs this lab."""
        if self._client is None:
            self._client = engine.running()
        if self._client is None:
            raise LabError("no Docker Engine answers; start the lab again: picluster lab up")
        return self._client

    def container(self, host: str) -> Container:
        """The container of a host.

        Raises:
            LabError: if there is none.
        """
        try:
            return self.client.containers.get(self._container_name(host))
        except NotFound as error:
            raise LabError(f"lab {self.name}: {host} has no container; make it anew: picluster lab up") from error

    def status(self) -> dict[str, str]:
        """State of each host as the engine has it: running, exited, ...; `missing` without a container."""
        states = {c.labels[HOST_LABEL]: c.status for c in self._containers()}
        return {host.name: states.get(host.name, "missing") for host in self.fleet.hosts}

    def _container_name(self, host: str) -> str:
        return f"piclusterops-{self.name}-{host}"

    def _network_name(self, network: str) -> str:
        return f"piclusterops-{self.name}-{network}"

    def _containers(self) -> list[Container]:
        return self.client.containers.list(all=True, filters={"label": f"{LABEL}={self.name}"})

    # Up

    def up(
        self,
        nodes: int | Sequence[Node] | None = 4,
        roles: Sequence[str] | None = None,
        packages: Sequence[str] | None = None,
    ) -> Fleet:
        """Bring up the lab until every host answers SSH; what is already there stays as it is.

        Args:
            nodes: how many, or which; None: those that the lab has, or four.
            roles: the role of each, where `nodes` is a number.
            packages: Debian packages that hosts can install; by default those that the deploy installs.

        Raises:
            LabError: if that fails, or the lab is up with other nodes.
        """
        wanted = self._wanted(nodes, roles)
        with _exclusive():
            self._client = engine.ensure()
            image.sweep(self.client)
            tag = image.ensure_image(self.client)
            repository = image.ensure_repository(self.client, tag, *((packages,) if packages else _default_packages()))
            binaries = kube.ensure(self.client, tag)
            fleet = self._fleet_for(wanted)
            self._check_inotify(fleet)
            boot = {node.name: node.boot for node in wanted}
            self._write_recipe(Recipe(tag, str(repository), str(binaries), boot))
            image.prune(self.client, tag)
        with step(f"starting {len(fleet.hosts)} hosts"):
            self._each(fleet.hosts, self._ensure_host)
            self.wait_ssh([host.name for host in fleet.hosts])
        return fleet

    def _wanted(self, nodes: int | Sequence[Node] | None, roles: Sequence[str] | None) -> list[Node]:
        if isinstance(nodes, int):
            return default_nodes(nodes, roles)
        if nodes is not None:
            return list(nodes)
        if not (self.state / "fleet.json").exists():
            return default_nodes(4)
        boot = self._recipe().boot
        return [Node(host.name, host.role, boot.get(host.name, BOOT)) for host in self.fleet.nodes]

    def _fleet_for(self, wanted: Sequence[Node]) -> Fleet:
        """The fleet of this lab: as written down, or a new one with networks, keys and mirror."""
        path = self.state / "fleet.json"
        if path.exists():
            fleet = Fleet.read(path)
            there = [(host.name, host.role) for host in fleet.nodes]
            if there != [(node.name, node.role) for node in wanted]:
                raise LabError(
                    f"lab {self.name} is up with {', '.join(f'{name} ({role})' for name, role in there)}; "
                    f"to have others, first: picluster lab down --name {self.name}"
                )
            self._ensure_networks(fleet.block)
            if fleet.standin:  # its source may have changed; the same source gives the same bytes
                mirror.fill(self.state / "mirror")
            return fleet
        self._remove_engine_objects()
        self.state.mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o700)
        block = free_block(self._taken())
        self._ensure_networks(block)
        filled = mirror.fill(self.state / "mirror")
        _new_key(self.state / "id_ed25519", f"lab {self.name}")
        fleet = Fleet(
            name=self.name,
            subnet=f"{address(block, 'lan', 0)}/24",
            ssh_key=str(self.state / "id_ed25519"),
            known_hosts=str(self.state / "known_hosts"),
            mirror=str(self.state / "mirror"),
            k3s_version=filled.version,
            standin=filled.standin,
            nodes=[
                FleetHost(node.name, address(block, "lan", number), node.role)
                for number, node in enumerate(wanted, start=10)
            ],
            clients=[
                FleetHost("operator", address(block, "lan", OPERATOR), "client"),
                FleetHost("stranger", address(block, "public", STRANGER), "client"),
            ],
        )
        self._write_known_hosts(fleet)
        fleet.write(path)
        return fleet

    def _check_inotify(self, fleet: Fleet) -> None:
        """Hosts share one of the machine's limits that they soon reach, and then systemd ends without a word."""
        running = sum(state == "running" for state in self.status().values())
        needed = (len(fleet.hosts) - running) * INOTIFY_PER_HOST
        limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
        used = _inotify_instances()
        if needed and used + needed > limit:
            cause = f"{len(fleet.hosts)} hosts need up to {needed} inotify instances, {used} of {limit} are in use"
            raise LabError(
                f"{cause}; stop another lab, or raise the limit: sysctl -w fs.inotify.max_user_instances={limit * 4}"
            )

    def _taken(self) -> list[IPv4Network]:
        output = subprocess.run(
            ["ip", "-json", "-4", "route", "show", "table", "all"], capture_output=True, text=True, check=True
        ).stdout
        taken = routed_networks(json.loads(output or "[]"))
        for network in self.client.networks.list():
            for config in (network.attrs.get("IPAM") or {}).get("Config") or []:
                with suppress(KeyError, ValueError):
                    taken.append(IPv4Network(config["Subnet"]))
        for path in (cache_root() / "lab").glob("*/fleet.json"):
            with suppress(LabError):
                taken.append(IPv4Network(f"10.{Fleet.read(path).block}.0.0/16"))
        return taken

    def _ensure_networks(self, block: int) -> None:
        there = {network.name for network in self.client.networks.list(filters={"label": f"{LABEL}={self.name}"})}
        for network in NETWORKS:
            if self._network_name(network) in there:
                continue
            subnet, gateway = f"{address(block, network, 0)}/24", address(block, network, 1)
            self.client.networks.create(
                self._network_name(network),
                driver="bridge",
                internal=True,
                labels={LABEL: self.name},
                options={"com.docker.network.bridge.name": f"plab{block}{network}"},
                ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet, gateway=gateway)]),
            )
        _ip("route", "replace", "unreachable", f"10.{block}.0.0/16", "metric", ROUTE_METRIC)

    def _ensure_host(self, host: FleetHost) -> None:
        try:
            try:
                container = self.client.containers.get(self._container_name(host.name))
            except NotFound:
                container = self._create(host)
            if container.status != "running":
                container.start()
        except APIError as error:
            cause = f"lab {self.name}: {host.name} does not start: {error.explanation}"
            raise LabError(f"{cause}; start anew: picluster lab down --name {self.name}") from error

    def _addresses(self, host: FleetHost) -> dict[str, str]:
        """Network to address, in the order of the interfaces."""
        block = self.fleet.block
        if host.role != "client":
            networks = ["lan", "public", "vpn"]
        else:
            networks = ["public"] if host.octet == STRANGER else ["lan", "vpn"]
        return {network: address(block, network, host.octet) for network in networks}

    def _create(self, host: FleetHost) -> Container:
        recipe = self._recipe()
        addresses = self._addresses(host)
        first = next(iter(addresses))
        environment = {f"LAB_ETH{number}": value for number, value in enumerate(addresses.values())}
        environment |= {
            f"LAB6_ETH{number}": address6(self.fleet.block, network, host.octet)
            for number, network in enumerate(addresses)
        }
        environment["LAB_HOSTNAME"] = host.name if host.role == "client" else "raspberrypi"
        environment["LAB_BOOT"] = recipe.boot.get(host.name, BOOT)
        environment["container"] = "docker"
        api = self.client.api
        machine = api.create_host_config(
            network_mode=self._network_name(first),
            binds=[f"{recipe.repository}:/opt/piclusterops-lab/apt:ro", f"{recipe.kube}:/opt/piclusterops-lab/kube:ro"],
            tmpfs={"/run": "mode=755,size=256m", "/run/lock": "mode=1777,size=5m"},
            devices=["/dev/net/tun"] if Path("/dev/net/tun").exists() else [],
            cap_add=["NET_ADMIN", "SYS_ADMIN", "NET_RAW"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            cgroupns="private",
            mem_limit=CLIENT_MEMORY if host.role == "client" else NODE_MEMORY,
            pids_limit=4096,
            restart_policy={"Name": "unless-stopped"},
        )
        # What `docker run --security-opt systempaths=unconfined` sends: /proc/sys is the host's to write. What of it
        # is the machine's, lab-init covers.
        machine |= {"MaskedPaths": [], "ReadonlyPaths": []}
        endpoint = api.create_endpoint_config(ipv4_address=addresses[first])
        made = api.create_container(
            recipe.image,
            ["/opt/piclusterops-lab/lab-init"],
            name=self._container_name(host.name),
            hostname=environment["LAB_HOSTNAME"],
            environment=environment,
            labels={LABEL: self.name, HOST_LABEL: host.name},
            host_config=machine,
            networking_config={"EndpointsConfig": {self._network_name(first): endpoint}},
            stop_signal="SIGRTMIN+3",
        )
        container = self.client.containers.get(made["Id"])
        for network, ip in list(addresses.items())[1:]:
            self.client.networks.get(self._network_name(network)).connect(container, ipv4_address=ip)
        container.put_archive("/", self._personal_files(host))
        return container

    def _personal_files(self, host: FleetHost) -> bytes:
        """What makes the host this one: its SSH host key and whom it lets in; a tar."""
        key = self.state / "hostkeys" / host.name
        files: dict[str, tuple[bytes, int, int]] = {
            "etc/ssh/ssh_host_ed25519_key": (key.read_bytes(), 0o600, 0),
            "etc/ssh/ssh_host_ed25519_key.pub": (key.with_suffix(".pub").read_bytes(), 0o644, 0),
            "home/pi/.ssh/authorized_keys": ((self.state / "id_ed25519.pub").read_bytes(), 0o600, 1000),
        }
        return _tar(files)

    def _write_known_hosts(self, fleet: Fleet) -> None:
        """Host keys are made here and put into the hosts, so that strict checking holds from the first contact."""
        lines = []
        (self.state / "hostkeys").mkdir(mode=0o700, exist_ok=True)
        for host in fleet.hosts:
            key = self.state / "hostkeys" / host.name
            if not key.exists():
                _new_key(key, host.name)
            names = [host.name, *(address(fleet.block, network, host.octet) for network in NETWORKS)]
            public = key.with_suffix(".pub").read_text().split()
            lines.append(f"{','.join(names)} {public[0]} {public[1]}\n")
        new = self.state / "known_hosts.new"
        new.write_text("".join(lines))
        new.replace(self.state / "known_hosts")

    def _write_recipe(self, recipe: Recipe) -> None:
        (self.state / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")

    def _recipe(self) -> Recipe:
        try:
            return Recipe(**json.loads((self.state / "recipe.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise LabError(f"lab {self.name} is half-made ({error}); start anew: picluster lab down") from error

    def wait_ssh(self, hosts: Iterable[str], timeout: float = SSH_TIMEOUT) -> None:
        """Wait until every one of `hosts` answers a command over SSH.

        Raises:
            LabError: if one does not within `timeout` seconds.
        """
        end = time.monotonic() + timeout
        self._each(list(hosts), lambda host: self._wait_one(host, end))

    def _wait_one(self, name: str, end: float) -> None:
        error = "not tried"
        while time.monotonic() < end:
            result = self.ssh(name, ["true"], connect_timeout=2)
            if result.returncode == 0:
                return
            error = result.stderr.strip()
            time.sleep(0.3)
        raise LabError(f"lab {self.name}: {name} does not answer SSH: {error}; see: picluster lab logs {name}")

    def ssh_command(self, host: str, connect_timeout: int = 10) -> list[str]:
        """The ``ssh`` command line that logs in to a host as its user, with strict host key checking."""
        fleet = self.fleet
        target = fleet.host(host)
        options = {
            "IdentityFile": fleet.ssh_key,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": fleet.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": str(connect_timeout),
            "LogLevel": "ERROR",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", *words, "-p", str(target.port), f"{target.user}@{target.address}"]

    def ssh(self, host: str, argv: Sequence[str], connect_timeout: int = 10, timeout: float = 120) -> Result:
        """Run a command in a host over SSH, as its user; the words are joined by the host's shell as ssh does."""
        command = [*self.ssh_command(host, connect_timeout)]
        command[1:1] = ["-o", "BatchMode=yes"]
        try:
            done = subprocess.run(
                [*command, *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout
            )
        except FileNotFoundError as error:
            raise LabError("ssh is not installed; apt-get install openssh-client") from error
        return Result(done.returncode, done.stdout, done.stderr)

    # A host

    def exec(self, host: str, argv: Sequence[str], input: str | bytes | None = None) -> Result:
        """Run a command in a host as root, beside SSH: it works whatever the host does to its network.

        It enters the host's namespaces itself, because the engine now and then loses the output of a short command.
        A host that is not running answers with return code 255, as ssh does.
        """
        pid = int(self.container(host).attrs["State"]["Pid"])
        if not pid:
            return Result(255, "", f"{host} is not running\n")
        enter = ["nsenter", "--target", str(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        command = [*enter, "--", "/usr/bin/env", "-i", f"PATH={HOST_PATH}", "HOME=/root", *argv]
        given = input.encode() if isinstance(input, str) else input
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
            while True:
                try:
                    stdout, stderr = process.communicate(given, timeout=WAKE_S)
                    break
                except subprocess.TimeoutExpired:
                    given = None  # it has been taken
                # A host that shuts down stops what runs in it before it kills that, and nsenter stops with it for good.
                process.send_signal(signal.SIGCONT)
        return Result(process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    def power_cut(self, host: str) -> None:
        """Take the power from a host: nothing is shut down or written, and it stays off."""
        with suppress(APIError):  # it was off already
            self.container(host).kill()

    def power_on(self, host: str) -> None:
        """Give a host its power back; returns before it has booted."""
        self.container(host).start()

    def logs(self, host: str, lines: int = 200) -> str:
        """The end of a host's journal and what its init said; of the init alone while it is off."""
        container = self.container(host)
        text = container.logs(tail=lines).decode(errors="replace")
        if container.status == "running":
            text += self.exec(host, ["journalctl", "--no-pager", "-b", "-n", str(lines)]).stdout
        return text

    def add_node(self, name: str, role: str, boot: str = BOOT) -> FleetHost:
        """Start one more bare node and write it into ``fleet.json``.

        Raises:
            LabError: if there is one of that name, or it does not come up.
        """
        with _exclusive():
            fleet = self.fleet
            if any(host.name == name for host in fleet.hosts):
                raise LabError(f"lab {self.name} has a host {name} already; choose another name")
            octet = next_octet([*fleet.nodes, *(h for h in fleet.clients)])
            host = FleetHost(name, address(fleet.block, "lan", octet), role)
            fleet = replace(fleet, nodes=[*fleet.nodes, host])
            recipe = self._recipe()
            self._write_recipe(replace(recipe, boot={**recipe.boot, name: boot}))
            self._write_known_hosts(fleet)
            fleet.write(self.state / "fleet.json")
        self._ensure_host(host)
        self.wait_ssh([name])
        return host

    def remove_node(self, name: str) -> None:
        """Take a node away for good: its container, and its line in ``fleet.json``."""
        with _exclusive():
            fleet = self.fleet
            host = fleet.host(name)
            with suppress(LabError):
                _remove(self.container(name))
            fleet = replace(fleet, nodes=[node for node in fleet.nodes if node is not host])
            for path in (self.state / "hostkeys").glob(f"{name}*"):
                if path.stem == name:
                    path.unlink()
            self._write_known_hosts(fleet)
            fleet.write(self.state / "fleet.json")

    def add_version(self, version: str) -> None:
        """Offer one more K3s version in the lab's mirror; see `piclusterops.lab.mirror.add_version`."""
        mirror.add_version(self.state / "mirror", version)

    def recreate(self, *names: str) -> None:
        """Make hosts bare again: all that was written on them is gone, address and host key stay."""
        hosts = [self.fleet.host(name) for name in names]

        def anew(host: FleetHost) -> None:
            with suppress(LabError):
                _remove(self.container(host.name))
            self._ensure_host(host)

        self._each(hosts, anew)
        self.wait_ssh(names)

    def _each(self, items: Sequence[Any], action: Callable[[Any], None]) -> None:
        """Do `action` on all of `items` at once; raises the first error after all have ended."""
        with ThreadPoolExecutor(max_workers=max(len(items), 1)) as pool:
            for done in [pool.submit(action, item) for item in items]:
                done.result()

    # Down

    def down(self) -> None:
        """Remove everything this lab has on the machine; also after a crash, and when there is nothing."""
        with _exclusive():
            self._down()

    def _down(self) -> None:
        others = [path for path in (cache_root() / "lab").glob("*/") if path != self.state]
        self._client = engine.running()
        if self._client is None and self.state.exists() and (engine.root() / "data").exists():
            self._client = engine.ensure()  # the containers are in its folder
        block = None
        with suppress(LabError):
            block = self.fleet.block
        if self._client is not None:
            block = self._remove_engine_objects() or block
            if not others and not engine.is_own(self._client):
                image.remove_images(self._client)
            self._client.close()
            self._client = None
        if block is not None:
            _ip("route", "del", "unreachable", f"10.{block}.0.0/16", "metric", ROUTE_METRIC, check=False)
        shutil.rmtree(self.state, ignore_errors=True)
        if not others:
            engine.stop_own()

    def _remove_engine_objects(self) -> int | None:
        """Containers and networks of this lab; returns the block that the networks had."""
        block = None
        self._each(self._containers(), _remove)
        for network in self.client.networks.list(filters={"label": f"{LABEL}={self.name}"}):
            for config in (network.attrs.get("IPAM") or {}).get("Config") or []:
                block = int(config["Subnet"].split(".")[1])
            network.remove()
        return block


def _inotify_instances() -> int:
    """How many inotify instances the processes of this machine have open."""
    count = 0
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # gone, or another user's
            count += link.readlink().name == "anon_inode:inotify"
    return count


def _remove(container: Container) -> None:
    with suppress(NotFound):
        container.remove(force=True, v=True)


def _exclusive() -> AbstractContextManager[None]:
    """One process at a time builds, makes or removes what labs share: engine, image, networks."""
    return locked(
        cache_root() / "lab" / ".lock",
        lambda: say("Another `picluster lab` is building, starting or stopping: waiting."),
    )


def _default_packages() -> tuple[Sequence[str], Sequence[str]]:
    """What the deploy installs on every node, and what on some."""
    from piclusterops.host_releases import PACKAGES
    from piclusterops.settings import DEFAULT_PACKAGES

    return DEFAULT_PACKAGES, [name for names in PACKAGES.values() for name in names]


def _new_key(path: Path, comment: str) -> None:
    """Write an Ed25519 key pair for OpenSSH to `path` (0600) and `path`.pub."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.touch(mode=0o600)
    path.write_bytes(private)
    path.with_suffix(".pub").write_bytes(public + f" {comment}\n".encode())


def _tar(files: Mapping[str, tuple[bytes, int, int]]) -> bytes:
    """A tar of files: path to content, mode and owner."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (content, mode, owner) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, owner, owner
            entry.mtime = int(time.time())
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and done.returncode:
        raise LabError(f"`ip {' '.join(words)}`: {done.stderr.strip()}; the lab needs root and iproute2")
