"""The chart of Hive's metastore: its scripts, run for real, and what its values change."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from harness import Chart, Manifest, of_kind, planned, pods, render, template, template_planned
from servers import free_port, tcp, web

from piclusterops.catalogue import Profile, catalogue

CHART = Chart("hive-metastore")
FILES = CHART.folder / "files"
JAR = b"a driver" * 1000
SUM = hashlib.sha256(JAR).hexdigest()


def fetch(url: str, sha256: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FILES / "fetch.py"), url, sha256, str(path)]
    environment = {"PAUSE_S": "0.01"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_driver_is_fetched_and_checked(tmp_path: Path) -> None:
    with web(lambda _: (200, JAR)) as server:
        answer = fetch(f"{server.url}/postgresql.jar", SUM, tmp_path / "postgresql.jar")
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "postgresql.jar").read_bytes() == JAR
    assert [path.name for path in tmp_path.iterdir()] == ["postgresql.jar"]


def test_another_file_than_the_driver_is_refused_and_not_kept(tmp_path: Path) -> None:
    with web(lambda _: (200, JAR + b"!")) as server:
        answer = fetch(f"{server.url}/postgresql.jar", SUM, tmp_path / "postgresql.jar")
        assert len(server.requests) == 1, "a wrong file is no reason to try again"
    assert answer.returncode == 1
    assert f"instead of {SUM}" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    answers = iter([503, 503, 200])
    with web(lambda _: (next(answers), JAR)) as server:
        answer = fetch(f"{server.url}/postgresql.jar", SUM, tmp_path / "postgresql.jar")
    assert answer.returncode == 0
    assert "attempt 2 of 5" in answer.stderr


def test_a_network_that_never_comes_is_said(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/postgresql.jar"
    answer = fetch(url, SUM, tmp_path / "postgresql.jar")
    assert answer.returncode == 1
    assert f"{url}: " in answer.stderr and "attempt 5 of 5" in answer.stderr


# -- helm test -----------------------------------------------------------------------------------------------


def metastore(databases: tuple[bytes, ...], kind: int = 2) -> Any:
    """A metastore that answers get_all_databases in Thrift's binary protocol."""
    name = b"get_all_databases"

    def answer(call: bytes) -> bytes:
        assert call == struct.pack(">Ii", 0x80010001, len(name)) + name + struct.pack(">ib", 1, 0)
        head = struct.pack(">Ii", 0x80010000 | kind, len(name)) + name + struct.pack(">i", 1)
        # field 0, a list (15) of strings (11)
        items = b"".join(struct.pack(">i", len(one)) + one for one in databases)
        return head + struct.pack(">bhbi", 15, 0, 11, len(databases)) + items + b"\0"

    return answer


def try_it(port: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": str(port)}
    command = [sys.executable, str(FILES / "try.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_helm_test_asks_for_the_databases() -> None:
    with tcp(metastore((b"default", b"sales"))) as port:
        assert try_it(port).returncode == 0


@pytest.mark.parametrize("answer", [metastore((b"sales",)), metastore((b"default",), kind=3), lambda _: b""])
def test_helm_test_fails_without_an_answer_that_makes_sense(answer: Any) -> None:
    with tcp(answer) as port:
        assert try_it(port).returncode != 0


# -- the values ----------------------------------------------------------------------------------------------


def properties(text: str) -> dict[str, str]:
    found = {}
    for one in ET.fromstring(text).findall("property"):
        name, value = one.findtext("name"), one.findtext("value")
        assert name is not None and name not in found
        found[name] = value or ""
    return found


def config(manifests: list[Manifest], name: str) -> dict[str, str]:
    return properties(of_kind(manifests, "ConfigMap")["data"][name])


@pytest.mark.parametrize(
    ("profile", "url"),
    [("named", "http://minio.object-store.svc:9000"), ("clean", "http://seaweedfs-all-in-one.object-store.svc:8333")],
)
def test_it_uses_the_object_store_of_the_profile(profile: Profile, url: str) -> None:
    manifests = template_planned(planned("hive-metastore", profile))
    store = config(manifests, "core-site.xml")
    assert store["fs.s3a.endpoint"] == url
    assert store["fs.s3a.connection.ssl.enabled"] == "false"
    assert config(manifests, "metastore-site.xml")["metastore.warehouse.dir"] == "s3a://warehouse/"
    ports = [port["port"] for rule in _egress(manifests) for port in rule["ports"]]
    assert int(url.rsplit(":", 1)[1]) in ports


def _egress(manifests: list[Manifest]) -> list[dict[str, Any]]:
    return list(of_kind(manifests, "NetworkPolicy", "hive-metastore")["spec"]["egress"])


def test_the_secret_has_what_the_configuration_lacks() -> None:
    template_text = catalogue()["hive-metastore"].secrets[0].keys["hive-site.xml"].template
    assert template_text is not None
    given = properties(template_text)
    assert given["javax.jdo.option.ConnectionURL"] == "jdbc:postgresql://postgres-rw.databases.svc:5432/metastore"
    postgres = catalogue()["postgres"].provides["postgres"]
    assert f"//{postgres['host']}:{postgres['port']}/" in given["javax.jdo.option.ConnectionURL"]
    assert {"javax.jdo.option.ConnectionPassword", "fs.s3a.secret.key"} <= set(given)
    public = {
        **config(template(CHART), "core-site.xml"),
        **config(template(CHART), "metastore-site.xml"),
    }
    assert not set(public) & set(given)
    assert not [name for name in public if "key" in name or "assword" in name]


def test_only_trino_may_connect() -> None:
    ingress = of_kind(template_planned(planned("hive-metastore")), "NetworkPolicy", "hive-metastore")["spec"]["ingress"]
    names = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for rule in ingress for peer in rule["from"]]
    # itself: its test
    assert names == ["hive-metastore", "trino"]


def test_an_image_with_the_driver_fetches_nothing() -> None:
    pod = next(pods(template(CHART, {"jdbc": {"url": ""}})))
    assert "initContainers" not in pod.spec
    assert not [mount for mount in pod.containers[0]["volumeMounts"] if "postgresql" in mount["mountPath"]]


def test_a_store_over_https_is_spoken_to_so() -> None:
    values = {"objectStore": {"url": "https://s3.example.org"}}
    assert config(template(CHART, values), "core-site.xml")["fs.s3a.connection.ssl.enabled"] == "true"


def test_it_can_not_be_published() -> None:
    answer = render(CHART, {"service": {"type": "LoadBalancer"}})
    assert answer.returncode != 0 and "type" in answer.stderr
