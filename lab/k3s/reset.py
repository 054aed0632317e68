"""``k3s server --cluster-reset``: become the only member again, from the data on disk or from a snapshot."""

import json
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from . import etcd, log, snapshots, tokens
from .children import Children
from .config import Options, read_secret
from .layout import KUBE_BINARIES, Layout, make_dir, write_file
from .log import Fatal
from .node import node_name, own_addresses
from .server import collect_shared, refuse_flags, stored_bootstrap, write_shared

# The loopback ports that K3s uses for its temporary etcd.
CLIENT_PORT, PEER_PORT = 2399, 2400
DONE = (
    "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and delete "
    "${datadir}/server/db on each peer etcd server and rejoin the nodes"
)


def run(options: Options, stop: threading.Event) -> int:
    """Exit code 0 when done. Raises Fatal."""
    refuse_flags(options)
    layout = Layout(options.text("data-dir"))
    snapshot = options.text("cluster-reset-restore-path")
    password = _password(options, layout, bool(snapshot))
    if layout.reset_flag.exists():
        raise Fatal(
            "preparing server: start managed database: Managed etcd cluster membership was previously reset, "
            "please remove the cluster-reset flag and start k3s normally. If you need to perform another cluster "
            f"reset, you must first manually delete the {layout.reset_flag} file"
        )
    _refuse_running()
    layout.prepare_server()
    data = layout.etcd(True)
    name = _member_name(options, data)
    if snapshot:
        _restore(Path(snapshot), data, name, own_addresses(options)[0])
    elif not (data / "member").is_dir():
        raise Fatal(f"preparing server: start managed database: etcd database not found in {layout.server}")
    _forget_peers(layout, data, name, password, stop)
    write_file(layout.reset_flag, "")
    log.info(DONE)
    return 0


def _password(options: Options, layout: Layout, restoring: bool) -> str:
    given = read_secret(options, "token")
    file = layout.server / "token"
    if not given and not file.is_file():
        if restoring:
            raise Fatal(f"{file} does not exist, please pass --token to complete the restoration")
        raise Fatal(f"preparing server: start managed database: etcd database not found in {layout.server}")
    return tokens.parse(given or file.read_text().strip()).password


def _refuse_running() -> None:
    for port in (etcd.CLIENT_PORT, CLIENT_PORT):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise Fatal(f"listen tcp 127.0.0.1:{port}: bind: address already in use")


def _member_name(options: Options, data: Path) -> str:
    try:
        return (data / "name").read_text().strip()
    except OSError:
        return f"{node_name(options)}-{secrets.token_hex(4)}"


def _unused(path: Path) -> Path:
    """The path, or the same of the next second when a reset of this second took it."""
    while path.exists():
        head, _, stamp = path.name.rpartition("-")
        path = path.with_name(f"{head}-{int(stamp) + 1}")
    return path


def _restore(snapshot: Path, data: Path, name: str, address: str) -> None:
    if not snapshot.is_file():
        raise Fatal(f"preparing server: start managed database: snapshot path does not exist: {snapshot}")
    program = KUBE_BINARIES / "etcdctl"
    if not program.is_file():
        raise Fatal(f"stand-in: {program} is missing; the lab must provide it")
    if data.exists():
        old = _unused(data.with_name(f"etcd-old-{int(time.time())}"))
        data.rename(old)
        log.info(f"Pre-restore etcd database moved to {old}")
    with tempfile.TemporaryDirectory(dir=data.parent) as folder:
        target = Path(folder) / "data"
        peer = f"https://{address}:{etcd.PEER_PORT}"
        command = [
            str(program),
            "snapshot",
            "restore",
            str(snapshots.unpacked(snapshot, Path(folder))),
            f"--name={name}",
            f"--data-dir={target}",
            f"--initial-cluster={name}={peer}",
            f"--initial-advertise-peer-urls={peer}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, env={"ETCDCTL_API": "3"}, check=False)
        if done.returncode:
            words = " ".join((done.stderr or done.stdout).split())
            raise Fatal(f"preparing server: start managed database: failed to restore snapshot: {words[-300:]}")
        make_dir(data)
        (target / "member").rename(data / "member")
    write_file(data / "name", name)


def _forget_peers(layout: Layout, data: Path, name: str, password: str, stop: threading.Event) -> None:
    """Start etcd alone on loopback without TLS, bring the shared files back from it, end it."""
    children = Children(layout.run, layout.data)
    children.clear_leftovers()
    client_url, peer_url = f"http://127.0.0.1:{CLIENT_PORT}", f"http://127.0.0.1:{PEER_PORT}"

    def alive() -> None:
        children.check()
        if stop.is_set():
            raise SystemExit(1)

    try:
        children.start(
            "etcd",
            [
                f"--name={name}",
                f"--data-dir={data}",
                f"--listen-client-urls={client_url}",
                f"--advertise-client-urls={client_url}",
                f"--listen-peer-urls={peer_url}",
                "--force-new-cluster",
                *etcd.LAB_ARGUMENTS,
                *etcd.FOUNDER,
            ],
        )
        client = etcd.Client("127.0.0.1", None, CLIENT_PORT)
        etcd.wait_healthy(client, alive, 60)
        log.info("Reconciling bootstrap data between datastore and disk")
        stored = stored_bootstrap(client, password)
        if stored is not None and stored != collect_shared(layout):
            if any(layout.tls.glob("*.crt")):
                backup = _unused(layout.server / f"tls-{int(time.time())}")
                log.info(f"Cluster reset: backing up certificates directory to {backup}")
                shutil.copytree(layout.tls, backup)
            log.warning("Updating bootstrap data on disk from datastore")
            write_shared(layout, stored)
        for member in client.members()[1:]:
            raise Fatal(f"stand-in: member {json.dumps(member)} is still there after the reset")
    finally:
        children.stop()
