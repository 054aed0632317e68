"""Secrets with the programs that people have: a terminal, `age`, the password store `pass`, and `curl`."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

import pytest
from pydantic import SecretStr

from piclusterops import vault as vault_module
from piclusterops.secrets import SecretStore, open_store
from piclusterops.settings import ClusterSettings
from piclusterops.vault import CURL, Pod, Request, Response, Vault, curl_config, parse

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))

from secret_samples import age_store, made, one_key, plain, releases, write_catalogue
from vault_server import FakeVault, server_context, serving, write_certificates

NASTY = """a "quoted" \\ back\\nslash, 'single', $HOME `id` %{http_code} @/etc/passwd # no comment
second line\ttab é \U0001f511 {{ x }}
"""

# -- a terminal --------------------------------------------------------------------------------------------

DRIVER = """
import sys
from pathlib import Path
import piclusterops.catalogue as c, piclusterops.platform as p
c.platform_folder = p.platform_folder = lambda: Path(sys.argv[1])
from piclusterops.secrets_command import secrets
secrets(sys.argv[2:])
"""
INVENTORY = """
master = [("pi-master", {{"ssh_hostname": "192.168.0.120"}})]
cluster = (["pi-master"], {{"lan_cidr": "192.168.0.0/24", "platform_profile": "minimal", "secrets_key": "{key}"}})
"""


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, *words: str, cwd: Path) -> None:
        self._handle, other = pty.openpty()
        self._process = subprocess.Popen(
            words, cwd=cwd, stdin=other, stdout=other, stderr=other, start_new_session=True, close_fds=True
        )
        os.close(other)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until the terminal shows a text."""
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < deadline and self._read(), self.shown

    def type(self, text: str) -> None:
        os.write(self._handle, text.encode())

    def end(self) -> str:
        """All that was shown, once the program has ended well."""
        while self._read():
            pass
        assert self._process.wait(60) == 0, self.shown
        os.close(self._handle)
        return self.shown

    def _read(self) -> bool:
        if not select.select([self._handle], [], [], 60)[0]:
            return False
        try:
            found = os.read(self._handle, 4096)
        except OSError:
            return False
        self.shown += found.decode()
        return bool(found)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with an inventory whose secrets are made, and a catalogue beside it."""
    write_catalogue(tmp_path / "platform")
    made(age_store(tmp_path))
    (tmp_path / "inventories" / "prod.py").write_text(INVENTORY.format(key=tmp_path / "keys" / "age.key"))
    return tmp_path


def secrets_in(checkout: Path, *words: str) -> Terminal:
    command = (sys.executable, "-c", DRIVER, str(checkout / "platform"), *words)
    return Terminal(*command, cwd=checkout)


def test_a_terminal_shows_a_value_and_takes_one_without_showing_it(checkout: Path) -> None:
    canary = token_hex()
    asking = secrets_in(checkout, "set", "names", "api-token")
    showing = secrets_in(checkout, "show", "flows", "password")
    for prompt in ("names/api-token: ", "Repeat for confirmation: "):
        asking.wait_for(prompt)
        # The terminal still echoes what is typed before getpass has turned that off.
        time.sleep(0.2)
        asking.type(f"{canary}\n")
    printed = asking.end()
    assert "names/api-token is kept." in printed and canary not in printed
    values = plain(age_store(checkout).values(releases()))
    assert values["names", "api-token"] == canary
    assert showing.end() == f"{values['flows', 'password']}\r\n"


# -- age ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("age"), reason="needs Debian's package age")
def test_the_file_is_read_and_written_by_age_itself(tmp_path: Path) -> None:
    store = made(age_store(tmp_path))
    folder = tmp_path / "inventories"
    key, file, recipients = (
        tmp_path / "keys/age.key",
        folder / "prod.secrets.age",
        folder / "prod.secrets.recipients",
    )
    plaintext = subprocess.run(["age", "-d", "-i", key, file], check=True, capture_output=True).stdout
    before = json.loads(plaintext)["secrets"]["flows"]["password"]["value"]
    assert before == plain(store.values(releases()[:1]))["flows", "password"]
    changed = plaintext.replace(before.encode(), b"changed by hand")
    subprocess.run(["age", "-a", "-R", recipients, "-o", file], input=changed, check=True)
    assert plain(store.values(releases()[:1]))["flows", "password"] == "changed by hand"


@pytest.mark.skipif(not shutil.which("age-keygen"), reason="needs Debian's package age")
def test_a_key_of_age_keygen_is_as_good_as_ours(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    subprocess.run(["age-keygen", "-o", tmp_path / "keys/age.key"], check=True, capture_output=True)
    assert len(made(age_store(tmp_path)).values(releases()[:2])) == 2


# -- pass --------------------------------------------------------------------------------------------------


@pytest.fixture
def password_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretStore]:
    """A store in a real password store, with a key of its own."""
    if not shutil.which("pass") or not shutil.which("gpg"):
        pytest.skip("needs Debian's package pass")
    # gpg-agent's socket needs a short path
    with TemporaryDirectory(dir="/tmp", prefix="gpg-") as folder:
        monkeypatch.setenv("GNUPGHOME", folder)
        monkeypatch.setenv("PASSWORD_STORE_DIR", f"{folder}/store")
        quiet = {"check": True, "capture_output": True}
        subprocess.run(
            ["gpg", "--batch", "--passphrase", "", "--quick-gen-key", "tests@example.org", "future-default"],
            **quiet,  # type: ignore[call-overload]
        )
        subprocess.run(["pass", "init", "tests@example.org"], **quiet)  # type: ignore[call-overload]
        yield open_store(_settings(), None)
        subprocess.run(["gpgconf", "--kill", "all"], check=True)


def _settings() -> ClusterSettings:
    return ClusterSettings.model_validate(
        {"lan_cidr": "192.168.0.0/24", "secrets_provider": "pass", "cluster_name": "prod"}
    )


def test_pass_keeps_what_it_is_given(password_store: SecretStore) -> None:
    chosen = one_key(kind="given", why="x")
    assert [entry[:2] for entry in password_store.missing(chosen)] == [("one", "key")]
    assert password_store.set(chosen, "one", "key", SecretStr(NASTY))
    assert plain(password_store.values(chosen)) == {("one", "key"): NASTY}
    assert not password_store.set(chosen, "one", "key", SecretStr(NASTY))
    assert password_store.rows(chosen)[0].age_days == 0
    shown = subprocess.run(["pass", "show", "piclusterops/prod/one/key"], check=True, capture_output=True, text=True)
    assert shown.stdout == f"{NASTY}\n"


# -- curl --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as K3s has it: the API's authority, a certificate for it, and one of its admin."""
    return write_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def over_curl(certificates: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[FakeVault, Vault]]:
    """A vault behind HTTPS that asks for the admin's certificate, reached by the curl that a server would run."""
    context = server_context(certificates)
    context.load_verify_locations(certificates / "server-ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server, pod = FakeVault(), Pod("vault", "vault-0")
    prefix = pod.url.removeprefix("https://127.0.0.1:6443") + "v1/"
    store = age_store(tmp_path)
    store.provider.prepare()

    def send(request: Request) -> Response:
        done = subprocess.run(
            CURL, shell=True, input=curl_config(pod, request), capture_output=True, text=True, check=True
        )
        return parse(pod, done.stdout)

    with serving(server, "127.0.0.1", context, prefix.removesuffix("v1/")) as port:
        monkeypatch.setattr(vault_module, "_API", f"https://127.0.0.1:{port}")
        monkeypatch.setattr(vault_module, "_TLS", str(certificates))
        monkeypatch.setattr(vault_module, "_POLL_S", 0.01)
        yield server, Vault(send, store, str(pod))


def test_the_whole_way_of_a_vault_over_curl(over_curl: tuple[FakeVault, Vault]) -> None:
    server, vault = over_curl
    assert vault.initialise(3, 2) and vault.unseal() and len(vault.configure()) == 5 and vault.configure() == []
    nasty = {"a": {"key": SecretStr(NASTY), "other": SecretStr("@/etc/passwd")}}
    assert vault.sync(nasty) == ["a"] and vault.sync(nasty) == []
    assert server.kv == {"a": [{"key": NASTY, "other": "@/etc/passwd"}]}
    server.restart()
    assert vault.unseal() and not vault.seal().sealed
