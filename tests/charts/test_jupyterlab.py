"""JupyterLab's chart: its scripts, run for real, its notebook, and what its values change."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Chart, of_kind, planned, pods, render, template, template_planned
from servers import Request, certificate, web

CHART = Chart("jupyterlab")
FILES = CHART.folder / "files"


# -- the packages --------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with the wheel of a tiny package."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def wheel(folder: Path, version: str) -> str:
    """Put the wheel of a version of `tiny` into a folder; the line that requires it."""
    path = folder / f"tiny-{version}-py3-none-any.whl"
    files = {
        "tiny.py": f"VERSION = {version!r}\n",
        f"tiny-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"tiny-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_sum(text)},{len(text)}\n" for name, text in files.items())
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"tiny-{version}.dist-info/RECORD", record)
    return f"tiny=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _sum(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def install(requirements: Path, folder: Path, shelf: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder.parent),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(shelf),
        "PIP_CONFIG_FILE": "/dev/null",
    }
    command = [sys.executable, str(FILES / "install.py"), str(requirements), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def version(folder: Path) -> str:
    command = [str(folder / "current/bin/python"), "-c", "import tiny; print(tiny.VERSION)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_packages_are_installed_once_and_replaced_when_they_change(tmp_path: Path, shelf: Path) -> None:
    requirements, folder = tmp_path / "requirements.txt", tmp_path / "environments"
    requirements.write_text(wheel(shelf, "1.0"))
    first = install(requirements, folder, shelf)
    assert first.returncode == 0, first.stderr
    assert first.stdout.endswith("is new\n")
    assert version(folder) == "1.0"

    assert install(requirements, folder, shelf).stdout.endswith("is there already\n")

    # one that can't be finished leaves the one before in its place
    requirements.write_text(wheel(shelf, "2.0").replace("sha256:", "sha256:00000000")[:-9] + "\n")
    broken = install(requirements, folder, shelf)
    assert broken.returncode != 0
    assert "pip failed" in broken.stderr
    assert version(folder) == "1.0"

    requirements.write_text(wheel(shelf, "2.0"))
    assert install(requirements, folder, shelf).stdout.endswith("is new\n")
    assert version(folder) == "2.0"
    assert len([path for path in folder.iterdir() if path.name != "current"]) == 1, "the old one takes room"


def test_packages_are_pinned_with_their_sums_for_arm64_and_amd64() -> None:
    text = CHART.read("files/requirements.txt")
    entries = re.findall(r"^([a-z0-9-]+)==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE)
    assert len(entries) == len([line for line in text.splitlines() if line[:1].isalpha()])
    names = {name for name, _ in entries}
    assert {"jupyterlab", "trino", "psycopg-binary", "boto3", "pandas", "pyarrow", "sqlalchemy"} <= names
    compiled = {name for name, hashes in entries if hashes.count("sha256:") == 2}
    assert {"pandas", "pyarrow", "psycopg-binary", "numpy"} <= compiled, "wheels of two architectures"


def test_the_chart_says_which_jupyterlab_it_is() -> None:
    pinned = f"jupyterlab=={CHART.metadata['appVersion']} "
    assert pinned in CHART.read("files/requirements.txt")
    dockerfile = (CHART.folder.parents[1] / "images/jupyterlab/Dockerfile").read_text()
    assert f"jupyterlab:{CHART.metadata['appVersion']} " in dockerfile
    assert f"python:{CHART.values['image']['tag']}\n" in dockerfile


# -- the settings --------------------------------------------------------------------------------------------


def settings(monkeypatch: pytest.MonkeyPatch, token: Path, **variables: str) -> Any:
    for name, value in {"TOKEN_FILE": str(token), **variables}.items():
        monkeypatch.setenv(name, value)
    config = SimpleNamespace(
        IdentityProvider=SimpleNamespace(), ServerApp=SimpleNamespace(), MappingKernelManager=SimpleNamespace()
    )
    runpy.run_path(str(FILES / "jupyter_server_config.py"), init_globals={"get_config": lambda: config})
    return config


def test_jupyterlab_reads_its_token_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("0123456789abcdef0123\n")
    config = settings(monkeypatch, tmp_path / "token", TLS_DIR="/etc/tls")
    assert config.IdentityProvider.token == "0123456789abcdef0123"
    assert config.ServerApp.keyfile == "/etc/tls/tls.key"


@pytest.mark.parametrize("token", ["", "   \n", "short"])
def test_jupyterlab_does_not_start_without_a_token(token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one would let everybody in."""
    (tmp_path / "token").write_text(token)
    with pytest.raises(SystemExit, match="16 characters"):
        settings(monkeypatch, tmp_path / "token")


# -- helm test and the notebook ------------------------------------------------------------------------------


@pytest.mark.parametrize(("open_to_all", "passes"), [(False, True), (True, False)])
def test_helm_test_wants_the_token_to_be_needed(open_to_all: bool, passes: bool, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    (tmp_path / "token").write_text("the-token")

    def answer(request: Request) -> tuple[int, bytes]:
        known = request.headers.get("Authorization") == "token the-token"
        return (200, b"{}") if known or open_to_all else (403, b"")

    with web(answer, pem) as server:
        environment = {**os.environ, "URL": server.url, "TOKEN_FILE": str(tmp_path / "token"), "CA_FILE": str(pem)}
        command = [sys.executable, str(FILES / "try.py")]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode == 0) is passes, ran.stderr


def test_the_notebook_is_sound_and_has_no_secret() -> None:
    notebook = json.loads(CHART.read("files/connections.ipynb"))
    assert notebook["nbformat"] == 4
    used = set()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            source = "".join(cell["source"])
            ast.parse(source)
            used |= set(re.findall(r'environ(?:\.get\(|\[)"([A-Z0-9_]+)"', source))
    given = {one["name"] for one in next(pods(template_planned(planned("jupyterlab")))).containers[0]["env"]}
    assert used <= given, f"nobody sets {sorted(used - given)}"


def test_the_notebook_reads_secrets_where_they_are_mounted() -> None:
    read = set(re.findall(r'secret\(\\"([a-z-]+)/([a-z-]+)\\"\)', CHART.read("files/connections.ipynb")))
    pod = next(pods(template_planned(planned("jupyterlab"))))
    folders = {mount["name"]: mount["mountPath"] for mount in pod.containers[0]["volumeMounts"]}
    there = {
        (folders[volume["name"]].removeprefix("/etc/jupyterlab/"), item["path"])
        for volume in pod.spec["volumes"]
        for item in volume.get("secret", {}).get("items", [])
    }
    assert len(read) == 5
    assert read <= there


# -- the values ----------------------------------------------------------------------------------------------


def test_an_image_with_the_packages_installs_nothing() -> None:
    manifests = template(CHART, {"install": {"enabled": False}})
    pod = next(pods(manifests))
    assert "initContainers" not in pod.spec
    path = next(one["value"] for one in pod.containers[0]["env"] if one["name"] == "PATH")
    assert path == "/usr/local/bin:/usr/bin:/bin"
    assert "requirements.txt" not in of_kind(manifests, "ConfigMap")["data"]


def test_connections_that_are_not_there_mount_nothing() -> None:
    pod = next(pods(template(CHART)))
    secrets = [volume["secret"]["secretName"] for volume in pod.spec["volumes"] if "secret" in volume]
    assert secrets == ["jupyterlab"]


def test_prometheus_knows_the_certificate() -> None:
    values = {"tls": {"enabled": True}, "metrics": {"serviceMonitor": {"enabled": True}}}
    endpoint = of_kind(template(CHART, values), "ServiceMonitor")["spec"]["endpoints"][0]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["serverName"] in of_kind(template(CHART, values), "Certificate")["spec"]["dnsNames"]


def test_a_published_service_says_for_whom() -> None:
    answer = render(CHART, {"service": {"type": "LoadBalancer"}})
    assert answer.returncode != 0 and "service.allowedNetworks" in answer.stderr
