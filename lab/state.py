"""Where a lab keeps its files, and what it writes down about itself (``fleet.json``)."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from piclusterops.paths import cache_root

#: Second octets of the /16 blocks that labs take, in this order.
BLOCKS = range(77, 100)
#: Third octet of each network of a lab.
NETWORKS = {"lan": 0, "public": 1, "vpn": 8}
#: Last octet of the first node; the controller machine is .1.
FIRST_NODE = 10
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,29}")


class LabError(Exception):
    """The lab cannot do what was asked: the message has the cause and the next command."""


def default_name() -> str:
    """The lab that is meant when none is named: ``$PICLUSTEROPS_LAB`` or ``lab``."""
    return os.environ.get("PICLUSTEROPS_LAB") or "lab"


def state_dir(name: str) -> Path:
    """The folder of one lab's keys, mirror and ``fleet.json``.

    Raises:
        LabError: if `name` cannot be part of a container's name.
    """
    if not _NAME.fullmatch(name):
        raise LabError(f"lab name {name!r}: up to 30 of a-z, 0-9 and -, for example `lab`; give another --name")
    return cache_root() / "lab" / name


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on `path` (created if need be) against other processes of this machine.

    `waiting` is called once if another process holds it, before waiting for that one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class FleetHost:
    """One host of a lab as the inventory sees it; ``role`` is master, worker, data_node or client."""

    name: str
    address: str
    role: str
    port: int = 22
    user: str = "pi"

    @property
    def octet(self) -> int:
        """The last octet, which is the same in all networks of the host."""
        return int(self.address.rsplit(".", 1)[1])


@dataclass(frozen=True)
class Fleet:
    """What ``fleet.json`` holds."""

    name: str
    subnet: str
    ssh_key: str
    known_hosts: str
    mirror: str
    k3s_version: str
    standin: bool
    nodes: list[FleetHost] = field(default_factory=list)
    clients: list[FleetHost] = field(default_factory=list)

    @property
    def hosts(self) -> list[FleetHost]:
        """Nodes and clients."""
        return [*self.nodes, *self.clients]

    @property
    def block(self) -> int:
        """Second octet of all addresses of this lab."""
        return int(self.subnet.split(".")[1])

    def host(self, name: str) -> FleetHost:
        """The host called `name`.

        Raises:
            LabError: if the lab has none; names those it has.
        """
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"lab {self.name}: no host {name!r}; it has {', '.join(h.name for h in self.hosts)}")

    def write(self, path: Path) -> None:
        """Replace `path` by this fleet, whole or not at all."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=2) + "\n")
        new.replace(path)

    @classmethod
    def read(cls, path: Path) -> Fleet:
        """The fleet in `path`.

        Raises:
            FileNotFoundError: if there is none.
            LabError: if the file is not a fleet.
        """
        try:
            data = json.loads(path.read_text())
            nodes = [FleetHost(**node) for node in data.pop("nodes")]
            clients = [FleetHost(**client) for client in data.pop("clients")]
            return cls(nodes=nodes, clients=clients, **data)
        except (ValueError, KeyError, TypeError) as error:
            raise LabError(f"{path} is damaged ({error}); start anew: picluster lab down") from error


def address(block: int, network: str, octet: int) -> str:
    """Address of a host in a network (`lan`, `public` or `vpn`) of the lab in 10.<block>.0.0/16."""
    return f"10.{block}.{NETWORKS[network]}.{octet}"


def address6(block: int, network: str, octet: int) -> str:
    """The IPv6 address beside `address`, unique local (RFC 4193): the same numbers, as they read."""
    return f"fd00:{block}:{NETWORKS[network]}::{octet}"


def free_block(taken: Iterable[IPv4Network]) -> int:
    """The first of `BLOCKS` whose 10.<block>.0.0/16 overlaps none of the networks `taken`.

    Raises:
        LabError: if none is free.
    """
    used = list(taken)
    for block in BLOCKS:
        candidate = IPv4Network(f"10.{block}.0.0/16")
        if not any(candidate.overlaps(network) for network in used):
            return block
    raise LabError(
        f"no free network for a lab: 10.{BLOCKS[0]}.0.0/16 to 10.{BLOCKS[-1]}.0.0/16 are all in use; "
        "see `ip route` and stop a lab: picluster lab down --name NAME"
    )


def routed_networks(routes: list[dict[str, object]]) -> list[IPv4Network]:
    """Destinations of the output of ``ip -json -4 route show table all``, without the default route."""
    networks = []
    for route in routes:
        destination = str(route.get("dst", "default"))
        if destination != "default":
            networks.append(IPv4Network(destination, strict=False))
    return [network for network in networks if network.prefixlen]


def next_octet(hosts: Iterable[FleetHost]) -> int:
    """The lowest octet from `FIRST_NODE` on that none of `hosts` has."""
    used = {IPv4Address(host.address).packed[3] for host in hosts}
    return next(octet for octet in range(FIRST_NODE, 250) if octet not in used)
