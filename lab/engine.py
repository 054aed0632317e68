"""The Docker Engine that runs the lab: the machine's own where one answers, else one that lives in the cache."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import docker
from docker.client import DockerClient
from docker.errors import DockerException

from piclusterops.lab import progress
from piclusterops.lab.progress import say
from piclusterops.lab.state import LabError
from piclusterops.paths import cache_root

#: Seconds that dockerd gets to answer after its start; it took 1 to 3 s on two busy cores.
START_TIMEOUT = 60.0
#: Seconds for one call of the engine's API.
CALL_TIMEOUT = 120
#: What dockerd makes outside its own folders whatever its options say (dockerd 20.10, containerd 1.6).
STRAYS = (
    Path("/etc/docker/key.json"),
    Path("/etc/docker"),
    Path("/opt/containerd/bin"),
    Path("/opt/containerd/lib"),
    Path("/opt/containerd"),
    Path("/run/containerd/s"),
    Path("/run/containerd"),
    Path("/run/docker/plugins"),
    Path("/run/docker"),
)


def root() -> Path:
    """The folder of the lab's own engine."""
    return cache_root() / "docker"


def _socket() -> Path:
    return root() / "docker.sock"


def _record() -> Path:
    return root() / "engine.json"


def _connect(url: str | None, seconds: int = CALL_TIMEOUT) -> DockerClient | None:
    try:
        client = (
            docker.DockerClient(base_url=url, timeout=seconds, max_pool_size=32)
            if url
            else docker.from_env(timeout=seconds, max_pool_size=32)
        )
        client.ping()
    except (DockerException, OSError):
        return None
    return client


def running() -> DockerClient | None:
    """A client of an engine that answers now: the lab's own first, then what `docker` itself would talk to."""
    own = _connect(f"unix://{_socket()}") if _socket().exists() else None
    return own or _connect(None)


def is_own(client: DockerClient) -> bool:
    """Whether `client` talks to the engine in the cache."""
    return Path(client.info()["DockerRootDir"]).resolve() == (root() / "data").resolve()


def ensure() -> DockerClient:
    """A client of a running engine; installs and starts one if none answers, saying so first.

    Raises:
        LabError: if there is none and none can be started.
    """
    client = running()
    if client is None:
        if os.geteuid() != 0:
            raise LabError("no Docker Engine answers, and only root can start one; run as root or start Docker first")
        if shutil.which("dockerd") is None:
            _install()
        client = running() or _start()
    if not client.api.base_url.startswith("http+docker://"):
        raise LabError(
            f"DOCKER_HOST={client.api.base_url} is another machine's; the lab needs this one's: unset DOCKER_HOST"
        )
    return client


def _install() -> None:
    say("No Docker Engine here: installing docker.io from this machine's Debian packages.")
    if shutil.which("apt-get") is None:
        raise LabError("no Docker Engine and no apt-get: install Docker Engine by hand, then run this again")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = cache_root() / "log" / "docker-install.log"
    policy = Path("/usr/sbin/policy-rc.d")
    guard = not _systemd() and not policy.exists()
    if guard:  # without systemd the package would start an engine of its own by its init script
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        progress.run("package lists", ["apt-get", "update"], log, env=environment)
        progress.run("docker.io", ["apt-get", "install", "-y", "docker.io"], log, env=environment)
    finally:
        if guard:
            policy.unlink(missing_ok=True)


def _systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _start() -> DockerClient:
    if _systemd():
        say("Starting the Docker Engine: systemctl start docker")
        subprocess.run(["systemctl", "start", "docker"], check=False)
        client = _wait(None, None)
        if client is None:
            raise LabError("docker.service does not answer; see: journalctl -u docker")
        return client
    return _start_own()


def _start_own() -> DockerClient:
    # A Unix socket's path has at most 107 characters; containerd's is the longest one.
    if len(str(root() / "run/containerd/containerd.sock.ttrpc")) > 107:
        raise LabError(
            f"{cache_root()} is too long a path for the engine's sockets; set PICLUSTEROPS_CACHE to a short one"
        )
    say(f"No Docker Engine answers: starting one for the lab in {root()}")
    root().mkdir(parents=True, exist_ok=True)
    strays = [str(path) for path in (*STRAYS, *_cgroups()) if not path.exists()]
    if not _record().exists():  # else that of an engine that was killed
        _record().write_text(json.dumps(strays))
    _end_orphan()
    (root() / "docker.pid").unlink(missing_ok=True)
    with (root() / "dockerd.log").open("w") as log:
        process = subprocess.Popen(
            # Its own mount namespace: whatever happens to it, its mounts go with it.
            ["unshare", "--mount", "--propagation", "slave", "dockerd", *_options()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={key: value for key, value in os.environ.items() if key != "DOCKER_HOST"},
        )
    client = _wait(f"unix://{_socket()}", process)
    if client is None:
        end = "\n".join((root() / "dockerd.log").read_text().splitlines()[-8:])
        stop_own()
        raise LabError(f"dockerd did not start:\n{end}\nwhole log: {root() / 'dockerd.log'}")
    return client


def _cgroups() -> list[Path]:
    """The parents of all containers' cgroups, which stay behind empty: one for each hierarchy (v1), or one (v2)."""
    top = Path("/sys/fs/cgroup")
    return [top / "docker", *(path / "docker" for path in top.iterdir() if path.is_dir() and not path.is_symlink())]


def _with_word(word: str) -> list[int]:
    """Processes that have `word` in their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def _end_orphan() -> None:
    """End the containerd of a dockerd that was killed: the next dockerd would wait for it in vain."""
    folder = root() / "run/containerd"
    for pid in _with_word(str(folder / "containerd.toml")):
        _end(pid, 10)
    (folder / "containerd.pid").unlink(missing_ok=True)


def _kill_leftovers() -> None:
    """Kill containers that outlived their engine: each one's init, then the shim above it."""
    shims = _with_word(str(root() / "run/containerd/containerd.sock"))
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ProcessLookupError):
            if int(file.read_text().rpartition(")")[2].split()[1]) in shims:
                os.kill(int(file.parent.name), signal.SIGKILL)
    for pid in shims:
        _end(pid, 1)


def _end(pid: int, seconds: float) -> None:
    """SIGTERM, wait until the process is gone, SIGKILL after `seconds`; a process that is gone already is fine."""
    started = _started(pid)
    limit = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while started is not None and _started(pid) == started:
            if time.monotonic() > limit:
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.1)


def _options() -> list[str]:
    return [
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        f"--data-root={root() / 'data'}",
        f"--exec-root={root() / 'run'}",
        f"--pidfile={root() / 'docker.pid'}",
        f"--host=unix://{_socket()}",
    ]


def _wait(url: str | None, process: subprocess.Popen[bytes] | None) -> DockerClient | None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end:
        client = _connect(url)
        if client is not None:
            return client
        if process is not None and process.poll() is not None:
            return None
        time.sleep(0.2)
    return None


def _started(pid: int) -> str | None:
    """The start time of a process in clock ticks since boot, field 22 of proc(5) stat; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def stop_own() -> bool:
    """Stop the engine in the cache, and only that one, and remove what it left outside; False if there is none."""
    try:
        strays = json.loads(_record().read_text())
    except (OSError, ValueError):
        return False
    for pid in _with_word(f"--pidfile={root() / 'docker.pid'}"):
        _end(pid, 30)
    _end_orphan()
    _kill_leftovers()
    for stray in strays:
        _remove_stray(Path(stray))
    shutil.rmtree(root() / "run", ignore_errors=True)
    for leftover in (_socket(), root() / "docker.pid", _record()):
        leftover.unlink(missing_ok=True)
    return True


def _remove_stray(path: Path) -> None:
    with suppress(OSError):  # not empty: somebody else's
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
