"""A run that dies at any moment, with or without a host's power: the next one finishes what it began.

PICLUSTEROPS_KILL_SEED chooses other moments than those of the default; it is printed with them.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from runs import REPOSITORY, Run, data, out, pyinfra

from piclusterops.lab.fleet import Lab

pytestmark = pytest.mark.lab

MASTER, WORKER = NODES = ("pi-master", "pi-worker-1")
SEED = os.environ.get("PICLUSTEROPS_KILL_SEED", "1")
KILLS, POWER_CUTS = 20, 5
#: How many of them, at least, leave a host with half of what it was sent.
HALVES = 5
#: Seconds from which on an execution is worth a kill of its own.
LONG_S = 3
#: Seconds until a host undoes an unconfirmed change: the least that the settings allow.
TIMER_S = 15
HOWS = ("before", "sent", "half", "after")
#: Where our files are. What is in them of others, packages change.
ROOTS = "/etc /boot /home /usr/local /var/lib/piclusterops/stamps /var/lib/rancher/k3s/server/manifests"
#: Files of ours whose content is not the same each time, with what a whole one looks like.
FORMS = {
    "/etc/rancher/k3s/token": r"([0-9a-f]{64}|K10[0-9a-f]{64}::[\w-]+:[0-9a-f]{64})\n",
    "/etc/rancher/k3s/agent-token": r"[0-9a-f]{64}\n",
    "/etc/rancher/k3s/config.yaml.d/20-registration.yaml": (
        r"# Written by PiClusterOps.*\nnode-label:\n(- killed=.*\n)?- piclusterops.io/role=\w+\n"
    ),
}
#: Files of K3s and systemd, and of Debian's tools that edit accounts line by line.
OF_OTHERS = re.compile(
    r"/etc/(machine-id|(passwd|shadow|group|gshadow|subuid|subgid)-?)|/etc/rancher/(node/password|k3s/k3s.yaml)"
)


@dataclass(frozen=True)
class Execution:
    """An SSH execution, or upload, of an undisturbed run; `operation` is None before the first one."""

    operation: str | None
    seconds: float
    sends: bool
    """Whether something is sent that a host may get half of."""


@dataclass(frozen=True)
class Point:
    """A moment of a run; see freezing.py.

    Attributes:
        pause_s: what the host still gets to do, while the controller stands still.
        cut: the host loses its power as well.
    """

    operation: str | None
    nth: int
    how: str
    pause_s: float
    cut: bool


def phase_of(operation: str | None) -> str:
    """The part of deploys/site.py that an operation is of; what roles add is one part."""
    phase = operation.split(" | ")[0] if operation else "Preflight"
    return "Role" if phase in ("Master", "Worker", "Data node") else phase


def points(executions: Sequence[Execution], chance: random.Random) -> list[Point]:
    """Moments all over a run: one in each phase and each long operation, the others by fractions of all executions."""
    by_phase: dict[str, list[int]] = {}
    long: dict[str | None, int] = {}
    for place, execution in enumerate(executions):
        by_phase.setdefault(phase_of(execution.operation), []).append(place)
        if execution.seconds > LONG_S:
            long.setdefault(execution.operation, place)

    def may_be_half(place: int) -> bool:
        """Whether it sends something, and is not killed while the host works on it."""
        return executions[place].sends and place not in long.values()

    places = {chance.choice(of) for of in by_phase.values()} | {*long.values()}
    sending = [place for place in range(len(executions)) if may_be_half(place) and place not in places]
    places |= {*chance.sample(sending, max(0, HALVES - sum(map(may_be_half, places))))}
    rest = KILLS - len(places)
    for slice_ in range(rest):
        free = [place for place in range(len(executions)) if place not in places]
        places.add(free[int((slice_ + chance.random()) / rest * len(free))])
    halves = {*chance.sample([place for place in sorted(places) if may_be_half(place)], HALVES)}
    cuts = {*chance.sample(sorted(places), POWER_CUTS)}
    found = []
    for place in sorted(places):
        execution = executions[place]
        nth = sum(other.operation == execution.operation for other in executions[: place + 1])
        how = "sent" if place in long.values() else "half" if place in halves else chance.choice(HOWS)
        pause = chance.random() * execution.seconds if how == "sent" else 0.0
        found.append(Point(execution.operation, nth, how, pause, place in cuts))
    return found


def settings(lab: Lab, **more: object) -> list[str]:
    """Every phase has something to do: the nodes set their own addresses, too."""
    router = lab.fleet.subnet.replace(".0/24", ".1")
    values = {
        "platform_profile": "none",
        "service_addresses": {},
        "armed_timeout_s": TIMER_S,
        "static_address": True,
        "gateway": router,
        "dns": [router],
        **more,
    }
    return data(**values)


def whole(lab: Lab) -> Run:
    return pyinfra("-y", "--json", *settings(lab), lab=lab.name)


def kill_at(lab: Lab, point: Point, number: int, folder: Path) -> dict[str, str] | str:
    """Start a run and kill it there: where that was, or what the run said when it ended before."""
    (folder / "point.json").write_text(json.dumps(asdict(point)))
    mark, log = folder / "mark", folder / "log"
    mark.unlink(missing_ok=True)
    files = [str(Path(__file__).with_name("freezing.py")), str(folder / "point.json"), str(mark)]
    # a label of its own, so that the last phases are not done when the others are
    labels = settings(lab, node_labels={"killed": f"{number}-times"})
    command = [sys.executable, *files, "-y", *labels, "inventories/lab.py", "deploys/site.py"]
    environment = {**os.environ, "PICLUSTEROPS_LAB": lab.name}
    with log.open("w") as output:
        run = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        end = time.monotonic() + 300
        while not mark.exists() and run.poll() is None:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        reached: dict[str, str] | str = json.loads(mark.read_text()) if mark.exists() else log.read_text()
        time.sleep(point.pause_s if mark.exists() else 0)
        if point.cut and isinstance(reached, dict):
            lab.power_cut(reached["host"])
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    if point.cut and isinstance(reached, dict):
        lab.power_on(reached["host"])
    return reached


def assert_let_in(lab: Lab) -> None:
    """Whatever was going on, each host lets us in anew, and become root, when its timer has gone off at the latest."""
    lab.wait_ssh(NODES, timeout=TIMER_S + 15)
    for node in NODES:
        assert lab.ssh(node, ["sudo", "-n", "true"]).returncode == 0, node


def contents(lab: Lab) -> dict[tuple[str, str], str]:
    """Host and path of each file to the digest of its content."""

    def read(node: str) -> dict[tuple[str, str], str]:
        listing = out(lab, node, f"find {ROOTS} -xdev -type f -exec sha256sum {{}} + 2>/dev/null || :")
        lines = [line.split("  ", 1) for line in listing.splitlines()]
        return {(node, path): digest for digest, path in lines}

    with ThreadPoolExecutor() as pool:
        return {key: digest for found in pool.map(read, NODES) for key, digest in found.items()}


def executions_of(run: Run) -> list[Execution]:
    """Every SSH execution and upload of a run, in order."""
    return [
        Execution(trip["operation"], trip["seconds"], trip["sends"])
        for trip in run.trips
        # a host that is asked something for another one's operation has none of its own
        if trip["kind"] != "connect" and (trip["operation"] or trip["stage"] != "Execute")
    ]


def half_written(seen: dict[tuple[str, str], str], *known: dict[tuple[str, str], str]) -> list[str]:
    """Files that are as they are neither on a bare host nor on one that is done."""
    ours = {key for key in set().union(*known) if len({before_or_after.get(key) for before_or_after in known}) > 1}
    return [
        f"{node}:{path}"
        for (node, path), digest in seen.items()
        if (node, path) in ours and path not in FORMS and not OF_OTHERS.fullmatch(path)
        if digest not in {of.get((node, path)) for of in known}
    ]


def malformed(lab: Lab) -> list[str]:
    """Files of `FORMS` that are there and not whole."""
    found = []
    for node in NODES:
        for path, form in FORMS.items():
            done = lab.exec(node, ["cat", path])
            if done.returncode == 0 and not re.fullmatch(form, done.stdout):
                found.append(f"{node}:{path}")
    return found


@pytest.mark.timeout(1500)
def test_twenty_kills_and_the_next_run_finishes_what_they_began(
    pair: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = contents(pair)
    undisturbed = whole(pair)
    assert undisturbed.returncode == 0, undisturbed.output[-5000:]
    done = contents(pair)
    planned = points(executions_of(undisturbed), random.Random(SEED))
    pair.recreate(*NODES)

    began, hit, faults = time.monotonic(), Counter[str](), []
    for number, point in enumerate(planned, start=1):
        reached = kill_at(pair, point, number, tmp_path)
        if isinstance(reached, str):
            pytest.fail(f"{point} was never reached:\n{reached[-5000:]}")
        assert_let_in(pair)
        where = f"{reached['host']}, {reached['operation']}, {reached['how']}{', power cut' if point.cut else ''}"
        faults += [f"{number} ({where}): {file}" for file in half_written(contents(pair), bare, done) + malformed(pair)]
        hit[phase_of(reached["operation"])] += 1
        with capsys.disabled():
            print(f"\nkill {number} of seed {SEED} after {time.monotonic() - began:.0f} s: {where}", end="")
    with capsys.disabled():
        print(f"\nphases: {dict(hit)}")
    assert not faults, "\n".join(faults)
    # The first operation after a change reads the host anew; which one that is depends on the run.
    changing = {phase_of(operation) for operation in undisturbed.changes}
    assert set(hit) >= changing | {phase_of(None), "Verify"}
    assert changing >= {"Base", "Boot", "Network", "SSH server", "Firewall", "K3s"}
    assert hit.total() == KILLS

    finished = whole(pair)
    assert finished.returncode == 0, finished.output[-5000:]
    again = whole(pair)
    assert (again.returncode, again.changes) == (0, {}), again.output[-5000:]
    after = contents(pair)
    assert {key for key in after if key not in done} == set(), "left by a kill"
    assert {key for key in done if key not in after} == set()
    other = {path for key, digest in after.items() if done[key] != digest for path in key[1:]}
    assert {path for path in other - set(FORMS) if not OF_OTHERS.fullmatch(path)} == set()
    assert malformed(pair) == []
