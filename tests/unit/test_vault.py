"""The platform's own vault: initialised once, unsealed, set up, filled; and what its command line says."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from k3s_samples import cluster
from pydantic import SecretStr
from secret_samples import age_store, releases
from vault_server import FakeVault

from piclusterops import vault as vault_module
from piclusterops import vault_command
from piclusterops.catalogue import catalogue
from piclusterops.platform import platform_of
from piclusterops.secrets import UNSEAL, SecretsError, SecretStore, open_store
from piclusterops.vault import Pod, Request, Vault, VaultError, curl_config, parse

POD = Pod("vault", "vault-0")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "_POLL_S", 0.001)


@pytest.fixture
def server() -> FakeVault:
    return FakeVault()


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    store = age_store(tmp_path)
    store.provider.prepare()
    return store


@pytest.fixture
def vault(server: FakeVault, store: SecretStore) -> Vault:
    return Vault(server.send, store, "vault/vault-0")


@pytest.fixture
def ready(server: FakeVault, vault: Vault) -> Vault:
    """Initialised and unsealed."""
    vault.initialise(5, 3)
    vault.unseal()
    server.log.clear()
    return vault


def message(function: Callable[[], object]) -> str:
    with pytest.raises((VaultError, SecretsError)) as caught:
        function()
    return str(caught.value)


def kept(store: SecretStore) -> dict[str, str]:
    names = [name for name in store.provider.known([]) if name[0] == UNSEAL]
    return {key: value.get_secret_value() for (_, key), value in store.get(names).items()}


# -- initialise --------------------------------------------------------------------------------------------


def test_its_keys_and_root_token_go_into_the_store(server: FakeVault, store: SecretStore, vault: Vault) -> None:
    assert vault.initialise(5, 3)
    numbered = {f"unseal-key-{number}": key for number, key in enumerate(server.keys, start=1)}
    assert kept(store) == {**numbered, "root-token": server.root_token, "shares": "5", "threshold": "3"}
    assert (server.threshold, len(server.keys)) == (3, 5) and server.sealed


def test_what_is_initialised_is_left_alone(server: FakeVault, store: SecretStore, vault: Vault) -> None:
    vault.initialise(5, 3)
    before = kept(store)
    assert not vault.initialise(3, 2)
    assert kept(store) == before and server.log == ["POST sys/init"]


def test_keys_that_backups_of_another_vault_need_are_not_replaced(store: SecretStore, vault: Vault) -> None:
    vault.initialise(5, 3)
    before = kept(store)
    anew = Vault(FakeVault().send, store, "v")
    said = message(lambda: anew.initialise(5, 3))
    assert "its volume is a new one.\nNext: restore the volume" in said and said.endswith("--env prod --replace-keys")
    assert kept(store) == before
    assert anew.initialise(5, 3, replace_keys=True) and anew.unseal() and kept(store) != before


def test_a_vault_that_unseals_itself_gets_recovery_keys(store: SecretStore) -> None:
    server = FakeVault("static")
    vault = Vault(server.send, store, "vault/openbao-0")
    assert vault.initialise(3, 2) and not vault.unseal()
    assert {f"recovery-key-{number}" for number in (1, 2, 3)} < set(kept(store))
    server.sealed = True
    assert "though it unseals itself (static): its log says why" in message(vault.unseal)


def test_nothing_is_initialised_whose_keys_could_not_be_kept(server: FakeVault, store: SecretStore) -> None:
    unwritable = open_store(cluster(secrets_provider="environment").settings, None)
    said = message(lambda: Vault(server.send, unwritable, "v").initialise(5, 3))
    assert "environment variables can't be written.\nNext: choose another secrets_provider" in said
    recipients = store.provider.recipients_file  # type: ignore[attr-defined]
    recipients.unlink()
    assert "is not there.\nNext: picluster secrets init" in message(
        lambda: Vault(server.send, store, "v").initialise(5, 3)
    )
    assert server.log == [] and not server.root_token


def test_keys_that_are_lost_after_all_are_said_to_be(
    server: FakeVault, store: SecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipients = store.provider.recipients_file  # type: ignore[attr-defined]

    def send(request: Request) -> vault_module.Response:
        answer = server.send(request)
        if request.path == "sys/init":
            recipients.unlink()
        return answer

    with pytest.raises(VaultError) as caught:
        Vault(send, store, "v").initialise(5, 3)
    said = "".join(traceback.format_exception(caught.value))
    assert "its keys could not be kept" in said and "remove the vault's volume and pod, and do this again" in said
    assert not [key for key in (*server.keys, server.root_token) if key in said]


def test_what_the_vault_refuses_is_told(vault: Vault) -> None:
    assert "can't be initialised: invalid seal configuration: threshold" in message(lambda: vault.initialise(3, 1))


# -- unseal ------------------------------------------------------------------------------------------------


def test_it_is_unsealed_with_as_many_keys_as_it_needs(server: FakeVault, vault: Vault) -> None:
    vault.initialise(5, 3)
    assert vault.unseal() and not server.sealed
    assert server.log.count("POST sys/unseal") == 3
    assert not vault.unseal() and server.log.count("POST sys/unseal") == 3
    server.restart()
    assert vault.unseal() and not vault.seal().sealed


def test_keys_that_someone_began_with_are_forgotten(server: FakeVault, vault: Vault) -> None:
    vault.initialise(5, 3)
    server.given = ["of another vault"]
    assert vault.unseal()


def test_it_is_waited_for_until_it_is_active(server: FakeVault, vault: Vault) -> None:
    vault.initialise(5, 3)
    server.electing = 3
    assert vault.unseal() and server.electing == 0


def test_it_is_not_waited_for_for_ever(server: FakeVault, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.initialise(1, 1)
    server.electing = 10**6
    monkeypatch.setattr(vault_module, "_ACTIVE_TIMEOUT_S", 0)
    assert "is unsealed, and not active after 0 s (HTTP status 429)" in message(vault.unseal)


def test_without_keys_the_message_says_which_to_set(server: FakeVault, store: SecretStore, vault: Vault) -> None:
    assert message(vault.unseal).endswith("is not initialised.\nNext: picluster vault init --env prod")
    server.answer("POST", "sys/init", "", {"secret_shares": 5, "secret_threshold": 3})
    store.put({(UNSEAL, "unseal-key-1"): SecretStr(server.keys[0])})
    said = message(vault.unseal)
    assert "needs 3 unseal keys, and the store has 1.\nNext: picluster secrets set vault-unseal unseal-key-2" in said
    for number in (2, 3):
        store.set([], UNSEAL, f"unseal-key-{number}", SecretStr(server.keys[number]))
    assert vault.unseal()


def test_keys_of_another_vault_are_said_to_be(store: SecretStore) -> None:
    Vault(FakeVault().send, store, "old").initialise(5, 3)
    server = FakeVault()
    server.answer("POST", "sys/init", "", {"secret_shares": 5, "secret_threshold": 3})
    said = message(Vault(server.send, store, "new").unseal)
    assert "does not accept the unseal keys of the store: Unseal failed, invalid key." in said
    assert not [key for key in kept(store).values() if len(key) > 2 and key in said]


# -- set up and fill ---------------------------------------------------------------------------------------


def test_external_secrets_gets_its_engine_login_policy_and_role_once(server: FakeVault, ready: Vault) -> None:
    assert ready.configure() == [
        "the KV engine (version 2) platform/",
        "the login of Kubernetes auth/kubernetes/",
        "how it asks Kubernetes",
        "the policy external-secrets",
        "the role external-secrets",
    ]
    assert server.mounts["platform/"] == {"type": "kv", "options": {"version": "2"}}
    server.log.clear()
    assert ready.configure() == [] and server.log == []


def test_vault_gets_an_audit_log_on_standard_output_with_no_secret_in_it(server: FakeVault, ready: Vault) -> None:
    assert ready.audit()
    assert server.audit == {"stdout/": {"type": "file", "options": {"file_path": "stdout", "log_raw": "false"}}}
    server.log.clear()
    assert not ready.audit() and server.log == []


def test_an_audit_log_of_someones_own_is_left_as_it_is(server: FakeVault, ready: Vault) -> None:
    server.audit = {"siem/": {"type": "socket"}}
    server.log.clear()
    assert not ready.audit() and server.log == []


def test_openbao_has_its_audit_log_from_its_configuration(store: SecretStore) -> None:
    server = FakeVault(openbao=True)
    vault = Vault(server.send, store, "vault/openbao-0")
    vault.initialise(1, 1)
    vault.unseal()
    server.log.clear()
    assert not vault.audit() and server.log == []
    server.audit = {}
    said = message(vault.audit)
    assert "vault/openbao-0 has no audit log: it runs with an old configuration" in said and "Next: " in said


@pytest.mark.parametrize("name", ["vault", "openbao"])
def test_an_audit_log_can_fill_no_volume(name: str) -> None:
    """Else a vault that can't write it any more answers nobody."""
    profile = "named" if name == "vault" else "clean"
    planned = platform_of(cluster(platform_profile=profile)).planned(name)
    assert planned.values["server"]["auditStorage"] == {"enabled": False}
    assert not [volume for volume in planned.release.volumes if "audit" in volume.claim]
    config = planned.values["server"]["standalone"]["config"]
    # Vault does not know the stanza, OpenBao takes no device from its API.
    declared = re.search(r'^audit "file" "stdout" \{\n(?:.*\n)*?^\}', config, re.MULTILINE)
    assert bool(declared) == (name == "openbao")
    if declared:
        assert 'file_path = "stdout"' in declared[0] and 'log_raw   = "false"' in declared[0]


def test_what_someone_changed_is_mended_and_no_more(server: FakeVault, ready: Vault) -> None:
    ready.configure()
    server.written["sys/policies/acl/external-secrets"]["policy"] = 'path "*" { capabilities = ["sudo"] }'
    assert ready.configure() == ["the policy external-secrets"]


def test_the_names_are_those_of_the_store_that_the_cluster_gets() -> None:
    values = yaml.safe_load((REPOSITORY / "files/charts/platform-config/values.yaml").read_text())["secretStore"]
    assert values["vault"]["path"] == vault_module.KV_MOUNT
    assert (values["vault"]["mountPath"], values["vault"]["role"]) == (vault_module.LOGIN_MOUNT, vault_module.ROLE)
    account = {"name": vault_module.SERVICE_ACCOUNT, "namespace": vault_module.SERVICE_NAMESPACE}
    assert values["serviceAccount"] == account


def values(**secrets: str) -> dict[str, dict[str, SecretStr]]:
    return {name: {"key": SecretStr(value)} for name, value in secrets.items()}


def test_secrets_are_put_there_where_they_are_new_or_differ(server: FakeVault, ready: Vault) -> None:
    ready.configure()
    assert ready.sync(values(a="1", b="1")) == ["a", "b"]
    assert ready.sync(values(a="1", b="2")) == ["b"]
    assert ready.sync(values(a="1", b="2")) == []
    assert server.kv == {"a": [{"key": "1"}], "b": [{"key": "1"}, {"key": "2"}]}


def test_what_was_deleted_there_comes_back(server: FakeVault, ready: Vault) -> None:
    ready.configure()
    ready.sync(values(a="1"))
    server.kv["a"][-1] = None
    assert ready.sync(values(a="1")) == ["a"]


def test_an_engine_that_is_being_made_ready_is_waited_for(server: FakeVault, ready: Vault) -> None:
    ready.configure()
    server.upgrading = 2
    assert ready.sync(values(a="1")) == ["a"]


def test_what_someone_else_changed_meanwhile_is_not_written_over(server: FakeVault, ready: Vault) -> None:
    ready.configure()

    def send(request: Request) -> vault_module.Response:
        answer = server.send(request)
        if request.method == "GET" and request.path == "platform/data/a":
            server.kv["a"] = [{"key": "theirs"}]
        return answer

    other = Vault(send, ready._store, "v")
    assert "does not accept platform/data/a: check-and-set parameter did not match" in message(
        lambda: other.sync(values(a="ours"))
    )


def test_a_sealed_vault_a_lost_token_and_a_wrong_one_have_a_next_step(
    server: FakeVault, store: SecretStore, ready: Vault
) -> None:
    server.restart()
    assert message(ready.configure).endswith("is sealed.\nNext: picluster vault unseal --env prod")
    ready.unseal()
    store.put({(UNSEAL, "root-token"): SecretStr("revoked")})
    fresh = Vault(server.send, store, "v")
    assert "permission denied (is the root token in the store, vault-unseal/root-token, still its own?)" in message(
        fresh.configure
    )
    assert "revoked" not in message(fresh.configure)


def test_without_a_root_token_the_message_says_where_to_put_one(tmp_path: Path, server: FakeVault) -> None:
    (tmp_path / "empty").mkdir()
    empty = age_store(tmp_path / "empty")
    empty.provider.prepare()
    server.answer("POST", "sys/init", "", {"secret_shares": 1, "secret_threshold": 1})
    server.sealed = False
    said = message(Vault(server.send, empty, "v").configure)
    assert said.endswith("Next: picluster secrets set vault-unseal root-token --env prod")


# -- the way there -----------------------------------------------------------------------------------------


def test_a_request_goes_to_the_pod_through_the_api_server() -> None:
    config = curl_config(POD, Request("POST", "sys/unseal", {"key": 'a"b\\c\n'}, SecretStr("hvs.x")))
    assert (
        'url = "https://127.0.0.1:6443/api/v1/namespaces/vault/pods/https:vault-0:8200/proxy/v1/sys/unseal"\n' in config
    )
    assert 'request = "POST"\n' in config and 'header = "X-Vault-Token: hvs.x"\n' in config
    assert r'data-binary = "{\"key\": \"a\\\"b\\\\c\\n\"}"' in config


def test_requests_and_responses_hide_what_they_hold() -> None:
    request = Request("POST", "sys/unseal", {"key": "canary"}, SecretStr("canary"))
    assert "canary" not in f"{request!r} {parse(POD, chr(10).join(['{' + chr(34) + 'a' + chr(34) + ': 1}', '200']))!r}"
    assert "canary" not in repr(parse(POD, '{"keys": ["canary"]}\n200'))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            '{"kind":"Status","message":"pods \\"vault-0\\" not found"}\n404',
            "vault/vault-0 can't be reached: pods \"vaul",
        ),
        (
            "Error trying to reach service: 'dial tcp: connection refused'\n503",
            "can't be reached: Error trying to reach",
        ),
        ("<html>\n200", "what answers is no vault (HTTP status 200)"),
        ("[]\n200", "what answers is no vault (HTTP status 200)"),
        ("", "what answers is no vault (HTTP status unknown)"),
    ],
)
def test_what_is_not_the_vaults_answer_is_told_with_a_next_step(output: str, said: str) -> None:
    text = message(lambda: parse(POD, output))
    assert said in text and text.endswith("Next, on the first server: sudo k3s kubectl -n vault get pods")


def test_an_answer_without_a_body_is_one() -> None:
    assert parse(POD, "\n204") == vault_module.Response(204, {})


# -- picluster vault ---------------------------------------------------------------------------------------

INVENTORY = """
master = [("pi-master", {{"ssh_hostname": "192.168.0.120"}})]
cluster = (["pi-master"], {{
    "lan_cidr": "192.168.0.0/24", "platform_profile": "minimal", "secrets_key": "{key}",
    "platform_releases": {{"{release}": {{"enabled": True}}}},
}})
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FakeVault) -> Iterator[Callable[..., str]]:
    """Run a verb on a vault in memory; returns what it printed."""
    folder = tmp_path / "platform"
    (folder / "releases").mkdir(parents=True)
    (folder / "values").mkdir()
    for name, provides in (
        ("openbao", {"vault": {"url": "https://openbao.vault.svc:8200", "pod": "openbao-0"}}),
        ("b", {}),
    ):
        chosen = releases(a=[{"name": name, "keys": {"key": {"kind": "hex"}}}])[0]
        entry = chosen.model_dump(mode="json") | {
            "name": name,
            "namespace": "vault",
            "provides": provides,
            "profiles": [],
        }
        (folder / "releases" / f"{name}.yaml").write_text(yaml.safe_dump(entry))
        (folder / "values" / f"{name}.yaml.j2").touch()
    for module in ("piclusterops.catalogue", "piclusterops.platform"):
        monkeypatch.setattr(f"{module}.platform_folder", lambda: folder)
    monkeypatch.setattr(vault_command, "connected", lambda inventory, name: nullcontext(name))
    monkeypatch.setattr(vault_command, "send_over", lambda host, pod: server.send)
    catalogue.cache_clear()

    def run(*words: str, status: int = 0, release: str = "openbao") -> str:
        inventory = tmp_path / "one.py"
        inventory.write_text(INVENTORY.format(key=tmp_path / "age.key", release=release))
        done = CliRunner().invoke(vault_command.vault, [words[0], "--env", str(inventory), *words[1:]])
        assert done.exit_code == status and "Traceback" not in done.output, done.output
        assert not [key for key in (*server.keys, server.root_token or "-" * 9) if key in done.output]
        return done.output

    yield run
    catalogue.cache_clear()


def test_init_makes_it_usable_and_again_changes_nothing(command: Callable[..., str], server: FakeVault) -> None:
    printed = command("init")
    assert "A new key is in" in printed
    assert "vault/openbao-0 is initialised; its keys and root token are in an age-encrypted file." in printed
    assert "vault/openbao-0 is unsealed.\nMade: the KV engine (version 2) platform/\n" in printed
    server.log.clear()
    assert command("init") == "vault/openbao-0 was initialised before.\nIt is set up for External Secrets.\n"
    assert server.log == []


def test_status_says_what_it_is_and_what_to_do(command: Callable[..., str], server: FakeVault) -> None:
    assert "initialised: no\nsealed: yes\nNext: picluster vault init --env" in command("status", status=1)
    command("init", "--shares", "3", "--threshold", "2")
    assert command("status").splitlines() == [
        "vault/openbao-0: version 2.0.4",
        "initialised: yes",
        "sealed: no",
        "unsealed by 2 of 3 keys; the store has 3",
    ]
    server.restart()
    assert "sealed: yes" in (printed := command("status", status=1)) and "Next: picluster vault unseal" in printed


def test_unseal_after_a_restart(command: Callable[..., str], server: FakeVault) -> None:
    assert "is not initialised" in command("unseal", status=1)
    command("init")
    assert command("unseal") == "vault/openbao-0 was not sealed.\n"
    server.restart()
    assert command("unseal") == "vault/openbao-0 is unsealed.\n" and not server.sealed


def test_sync_puts_the_secrets_of_the_selected_releases_there(
    command: Callable[..., str], server: FakeVault, tmp_path: Path
) -> None:
    command("init")
    assert "Secrets are missing" in command("sync", status=1)
    own = open_store(cluster(secrets_key=str(tmp_path / "age.key")).settings, tmp_path / "one.py")
    own.put({("openbao", "key"): SecretStr("value")})
    assert command("sync") == "Put into vault/openbao-0: openbao\n0 of 1 Secrets were there already.\n"
    assert command("sync") == "1 of 1 Secrets were there already.\n"
    assert server.kv == {"openbao": [{"key": "value"}]}


def test_a_platform_without_a_vault_says_so(command: Callable[..., str]) -> None:
    assert 'has no vault.\nNext: turn one on in platform_releases: {"openbao"' in command(
        "status", status=1, release="b"
    )


@pytest.mark.parametrize("words", [("--shares", "3", "--threshold", "1"), ("--shares", "2")])
def test_shares_and_threshold_that_no_vault_takes(command: Callable[..., str], words: tuple[str, ...]) -> None:
    assert "--threshold must be at least 2 and at most --shares" in command("init", *words, status=2)
