"""Run pyinfra as a user would, against the lab, and read what it did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from piclusterops.lab.fleet import Lab

REPOSITORY = Path(__file__).resolve().parents[2]

#: Shell for one digest of all that a deploy might touch on a host; the log of sudo itself is another matter.
FINGERPRINT = (
    "{ find /etc /boot /usr/local /var/lib/piclusterops /var/lib/rancher -xdev -type f -exec sha256sum {} +; "
    "find /etc /boot /home /var/lib/rancher -xdev ! -name .sudo_as_admin_successful -printf '%p %m %u %l\\n'; "
    "dpkg-query -W; cat /proc/sys/kernel/random/boot_id; uname -n; sysctl -a -r 'vm.(over|panic|max_map)'; "
    "} 2>/dev/null | sort | sha256sum"
)

#: A controller that hangs between applying a change and confirming it, and says when it does.
HANGING = """
import time
from dataclasses import replace
from pathlib import Path

from piclusterops.operations import {operations} as operations

change = operations.change


def hang(connection):
    Path(__file__).with_suffix(".hangs").touch()
    time.sleep(600)


operations.change = lambda *args: replace(change(*args), confirm=(hang,), probe_s=600)
"""


@dataclass
class Run:
    """One finished run of pyinfra."""

    returncode: int
    stdout: str
    stderr: str
    trips: list[dict[str, Any]] = field(default_factory=list)

    @property
    def output(self) -> str:
        """Everything a user would see."""
        return self.stdout + self.stderr

    @property
    def results(self) -> dict[str, Any]:
        """What pyinfra's --json says of the run."""
        results: dict[str, Any] = json.loads(self.stdout)["results"]
        return results

    @property
    def changes(self) -> dict[str, list[str]]:
        """Operation name -> hosts it changed."""
        return {op["name"]: op["success"] for op in self.results["operations"] if op["success"]}

    @property
    def plan(self) -> dict[str, list[str]]:
        """Operation name -> hosts it would change (of a dry run)."""
        operations = json.loads(self.stdout)["plan"]
        return {op["name"]: op["hosts_with_change"] for op in operations if op["hosts_with_change"]}

    @property
    def executions(self) -> Counter[str]:
        """SSH executions per host."""
        return Counter(trip["host"] for trip in self.trips if trip["kind"] == "exec")


def pyinfra(
    *args: str,
    lab: str,
    inventory: str = "inventories/lab.py",
    deploy: str = "deploys/site.py",
    env: dict[str, str] | None = None,
    timeout: float = 600,
    cwd: Path = REPOSITORY,
) -> Run:
    """Run ``pyinfra ARGS INVENTORY DEPLOY`` in a folder, the checkout's, against the lab of that name."""
    state = Path(os.environ.get("PYTEST_TMP", "/tmp")) / f"trips-{os.getpid()}-{threading.get_ident()}.json"
    state.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("trace.py")), str(state), *args, inventory, deploy]
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PICLUSTEROPS_LAB": lab, **(env or {})},
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
    )
    trips = json.loads(state.read_text()) if state.exists() else []
    state.unlink(missing_ok=True)
    return Run(done.returncode, done.stdout, done.stderr, trips)


def data(**settings: object) -> list[str]:
    """pyinfra's arguments that give every host these settings."""
    return [word for key, value in settings.items() for word in ("--data", f"{key}={json.dumps(value)}")]


def until(condition: Callable[[], Any], timeout_s: float = 60) -> None:
    """Wait until it holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(1)  # each look may be a kubectl, which takes the processor from what is waited for


def kill_before_confirmation(lab: Lab, operations: str, deploy: str, folder: Path, **settings: object) -> None:
    """Run a deploy, and end the controller with -9 when a change is in force and not confirmed.

    Args:
        lab: where.
        operations: the module of operations that makes the change.
        deploy: text of the deploy file.
        folder: an empty one for its files.
        settings: settings of all hosts.
    """
    file, mark = folder / "hanging.py", folder / "hanging.hangs"
    file.write_text(HANGING.format(operations=operations) + deploy)
    mark.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pyinfra", "-y", *data(**settings), "inventories/lab.py", str(file)]
    environment = {**os.environ, "PICLUSTEROPS_LAB": lab.name}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL) as controller:
        deadline = time.monotonic() + 60
        while not mark.exists():
            assert controller.poll() is None and time.monotonic() < deadline, "it never came that far"
            time.sleep(0.05)
        controller.kill()


def out(lab: Lab, host: str, shell: str) -> str:
    """What a command prints on a host of the lab, run as root beside SSH."""
    done = lab.exec(host, ["sh", "-c", shell])
    assert done.returncode == 0, done
    return done.stdout.strip()


def anew(lab: Lab, *hosts: str) -> None:
    """Make hosts bare, and forget keys, secrets and locks of what ran on them."""
    for path in lab.state.iterdir():
        if path.name.startswith(("lab.secrets", "lab.lock", "age.key")):
            path.unlink()
    lab.recreate(*hosts)
