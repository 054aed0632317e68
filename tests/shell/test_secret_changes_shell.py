"""What follows from a changed Secret, with the shell run for real and a `k3s kubectl` that notes what it is given."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import FunctionCommand, StringCommand
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_host, ctx_state
from pyinfra_testing.util import FakeState, create_host
from test_helm_shell import Server

from piclusterops.catalogue import Tell, catalogue
from piclusterops.facts.kube import Objects
from piclusterops.kube_objects import DIGEST_ANNOTATION, ClusterObjects, SecretState
from piclusterops.operations.kube_secrets import WantedSecret, secret_commands

OLD, NEW = "old-Xy7-plain", "new-Zz3-plain"
KUBECTL = """
name() { echo "$*" | tr -c 'a-z0-9\\n' _; }
case "$*" in
*apply*)
    number=$(ls @/applied | wc -l)
    cat >@/applied/$number
    if [ -e @/no-namespace ] && grep -q "$(cat @/no-namespace)" @/applied/$number; then
        rm @/applied/$number; echo 'namespaces "nowhere" not found' >&2; exit 1
    fi ;;
*" get "*)
    [ ! -e @/no-answer ] || { echo "connection refused" >&2; exit 1; }
    [ ! -e @/empty ] || case "$*" in *--ignore-not-found*) exit 0;; *) exit 1;; esac
    echo deployment.apps/one ;;
*" exec "*)
    cat >@/told; cat @/told >>@/all-told
    [ ! -e @/deaf ] || { echo "no such user: $(cat @/told)"; echo "command terminated" >&2; exit 1; } ;;
*"rollout status"*)
    cat >@/eaten; [ ! -e @/broken ] || { echo "timed out" >&2; exit 1; } ;;
esac
"""


class Cluster:
    """A server, what was applied on it, and how Secrets are brought there."""

    def __init__(self, root: Path) -> None:
        self.server = Server(root)
        self.applied = root / "applied"
        self.applied.mkdir()
        self.server.kubectl(KUBECTL.replace("@", str(root)))
        self.said: list[str] = []
        self.missed: list[tuple[str, str]] = []
        self.unfinished: list[tuple[str, str]] = []
        self.commands: list[str] = []
        #: Called before each command that is run.
        self.watch: Callable[[str], None] = lambda command: None

    def touch(self, name: str, text: str = "") -> None:
        (self.server.root / name).write_text(text)

    def remove(self, name: str) -> None:
        (self.server.root / name).unlink()

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """All Secrets that were applied, in that order."""
        files = sorted(self.applied.iterdir(), key=lambda file: int(file.name))
        return [item for file in files for item in json.loads(file.read_text())["items"]]

    @property
    def objects(self) -> ClusterObjects:
        """The Secrets as the last ones applied are."""
        found = {}
        for item in self.manifests:
            about = item["metadata"]
            found[about["namespace"], about["name"]] = SecretState(
                item["type"], about["annotations"][DIGEST_ANNOTATION]
            )
        return ClusterObjects({"demo": "Active"}, found)

    def mark(self, name: str, namespace: str = "demo") -> str:
        return self.objects.secrets[namespace, name].mark

    def bring(self, *secrets: WantedSecret, order: Sequence[str] = (), platform: bool = True) -> bool:
        """One run; whether it went well."""
        state = FakeState()
        state.is_executing = True
        host = create_host(state)
        host.name = "pi-master"
        facts = {Objects: self.objects}
        host.get_fact = lambda fact, **_: facts[fact]
        host.log = host.log_styled = lambda text, **_: self.said.append(text)
        host.noop = lambda text: None
        host.current_op_global_arguments = {}
        host.run_shell_command = self._run
        told = (
            lambda wanted, why: self.missed.append((wanted.name, why)),
            lambda wanted, why: self.unfinished.append((wanted.name, why)),
        )
        callbacks = told if platform else (None, None)
        with ctx_state.use(state), ctx_host.use(host):
            commands = list(secret_commands(host, secrets, 60, *callbacks, order))
            return all(
                command.function(state, host, *command.args)
                for command in commands
                if isinstance(command, FunctionCommand)
            )

    def _run(self, command: StringCommand, **options: Any) -> tuple[bool, CommandOutput]:
        text = command.get_raw_value()
        self.watch(text)
        self.commands.append(text)
        done = self.server.run(text, stdin=options.get("_stdin", ""))
        lines = [OutputLine("stdout", line) for line in done.stdout.splitlines()]
        lines += [OutputLine("stderr", line) for line in done.stderr.splitlines()]
        return done.returncode == 0, CommandOutput(lines)

    def verbs(self) -> list[str]:
        """What kubectl was asked for, in that order, without looking."""
        found = []
        for call in self.server.called("k3s"):
            for verb in ("apply", "exec", "rollout restart"):
                if f" {verb} " in call:
                    words = call.partition(verb)[2].split()
                    found.append(f"{verb} {next((word for word in words if '/' in word), '')}".strip())
        return found


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "root")


SET = Tell(workload="demo/deployment/server", container="main", command=("set", "it's a word"), stdin=("user", "key"))


def secret(name: str = "account", value: str = OLD, **more: Any) -> WantedSecret:
    return WantedSecret(name, "demo", lambda: {"user": "admin", "key": value}, **more)


def test_a_server_is_told_first_then_its_users_are_restarted_then_it_is_finished(cluster: Cluster) -> None:
    wanted = secret(tells=(SET,), restarts=("demo/deployment/user",))
    cluster.touch("empty")
    assert cluster.bring(wanted) and cluster.verbs() == ["apply"], "a first installation has nobody to tell"
    cluster.remove("empty")
    assert cluster.bring(replace(wanted, values=lambda: {"user": "admin", "key": NEW}))
    assert cluster.verbs()[1:] == ["apply", "exec deployment/server", "rollout restart deployment/user", "apply"]
    assert (cluster.server.root / "told").read_text() == f"admin\n{NEW}\n"
    assert [item["metadata"]["annotations"][DIGEST_ANNOTATION] == "unfinished" for item in cluster.manifests] == [
        False,
        True,
        False,
    ]
    assert base64.b64decode(cluster.manifests[-1]["data"]["key"]).decode() == NEW
    assert cluster.missed == cluster.unfinished == []


def test_a_value_is_in_no_argument_and_no_message(cluster: Cluster) -> None:
    assert cluster.bring(secret(tells=(SET,)))
    cluster.touch("deaf")
    cluster.bring(secret(value=NEW, tells=(SET,)))
    assert "no such user: (hidden)" in cluster.unfinished[0][1], "the server said it"
    everything = "\n".join([*cluster.server.calls, *cluster.commands, *cluster.said, str(cluster.unfinished)])
    assert OLD not in everything and NEW not in everything


def test_words_of_a_command_arrive_as_they_are(cluster: Cluster) -> None:
    cluster.bring(secret(tells=(SET,)))
    (call,) = [call for call in cluster.server.called("k3s") if " exec " in call]
    assert call == "kubectl -n demo exec -i deployment/server -c main -- set it's a word"


def test_a_server_that_is_there_is_told_of_a_secret_that_was_lost(cluster: Cluster) -> None:
    """Someone deleted it, and the store has another value than the server."""
    assert cluster.bring(secret(tells=(SET,), restarts=("demo/deployment/user",)))
    assert cluster.verbs() == ["apply", "exec deployment/server", "apply"]


def test_a_run_that_dies_while_it_tells_is_repeated_by_the_next(cluster: Cluster) -> None:
    wanted = secret(tells=(SET,), restarts=("demo/deployment/user",))
    cluster.bring(wanted)
    before = len(cluster.verbs())

    def die(command: str) -> None:
        if " exec " in command:
            raise KeyboardInterrupt

    changed = replace(wanted, values=lambda: {"user": "admin", "key": NEW})
    cluster.watch = die
    with pytest.raises(KeyboardInterrupt):
        cluster.bring(changed)
    assert cluster.mark("account") == "unfinished"
    cluster.watch = lambda command: None
    assert cluster.bring(changed)
    assert cluster.verbs()[before + 1 :] == [
        "apply",
        "exec deployment/server",
        "rollout restart deployment/user",
        "apply",
    ]
    count = len(cluster.verbs())
    assert cluster.bring(changed) and len(cluster.verbs()) == count, "all is done"


def test_users_of_a_server_that_does_not_listen_keep_the_old_value(cluster: Cluster) -> None:
    """Neither they nor whoever has a Secret made of the same value, and others go on."""
    server = secret(tells=(SET,), made_of=frozenset({"account", "login"}))
    login = secret("login", restarts=("demo/deployment/client",))
    derived = secret("derived", made_of=frozenset({"login"}), restarts=("demo/deployment/reader",))
    other = secret("other", restarts=("demo/deployment/other",))
    everything = (server, login, derived, other)
    cluster.bring(*everything)
    before = len(cluster.verbs())
    cluster.touch("deaf")
    new = [replace(one, values=lambda: {"user": "admin", "key": NEW}) for one in everything]
    assert cluster.bring(*new), "the run goes on"
    assert cluster.verbs()[before:] == ["apply", "exec deployment/server", "rollout restart deployment/other", "apply"]
    assert [name for name, _ in cluster.unfinished] == ["account", "login", "derived"] and cluster.missed == []
    assert "next: ssh pi-master sudo k3s kubectl -n demo describe deployment server" in cluster.unfinished[0][1]
    assert {name: cluster.mark(name) == "unfinished" for name in ("account", "login", "derived", "other")} == {
        "account": True,
        "login": True,
        "derived": True,
        "other": False,
    }
    cluster.remove("deaf")
    before = len(cluster.verbs())
    assert cluster.bring(*new)
    assert cluster.verbs()[before:] == [
        "apply",
        "exec deployment/server",
        "rollout restart deployment/client",
        "rollout restart deployment/reader",
        "apply",
    ]


def test_a_server_that_is_not_ready_is_not_told(cluster: Cluster) -> None:
    cluster.bring(secret(tells=(SET,)))
    cluster.touch("broken")
    before = len(cluster.verbs())
    cluster.bring(secret(value=NEW, tells=(SET,)))
    assert "exec deployment/server" not in cluster.verbs()[before:]
    assert "could not be told of its new Secret demo/account, and works with the old one: timed out" in cluster.said[-1]


def test_without_an_answer_about_servers_nothing_is_changed(cluster: Cluster) -> None:
    cluster.touch("no-answer")
    assert not cluster.bring(secret(tells=(SET,)), platform=False)
    assert cluster.manifests == [] and "connection refused" in cluster.said[-1]


def test_a_secret_in_two_namespaces_is_told_once(cluster: Cluster) -> None:
    cluster.bring(secret(tells=(SET,)), replace(secret(tells=(SET,)), namespace="other"))
    assert cluster.verbs().count("exec deployment/server") == 1


def test_a_copy_that_cannot_be_written_keeps_its_server_from_being_told(cluster: Cluster) -> None:
    cluster.touch("no-namespace", '"namespace":"nowhere"')
    assert cluster.bring(secret(tells=(SET,)), replace(secret(tells=(SET,)), namespace="nowhere"), secret("other"))
    assert cluster.missed[0][0] == "account" and "nowhere" in cluster.missed[0][1]
    assert "exec deployment/server" not in cluster.verbs()
    assert cluster.unfinished == [("account", "it waits for the Secret nowhere/account, which could not be written")]
    assert cluster.mark("account") == "unfinished" and cluster.mark("other") != "unfinished"


def test_servers_are_restarted_before_their_users(cluster: Cluster) -> None:
    client, server = "demo/deployment/a-client", "demo/deployment/z-server"
    wanted = [secret("client", restarts=(client,)), secret("server", restarts=(server,))]
    cluster.bring(*wanted)
    new = [replace(one, values=lambda: {"user": "admin", "key": NEW}) for one in wanted]
    cluster.bring(*new, order=[server, client])
    restarts = [verb for verb in cluster.verbs() if verb.startswith("rollout")]
    assert restarts == ["rollout restart deployment/z-server", "rollout restart deployment/a-client"]


# -- the commands of the catalogue -----------------------------------------------------------------------------


def command_of(release: str, secret: str) -> str:
    """The script of a server that is told by `sh -c`."""
    (wanted,) = (one for one in catalogue()[release].secrets if one.name == secret)
    (tell,) = wanted.tells
    assert tell.command[:2] == ("sh", "-c")
    return tell.command[2]


def test_minio_is_told_by_a_user_and_a_password_on_standard_input(tmp_path: Path) -> None:
    server = Server(tmp_path / "root")
    server.fake("mc", f"cat >{server.root}/told; echo $MC_HOST_local >{server.root}/host")
    script = f"MINIO_ROOT_USER=root; MINIO_ROOT_PASSWORD='p&ss'\n{command_of('minio', 'object-store')}"
    assert server.run(script, stdin=f"platform\n{NEW}\n").returncode == 0
    assert server.calls == ["mc --config-dir /tmp/mc admin user add local"]
    assert (server.root / "told").read_text() == f"platform\n{NEW}\n"
    assert (server.root / "host").read_text() == "http://root:p&ss@127.0.0.1:9000\n"


FILES = ("config.yml", "internal_users.yml", "roles.yml", "roles_mapping.yml")


@pytest.fixture
def opensearch(tmp_path: Path) -> tuple[Server, Path, str]:
    """A container of OpenSearch with the old files of its Secret."""
    server = Server(tmp_path / "root")
    home = server.root / "usr/share/opensearch"
    folder = home / "config/opensearch-security"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(f"{name}: old\n")
    script = command_of("opensearch", "opensearch-security").replace("/usr/share/opensearch", str(home))
    server.fake("bash", f"cat {folder}/*.yml >{server.root}/uploaded; exit $(cat {server.root}/status)")
    (server.root / "status").write_text("0")
    return server, folder, script


def test_opensearch_is_told_when_the_kubelet_has_brought_the_files(opensearch: tuple[Server, Path, str]) -> None:
    server, folder, script = opensearch
    new = "".join(f"{name}: new\n" for name in FILES)
    # each look for them is a moment of the kubelet's
    server.fake("sleep", "\n".join(f"echo '{name}: new' >{folder}/{name}" for name in FILES))
    assert server.run(script, stdin=new).returncode == 0
    assert (server.root / "uploaded").read_text() == new
    assert [call.split()[0] for call in server.calls] == ["sleep", "bash"]
    assert "securityadmin.sh -cd config/opensearch-security" in server.calls[-1]


def test_old_files_of_opensearch_are_never_uploaded(opensearch: tuple[Server, Path, str]) -> None:
    server, _, script = opensearch
    server.fake("sleep", "exit 0")
    done = server.run(script, stdin="config.yml: new\n")
    assert done.returncode == 1 and "are still the old ones" in done.stderr
    assert not [call for call in server.calls if call.startswith("bash")]


def test_opensearch_that_refuses_is_a_failure(opensearch: tuple[Server, Path, str]) -> None:
    server, _, script = opensearch
    (server.root / "status").write_text("255")
    assert server.run(script, stdin="".join(f"{name}: old\n" for name in FILES)).returncode == 255
