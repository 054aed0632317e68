"""Logs are kept as long as they should be, and people find what they look for: the loader against the servers' APIs."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from harness import PROFILES, Manifest, of_kind, planned, pods, template_planned
from log_servers import PASSWORD, USER, Server, State, serving

from piclusterops.catalogue import Profile, catalogue

KINDS = {"named": "elasticsearch", "clean": "opensearch"}
every_profile = pytest.mark.parametrize("profile", PROFILES)


def manifests(profile: Profile) -> list[Manifest]:
    return template_planned(planned("platform-logs", profile))


def data(profile: Profile) -> dict[str, str]:
    """What the Job finds in /data."""
    found: dict[str, str] = of_kind(manifests(profile), "ConfigMap")["data"]
    return found


def load(server: Server, folder: Path, files: dict[str, str], **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the loader as the Job does."""
    for name, text in {**files, "username": USER, "password": PASSWORD}.items():
        (folder / name).write_text(text, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "KIND": server.state.kind,
        "SEARCH_URL": server.url,
        "DASHBOARDS_URL": server.url,
        "PATTERN": "logs-*",
        "WAIT_SECONDS": "10",
        "DATA": str(folder),
        "CREDENTIALS": str(folder),
        **settings,
    }
    command = [sys.executable, str(folder / "load.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert PASSWORD not in done.stdout + done.stderr
    return done


@every_profile
def test_everything_is_loaded_and_a_second_run_changes_nothing(profile: Profile, tmp_path: Path) -> None:
    state = State(KINDS[profile], indices={"logs-2026.11.22": None, "metrics-1": None}, starting=2)
    with serving(state) as server:
        first = load(server, tmp_path, data(profile))
        assert first.returncode == 0, first.stdout + first.stderr
        assert state.changes
        assert list(state.policies) == list(state.templates) == ["platform-logs"]
        assert {kind for kind, _ in state.saved} == {"index-pattern", "search"}
        assert state.indices == {"logs-2026.11.22": "platform-logs", "metrics-1": None}

        state.changes.clear()
        second = load(server, tmp_path, data(profile))

    assert second.returncode == 0, second.stdout + second.stderr
    assert state.changes == []


@every_profile
def test_what_somebody_changed_is_put_right(profile: Profile, tmp_path: Path) -> None:
    state = State(KINDS[profile])
    with serving(state) as server:
        load(server, tmp_path, data(profile))
        wanted = json.dumps([state.policies["platform-logs"]["policy"], state.templates])
        text = json.dumps(state.policies["platform-logs"]).replace("30d", "3d")
        state.policies["platform-logs"] = json.loads(text)
        state.templates["platform-logs"]["template"]["settings"]["index"]["number_of_replicas"] = "2"
        state.saved["search", "platform-logs-nifi"]["attributes"]["title"] = "mine"
        state.indices["logs-2026.11.24"] = None

        again = load(server, tmp_path, data(profile))

    assert again.returncode == 0, again.stdout + again.stderr
    assert json.dumps([state.policies["platform-logs"]["policy"], state.templates]) == wanted
    assert state.saved["search", "platform-logs-nifi"]["attributes"]["title"] == "NiFi: warnings and errors"
    assert state.indices["logs-2026.11.24"] == "platform-logs"


@every_profile
def test_logs_are_deleted_after_thirty_days(profile: Profile) -> None:
    policy = json.loads(data(profile)["lifecycle.json"])["policy"]
    if profile == "named":
        assert policy["phases"]["delete"] == {"min_age": "30d", "actions": {"delete": {}}}
    else:
        states = {state["name"]: state for state in policy["states"]}
        assert states[policy["default_state"]]["transitions"] == [
            {"state_name": "delete", "conditions": {"min_index_age": "30d"}}
        ]
        assert states["delete"]["actions"] == [{"delete": {}}]
        assert policy["ism_template"][0]["index_patterns"] == ["logs-*"]


@every_profile
def test_the_pattern_is_that_of_the_indices_that_logstash_writes(profile: Profile) -> None:
    index = planned("logstash", profile).values["search"]["index"]
    template = json.loads(data(profile)["template.json"])
    objects = [json.loads(line) for line in data(profile)["objects.ndjson"].splitlines()]
    (pattern,) = (one["attributes"]["title"] for one in objects if one["type"] == "index-pattern")
    assert template["index_patterns"] == [pattern] == [f"{index}-*"]


@every_profile
def test_searches_for_nifi_and_trino_are_there_and_refer_to_the_index_pattern(profile: Profile) -> None:
    objects = [json.loads(line) for line in data(profile)["objects.ndjson"].splitlines()]
    names = {(one["type"], one["id"]) for one in objects}
    searches = [one for one in objects if one["type"] == "search"]
    assert {"platform-logs-nifi", "platform-logs-trino"} <= {one["id"] for one in searches}
    for search in searches:
        assert [(ref["type"], ref["id"]) for ref in search["references"]] == [("index-pattern", "platform-logs")]
        assert names >= {(ref["type"], ref["id"]) for ref in search["references"]}
        source = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        assert source["indexRefName"] == search["references"][0]["name"]
        assert source["query"]["language"] == "kuery" and source["query"]["query"]


@every_profile
def test_a_server_that_does_not_come_up_is_named(profile: Profile, tmp_path: Path) -> None:
    with serving(State(KINDS[profile], starting=10_000)) as server:
        done = load(server, tmp_path, data(profile), WAIT_SECONDS="1")
    assert done.returncode != 0
    assert "search: still not there after 1 seconds" in done.stderr and "503" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refused_import_fails(tmp_path: Path) -> None:
    files = data("named")
    lines = [line for line in files["objects.ndjson"].splitlines() if '"search"' in line]
    with serving(State("elasticsearch")) as server:
        done = load(server, tmp_path, {**files, "objects.ndjson": "\n".join(lines)})
    assert done.returncode != 0
    assert "missing_references" in done.stderr and "Traceback" not in done.stderr


def authority(name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A self-signed certificate for localhost, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(key, hashes.SHA256()), key


def test_only_the_authority_of_the_secret_is_trusted(tmp_path: Path) -> None:
    pem = serialization.Encoding.PEM
    paths: dict[str, Path] = {}
    for name in ("right", "wrong"):
        certificate, key = authority(name)
        paths[name] = tmp_path / f"{name}.crt"
        paths[name].write_bytes(certificate.public_bytes(pem))
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (tmp_path / f"{name}.key").write_bytes(key.private_bytes(pem, form, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths["right"], tmp_path / "right.key")
    state = State("elasticsearch")
    with serving(state, context) as server:
        refused = load(server, tmp_path, data("named"), CA_FILE=str(paths["wrong"]), WAIT_SECONDS="1")
        assert refused.returncode != 0 and "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        assert not state.changes
        done = load(server, tmp_path, data("named"), CA_FILE=str(paths["right"]))
    assert done.returncode == 0, done.stderr
    assert state.changes


@every_profile
def test_the_job_has_the_secrets_that_its_namespace_has(profile: Profile) -> None:
    (job,) = pods(manifests(profile))
    assert job.owner["kind"] == "Job"
    used = {volume["secret"]["secretName"] for volume in job.spec["volumes"] if "secret" in volume}
    search = next(
        entry for entry in catalogue().values() if entry.provides.get("search", {}).get("kind") == KINDS[profile]
    )
    there = {secret.name for secret in search.secrets if search.namespace == job.owner["metadata"]["namespace"]}
    assert used == {search.provides["search"]["secret"], search.provides["search"]["ca_secret"]}
    assert search.provides["search"]["secret"] in there
    assert {"username", "password"} <= set(next(one for one in search.secrets if one.name in used).keys)


@every_profile
def test_the_job_runs_when_the_release_is_installed_and_again_when_it_changes(profile: Profile) -> None:
    job: dict[str, Any] = of_kind(manifests(profile), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    limit = job["spec"]["activeDeadlineSeconds"]
    waits = int(
        next(one["value"] for one in next(iter(pods([job]))).containers[0]["env"] if one["name"] == "WAIT_SECONDS")
    )
    assert 2 * waits < limit < planned("platform-logs", profile).timeout_s
