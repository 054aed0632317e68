"""The commands and settings of the how-tos about secrets and the vault work, in the order of the pages."""

from __future__ import annotations

import re
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from runs import REPOSITORY

from piclusterops import vault_command
from piclusterops.inventory import load_inventory
from piclusterops.secrets import UNSEAL
from piclusterops.secrets_command import secrets
from piclusterops.validation import cluster_from_inventory
from piclusterops.vault_command import vault

sys.path.append(str(REPOSITORY / "tests" / "unit"))

from vault_server import FakeVault

GROUPS: dict[str, click.Command] = {"secrets": secrets, "vault": vault}
#: What a page asks its reader to type, by the start of the command.
TYPED = {"set cloudflare-api api-token": "token of Cloudflare", f"set {UNSEAL}": "a key"}


def text_of(page: str) -> str:
    return (REPOSITORY / "docs" / "how-to" / f"{page}.md").read_text()


def commands_of(page: str) -> list[str]:
    """The commands of a page as they are typed, without those whose words are to be replaced, or that need a shell."""
    found = re.findall(r"^ {4}picluster (.+)$|`picluster ([^`\n]+)`", text_of(page), re.MULTILINE)
    commands = [block or inline for block, inline in found]
    return [command for command in commands if not re.search(r"\b[A-Z]{3,}\b|\.\.\.|[<|]|^\w+$", command)]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with all releases that the pages name, and a home of its own."""
    for name in ("inventories", ".gitignore"):
        source, target = REPOSITORY / name, tmp_path / "checkout" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    data = tmp_path / "checkout/inventories/group_data/prod.py"
    data.write_text(
        f'{data.read_text()}\ndomain = "example.org"\n'
        'platform_releases = {"external-dns": {"enabled": True}, "oauth2-proxy": {"enabled": False}, '
        '"cloudflared": {"enabled": False}}\n'
    )
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def typed(command: str) -> str:
    """What a command prints that is typed as the page shows it."""
    group, *words = command.replace("--env lab", "--env prod").split()
    given = next((value for start, value in TYPED.items() if " ".join(words).startswith(start)), "")
    if words[0] == "show" and len(words) == 5:
        words.append("--reveal")  # there is no terminal here
    if words[:2] == ["set", UNSEAL] and "--env" not in words:
        words += ["--env", "prod"]
    done = CliRunner().invoke(GROUPS[group], words, input=given)
    assert done.exit_code == 0, f"{command}\n{done.output}"
    return done.output


def test_the_commands_about_secrets_work_one_after_the_other(checkout: Path) -> None:
    commands = commands_of("secrets")
    assert len(commands) > 8 and commands[0] == "secrets init --env prod"
    printed = {command: typed(command) for command in commands if command.startswith("secrets ")}
    assert (checkout / "home/.config/piclusterops/age.key").stat().st_mode & 0o777 == 0o600
    assert printed["secrets rotate nifi password --env prod"].startswith("New: nifi/password\n")
    assert "As it was, for what it encrypted" in printed["secrets rotate nifi --env prod"]
    assert len(printed["secrets show grafana-admin admin-password --env prod"]) == 32


def test_the_commands_about_the_vault_work_one_after_the_other(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeVault()
    monkeypatch.setattr(vault_command, "connected", lambda inventory, name: nullcontext(name))
    monkeypatch.setattr(vault_command, "send_over", lambda host, pod: server.send)
    typed("secrets init --env prod")
    typed("secrets set cloudflare-api api-token --env prod")
    commands = commands_of("vault")
    assert {"vault init --env prod", "vault unseal --env prod", "vault sync --env prod"} <= set(commands)
    for command in commands:
        # The page's last table is about what has gone wrong.
        if not command.startswith(f"secrets set {UNSEAL}"):
            typed(command)
    assert not server.sealed and "nifi" in server.kv
    typed(f"secrets set {UNSEAL} unseal-key-2")


@pytest.mark.parametrize("page", ["secrets", "vault"])
def test_settings_of_the_pages_are_settings(page: str, checkout: Path) -> None:
    data = Path("inventories/group_data/prod.py")
    for block in re.findall(r"^```python\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        data.write_text(f"{data.read_text()}\n{block}")
        assert cluster_from_inventory(load_inventory(Path("inventories/prod.py")))


def test_messages_that_the_pages_explain_are_said_somewhere() -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "piclusterops").glob("*secret*.py"))
    sources += "".join(path.read_text() for path in (REPOSITORY / "piclusterops").glob("vault*.py"))
    for page in ("secrets", "vault"):
        rows = re.findall(r"^\| `([^`]+)`", text_of(page).split("## When something is wrong")[1], re.MULTILINE)
        assert len(rows) >= 5
        for row in rows:
            words = [word for word in re.split(r"\d+|\"[^\"]*\"|: ", row) if len(word) > 9]
            # The API server's own words are no text of ours.
            assert any(word.strip() in sources for word in words), row


def test_a_key_in_the_checkout_is_not_committed(checkout: Path) -> None:
    patterns = Path(".gitignore").read_text().splitlines()
    assert "*age.key" in patterns and not any("secrets" in pattern for pattern in patterns)
