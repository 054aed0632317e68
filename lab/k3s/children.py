"""The processes behind the stand-in. They die with it, also when it is killed with SIGKILL."""

import contextlib
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

    def last_words(self) -> str:
        """Its own "Error: ..." line, else the last line, else the exit code."""
        lines = self.log_file.read_text(errors="replace").strip().splitlines()[-40:]
        errors = [
            text.removeprefix("Error: ").removeprefix("error: ") for text in lines if text.lower().startswith("error: ")
        ]
        return (errors or lines or [f"code {self.process.returncode}"])[-1]


class Children:
    """Start them from the main thread only: the kernel sends the death signal when the starting *thread* ends."""

    def __init__(self, log_dir: Path, marker: Path) -> None:
        self.log_dir = log_dir
        self.marker = marker
        self.running: list[Child] = []

    def clear_leftovers(self) -> None:
        """End processes of an earlier run with the same data directory."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                executable = (entry / "exe").readlink()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if executable.parent == KUBE_BINARIES.resolve() and str(self.marker).encode() in command:
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

    def end(self, name: str, patience: float = 10) -> None:
        """Stop one program on purpose; ``patience`` in seconds."""
        for child in [c for c in self.running if c.name == name]:
            self.running.remove(child)
            child.process.terminate()
            try:
                child.process.wait(patience)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def stop(self, patience: float = 5) -> None:
        """SIGTERM in reverse order of starting, then SIGKILL; ``patience`` in seconds, for each."""
        for child in reversed(self.running):
            if child.process.poll() is None:
                child.process.terminate()
                try:
                    child.process.wait(patience)
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
        self.running.clear()


def _wait_gone(entry: Path) -> None:
    for _ in range(100):
        try:
            (entry / "exe").readlink()
        except OSError:
            return
        time.sleep(0.02)
