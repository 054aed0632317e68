"""`picluster vpn` on the command line, with what the node answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from host_samples import LAPTOP
from pyinfra.api import Inventory

import piclusterops.vpn_command as command
from piclusterops.cli import main
from piclusterops.session import CommandFailed

INVENTORY = """
master = [("pi-master", {{"ssh_hostname": "192.168.0.120"}})]
cluster = (
    ["pi-master"],
    {{
        "lan_cidr": "192.168.0.0/24",
        "vpn_cidr": "10.8.0.0/24",
        "vpn_peers": [{peer}],
        "platform_profile": "none",
        "platform_releases": {{"wireguard": {{"enabled": {on}}}}},
    }},
)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def invoke(monkeypatch: pytest.MonkeyPatch, answer: str | Exception, *words: str, on: bool = True) -> Result:
    """Run the command with what the node prints."""
    Path("one.py").write_text(INVENTORY.format(peer=LAPTOP, on=on))

    @contextmanager
    def connected(inventory: Inventory, name: str) -> Iterator[str]:
        yield name

    def output_of(host: str, shell: str) -> str:
        assert host == "pi-master" and "dump" not in shell
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(command, "connected", connected)
    monkeypatch.setattr(command, "output_of", output_of)
    return CliRunner().invoke(main, ["vpn", *words, "--env", "one.py"])


def test_a_client_gets_the_key_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, "NODE=\n", "client", "laptop")
    assert done.exit_code == 0, done.output
    assert "PublicKey = NODE=\nEndpoint = 192.168.0.120:51900\n" in done.stdout


def test_a_name_that_is_nearly_right_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, "", "client", "lapptop")
    assert done.exit_code == 1
    assert "lapptop is no peer of the VPN: did you mean laptop?" in done.stderr and "Next: " in done.stderr


def test_a_vpn_that_is_off_says_how_to_turn_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke(monkeypatch, "", "status", on=False)
    assert done.exit_code == 1
    assert 'Next: platform_releases = {"wireguard": {"enabled": True}}' in done.stderr


def test_a_node_without_the_vpn_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = CommandFailed("pi-master: Unable to access interface: No such device")
    done = invoke(monkeypatch, failed, "status")
    assert done.exit_code == 1
    assert "No such device" in done.stderr and "deploys/site.py" in done.stderr


def test_status_is_0_when_the_node_has_the_peers_of_the_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    key = LAPTOP["public_key"]
    lines = f"allowed-ips\t{key}\t10.8.0.2/32\nlatest-handshakes\t{key}\t0\ntransfer\t{key}\t0\t0\n"
    done = invoke(monkeypatch, lines, "status")
    assert done.exit_code == 0 and "laptop" in done.stdout and "never" in done.stdout
    found = json.loads(invoke(monkeypatch, lines, "status", "--json").stdout)
    assert (found["node"], [peer["name"] for peer in found["peers"]]) == ("pi-master", ["laptop"])
    missing = invoke(monkeypatch, "", "status")
    assert missing.exit_code == 1 and "not on the node" in missing.stdout
    assert "Next: pyinfra -y one.py deploys/wireguard.py" in missing.stderr
