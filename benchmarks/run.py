"""Compare a deploy of ours with ansible-core: the same settings, the same hosts, alternated runs.

``.venv/bin/python benchmarks/run.py`` or ``make benchmark``, as root, with the lab up. What it measures: README.md.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from statistics import median
from typing import Any

import click
import yaml
from compared import Setting, settings_of
from pyinfra.api.exceptions import PyinfraError
from rich.console import Console
from rich.table import Table

from piclusterops.inventory import environment_path, load_inventory
from piclusterops.lab.fleet import Lab
from piclusterops.lab.state import Fleet, LabError
from piclusterops.paths import cache_root
from piclusterops.settings import Cluster
from piclusterops.sysctl import MODULES, PARAMETERS
from piclusterops.validation import cluster_from_inventory

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
PLAYBOOK = HERE / "playbook.yaml"
ANSIBLE_CORE = "ansible-core==2.19.14"  # the last series for controllers with Python 3.11
DEPLOY = ("-y", "inventories/lab.py", "benchmarks/deploy.py")
#: What one run of the scenario "one changed setting" repairs, on every host.
CHANGED = "rotation of the sudo log"
CAVEAT = (
    "Controller and hosts share one machine: the Python that Ansible starts on the hosts is charged to the same "
    "processors. On real Pis each host starts its own, on a slower processor, but beside the others."
)
say = Console(stderr=True, highlight=False)


class BenchmarkError(click.ClickException):
    """The comparison can't be made: the message says why."""


@dataclass(frozen=True)
class Sample:
    """One run: seconds on the clock, and seconds of processor time on the controller and on all hosts together."""

    wall_s: float
    controller_cpu_s: float
    hosts_cpu_s: float


class Bench:
    """The two sides and the hosts they are compared on."""

    def __init__(self, lab: Lab, fleet: Fleet, cluster: Cluster) -> None:
        self.lab, self.fleet, self.cluster = lab, fleet, cluster
        self.root = cache_root() / "benchmarks"
        self.root.mkdir(parents=True, exist_ok=True)
        self.inventory = self.root / f"{fleet.name}.yaml"
        self.settings = settings_of(cluster.settings)

    def prepare(self) -> None:
        """Install ansible-core in a virtual environment of its own, and write its inventory."""
        venv = self.root / "venv"
        if not (venv / "bin/ansible-playbook").exists() or ANSIBLE_CORE not in _output([venv / "bin/pip", "freeze"]):
            say.print(f"installing {ANSIBLE_CORE} into {venv} ...")
            _output([sys.executable, "-m", "venv", "--clear", venv])
            _output([venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", ANSIBLE_CORE])
        self.inventory.write_text(yaml.safe_dump(ansible_inventory(self.fleet, self.cluster), sort_keys=False))

    def root_shell(self, host: str, script: str, stdin: bytes = b"") -> str:
        """What a script prints that runs as root on a host, over a connection that neither side uses."""
        command = [*self.lab.ssh_command(host), f"sudo sh -c {quote(script)}"]
        done = subprocess.run(command, input=stdin, capture_output=True)
        if done.returncode:
            raise BenchmarkError(f"{host}: exit code {done.returncode} of: {script}\n{done.stderr.decode()}")
        return done.stdout.decode()

    def everywhere(self, action: Callable[[str], Any]) -> dict[str, Any]:
        """Do it on all nodes at a time."""
        names = [node.name for node in self.fleet.nodes]
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(action, names), strict=True))

    def read(self) -> dict[str, dict[str, str]]:
        """Every setting of every node, as it is."""
        return self.everywhere(self._read)

    def _read(self, host: str) -> dict[str, str]:
        script = "".join(f"({setting.read}) 2>&1; echo ====\n" for setting in self.settings)
        *answers, _ = self.root_shell(host, script).split("====\n")
        return dict(zip([setting.name for setting in self.settings], answers, strict=True))

    def differing(self, wanted: dict[str, dict[str, str]]) -> set[str]:
        """Which settings are not as wanted, and on which host."""
        now = self.read()
        return {
            f"{name} of {host}" for host in wanted for name in wanted[host] if now[host][name] != wanted[host][name]
        }

    def undo(self, settings: Sequence[Setting]) -> None:
        """Take settings back on all nodes."""
        script = "set -e\n" + "".join(f"{setting.undo}\n" for setting in settings if setting.undo)
        self.everywhere(lambda host: self.root_shell(host, script))

    def ours(self) -> None:
        """Run our deploy, as a user would."""
        _output([Path(sys.executable).with_name("pyinfra"), *DEPLOY], cwd=REPOSITORY)

    def ours_traced(self) -> tuple[dict[str, list[str]], dict[str, int]]:
        """Run our deploy with a count: the hosts that each operation changed, and the SSH executions of each host."""
        trips = self.root / "trips.json"
        report = json.loads(
            _output([sys.executable, REPOSITORY / "tests/lab/trace.py", trips, "--json", *DEPLOY], cwd=REPOSITORY)
        )
        hosts = [trip["host"] for trip in json.loads(trips.read_text()) if trip["kind"] == "exec"]
        changes = {op["name"]: op["success"] for op in report["results"]["operations"] if op["success"]}
        return changes, {host: hosts.count(host) for host in hosts}

    def ansible(self) -> dict[str, int]:
        """Run the playbook, as a user would: how many tasks changed each host."""
        command: list[str | Path] = [self.root / "venv/bin/ansible-playbook", "-i", self.inventory, PLAYBOOK]
        environment = {
            "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.root / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.root / "cp"),
            "LC_ALL": "C.UTF-8",
        }
        output = _output(command, env={**os.environ, **environment})
        return {host: int(count) for host, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", output, re.M)}

    def sample(self, run: Callable[[], Any]) -> Sample:
        """Time one run."""
        before, hosts_before, started = _children_cpu_s(), self._hosts_cpu_s(), time.monotonic()
        run()
        wall, hosts_after = time.monotonic() - started, self._hosts_cpu_s()
        return Sample(round(wall, 3), round(_children_cpu_s() - before, 3), round(hosts_after - hosts_before, 3))

    def _hosts_cpu_s(self) -> float:
        api = self.lab.client.api
        stats = [
            api.stats(self.lab.container(node.name).id or "", stream=False, one_shot=True) for node in self.fleet.nodes
        ]
        return sum(float(one["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9 for one in stats)

    def close(self) -> None:
        """End the connections that Ansible keeps open."""
        for socket in (self.root / "cp").glob("*"):
            subprocess.run(["ssh", "-S", socket, "-O", "exit", "host"], capture_output=True)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _output(command: Sequence[str | Path], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    output: str = done.stdout
    return output


def ansible_inventory(fleet: Fleet, cluster: Cluster) -> dict[str, Any]:
    """Ansible's inventory of a lab, with the values of our own settings."""
    settings = cluster.settings
    tags = {"nopasswd": "NOPASSWD: ", "password": ""}
    hosts = {
        node.name: {"ansible_host": node.address, "ansible_port": node.port, "ansible_user": node.user}
        for node in fleet.nodes
    }
    values = {
        "ansible_ssh_private_key_file": fleet.ssh_key,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={fleet.known_hosts} -o IdentitiesOnly=yes",
        "nodes": [{"name": node.name, "address": node.address} for node in cluster.nodes],
        "domain": settings.domain,
        "timezone": settings.timezone,
        "packages": sorted({*settings.packages, *settings.extra_packages}),
        "admin_users": [user.model_dump(mode="json") for user in settings.admin_users],
        "rules": [[user.name, tags[user.sudo]] for user in settings.admin_users if user.sudo in tags],
        "modules": list(MODULES),
        "parameters": dict(PARAMETERS),
        "max_size_mb": settings.journal_max_size_mb,
        "retention_days": settings.journal_retention_days,
        "time_sync_timeout_s": settings.time_sync_timeout_s,
        "reboot_timeout_s": settings.reboot_timeout_s,
    }
    return {"all": {"hosts": hosts, "vars": values}}


def prove_equal(bench: Bench) -> dict[str, int]:
    """Show that both sides keep the same settings; returns the SSH executions per host of a run of ours.

    Raises:
        BenchmarkError: one side has something to change after the other, or leaves a setting undone.
    """
    say.print("converging both ...")
    bench.ours()
    bench.ansible()
    bench.ours()
    wanted = bench.read()
    undone = [setting for setting in bench.settings if setting.undo]
    executions: dict[str, int] = {}
    for repair, who in ((bench.ours, "our deploy"), (bench.ansible, "the playbook")):
        bench.undo(undone)
        kept = {f"{setting.name} of {host}" for setting in undone for host in wanted} - bench.differing(wanted)
        _refuse(kept, "these were not undone, so that nothing is proved")
        repair()
        _refuse(bench.differing(wanted), f"{who} did not repair these")
        say.print(f"{len(undone)} settings undone on {len(wanted)} hosts, all repaired by {who};", end=" ")
        if repair == bench.ours:
            changed = bench.ansible()
            _refuse({host for host in wanted if changed.get(host) != 0}, "the playbook changes these after our deploy")
            say.print("the playbook after it: changed=0 on every host")
        else:
            changes, executions = bench.ours_traced()
            _refuse(set(changes), "our deploy changes something after the playbook")
            say.print("our deploy after it: no changes")
    return executions


def _refuse(found: set[str], why: str) -> None:
    if found:
        raise BenchmarkError(f"Not comparable: {why}: {', '.join(sorted(found))}")


def measure(bench: Bench, runs: int) -> dict[str, dict[str, list[Sample]]]:
    """Scenario -> side -> samples; the sides take turns."""
    wanted = bench.read()
    one = [setting for setting in bench.settings if setting.name == CHANGED]
    scenarios: dict[str, list[Setting]] = {"nothing to change": [], "one changed setting": one}
    samples: dict[str, dict[str, list[Sample]]] = {}
    for scenario, undone in scenarios.items():
        samples[scenario] = {"pyinfra": [], "ansible-core": []}
        for number in range(1, runs + 1):
            for side, run in (("pyinfra", bench.ours), ("ansible-core", bench.ansible)):
                bench.undo(undone)
                samples[scenario][side].append(bench.sample(run))
                _refuse(bench.differing(wanted), f"{side} left these in another state")
            last = ", ".join(f"{side} {taken[-1].wall_s:.1f} s" for side, taken in samples[scenario].items())
            say.print(f"{scenario}, {number}/{runs}: {last} (load {os.getloadavg()[0]:.1f})")
    return samples


def report(scenario: str, sides: dict[str, list[Sample]]) -> Table:
    """The table of one scenario."""
    table = Table("", title=f"{scenario.capitalize()}, in seconds", title_justify="left")
    for column in ("Median", "Min to max", "Ratio", "CPU here", "CPU hosts"):
        table.add_column(column, justify="right", no_wrap=True)
    best = median(taken.wall_s for taken in sides["pyinfra"])
    for side, taken in sides.items():
        walls = [one.wall_s for one in taken]
        figures = [
            f"{median(walls):.2f}",
            f"{min(walls):.2f} to {max(walls):.2f}",
            f"{median(walls) / best:.1f}",
            f"{median(one.controller_cpu_s for one in taken):.2f}",
            f"{median(one.hosts_cpu_s for one in taken):.2f}",
        ]
        table.add_row(side, *figures)
    return table


def connect() -> Bench:
    """The lab and its settings.

    Raises:
        BenchmarkError: there is no lab, or it does not run.
    """
    lab = Lab()
    option = "" if lab.name == "lab" else f" --name {lab.name}"
    next_step = f"Next: .venv/bin/picluster lab up{option} && .venv/bin/pyinfra {' '.join(DEPLOY)}"
    try:
        fleet = lab.fleet
        stopped = [node.name for node in fleet.nodes if lab.status().get(node.name) != "running"]
        cluster = cluster_from_inventory(load_inventory(environment_path("lab")))
    except (LabError, PyinfraError, FileNotFoundError) as error:
        raise BenchmarkError(f"There is no lab to compare on: {error}\n{next_step}") from error
    if stopped:
        raise BenchmarkError(f"These hosts of the lab {lab.name} do not run: {', '.join(stopped)}\n{next_step}")
    return Bench(lab, fleet, cluster)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1), help="Timed runs of each side.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every sample.")
def main(runs: int, as_json: bool) -> None:
    """Compare our deploy with ansible-core on the running lab; its hosts are undone and repaired on the way."""
    os.chdir(REPOSITORY)
    bench = connect()
    try:
        bench.prepare()
        executions = prove_equal(bench)
        samples = measure(bench, runs)
    finally:
        bench.close()
    counts = ", ".join(f"{host} {count}" for host, count in executions.items())
    if as_json:
        figures = {
            scenario: {side: [asdict(one) for one in taken] for side, taken in of.items()}
            for scenario, of in samples.items()
        }
        summary = {"ansible": ANSIBLE_CORE, "settings": [setting.name for setting in bench.settings]}
        print(json.dumps({**summary, "ssh_executions": executions, "samples": figures, "caveat": CAVEAT}, indent=2))
        return
    console = Console(highlight=False)
    console.print(
        f"{len(bench.settings)} settings on {len(bench.fleet.nodes)} hosts, {runs} runs of each side, alternated"
    )
    for scenario, sides in samples.items():
        console.print(report(scenario, sides))
    console.print(f"SSH executions of pyinfra when nothing changes: {counts}. {ANSIBLE_CORE}, pipelining on.")
    console.print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end. {CAVEAT}")


if __name__ == "__main__":
    main()
