"""The store of secrets: made once, replaced when asked, and never shown."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

import bcrypt
import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k3s_samples import cluster
from pydantic import SecretStr
from secret_samples import WHY, age_store, install_pass, made, one_key, plain, releases

from piclusterops import secret_values
from piclusterops.secret_providers import AgeFile, SecretsError, variable
from piclusterops.secrets import SALT, Missing, Name, SecretStore, open_store, users

Written = dict[Name, SecretStr]
_NAMES = st.tuples(*[st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,8}[a-zA-Z0-9])?", fullmatch=True)] * 2)
_VALUES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_values, "BCRYPT_COST", 4)


@pytest.fixture(params=["age", "pass"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> SecretStore:
    """An empty store that can be written, of each kind."""
    if request.param == "age":
        return age_store(tmp_path)
    request.getfixturevalue("password_store")
    return with_pass()


@pytest.fixture
def password_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a password store, with a program `pass` for it."""
    for name in ("PATH", "PASSWORD_STORE_DIR"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    return install_pass(tmp_path)


def with_pass() -> SecretStore:
    return open_store(cluster(secrets_provider="pass", cluster_name="prod").settings, None)


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    """An empty store in an age-encrypted file."""
    return age_store(tmp_path)


@pytest.fixture
def aged(tmp_path: Path) -> SecretStore:
    """A store in an age-encrypted file, with all that can be made."""
    return made(age_store(tmp_path))


def age_of(store: SecretStore) -> AgeFile:
    assert isinstance(store.provider, AgeFile)
    return store.provider


def message(function: Callable[[], object]) -> str:
    """The one message of what fails."""
    with pytest.raises(SecretsError) as caught:
        function()
    return str(caught.value)


# -- what every provider does ------------------------------------------------------------------------------


def test_values_are_made_once(either: SecretStore) -> None:
    either.provider.prepare()
    names = either.init(releases())
    assert set(names) == {("flows", "password"), ("flows", "sensitive-key"), ("queries", "cookie"), SALT}
    either.set(releases(), "names", "api-token", SecretStr("given"))
    first = plain(either.values(releases()))
    assert either.init(releases()) == [] and plain(either.values(releases())) == first
    assert first["flows", "username"] == "admin" and first["names", "api-token"] == "given"


def test_a_hash_is_the_same_in_every_run_and_follows_its_password(store: SecretStore) -> None:
    flows, queries, _ = releases()
    made(store, flows, queries)
    first, again = (plain(store.values([flows, queries]))["queries", "password.db"] for _ in range(2))
    assert first == again
    store.rotate([flows, queries], "flows", "password")
    values = plain(store.values([flows, queries]))
    user, hashed = values["queries", "password.db"].strip().split(":")
    assert user == "admin" and first != values["queries", "password.db"]
    assert bcrypt.checkpw(values["flows", "password"].encode(), hashed.encode())


def test_a_release_that_comes_later_gets_its_values_and_others_keep_theirs(store: SecretStore) -> None:
    flows, queries, _ = releases()
    made(store, flows)
    before = plain(store.values([flows]))
    assert {secret for secret, _ in store.init([flows, queries])} == {"queries", "picluster"}
    assert plain(store.values([flows]))["flows", "password"] == before["flows", "password"]


def test_missing_says_what_only_the_owner_knows_and_what_can_be_made(store: SecretStore) -> None:
    missing = {(entry.secret, entry.key): entry.why for entry in store.missing(releases())}
    assert missing["names", "api-token"] == WHY
    assert missing["flows", "password"] == "random, and not made yet"
    assert ("flows", "username") not in missing and ("queries", "password.db") not in missing
    made(store)
    assert store.missing(releases()) == [Missing("names", "api-token", WHY)]


def test_values_of_what_is_incomplete_are_refused_with_the_next_command(store: SecretStore) -> None:
    said = message(lambda: store.values(releases()))
    assert f"names/api-token: {WHY}" in said and "not made yet: flows/password, flows/sensitive-key" in said
    assert f"Next: {store.command}\n      picluster secrets set SECRET KEY{store.option}" in said
    made(store)
    said = message(lambda: store.values(releases()))
    assert "not made yet" not in said and "Next: picluster secrets set SECRET KEY" in said


def test_rotate_replaces_what_may_be_replaced(either: SecretStore) -> None:
    made(either)
    before = plain({**either.values(releases()[:2])})
    assert either.rotate(releases(), "flows") == [("flows", "password")]
    after = plain(either.values(releases()[:2]))
    assert {name for name in before if before[name] != after[name]} == {
        ("flows", "password"),
        ("queries", "password.db"),
    }


def test_what_data_is_encrypted_with_is_replaced_only_when_its_loss_is_spelled_out(store: SecretStore) -> None:
    made(store)
    before = store.value(releases(), "flows", "sensitive-key")
    said = message(lambda: store.rotate(releases(), "flows", "sensitive-key"))
    assert "would be lost" in said and said.endswith("rotate flows sensitive-key --even-if-data-is-lost")
    assert store.value(releases(), "flows", "sensitive-key") == before
    assert store.rotate(releases(), "flows", "sensitive-key", even_if_data_is_lost=True)
    assert store.value(releases(), "flows", "sensitive-key") != before


@pytest.mark.parametrize(
    ("secret", "key", "lost", "said"),
    [
        ("flow", None, False, "No selected release has a Secret flow. There are: flows, names, queries."),
        ("flows", "pass", False, "The Secret flows has no key pass; it has: password, sensitive-key, username."),
        ("flows", "username", False, "flows/username is static, not random"),
        ("names", "api-token", False, "Next: picluster secrets set names api-token"),
        ("queries", "password.db", False, "queries/password.db is template, not random"),
        ("names", None, False, "The Secret names has no key that may be replaced"),
        ("flows", None, True, "--even-if-data-is-lost is about one KEY: name it."),
    ],
)
def test_what_can_not_be_rotated_says_why(
    aged: SecretStore, secret: str, key: str | None, lost: bool, said: str
) -> None:
    before = age_of(aged).file.read_bytes()
    assert said in message(lambda: aged.rotate(releases(), secret, key, lost))
    assert age_of(aged).file.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (("flows", "username"), "root", "flows/username is no secret"),
        (("queries", "password.db"), "x", "is made of other keys: set those"),
        (("names", "token"), "x", "The Secret names has no key token; it has: api-token."),
        (("names", "api-token"), "", "The value of names/api-token is empty; nothing was changed."),
        (("names", "api-token"), "\udcff", "The value of names/api-token is no text (UTF-8)"),
        (("vault-unseal", "../../x"), "x", "vault-unseal/../../x can't be a name"),
    ],
)
def test_what_can_not_be_set_says_why(aged: SecretStore, name: Name, value: str, said: str) -> None:
    assert said in message(lambda: aged.set(releases(), *name, SecretStr(value)))


def test_an_owner_can_bring_a_password_of_their_own(either: SecretStore) -> None:
    made(either)
    assert either.set(releases(), "flows", "password", SecretStr("mine, two\nlines\n"))
    assert not either.set(releases(), "flows", "password", SecretStr("mine, two\nlines\n"))
    assert plain(either.values(releases()[:1]))["flows", "password"] == "mine, two\nlines\n"


def test_rows_tell_everything_but_the_value(either: SecretStore) -> None:
    made(either)
    either.put({("vault-unseal", "root-token"): SecretStr("kept")})
    rows = {(row.secret, row.key): row for row in either.rows(releases())}
    assert (rows["flows", "password"].kind, rows["flows", "password"].age_days) == ("password", 0)
    assert rows["flows", "password"].users == ("flows", "queries")
    assert rows["names", "api-token"].there is False and rows["names", "api-token"].age_days is None
    assert rows["flows", "username"].there and rows["queries", "password.db"].there
    assert rows["vault-unseal", "root-token"].kind == "" and rows["vault-unseal", "root-token"].users == ()
    assert either.value(releases(), "vault-unseal", "root-token").get_secret_value() == "kept"


def test_a_value_that_is_nowhere_is_said_to_be(aged: SecretStore) -> None:
    assert "No selected release has a Secret vault" in message(lambda: aged.value(releases(), "vault", "x"))


def test_users_are_also_those_whose_templates_use_it() -> None:
    assert users(releases(), [("flows", "password")]) == ("flows", "queries")
    assert users(releases(), [("flows", "sensitive-key")]) == ("flows",)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"a": "{{ secret('one', 'b') }}", "b": "{{ secret('one', 'a') }}"}, "one/a is made of itself"),
        ({"a": "{{ secret('two', 'key') }}"}, "one/a is made of two/key, which no selected release has"),
        ({"a": "{{ secret(x, 'key') }}"}, "one/a: its template must name what it uses in plain text"),
        ({"a": "{{ nothing }}"}, "one/a: its template fails (UndefinedError)."),
        ({"a": "{% if %}"}, "one/a: its template is wrong"),
    ],
)
def test_templates_that_can_not_work_are_named(tmp_path: Path, keys: dict[str, str], said: str) -> None:
    templates = {key: {"kind": "template", "template": text} for key, text in keys.items()}
    wrong = releases(one=[{"name": "one", "keys": templates}])
    assert said in message(lambda: age_store(tmp_path).values(wrong))


def test_a_template_can_use_another() -> None:
    keys = {
        "c": {"kind": "template", "template": "{{ secret('one', 'b') }}3"},
        "b": {"kind": "template", "template": "{{ secret('one', 'a') }}2"},
        "a": {"kind": "static", "value": "1"},
    }
    chained = releases(one=[{"name": "one", "keys": keys}])
    values = open_store(cluster(secrets_provider="environment").settings, None).values(chained)
    assert plain(values)["one", "c"] == "123"


# -- nothing is shown --------------------------------------------------------------------------------------


def test_values_hide_themselves(store: SecretStore, caplog: pytest.LogCaptureFixture) -> None:
    made(store)
    values = store.values(releases()[:1])
    canary = plain(values)["flows", "password"]
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("%s %r", values, values)
    with pytest.raises(ValueError) as caught:
        raise ValueError(values)
    shown = [caplog.text, "".join(traceback.format_exception(caught.value)), json.dumps(values, default=repr)]
    assert all(canary not in text and "password" in text for text in shown)


def test_no_value_is_in_an_argument_or_the_environment_of_pass(password_store: Path) -> None:
    (seen := password_store / "seen").touch()
    store = made(with_pass())
    canary = token_hex()
    store.set(releases(), "names", "api-token", SecretStr(canary))
    values = plain(store.values(releases())).values()
    said = seen.read_text()
    assert "insert --multiline --force piclusterops/prod/names/api-token" in said and "ps -eo args" in said
    assert canary in values and not [value for value in values if value != "admin" and value in said]


# -- age ---------------------------------------------------------------------------------------------------


@given(st.dictionaries(_NAMES, _VALUES, max_size=4), st.dictionaries(_NAMES, _VALUES, max_size=4))
@settings(max_examples=25, deadline=None)
def test_what_is_put_into_the_file_comes_out_of_it(first: dict[Name, str], second: dict[Name, str]) -> None:
    with TemporaryDirectory() as folder:
        store = age_store(Path(folder))
        store.provider.prepare()
        for values in (first, second):
            store.put({name: SecretStr(value) for name, value in values.items()})
        expected = {**first, **second}
        assert {name: value.get_secret_value() for name, value in store.get(expected).items()} == expected
        assert set(store.provider.known([])) == set(expected)


def test_key_and_file_are_private_and_the_key_is_readable_by_age(aged: SecretStore) -> None:
    age = age_of(aged)
    assert stat.S_IMODE(age.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(age.key.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(age.file.stat().st_mode) == 0o600
    created, public, secret = age.key.read_text().splitlines()
    assert created.startswith("# created: 20") and secret.startswith("AGE-SECRET-KEY-1")
    assert public == f"# public key: {pyrage.x25519.Identity.from_str(secret).to_public()}"
    assert {path.name for path in age.file.parent.iterdir()} == {"prod.secrets.age", "prod.secrets.recipients"}


def test_the_file_shows_neither_names_nor_values_and_is_what_age_reads(aged: SecretStore) -> None:
    age = age_of(aged)
    text = age.file.read_text()
    assert text.startswith("-----BEGIN AGE ENCRYPTED FILE-----\n") and "flows" not in text
    key = pyrage.x25519.Identity.from_str(age.key.read_text().splitlines()[-1])
    content = json.loads(pyrage.decrypt(text.encode(), [key]))
    entry = content["secrets"]["flows"]["password"]
    assert entry["value"] == plain(aged.values(releases()[:1]))["flows", "password"] and entry["rotated"] is None
    assert datetime.now(UTC) - datetime.fromisoformat(entry["created"]) < timedelta(minutes=1)


def test_dates_tell_made_from_replaced(aged: SecretStore) -> None:
    aged.rotate(releases(), "flows", "password")
    dates = aged.provider.known([])
    assert dates["flows", "password"].rotated and dates["flows", "password"].created
    assert dates["flows", "sensitive-key"].rotated is None


def test_what_is_as_it_was_is_not_written_again(aged: SecretStore) -> None:
    before = age_of(aged).file.read_bytes()
    aged.init(releases())
    aged.put(aged.get([("flows", "password")]))
    assert age_of(aged).file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o700 | 0o010])
def test_a_key_that_others_can_read_is_refused(aged: SecretStore, mode: int) -> None:
    key = age_of(aged).key
    key.chmod(mode)
    for verb in (lambda: aged.values(releases()), lambda: aged.init(releases()), aged.provider.prepare):
        assert message(verb) == f"The key {key} can be read by others (mode {mode:04o}).\nNext: chmod 600 {key}"


def test_a_key_is_never_replaced(aged: SecretStore) -> None:
    before = age_of(aged).key.read_bytes()
    assert aged.provider.prepare() == []
    assert age_of(aged).key.read_bytes() == before


def test_a_key_is_not_made_in_a_work_tree_of_git(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    store = age_store(tmp_path)
    assert "a private key does not belong there.\nNext: set secrets_key" in message(store.provider.prepare)
    assert not (tmp_path / "keys").exists()


def test_another_key_does_not_open_the_file_and_changes_nothing(tmp_path: Path, aged: SecretStore) -> None:
    other = age_store(tmp_path, "other.key")
    before = age_of(aged).file.read_bytes()
    said = message(other.provider.prepare)
    own = str(_identity(tmp_path / "keys" / "other.key").to_public())
    assert "was encrypted for others" in said and said.endswith(f"picluster secrets init --env prod\n  {own}")
    for verb in (lambda: other.values(releases()), lambda: other.missing(releases()), lambda: other.init(releases())):
        said = message(verb)
        assert "does not open" in said and own in said and "Next: name the right one with secrets_key" in said
    assert age_of(aged).file.read_bytes() == before


def _identity(key: Path) -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.from_str(key.read_text().splitlines()[-1])


def test_a_second_person_reads_the_secrets_once_one_who_does_has_added_them(tmp_path: Path, aged: SecretStore) -> None:
    second = age_store(tmp_path, "second.key")
    line = message(second.provider.prepare).splitlines()[-1].strip()
    recipients = age_of(aged).recipients_file
    recipients.write_text(recipients.read_text() + f"{line}\n")
    assert aged.provider.prepare() == [f"{age_of(aged).file} is now encrypted for 2 recipients."]
    assert second.provider.prepare() == [] and aged.provider.prepare() == []
    second.rotate(releases(), "flows", "password")
    assert plain(second.values(releases()[:2])) == plain(aged.values(releases()[:2]))


def test_who_is_no_longer_a_recipient_can_not_read_what_is_new(tmp_path: Path, aged: SecretStore) -> None:
    test_a_second_person_reads_the_secrets_once_one_who_does_has_added_them(tmp_path, aged)
    recipients = age_of(aged).recipients_file
    recipients.write_text("\n".join(recipients.read_text().splitlines()[:-1]))
    assert aged.provider.prepare() == [f"{age_of(aged).file} is now encrypted for 1 recipient."]
    assert "does not open" in message(lambda: age_store(tmp_path, "second.key").values(releases()))


def test_nobody_locks_themselves_out(aged: SecretStore) -> None:
    age = age_of(aged)
    before = age.file.read_bytes()
    age.recipients_file.write_text(f"{pyrage.x25519.Identity.generate().to_public()}\n")
    for verb in (lambda: aged.rotate(releases(), "flows"), aged.provider.prepare):
        assert "Your key is not among the recipients" in message(verb)
    assert age.file.read_bytes() == before and aged.values(releases()[:2])


def test_a_lost_list_of_recipients_is_restored_from_the_file(aged: SecretStore) -> None:
    recipients = age_of(aged).recipients_file
    before = recipients.read_text()
    recipients.unlink()
    assert message(lambda: aged.rotate(releases(), "flows")).endswith("Next: picluster secrets init --env prod")
    aged.provider.prepare()
    assert recipients.read_text() == before


@pytest.mark.parametrize("line", ["age1", "ssh-ed25519 AAAA me", "AGE-SECRET-KEY-1"])
def test_a_wrong_recipient_is_named_by_its_line(aged: SecretStore, line: str) -> None:
    recipients = age_of(aged).recipients_file
    recipients.write_text(f"# me\n\n{line}\n")
    assert "prod.secrets.recipients, line 3: no public key of age" in message(lambda: aged.rotate(releases(), "flows"))


def _truncated(content: bytes) -> bytes:
    return content[:-90]


def _flipped(content: bytes) -> bytes:
    middle = len(content) * 3 // 4
    return content[:middle] + (b"A" if content[middle : middle + 1] != b"A" else b"B") + content[middle + 1 :]


@pytest.mark.parametrize("damage", [_truncated, _flipped, lambda _: b"", lambda _: b"<<<<<<< HEAD\n"])
def test_a_damaged_file_is_said_to_be_and_never_written_over(
    aged: SecretStore, damage: Callable[[bytes], bytes]
) -> None:
    file = age_of(aged).file
    file.write_bytes(damage(file.read_bytes()))
    before = file.read_bytes()
    for verb in (lambda: aged.values(releases()), lambda: aged.init(releases()), lambda: aged.missing(releases())):
        assert message(verb) == (
            f"{file} is damaged, or no file of secrets.\nNext: restore it from version control: git restore {file}"
        )
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"secrets": {"a": {"b": "CANARY"}}}', "is damaged, or no file of secrets"),
        ('{"secrets": {"a": {"b": {"value": "CANARY", "created": "CANARY"}}}}', "is damaged, or no file of secrets"),
        ('{"CANARY": ', "is damaged, or no file of secrets"),
        ('{"format": 2, "secrets": {}}', "is of format 2, which needs a newer PiClusterOps"),
    ],
)
def test_what_is_inside_the_file_is_not_quoted_when_it_is_wrong(aged: SecretStore, content: str, said: str) -> None:
    age, canary = age_of(aged), token_hex()
    plaintext = content.replace("CANARY", canary).encode()
    age.file.write_bytes(pyrage.encrypt(plaintext, [_identity(age.key).to_public()]))
    with pytest.raises(SecretsError, match=said) as caught:
        aged.values(releases())
    assert canary not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", ["", "AGE-SECRET-KEY-1CANARY\n", "ssh-ed25519 CANARY\n", "\udcff"])
def test_what_is_no_key_is_said_to_be_none_and_is_not_quoted(aged: SecretStore, content: str) -> None:
    key, canary = age_of(aged).key, token_hex().upper()
    key.write_bytes(content.replace("CANARY", canary).encode(errors="surrogateescape"))
    with pytest.raises(SecretsError, match=r"holds no age identity|can't be read: it is no text") as caught:
        aged.values(releases())
    assert canary not in "".join(traceback.format_exception(caught.value))


def test_without_the_key_the_message_says_how_to_get_one(aged: SecretStore) -> None:
    age_of(aged).key.unlink()
    said = message(lambda: aged.values(releases()))
    assert "is not there.\nNext: copy it from the machine that made it, or make one of your own: picluster" in said


_WRITER = """
import sys
from pathlib import Path
from pydantic import SecretStr
from piclusterops.secret_providers import AgeFile
store = AgeFile(Path(sys.argv[1]), Path(sys.argv[2]), "")
print("ready", flush=True)
sys.stdin.readline()
for number in range(8):
    name = (sys.argv[3], f"k{number}")
    store.update([name], lambda there: {name: SecretStr("value")})
"""


def writer(aged: SecretStore, code: str, name: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code, str(age_of(aged).file), str(age_of(aged).key), name]
    return subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_processes_that_write_at_once_lose_nothing(aged: SecretStore) -> None:
    writers = [writer(aged, _WRITER, name) for name in ("a", "b")]
    for process in writers:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in writers:
        assert process.stdin
        print("go", file=process.stdin, flush=True)
    assert [process.wait(60) for process in writers] == [0, 0]
    names = set(aged.provider.known([]))
    assert {(name, f"k{number}") for name in "ab" for number in range(8)} <= names and ("flows", "password") in names


def test_a_full_disk_leaves_the_file_as_it_was(aged: SecretStore) -> None:
    before = age_of(aged).file.read_bytes()
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    _, said = writer(aged, full + _WRITER, "a").communicate("go\n", timeout=60)
    assert f"{age_of(aged).file} can't be written: File too large. It is as it was." in said
    assert age_of(aged).file.read_bytes() == before
    assert len(list(age_of(aged).file.parent.iterdir())) == 2


# -- environment variables ---------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretStore]:
    """A store of environment variables, with all that the samples need."""
    for number, name in enumerate(
        [("flows", "password"), ("flows", "sensitive-key"), ("queries", "cookie"), ("names", "api-token"), SALT]
    ):
        monkeypatch.setenv(variable(name), f"value {number}")
    yield open_store(cluster(secrets_provider="environment").settings, Path("inventories/lab.py"))


def test_variables_are_named_by_secret_and_key() -> None:
    assert variable(("grafana", "admin-password")) == "PICLUSTEROPS_SECRET_GRAFANA__ADMIN_PASSWORD"
    assert variable(("minio", "config.env")) == "PICLUSTEROPS_SECRET_MINIO__CONFIG_ENV"


def test_variables_give_values_and_the_same_hash_in_every_run(environment: SecretStore) -> None:
    values = plain(environment.values(releases()))
    assert values["flows", "password"] == "value 0" and values["names", "api-token"] == "value 3"
    assert values == plain(environment.values(releases())) and environment.init(releases()) == []


def test_an_empty_variable_is_a_missing_one(environment: SecretStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(("flows", "password")), "")
    assert [entry[:2] for entry in environment.missing(releases())] == [("flows", "password")]


def test_what_would_be_made_or_changed_is_named_by_its_variables(
    environment: SecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable(SALT))
    said = message(lambda: environment.init(releases()))
    assert "can't be set from here" in said and said.endswith("\n  PICLUSTEROPS_SECRET_PICLUSTER__SALT_KEY")
    assert "FLOWS__PASSWORD" in message(lambda: environment.rotate(releases(), "flows"))


def test_keys_that_would_share_a_variable_are_refused() -> None:
    alike = releases(a=[{"name": "a", "keys": {"k.x": {"kind": "hex"}, "k-x": {"kind": "hex"}}}])
    store = open_store(cluster(secrets_provider="environment").settings, None)
    assert "a/k.x and a/k-x would both be PICLUSTEROPS_SECRET_A__K_X" in message(lambda: store.missing(alike))


# -- pass --------------------------------------------------------------------------------------------------


def test_pass_is_told_to_be_missing(tmp_path: Path, password_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = message(lambda: with_pass().init(one_key(kind="hex")))
    assert said == "The program pass is not installed.\nNext: sudo apt-get install pass"


def test_a_store_that_pass_does_not_have_yet(password_store: Path) -> None:
    (password_store / ".gpg-id").unlink()
    assert "There is no password store in" in message(lambda: with_pass().init(one_key(kind="hex")))


def test_what_people_insert_by_hand_is_read_without_its_newline(password_store: Path) -> None:
    subprocess.run(
        ["pass", "insert", "--multiline", "--force", "piclusterops/prod/one/key"], input=b"typed\n", check=True
    )
    assert plain(with_pass().values(one_key(kind="given", why="x"))) == {("one", "key"): "typed"}


def test_a_failure_of_pass_is_told_in_its_words(password_store: Path, tmp_path: Path) -> None:
    made(with_pass(), *one_key(kind="hex"))
    (tmp_path / "bin" / "pass").write_text("#!/bin/sh\necho 'gpg: decryption failed: No secret key' >&2; exit 2\n")
    said = message(lambda: with_pass().values(one_key(kind="hex")))
    assert said.startswith("pass can't show piclusterops/prod/one/key: gpg: decryption failed: No secret key\nNext:")


# -- opening -----------------------------------------------------------------------------------------------


def test_opening_a_store_and_asking_for_nothing_touches_nothing(tmp_path: Path) -> None:
    store = age_store(tmp_path)
    assert store.values([]) == {} and store.missing([]) == [] and store.init([]) == []
    assert list(tmp_path.rglob("*")) == [tmp_path / "inventories"]


def test_the_file_is_beside_the_inventory_or_where_the_settings_say(tmp_path: Path) -> None:
    assert age_of(age_store(tmp_path)).file == tmp_path / "inventories" / "prod.secrets.age"
    other = age_of(age_store(tmp_path, secrets_file="~/x.secrets.age"))
    assert other.file == Path.home() / "x.secrets.age" and other.recipients_file == Path.home() / "x.secrets.recipients"
    assert "secrets_file is not set" in message(lambda: open_store(cluster().settings, None))


def test_commands_name_the_environment_as_it_is_typed(tmp_path: Path) -> None:
    assert age_store(tmp_path).command == "picluster secrets init --env prod"
    elsewhere = open_store(cluster().settings, tmp_path / "one.py")
    assert elsewhere.command == f"picluster secrets init --env {tmp_path}/one.py"
