"""The application with FastAPI: run for real, but for its database, and its chart."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient
from harness import Chart, of_kind, planned, pods, template_planned
from servers import Request, free_port, web

CHART = Chart("fastapi")


class Table:
    """Stands for the table of notes: what the application asks of a connection."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> Table:
        self.found = self.rows
        if statement.startswith("INSERT"):
            self.rows.append({"id": len(self.rows) + 1, "text": values[0], "written": datetime.now(UTC)})
            self.found = self.rows[-1:]
        elif "LIMIT" in statement:
            self.found = self.rows[::-1][: values[0]]
        return self

    def fetchone(self) -> dict[str, Any]:
        return self.found[0]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.found)


@pytest.fixture(scope="module")
def application() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notes_app", CHART.folder / "files/app.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["notes_app"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(application: ModuleType) -> Iterator[TestClient]:
    """The application with a table in memory."""
    table = Table()
    application.app.dependency_overrides[application.connection] = lambda: table
    yield TestClient(application.app)
    application.app.dependency_overrides.clear()


def test_notes_are_written_and_read(client: TestClient) -> None:
    assert client.get("/notes").json() == []
    written = client.post("/notes", json={"text": "one"})
    assert written.status_code == 201
    client.post("/notes", json={"text": "two"})
    assert [note["text"] for note in client.get("/notes").json()] == ["two", "one"]
    assert [note["text"] for note in client.get("/notes", params={"limit": 1}).json()] == ["two"]


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": "x" * 2001}])
def test_what_is_no_note_is_refused(client: TestClient, body: dict[str, str]) -> None:
    assert client.post("/notes", json=body).status_code == 422


def test_requests_are_counted_by_declared_paths(client: TestClient) -> None:
    client.get("/notes")
    client.get("/nothing/1")
    client.get("/nothing/2")
    text = client.get("/metrics").text
    assert 'http_requests_total{method="GET",path="/notes",status="200"}' in text
    assert 'path="none",status="404"' in text
    assert "/nothing" not in text, "each path that somebody thinks up would be a metric"


def test_without_its_database_it_lives_and_says_so(
    application: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "username").write_text("app")
    (tmp_path / "password").write_text("the-password")
    for name, value in {
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "DATABASE": "app",
        "SECRET": str(tmp_path),
    }.items():
        monkeypatch.setenv(f"POSTGRES_{name}", value)
    client = TestClient(application.app)
    answer = client.get("/notes")
    assert answer.status_code == 503
    assert answer.json() == {"detail": "the database does not answer"}
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(("kept", "passes"), [(True, True), (False, False)])
def test_helm_test_reads_what_it_wrote(kept: bool, passes: bool) -> None:
    note = b'{"id": 1, "text": "helm test"}'

    def answer(request: Request) -> tuple[int, bytes]:
        return (201, note) if request.method == "POST" else (200, b"[" + (note if kept else b"") + b"]")

    with web(answer) as server:
        command = [sys.executable, str(CHART.folder / "files/try.py")]
        ran = subprocess.run(command, env={**os.environ, "URL": server.url}, capture_output=True, check=False)
    assert (ran.returncode == 0) is passes, ran.stderr


def test_the_chart_says_which_fastapi_it_is() -> None:
    assert f"fastapi=={CHART.metadata['appVersion']} " in CHART.read("files/requirements.txt")


def test_it_finds_the_postgresql_of_the_platform() -> None:
    manifests = template_planned(planned("fastapi"))
    variables = {one["name"]: one["value"] for one in next(pods(manifests)).containers[0]["env"]}
    assert variables["POSTGRES_HOST"] == "postgres-rw.databases.svc"
    ports = [
        port["port"]
        for rule in of_kind(manifests, "NetworkPolicy", "fastapi")["spec"]["egress"]
        for port in rule.get("ports", [])
    ]
    assert 5432 in ports
