"""The shell that puts K3s on a host, run under dash."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from hostshell import Host

from piclusterops.facts.k3s import is_starting, query
from piclusterops.facts.snapshot import Query, parse, script
from piclusterops.k3s_config import AGENT_K10_TOKEN, AGENT_TOKEN, AUDIT_LOG_DIR, SERVER_K10_TOKEN, STORAGE_DIR, TOKEN
from piclusterops.operations.k3s import install_upload, make_private, make_tokens, replace_binary
from piclusterops.settings import Cluster, ClusterSettings, Node, NodeSettings

BINARY = b"#!/bin/sh\necho k3s version v1.36.5+k3s1 '(stand-in)'\n"
DIGEST = sha256(BINARY).hexdigest()
NODE = Node(name="pi-1", role="master", settings=NodeSettings(address="192.168.0.1"))
CLUSTER = Cluster(settings=ClusterSettings(lan_cidr="192.168.0.0/24"), nodes=(NODE,))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path / "root")
    host.fake("chown", "true")
    host.path("/etc/rancher/k3s").mkdir(parents=True)
    return host


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tokens_are_made_once_each_with_its_own_value(host: Host) -> None:
    assert ok(host.run(make_tokens())) == ""
    token, agent_token = host.path(TOKEN), host.path(AGENT_TOKEN)
    first = token.read_text(), agent_token.read_text()
    assert all(len(text) == 65 and text.endswith("\n") and int(text, 16) for text in first)
    assert first[0] != first[1]
    assert {file.stat().st_mode & 0o777 for file in (token, agent_token)} == {0o600}
    ok(host.run(make_tokens()))
    assert (token.read_text(), agent_token.read_text()) == first
    assert sorted(file.name for file in token.parent.iterdir()) == ["agent-token", "token"]


def test_tokens_of_a_datastore_that_exists_are_kept(host: Host) -> None:
    host.write(SERVER_K10_TOKEN, f"K10{'ab' * 32}::server:pass:word\n", 0o600)
    host.write(AGENT_K10_TOKEN, f"K10{'ab' * 32}::node:other\n", 0o600)
    ok(host.run(make_tokens()))
    assert (host.path(TOKEN).read_text(), host.path(AGENT_TOKEN).read_text()) == ("pass:word\n", "other\n")


def test_a_token_is_in_no_argument_list(host: Host) -> None:
    # Whatever runs as a process of its own is noted by the replaced commands; printf is a part of the shell.
    for command in ("sync", "mv", "mktemp", "chmod", "sed"):
        host.fake(command, f'exec /usr/bin/{command} "$@"')
    ok(host.run(make_tokens()))
    probe = dict(query(CLUSTER, NODE).probes)["tokens"]
    answer = host.run(probe).stdout
    for path in (TOKEN, AGENT_TOKEN):
        secret = host.path(path).read_text().strip()
        assert secret not in "".join(host.calls) and secret not in answer
        assert f"{host.path(path)} {sha256(secret.encode()).hexdigest()}" in answer.splitlines()


def test_a_whole_upload_is_put_in_place(host: Host, tmp_path: Path) -> None:
    upload = tmp_path / "k3s"
    upload.write_bytes(BINARY)
    dest = host.path("/usr/local/bin/.k3s.staged")
    host.write("/usr/local/bin/.k3s.staged.piclusterops-new", "left by a power cut")
    ok(host.run(install_upload(str(upload), DIGEST, str(dest), "755")))
    assert dest.parent.stat().st_mode & 0o777 == 0o755
    assert dest.read_bytes() == BINARY and dest.stat().st_mode & 0o777 == 0o755
    assert not upload.exists() and [file.name for file in dest.parent.iterdir()] == [".k3s.staged"]


def test_a_tampered_upload_replaces_nothing(host: Host, tmp_path: Path) -> None:
    upload = tmp_path / "k3s"
    upload.write_bytes(BINARY + b"rm -rf /\n")
    dest = host.path("/usr/local/bin/.k3s.staged")
    dest.parent.mkdir(parents=True)
    dest.write_text("old")
    assert host.run(install_upload(str(upload), DIGEST, str(dest))).returncode != 0
    assert dest.read_text() == "old" and [file.name for file in dest.parent.iterdir()] == [".k3s.staged"]


@pytest.mark.parametrize("staged", [BINARY, b"tampered", None])
def test_only_the_verified_binary_replaces_the_old_one(host: Host, staged: bytes | None) -> None:
    folder = host.path("/usr/local/bin")
    folder.mkdir(parents=True)
    (folder / "k3s").write_text("old")
    if staged:
        (folder / ".k3s.staged").write_bytes(staged)
    done = host.run(replace_binary(DIGEST).replace("/usr/local/bin", str(folder)))
    assert (done.returncode == 0) == (staged == BINARY)
    assert (folder / "k3s").read_bytes() == (BINARY if staged == BINARY else b"old")


def test_private_paths_are_made_and_their_content_kept(host: Host) -> None:
    environment = host.write("/etc/systemd/system/k3s.service.env", "HTTPS_PROXY=x\n", 0o644)
    missing = host.path("/etc/systemd/system/k3s-agent.service.env")
    shell = make_private(
        (
            "/etc/systemd/system/k3s.service.env",
            "/etc/systemd/system/k3s-agent.service.env",
            AUDIT_LOG_DIR,
            STORAGE_DIR,
        )
    )
    ok(host.run(shell))
    assert environment.read_text() == "HTTPS_PROXY=x\n" and missing.read_text() == ""
    assert {file.stat().st_mode & 0o777 for file in (environment, missing)} == {0o600}
    assert {host.path(folder).stat().st_mode & 0o777 for folder in (AUDIT_LOG_DIR, STORAGE_DIR)} == {0o700}
    assert host.path(AUDIT_LOG_DIR).parent.stat().st_mode & 0o777 == 0o755


def test_a_bare_host_answers_the_whole_query(host: Host) -> None:
    asked = query(CLUSTER, NODE)
    snapshot = parse(ok(host.run(script(Query(paths=asked.paths, probes=asked.probes)))).splitlines())
    assert snapshot.probes["tokens"] == [] and snapshot.probes["registries"] == []
    assert any(line.startswith("arch=") for line in snapshot.probes["preflight"])


def test_a_start_that_ends_while_it_is_looked_at_is_no_failure(host: Host) -> None:
    """systemd says `activating`, and `running` a moment later."""
    host.fake(
        "systemctl",
        f"""[ "$1" = is-enabled ] && {{ echo enabled; exit; }}
        if [ -e {host.root}/asked ]; then active=active sub=running; else active=activating sub=start; fi
        touch {host.root}/asked
        case "$*" in
            *ActiveState*) printf 'SubState=%s\\nActiveState=%s\\n' "$sub" "$active" ;;
            *SubState*) echo "$sub" ;;
            *) echo "$active" ;;
        esac""",
    )
    snapshot = parse(ok(host.run(script(query(CLUSTER, NODE)))).splitlines())
    assert is_starting(snapshot, NODE) or snapshot.units["k3s"].active == "active"
    assert snapshot.units["k3s"].enabled == "enabled"
