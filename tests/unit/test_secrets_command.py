"""`picluster secrets` on the command line: every verb, and how each fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pyrage
import pytest
import yaml
from click.testing import CliRunner, Result
from secret_samples import WHY, write_catalogue

from piclusterops.catalogue import catalogue
from piclusterops.secrets_command import secrets

INVENTORY = """
master = [("pi-master", {{"ssh_hostname": "192.168.0.120"}})]
worker = [("pi-worker-1", {{"ssh_hostname": "192.168.0.121"}})]
cluster = (["pi-master", "pi-worker-1"], {{
    "lan_cidr": "192.168.0.0/24", "platform_profile": "{profile}",
    "secrets_key": "{key}", "secrets_provider": "{provider}",
}})
"""
ENV = ("--env", "inventories/prod.py")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with one inventory, and a catalogue of a few releases."""
    work = tmp_path / "checkout"
    (work / "inventories").mkdir(parents=True)
    write_catalogue(tmp_path / "platform")
    for module in ("piclusterops.catalogue", "piclusterops.platform"):
        monkeypatch.setattr(f"{module}.platform_folder", lambda: tmp_path / "platform")
    monkeypatch.setattr("piclusterops.secret_values.BCRYPT_COST", 4)
    catalogue.cache_clear()
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "160")
    inventory()
    yield work
    catalogue.cache_clear()


def inventory(profile: str = "minimal", key: str = "age.key", provider: str = "age") -> None:
    path = Path.cwd().parent / "keys" / key
    Path("inventories/prod.py").write_text(INVENTORY.format(profile=profile, key=path, provider=provider))


def invoke(verb: str, *words: str, given: str | bytes = "") -> Result:
    return CliRunner().invoke(secrets, [verb, *ENV, *words], input=given)


def run(verb: str, *words: str, given: str | bytes = "") -> str:
    done = invoke(verb, *words, given=given)
    assert done.exit_code == 0, done.output
    return done.output


def fails(verb: str, *words: str, given: str | bytes = "", status: int = 1) -> str:
    done = invoke(verb, *words, given=given)
    assert done.exit_code == status and "Traceback" not in done.output, done.output
    return done.output


def reveal(secret: str, key: str) -> str:
    return run("show", secret, key, "--reveal")


@pytest.fixture
def started(folder: Path) -> Path:
    run("init")
    return folder


def test_init_makes_the_key_and_all_random_values_and_asks_for_the_rest() -> None:
    printed = run("init")
    key = Path.cwd().parent / "keys" / "age.key"
    assert f"A new key is in {key}: keep a copy" in printed
    assert "Made 4 random values: flows/password, flows/sensitive-key, queries/cookie, picluster/salt-key" in printed
    assert f"  picluster secrets set names api-token --env prod\n      {WHY}" in printed
    assert "Commit both: git add inventories/prod.secrets.age inventories/prod.secrets.recipients" in printed
    assert f"Never commit the key: {key}" in printed
    assert not [value for value in exported().values() if value in printed]


def exported() -> dict[str, str]:
    """All values that are kept."""
    kept = yaml.safe_load(run("export", "--reveal"))["secrets"]
    return {f"{secret}/{key}": value for secret, keys in kept.items() for key, value in keys.items()}


def test_init_again_changes_nothing(started: Path) -> None:
    before = Path("inventories/prod.secrets.age").read_bytes()
    assert run("init").startswith("No random value was missing.\n")
    assert Path("inventories/prod.secrets.age").read_bytes() == before


def test_without_a_platform_there_is_nothing_to_make(folder: Path) -> None:
    inventory(profile="none")
    assert run("init") == "The platform of inventories/prod.py has no secrets (platform_profile = none).\n"
    assert [path.name for path in folder.rglob("*.*")] == ["prod.py"]
    assert not (folder.parent / "keys").exists()


def test_list_shows_kinds_gaps_ages_and_users_and_no_value(started: Path) -> None:
    printed = run("list")
    rows = {
        tuple(cells[:2]): cells[2:] for line in printed.splitlines() if len(cells := re.findall("[^│┃ ]+", line)) > 4
    }
    assert rows["flows", "password"] == ["password", "yes", "0", "flows,", "queries"]
    assert rows["names", "api-token"] == ["given", "missing", "-", "names"]
    assert rows["queries", "password.db"] == ["template", "yes", "-", "queries"]
    assert not [value for value in exported().values() if value in printed]


def test_show_prints_no_value_into_a_pipe_unless_told_to(started: Path) -> None:
    printed = fails("show", "flows", "password")
    value = exported()["flows/password"]
    assert (
        "The output is no terminal" in printed
        and "picluster secrets show flows password --env prod --reveal" in printed
    )
    assert value not in printed and reveal("flows", "password") == value


def test_show_of_a_secret_lists_its_keys(started: Path) -> None:
    assert run("show", "flows") == "password\nsensitive-key\nusername\n"
    assert "There is no secret flow.\nNext: picluster secrets list --env prod" in fails("show", "flow")
    assert "The Secret flows has no key x; it has:" in fails("show", "flows", "x", "--reveal")


def test_show_makes_what_is_made_of_others_though_something_else_is_missing(started: Path) -> None:
    assert re.fullmatch(r"admin:\$2y\$04\$[./A-Za-z0-9]{53}\n", reveal("queries", "password.db"))


def test_set_reads_standard_input_and_tells_who_gets_it(started: Path) -> None:
    canary = token_hex()
    printed = run("set", "names", "api-token", given=f"{canary}\n")
    assert printed.splitlines() == [
        "names/api-token is kept.",
        "In the Secrets of names after: pyinfra -y inventories/prod.py deploys/platform.py",
    ]
    assert reveal("names", "api-token") == canary
    assert run("set", "names", "api-token", given=canary) == "names/api-token has that value already.\n"
    assert run("set", "names", "api-token", given="two\nlines\n\n").startswith("names/api-token is kept.")
    assert reveal("names", "api-token") == "two\nlines\n"


def test_set_takes_no_value_as_an_argument(started: Path) -> None:
    assert "unexpected extra argument" in fails("set", "names", "api-token", "value", status=2)


def test_set_refuses_what_is_no_text_or_nothing(started: Path) -> None:
    assert "is no text (UTF-8); nothing was changed" in fails("set", "names", "api-token", given=b"\xff\xfe")
    assert "is empty; nothing was changed" in fails("set", "names", "api-token", given="\n")


def test_rotate_tells_what_is_new_who_gets_it_and_what_else_it_takes(started: Path) -> None:
    before = exported()
    printed = run("rotate", "flows")
    assert printed.splitlines() == [
        "New: flows/password",
        "As it was, for what it encrypted would be lost: flows/sensitive-key",
        "In the Secrets of flows, queries after: pyinfra -y inventories/prod.py deploys/platform.py",
        "  flows: that restarts data-platform/statefulset/flows",
        "  queries: that tells data-platform/deployment/queries",
        "  queries: taken over by its operator, which watches it",
    ]
    after = exported()
    assert {name for name in after if after[name] != before[name]} == {"flows/password"}


def test_rotate_loses_data_only_when_that_is_spelled_out(started: Path) -> None:
    before = exported()
    assert "--even-if-data-is-lost" in fails("rotate", "flows", "sensitive-key")
    assert exported() == before
    printed = run("rotate", "flows", "sensitive-key", "--even-if-data-is-lost")
    assert printed.endswith("on the first server: sudo k3s kubectl -n data-platform delete secret flows\n")
    assert exported()["flows/sensitive-key"] != before["flows/sensitive-key"]


def test_an_export_is_encrypted_to_whom_it_is_for(started: Path) -> None:
    someone, other = (pyrage.x25519.Identity.generate() for _ in range(2))
    printed = run("export", "--to", str(someone.to_public()))
    assert printed.startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert yaml.safe_load(pyrage.decrypt(printed.encode(), [someone])) == yaml.safe_load(run("export", "--reveal"))
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(printed.encode(), [other])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say to whom with --to AGE1..., or --reveal"),
        (("--to", "age1", "--reveal"), "Say to whom"),
        (("--to", "age1nobody"), "age1nobody is no public key of age"),
    ],
)
def test_an_export_needs_a_reader(started: Path, words: tuple[str, ...], said: str) -> None:
    assert said in fails("export", *words, status=2)


def test_an_export_for_kubernetes_has_a_secret_in_each_namespace(started: Path) -> None:
    run("set", "names", "api-token", given="given")
    found = list(yaml.safe_load_all(run("export", "--format", "kubernetes", "--reveal")))
    assert [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in found] == [
        ("data-platform", "flows"),
        ("data-platform", "names"),
        ("data-platform", "queries"),
        ("dmz", "queries"),
    ]
    assert found[0]["stringData"]["password"] == reveal("flows", "password") and found[0]["type"] == "Opaque"
    assert found[2]["stringData"] == found[3]["stringData"] and found[2]["metadata"]["labels"] == {"a/b": "c"}


def test_an_export_for_kubernetes_is_complete_or_none(started: Path) -> None:
    assert f"names/api-token: {WHY}" in fails("export", "--format", "kubernetes", "--reveal")


def test_another_machine_imports_what_was_exported_to_its_key(started: Path) -> None:
    before = exported()
    inventory(key="other.key")
    for name in ("age", "recipients"):
        Path(f"inventories/prod.secrets.{name}").rename(f"inventories/old.{name}")
    run("init")
    own = pyrage.x25519.Identity.from_str((started.parent / "keys/other.key").read_text().splitlines()[-1]).to_public()
    mine = exported()
    inventory()
    for name in ("age", "recipients"):
        Path(f"inventories/prod.secrets.{name}").rename(f"inventories/new.{name}")
        Path(f"inventories/old.{name}").rename(f"inventories/prod.secrets.{name}")
    sent = run("export", "--to", str(own))
    inventory(key="other.key")
    for name in ("age", "recipients"):
        Path(f"inventories/new.{name}").rename(f"inventories/prod.secrets.{name}")
    printed = fails("import", given=sent)
    assert "Other values are kept already; nothing was changed: flows/password," in printed
    assert exported() == mine != before
    assert run("import", "--replace", given=sent) == "Kept 4 of 4 values; the others were there already.\n"
    assert exported() == before
    assert run("import", given=sent) == "Kept 0 of 4 values; the others were there already.\n"


@pytest.mark.parametrize(
    "given", [b"", b"secrets: []\n", b"{", b"secrets: {a: {b: [CANARY]}}\n", b"secrets: {a: CANARY}\n", b"\xff\xfe\x00"]
)
def test_what_is_no_export_is_refused(started: Path, given: bytes) -> None:
    canary = token_hex()
    printed = fails("import", given=given.replace(b"CANARY", canary.encode()))
    assert "That is no export of `picluster secrets export`; nothing was changed." in printed
    assert canary not in printed


def test_an_export_for_someone_else_or_damaged_is_refused(started: Path) -> None:
    sent = run("export", "--to", str(pyrage.x25519.Identity.generate().to_public()))
    assert "The export was not encrypted to the key" in fails("import", given=sent)
    assert "The export is damaged; nothing was changed." in fails("import", given=sent[:200])


def test_names_in_an_export_can_not_leave_the_store(started: Path) -> None:
    assert "can't be a name" in fails("import", given="secrets: {..: {../../x: y}}\n")


def test_variables_of_the_environment_can_be_read_and_not_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory(provider="environment")
    assert "  PICLUSTEROPS_SECRET_FLOWS__PASSWORD\n" in fails("init")
    monkeypatch.setenv("PICLUSTEROPS_SECRET_FLOWS__PASSWORD", "from outside")
    assert reveal("flows", "password") == "from outside"
    assert "PICLUSTEROPS_SECRET_NAMES__API_TOKEN" in fails("set", "names", "api-token", given="x")


def test_a_wrong_environment_says_which_there_are() -> None:
    done = CliRunner().invoke(secrets, ["list", "--env", "nowhere"])
    assert done.exit_code == 1 and "There is no inventory nowhere.py" in done.output
