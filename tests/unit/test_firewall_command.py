"""`picluster firewall` on the command line: what it prints of an inventory, and how it judges connections."""

from __future__ import annotations

import json
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from firewall_samples import build

from piclusterops.firewall_command import Outcome, agrees, attempt, firewall, source_of
from piclusterops.zones import Verdict

INVENTORY = """
master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [("pi-worker-1", {"ssh_hostname": "192.168.0.121"})]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24", "platform_profile": "none", "firewall": FIREWALL},
)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def invoke(*args: str, wall: str = "True") -> Result:
    Path("one.py").write_text(INVENTORY.replace("FIREWALL", wall))
    return CliRunner().invoke(firewall, [args[0], "--env", "one.py", *args[1:]])


def test_matrix_has_a_table_for_each_role_that_there_is() -> None:
    printed = invoke("matrix").output
    assert "node of role master" in printed and "node of role worker" in printed
    assert "data_node" not in printed
    row = next(line for line in printed.splitlines() if "host tcp 6443" in line)
    assert row.count("accept") == 4 and row.count("drop") == 1


def test_matrix_as_json_says_what_decides() -> None:
    opened = '{"rules": {"agent": {"from": "management", "ports": 10050}}}'
    cells = json.loads(invoke("matrix", "--role", "worker", "--json", wall=opened).output)["worker"]
    cell = next(c for c in cells if c["port"] == 10050 and (c["source"], c["family"]) == ("management", "ipv4"))
    assert (cell["verdict"], cell["origin"]) == ("accept", "rule agent")


def test_show_prints_the_ruleset_of_the_nodes_role() -> None:
    master, worker = invoke("show", "pi-master").output, invoke("show", "pi-worker-1").output
    assert master.startswith("#!/usr/sbin/nft -f\n") and "table inet piclusterops {" in master
    assert "rule api" in master and "rule api" not in worker


@pytest.mark.parametrize(
    ("args", "wall", "status", "said"),
    [
        (("show", "pi-3"), "True", 2, "There is no node pi-3; there are pi-master, pi-worker-1."),
        (("show", "pi-master"), "False", 1, "Next: set firewall = True"),
        (("matrix",), '{"rules": {"ssh": None}}', 1, "SSH (tcp 22) is accepted from no zone"),
    ],
)
def test_mistakes_are_said_without_a_traceback(args: tuple[str, ...], wall: str, status: int, said: str) -> None:
    done = invoke(*args, wall=wall)
    assert (done.exit_code, said in done.output) == (status, True), done.output
    assert "Traceback" not in done.output


def test_an_unknown_environment_says_which_there_are() -> None:
    done = CliRunner().invoke(firewall, ["matrix", "--env", "nowhere"])
    assert done.exit_code == 1 and "There is no inventory nowhere.py" in done.output


@pytest.mark.parametrize(
    ("verdict", "outcome", "fine"),
    [
        ("accept", "open", True),
        ("accept", "refused", True),
        ("accept", "silent", False),
        ("drop", "silent", True),
        ("drop", "refused", False),
        ("drop", "open", False),
        ("reject", "refused", True),
        ("reject", "open", False),
        (None, "open", False),
    ],
)
def test_a_connection_is_compared_with_the_verdict(verdict: Verdict | None, outcome: Outcome, fine: bool) -> None:
    assert agrees(verdict, outcome) is fine


def test_an_attempt_tells_a_service_from_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert attempt("127.0.0.1", port) == "open"
    assert attempt("127.0.0.1", port) == "refused"


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.168.0.120", "servers"),
        ("192.168.0.121", "nodes"),
        ("192.168.0.9", "management"),
        ("10.8.0.3", "vpn"),
        ("203.0.113.1", "public"),
    ],
)
def test_this_machine_is_in_a_column_of_the_matrix(address: str, source: str) -> None:
    assert source_of(build(["master", "worker"], vpn_cidr="10.8.0.0/24"), ip_address(address)) == source
