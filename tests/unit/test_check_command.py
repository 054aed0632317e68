"""`picluster check` on the command line: exit codes, JSON, and a controller that stays as it was."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from piclusterops.check_command import check as check_command

INVENTORY = """
master = [("pi-master", {"ssh_hostname": "127.0.0.1", "ssh_port": 1, "address": "192.168.0.120"})]
"""
GROUP = """
lan_cidr = "192.168.0.0/24"
platform_profile = "none"
ssh_user = "pi"
ssh_key = "~/key"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A controller's home with a key and an inventory of one host, where nothing listens."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    (tmp_path / ".ssh").mkdir(mode=0o700)
    (tmp_path / "group_data").mkdir()
    (tmp_path / "group_data" / "all.py").write_text(GROUP)
    (tmp_path / "one.py").write_text(INVENTORY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*args: str) -> Result:
    """Run the command in this process: nothing that it connects to makes it wait."""
    return CliRunner().invoke(check_command, args)


def result(done: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_unreachable_host_is_a_finding() -> None:
    done = check("--env", "one.py", "--json")
    assert (done.exit_code, done.stderr) == (1, "")
    found = result(done)
    assert found["hosts"] == ["pi-master"] and found["summary"] == {"error": 1, "warning": 0, "info": 0}
    (finding,) = found["findings"]
    assert (finding["severity"], finding["host"], finding["topic"]) == ("error", "pi-master", "ssh")
    assert "can't be reached" in finding["found"]
    assert finding["fix"] == "ssh -p 1 -i ~/key pi@127.0.0.1 true", "as the user would type it"


def test_nothing_is_written_on_the_controller(home: Path) -> None:
    before = sorted(path for path in home.rglob("*") if "__pycache__" not in path.parts)
    check("--env", "one.py")
    assert sorted(path for path in home.rglob("*") if "__pycache__" not in path.parts) == before


def test_the_table_names_the_next_step() -> None:
    done = check("--env", "one.py")
    assert done.exit_code == 1 and "Traceback" not in done.stdout + done.stderr
    assert "1 host: 1 error, 0 warnings, 0 info; mend the errors first." in done.stdout


def test_faults_of_the_settings_are_findings_and_the_hosts_are_asked_all_the_same(home: Path) -> None:
    (home / "group_data" / "all.py").write_text(GROUP + 'k3s_verison = "v1.36.5+k3s1"\npod_cidr = "10.42.0.1/16"\n')
    findings = result(check("--env", "one.py", "--json"))["findings"]
    assert [finding["topic"] for finding in findings] == ["settings", "settings", "ssh"]
    assert "did you mean k3s_version?" in findings[0]["fix"]


def test_ssh_settings_that_cannot_work_are_findings_and_nobody_is_asked(home: Path) -> None:
    (home / "group_data" / "all.py").write_text(GROUP + 'ssh_allow_agent = "yes"\n')
    found = result(check("--env", "one.py", "--json"))
    assert found["hosts"] == [] and {finding["topic"] for finding in found["findings"]} == {"settings"}


@pytest.mark.parametrize(("key", "part"), [("~/nokey", "nokey"), ("~/one.py", "one.py")])
def test_a_key_that_is_none_is_a_finding(home: Path, key: str, part: str) -> None:
    (home / "group_data" / "all.py").write_text(GROUP + f'ssh_key = "{key}"\n')
    (finding,) = result(check("--env", "one.py", "--json"))["findings"]
    assert finding["topic"] == "ssh" and part in finding["found"]


def test_an_inventory_that_cannot_be_read_is_a_finding(home: Path) -> None:
    (home / "one.py").write_text("master = [\n")
    done = check("--env", "one.py", "--json")
    (finding,) = result(done)["findings"]
    assert done.exit_code == 1 and finding["topic"] == "settings" and "was never closed" in finding["found"]


def test_a_missing_folder_for_host_keys_is_a_finding(home: Path) -> None:
    (home / ".ssh").rmdir()
    findings = result(check("--env", "one.py", "--json"))["findings"]
    assert findings[0]["host"] == "cluster" and findings[0]["fix"] == "mkdir -m 700 ~/.ssh"


@pytest.mark.parametrize(
    "args", [["--env", "nowhere"], ["--env", "no.py"], ["--env", "one.py", "--host", "pi-9"], ["--nope"]]
)
def test_a_wrong_command_line_ends_with_2(args: list[str]) -> None:
    done = check(*args)
    assert done.exit_code == 2 and done.stdout == "" and "Error: " in done.stderr
