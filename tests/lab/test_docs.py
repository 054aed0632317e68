"""The commands that README and docs show, typed by a newcomer in a clean clone."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import REPOSITORY

from piclusterops.lab.fleet import Lab
from piclusterops.paths import cache_root

pytestmark = pytest.mark.lab

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PROGRAMS = ("make", "pyinfra", "picluster", "kubectl", "ssh", "git", "apt-get", "echo", "sudo")
#: Run below, against the lab where the page says prod.
RUN = (
    "make help",
    "make docs",
    "pyinfra --dry inventories/lab.py deploys/site.py",
    "pyinfra -y inventories/lab.py deploys/site.py",
    "pyinfra -y --data journal_max_size_mb=200 inventories/lab.py deploys/site.py",
    "picluster lock --env lab",
    "picluster kubeconfig --env lab",
    "picluster status --env lab",
    "picluster check --env lab",
    "picluster check --env lab --json",
    "picluster check --env lab --host pi-worker-1 --host pi-worker-2",
    "pyinfra -y inventories/lab.py deploys/check.py",
    "pyinfra -y inventories/lab.py deploys/firewall.py",
    "pyinfra -y inventories/lab.py deploys/wireguard.py",
    "pyinfra -y inventories/lab.py deploys/nfs_server.py",
    "pyinfra -y inventories/lab.py deploys/docker.py",
    "picluster firewall matrix --env lab",
    "picluster firewall show --env lab pi-master",
    "picluster firewall diff --env lab pi-master",
    "picluster firewall test --env lab pi-master",
    "picluster plan --env lab",
    "picluster plan --env lab --json",
    "pyinfra -y inventories/lab.py deploys/platform.py",
    "pyinfra -y --data platform_prune=true inventories/lab.py deploys/platform.py",
    "picluster lab status",
)
#: Run by these tests themselves, or by being these tests.
RUN_ELSEWHERE = (
    "pyinfra --dry inventories/lab.py greeter.py",
    "pyinfra -y inventories/lab.py greeter.py",
    "make demo",
    "make demo-down",
    "make check",
    "make test-charts",
    "make test",
    "picluster lab up",
    "picluster lab down",
    "picluster secrets init --env lab",
    "picluster secrets list --env lab",
    "picluster secrets rotate nifi --env lab",
    "picluster secrets rotate nifi password --env lab",
    "picluster secrets set cloudflare-api api-token --env lab",
    "picluster secrets set vault-unseal root-token",
    "picluster secrets set vault-unseal unseal-key-2",
    "picluster secrets show grafana-admin --env lab",
    "picluster secrets show grafana-admin admin-password --env lab",
    "picluster secrets show vault-unseal unseal-key-1 --env lab",
    "picluster vpn",
    "picluster vpn client laptop --env lab",
    "picluster vpn status --env lab",
    "picluster vault",
    "picluster vault init --env lab",
    "picluster vault status --env lab",
    "picluster vault sync --env lab",
    "picluster vault unseal --env lab",
    "sudo find /var/lib/piclusterops/armed -name rollback",
    "sudo rm /etc/ssh/sshd_config.d/00-piclusterops.conf",
    "sudo systemctl restart ssh",
    "sudo nft list table inet piclusterops",
    "sudo systemctl stop piclusterops-firewall",
)
#: The mission's one line, which is also typed with -y, and what needs real Raspberry Pis, containers or a kubectl.
NOT_RUN = (
    "sudo k3s kubectl -n vault logs vault-0",
    "sudo wg-quick up home",
    "sudo docker build --network host -t app .",
    "git restore inventories/lab.secrets.age",
    "sudo apt-get install linux-image-rpi-v8",
    "sudo systemctl enable --now dphys-swapfile",
    "sudo systemctl unmask dev-zram0.swap",
    "pyinfra inventories/lab.py deploys/site.py",
    "ssh pi@192.168.0.120 sudo hostname",
    "echo 'pi ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/010_pi-nopasswd",
    "kubectl --context piclusterops get nodes",
    "apt-get install -y git make python3-venv",
    "sudo journalctl -k --grep 'piclusterops drop'",
)


def commands_of(text: str) -> set[str]:
    """Commands in code blocks and in inline code, as they are to be typed against the lab."""
    blocks = re.findall(r"^(?: {4}|\t)(.+)$", text, re.MULTILINE)
    blocks += [
        line
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    found = set()
    for line in [*blocks, *re.findall(r"`([^`\n]+)`", text)]:
        command = re.sub(r"\s+#.*", "", line.strip()).removeprefix(".venv/bin/")
        if (
            command.split(" ")[0] in PROGRAMS
            and " " in command
            and not re.search(r"\b[A-Z]{3,}\b|\.\.\.|[<|]", command)
        ):
            found.add(command.replace("prod", "lab"))
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone, as a newcomer has it."""
    target = tmp_path_factory.mktemp("newcomer") / "piclusterops"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(target)], check=True)
    return target


def typed(command: str, clone: Path) -> str:
    """What a command prints, typed in the clone with its virtual environment in the path.

    The home directory is the clone's neighbour, so that no kubeconfig of ours is touched.
    """
    ours = ("PICLUSTEROPS_LAB", "PICLUSTEROPS_LAB_PLATFORM", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    done = subprocess.run(
        command,
        shell=True,
        cwd=clone,
        env={
            **environment,
            "HOME": str(clone.parent),
            "PICLUSTEROPS_CACHE": str(cache_root()),
            "PATH": f"{clone}/.venv/bin:{os.environ['PATH']}",
        },
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def demo(clone: Path) -> Iterator[tuple[Path, str]]:
    """The clone after ``make demo``, and what that printed."""
    try:
        yield clone, typed("make demo", clone)
    finally:
        Lab("lab").down()


def test_every_command_of_the_docs_is_run_or_said_not_to_be() -> None:
    shown = set().union(*(commands_of(page.read_text()) for page in PAGES))
    unknown = shown - {*RUN, *RUN_ELSEWHERE, *NOT_RUN}
    assert not unknown
    assert {"make demo", "make demo-down", "picluster lock --env lab"} <= shown


def test_make_demo_brings_up_a_cluster_and_says_how_to_look_around(demo: tuple[Path, str]) -> None:
    _, printed = demo
    for node in ("pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3"):
        assert re.search(rf"{node} +│ +(master|worker|data_node) +│ +yes", printed), printed[-3000:]
    assert "make demo-down" in printed


@pytest.mark.parametrize("command", RUN)
def test_the_command_does_what_the_docs_say(demo: tuple[Path, str], command: str) -> None:
    clone, _ = demo
    printed = typed(command, clone)
    assert "Traceback" not in printed
    if command.startswith("picluster lock"):
        assert re.search(r"^[0-9a-f]{64}  v", printed, re.MULTILINE)
    if command == "picluster plan --env lab":
        assert "to install" not in printed and "to upgrade" not in printed, "the demo has installed everything"
    if command.startswith("picluster kubeconfig"):
        assert (clone.parent / ".kube/config").stat().st_mode & 0o777 == 0o600


def test_make_demo_down_leaves_nothing(demo: tuple[Path, str]) -> None:
    clone, _ = demo
    block = Lab("lab").fleet.block
    typed("make demo-down", clone)
    assert f"10.{block}." not in subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    links = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout
    assert f"10.{block}." not in links
    assert not (cache_root() / "lab" / "lab").exists()
    assert subprocess.run(["git", "status", "--short"], cwd=clone, capture_output=True, text=True).stdout == ""
