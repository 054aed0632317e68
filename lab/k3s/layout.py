"""Where K3s keeps its files, and how the stand-in writes them."""

import contextlib
import os
from pathlib import Path

KUBE_BINARIES = Path(os.environ.get("K3S_STANDIN_KUBE", "/opt/piclusterops-lab/kube"))
NODE_PASSWORD = Path("/etc/rancher/node/password")
KUBECONFIG = Path("/etc/rancher/k3s/k3s.yaml")
DEFAULT_DATA_DIR = "/var/lib/rancher/k3s"


class Layout:
    """The paths below one data directory."""

    def __init__(self, data_dir: str | Path = DEFAULT_DATA_DIR) -> None:
        self.data = Path(data_dir or DEFAULT_DATA_DIR)
        self.server = self.data / "server"
        self.agent = self.data / "agent"
        self.tls = self.server / "tls"
        self.cred = self.server / "cred"
        self.db = self.server / "db"
        self.manifests = self.server / "manifests"
        self.snapshots = self.db / "snapshots"
        self.reset_flag = self.db / "reset-flag"
        self.logs = self.server / "logs"
        self.run = self.server / "standin"

    def etcd(self, embedded: bool) -> Path:
        return self.db / ("etcd" if embedded else "etcd-standin")

    def etcd_embedded(self) -> bool | None:
        """True for embedded etcd, False for the stand-in's replacement of sqlite, None before the first start."""
        if (self.db / "etcd" / "member").is_dir():
            return True
        return False if (self.db / "etcd-standin" / "member").is_dir() else None

    def prepare_server(self) -> None:
        for folder in (self.server, self.tls, self.tls / "etcd", self.cred, self.db, self.manifests, self.run):
            make_dir(folder)

    def prepare_agent(self) -> None:
        make_dir(self.agent, 0o755)
        make_dir(self.agent / "etc", 0o755)
        make_dir(self.agent / "etc" / "kubelet.conf.d", 0o755)
        make_dir(self.agent / "images", 0o755)


def make_dir(path: Path, mode: int = 0o700) -> None:
    """Create the folder with ``mode``; one that exists keeps its mode."""
    if not path.is_dir():
        path.mkdir(parents=True, mode=mode)
        path.chmod(mode)


def write_file(path: Path, content: bytes | str, mode: int = 0o600) -> None:
    """Replace the file in one step; it never exists with a wider mode or half its content."""
    data = content.encode() if isinstance(content, str) else content
    with contextlib.suppress(OSError):
        if path.read_bytes() == data and path.stat().st_mode & 0o7777 == mode:
            return
    make_dir(path.parent)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        os.fchmod(stream.fileno(), mode)
    draft.replace(path)
