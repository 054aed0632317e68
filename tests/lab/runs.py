"""Run pyinfra as a user would, against the lab, and read what it did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
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
) -> Run:
    """Run ``pyinfra ARGS INVENTORY DEPLOY`` from the checkout against the lab of that name."""
    state = Path(os.environ.get("PYTEST_TMP", "/tmp")) / f"trips-{os.getpid()}.json"
    state.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("trace.py")), str(state), *args, inventory, deploy]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PICLUSTEROPS_LAB": lab, **(env or {})},
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
    )
    trips = json.loads(state.read_text()) if state.exists() else []
    state.unlink(missing_ok=True)
    return Run(done.returncode, done.stdout, done.stderr, trips)


def out(lab: Lab, host: str, shell: str) -> str:
    """What a command prints on a host of the lab, run as root beside SSH."""
    done = lab.exec(host, ["sh", "-c", shell])
    assert done.returncode == 0, done
    return done.stdout.strip()
