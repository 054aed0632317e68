"""`picluster vault` and the operation that unseals, through a real kube-apiserver to a pod's address.

The pod is an object only: at its address answers a vault of this process, for no image runs in the lab.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import process_list
from runs import REPOSITORY, Run, out, pyinfra

from piclusterops.lab.fleet import Lab
from piclusterops.secrets import UNSEAL, SecretStore, open_store
from piclusterops.settings import ClusterSettings

sys.path.append(str(REPOSITORY / "tests" / "unit"))

from vault_server import FakeVault, server_context, serving, write_certificates

pytestmark = pytest.mark.lab

SERVER, POD, NAMESPACE = "pi-master", "openbao-0", "vault"
OPERATION = f"""
from pathlib import Path

from pyinfra import host, inventory

from piclusterops.operations import vault
from piclusterops.secrets import open_store
from piclusterops.validation import cluster_from_inventory
from piclusterops.vault import Pod

store = open_store(cluster_from_inventory(inventory).settings, Path("inventories/lab.py"))
vault.unsealed(name="Unseal", pod=Pod("{NAMESPACE}", "{POD}"), store=store, server="{SERVER}")
"""


class Place:
    """A cluster of one server with a pod for a vault, and a checkout whose inventory selects one."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.environment = {**os.environ, "PICLUSTEROPS_LAB": lab.name, "PICLUSTEROPS_LAB_PLATFORM": "minimal"}
        shutil.copytree(
            REPOSITORY / "inventories", folder / "inventories", ignore=shutil.ignore_patterns("__pycache__")
        )
        data = folder / "inventories" / "group_data" / "lab.py"
        chosen = {"openbao": {"enabled": True}, "code-server": {"enabled": True}}
        data.write_text(f"{data.read_text()}\nplatform_releases = {chosen}\n")
        settings = {"secrets_file": lab.state / "lab.secrets.age", "secrets_key": lab.state / "age.key"}
        given = {key: str(path) for key, path in settings.items()}
        self.store: SecretStore = open_store(ClusterSettings(lan_cidr=lab.fleet.subnet, **given), None)

    @property
    def address(self) -> str:
        """This machine in the network of the lab."""
        return f"10.{self.lab.fleet.block}.0.1"

    def picluster(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "piclusterops.cli", *words, "--env", "lab"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == status and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout + done.stderr

    def operation(self) -> Run:
        file = self.folder / "unseal.py"
        file.write_text(OPERATION)
        done = pyinfra("-y", "--json", "-vvv", lab=self.lab.name, deploy=str(file))
        assert done.returncode == 0, done.output
        return done

    def put_pod(self) -> None:
        """A pod that no kubelet looks after, at the address of this machine."""
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": POD, "namespace": NAMESPACE},
            "spec": {"schedulerName": "nobody", "containers": [{"name": "server", "image": "openbao"}]},
        }
        self.apply(f"k3s kubectl create namespace {NAMESPACE}")
        self.apply("k3s kubectl create -f -", manifest)
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}"
        pod = json.loads(out(self.lab, SERVER, f"k3s kubectl get --raw {path}"))
        pod["status"] = {"phase": "Running", "podIP": self.address, "podIPs": [{"ip": self.address}]}
        self.apply(f"k3s kubectl replace --raw {path}/status -f -", pod)

    def apply(self, command: str, given: object = None) -> None:
        text = json.dumps(given).replace("'", "'\\''")
        out(self.lab, SERVER, f"printf %s '{text}' | {command}" if given else command)

    def keys(self) -> dict[str, str]:
        """What the store has of the vault."""
        names = [name for name in self.store.provider.known([]) if name[0] == UNSEAL]
        return {key: value.get_secret_value() for (_, key), value in self.store.get(names).items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    lab = Lab(f"{os.environ.get('PICLUSTEROPS_LAB', 'test')}-vault")
    try:
        lab.up(nodes=1)
        done = pyinfra("-y", "--json", lab=lab.name, env={"PICLUSTEROPS_LAB_PLATFORM": "none"})
        assert done.returncode == 0, done.output
        yield Place(lab, tmp_path_factory.mktemp("checkout"))
    finally:
        lab.down()


@pytest.fixture(scope="module")
def vault(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeVault]:
    """A vault that nobody initialised, at the address of the pod."""
    server = FakeVault()
    context = server_context(write_certificates(tmp_path_factory.mktemp("tls")))
    with serving(server, place.address, context, port=8200):
        yield server


def test_without_a_pod_the_message_says_where_to_look(place: Place) -> None:
    printed = place.picluster("vault", "status", status=1)
    assert f'{NAMESPACE}/{POD} can\'t be reached: pods "{POD}" not found' in printed or "namespaces" in printed
    assert f"sudo k3s kubectl -n {NAMESPACE} get pods" in printed


def test_a_pod_that_does_not_answer_is_said_not_to(place: Place) -> None:
    place.put_pod()
    assert f"{NAMESPACE}/{POD} can't be reached: " in (printed := place.picluster("vault", "status", status=1))
    assert "refused" in printed
    assert place.operation().changes == {}


def test_init_makes_it_usable_and_nobody_sees_its_keys(place: Place, vault: FakeVault) -> None:
    assert place.operation().changes == {}
    assert "initialised: no" in place.picluster("vault", "status", status=1)
    with process_list() as seen:
        printed = place.picluster("vault", "init", "--shares", "3", "--threshold", "2")
    assert (
        "A new key is in" in printed
        and f"{NAMESPACE}/{POD} is unsealed." in printed
        and "Made: the role external-secrets" in printed
    )
    secret = [*vault.keys, vault.root_token]
    assert set(secret) <= set(place.keys().values())
    assert any("curl --config -" in line for line in seen)
    assert not [key for key in secret if key in printed or any(key in line for line in seen)]
    assert place.picluster("vault", "init").endswith("It is set up for External Secrets.\n")


def test_after_a_restart_the_operation_unseals_it_and_then_changes_nothing(place: Place, vault: FakeVault) -> None:
    vault.restart()
    assert "sealed: yes" in place.picluster("vault", "status", status=1)
    done = place.operation()
    assert done.changes == {"Unseal": [SERVER]} and not vault.sealed
    assert not [key for key in (*vault.keys, vault.root_token) if key in done.output]
    assert place.operation().changes == {}
    vault.restart()
    assert place.picluster("vault", "unseal") == f"{NAMESPACE}/{POD} is unsealed.\n"


def test_sync_fills_it_once(place: Place, vault: FakeVault) -> None:
    place.picluster("secrets", "init")
    with process_list() as seen:
        printed = place.picluster("vault", "sync")
    assert printed == f"Put into {NAMESPACE}/{POD}: code-server\n0 of 1 Secrets were there already.\n"
    [content] = vault.kv["code-server"]
    assert content == {"password": place.picluster("secrets", "show", "code-server", "password", "--reveal")}
    assert not any(content["password"] in line for line in seen)
    assert place.picluster("vault", "sync") == "1 of 1 Secrets were there already.\n"
    assert vault.kv == {"code-server": [content]}


def test_keys_of_another_vault_fail_the_operation_with_the_reason(place: Place, vault: FakeVault) -> None:
    vault.restart()
    vault.keys = ["QUFBQQ==", "QkJCQg==", "Q0NDQw=="]
    file = place.folder / "unseal.py"
    done = pyinfra("-y", "--json", lab=place.lab.name, deploy=str(file))
    assert done.returncode != 0 and "does not accept the unseal keys of the store" in done.output
    assert vault.sealed


# -- keys that data is encrypted with ----------------------------------------------------------------------

SECRET = """
from pyinfra import host

from piclusterops.operations import kube

values = {values!r}
kube.secret(name="Keep", secret="flows", namespace="default", values=lambda: values, kept=["sensitive-key"])
"""


def keep(place: Place, **values: str) -> Run:
    """Run the operation that keeps a Secret with these values."""
    file = place.folder / "keep.py"
    file.write_text(SECRET.format(values={key.replace("_", "-"): value for key, value in values.items()}))
    return pyinfra("-y", "--json", lab=place.lab.name, deploy=str(file))


def live(place: Place, key: str) -> str:
    return out(place.lab, SERVER, f"k3s kubectl get secret flows -o jsonpath='{{.data.{key}}}' | base64 -d")


def test_a_new_value_of_what_encrypts_data_never_replaces_the_clusters(place: Place) -> None:
    assert keep(place, password="1", sensitive_key="theirs").changes == {"Keep": [SERVER]}
    refused = keep(place, password="2", sensitive_key="made anew")
    assert (
        refused.returncode != 0
        and "Secret default/flows has another sensitive-key than it should get" in refused.output
    )
    assert (live(place, "password"), live(place, "sensitive-key")) == ("1", "theirs")
    assert "theirs" not in refused.output and "made anew" not in refused.output
    # The command that it names gives the old value, with which the rest may change.
    command = re.search(rf"next: ssh {SERVER} '(.+)' \| picluster", refused.output.replace("'\"'\"'", "'"))
    assert command and out(place.lab, SERVER, command[1].removeprefix("sudo ")) == "theirs"
    assert keep(place, password="2", sensitive_key="theirs").changes == {"Keep": [SERVER]}
    assert live(place, "password") == "2"
