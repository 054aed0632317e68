"""The processes behind the stand-in. They die with it, also when it is killed with SIGKILL."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from . import log
from .layout import KUBE_BINARIES
from .log import Fatal

# What K3s calls the components that run inside it.
CALLED = {"kube-apiserver": "apiserver", "kube-controller-manager": "controller-manager", "kube-scheduler": "scheduler"}


class Child:
    """One running program and its log file."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log_file: Path) -> None:
        self.name = name
        self.process = process
        self.log_file = log_file

    def finish(self, patience: float) -> None:
        """Wait for its end, for ``patience`` seconds at most, then kill it."""
        try:
            self.process.wait(max(0.05, patience))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """Its own "Error: ..." line, else the last line (the message of a JSON one), else how it ended."""
        if self.process.returncode < 0:
            return f"signal: {signal.Signals(-self.process.returncode).name}"
        lines = self.log_file.read_text(errors="replace").strip().splitlines()[-40:]
        errors = [line.partition(": ")[2] for line in lines if line.lower().startswith("error: ")]
        last = (errors or lines or [f"code {self.process.returncode}"])[-1]
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(last)
            return " ".join(filter(None, (str(entry["msg"]), str(entry.get("error", "")))))
        return last


class Children:
    """Start them from the main thread only: the kernel sends the death signal when the starting *thread* ends."""

    def __init__(self, log_dir: Path, marker: Path) -> None:
        self.log_dir = log_dir
        self.marker = marker
        self.running: list[Child] = []

    def clear_leftovers(self) -> None:
        """End orphans of an earlier run with the same data directory (of one whose death signal got lost)."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                executable = (entry / "exe").readlink()
                command = (entry / "cmdline").read_bytes()
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if parent == "1" and executable.parent == KUBE_BINARIES.resolve() and str(self.marker).encode() in command:
                log.warning(f"Ending leftover process {entry.name} ({executable.name})")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)
                _wait_gone(entry)

    def start(self, name: str, arguments: list[str], environment: dict[str, str] | None = None) -> Child:
        """Raises Fatal when the program is missing."""
        program = KUBE_BINARIES / name
        if not program.is_file():
            raise Fatal(f"stand-in: {program} is missing; the lab must provide it")
        log_file = self.log_dir / f"{name}.log"
        with log_file.open("ab") as stream:
            if stream.tell() > 8_000_000:
                stream.truncate(0)
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", str(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "GOMAXPROCS": "2", **(environment or {})},
                start_new_session=True,
            )
        child = Child(name, process, log_file)
        self.running.append(child)
        return child

    def check(self) -> None:
        """Raises Fatal when one has ended, with the reason that it gave."""
        for child in self.running:
            if child.process.poll() is not None:
                raise Fatal(f"{CALLED.get(child.name, child.name)} exited: {child.last_words()}")

    def stop(self, patience: float = 1) -> None:
        """SIGTERM to all but etcd, then to etcd; SIGKILL to what is left after ``patience`` seconds each.

        The API server alone would wait for its watchers, which the agents are, for a minute; K3s does not.
        """
        for group in (
            [c for c in self.running if c.name != "etcd"],
            [c for c in self.running if c.name == "etcd"],
        ):
            for child in group:
                child.process.terminate()
            deadline = time.monotonic() + patience
            for child in group:
                child.finish(deadline - time.monotonic())
        self.running.clear()


def _wait_gone(entry: Path) -> None:
    for _ in range(100):
        try:
            (entry / "exe").readlink()
        except OSError:
            return
        time.sleep(0.02)
