"""The commands that README and docs show, and which of them tests type; what is not run is said here."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PROGRAMS = ("make", "pyinfra", "picluster", "kubectl", "ssh", "git", "apt-get", "echo", "sudo")
#: Run by tests/lab/test_docs.py, against the lab where the page says prod.
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
#: Run by other tests, or by being the tests.
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
