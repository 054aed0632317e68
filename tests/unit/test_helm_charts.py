"""Charts as archives: packed the same each time, or taken from a mirror."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tools import helm

from piclusterops.artefacts import ArtefactError
from piclusterops.helm_charts import Archive, Chart, archive_of, own_chart, package

ABOUT = "apiVersion: v2\nname: demo\nversion: 1.2.3\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return chart(tmp_path / "demo")


def chart(folder: Path, **files: str) -> Path:
    for name, text in {"Chart.yaml": ABOUT, "values.yaml": "a: 1\n", "templates/a.yaml": "kind: A\n", **files}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def names(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.getnames()


def test_the_same_folder_gives_the_same_bytes_whoever_packs_it_and_when(folder: Path, tmp_path: Path) -> None:
    first = package(folder)
    copy = tmp_path / "elsewhere"
    # written in another order, at another time, with other permissions
    for name in ("templates/a.yaml", "values.yaml", "Chart.yaml"):
        file = copy / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((folder / name).read_text())
        file.chmod(0o600)
        os.utime(file, (time.time() - 1e6,) * 2)
    assert package(copy) == first
    # A library that compresses otherwise, or a change of the format, would upgrade every release of a cluster.
    assert sha256(first).hexdigest() == "613066a5988928a63b26dfe8afa3f10794865c76600eb30d0b8c5394e38de4ad"


def test_any_change_of_a_file_gives_other_bytes(folder: Path) -> None:
    first = package(folder)
    (folder / "values.yaml").write_text("a: 2\n")
    assert package(folder) != first


def test_the_archive_is_what_helm_expects(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "demo-1.2.3.tgz"
    file.write_bytes(package(folder))
    assert names(file.read_bytes()) == ["demo/Chart.yaml", "demo/templates/a.yaml", "demo/values.yaml"]
    shown = subprocess.run([helm(), "show", "chart", file], capture_output=True, text=True, check=True).stdout
    assert "name: demo" in shown and "version: 1.2.3" in shown


def test_a_large_file_is_packed_whole(folder: Path) -> None:
    large = "0123456789abcdef" * 10_000
    (folder / "large.txt").write_text(large)
    with tarfile.open(fileobj=io.BytesIO(package(folder))) as archive:
        member = archive.extractfile("demo/large.txt")
        assert member is not None and member.read().decode() == large


def test_what_helmignore_names_is_left_out(folder: Path) -> None:
    rules = "# notes\n*.bak\nci/\n/top.txt\ndocs/*.md\n!docs/keep.md\n"
    more = ("a.bak", "templates/b.bak", "ci/values.yaml", "top.txt", "docs/x.md", "docs/keep.md", "docs/deep/x.md")
    chart(folder, **dict.fromkeys((*more, "templates/.hidden", "sub/top.txt"), "x"), **{".helmignore": rules})
    assert names(package(folder)) == [
        "demo/.helmignore",
        "demo/Chart.yaml",
        "demo/docs/deep/x.md",
        "demo/docs/keep.md",
        "demo/sub/top.txt",
        "demo/templates/a.yaml",
        "demo/values.yaml",
    ]


def test_a_chart_that_it_depends_on_must_be_there(folder: Path) -> None:
    (folder / "Chart.yaml").write_text(
        ABOUT + "dependencies: [{name: common, version: 1.0.0, repository: https://x}]\n"
    )
    with pytest.raises(ArtefactError, match=r"common is missing\. Next: helm dependency build"):
        package(folder)
    chart(folder, **{"charts/common-1.0.0.tgz": "x"})
    assert "demo/charts/common-1.0.0.tgz" in names(package(folder))


@pytest.mark.parametrize("text", ["", "name: demo\n", "[]\n", "a: [\n"])
def test_a_folder_without_a_chart_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "Chart.yaml").write_text(text)
    with pytest.raises(ArtefactError):
        package(tmp_path)


def test_an_own_chart_names_itself(folder: Path) -> None:
    found = own_chart(folder)
    assert (found.archive, found.path) == ("demo-1.2.3.tgz", "/var/lib/piclusterops/charts/demo-1.2.3.tgz")
    assert archive_of(found).content == package(folder)


def test_a_folder_of_another_version_than_wanted_is_refused(folder: Path) -> None:
    with pytest.raises(ArtefactError, match=r"is demo 1\.2\.3, not demo-2\.0\.0\.tgz"):
        archive_of(Chart("demo", "2.0.0", folder=folder))


@pytest.fixture
def mirror(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PICLUSTEROPS_CACHE", str(tmp_path / "cache"))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "demo-1.2.3.tgz").write_bytes(package(folder))
    return mirror


def test_a_mirror_has_the_archive(mirror: Path) -> None:
    content = (mirror / "demo-1.2.3.tgz").read_bytes()
    digest = Archive(content).digest
    assert archive_of(Chart("demo", "1.2.3", mirror=str(mirror), digest=digest)).content == content
    assert archive_of(Chart("demo", "1.2.3", mirror=f"file://{mirror}")).content == content


def test_an_archive_with_another_digest_is_not_used(mirror: Path) -> None:
    with pytest.raises(ArtefactError, match=r"demo-1\.2\.3\.tgz has SHA-256 [0-9a-f]{64}, but (ab){32} is expected"):
        archive_of(Chart("demo", "1.2.3", mirror=str(mirror), digest="ab" * 32))


def test_a_mirror_without_the_chart_says_which_setting_to_check(mirror: Path) -> None:
    with pytest.raises(ArtefactError, match=r"demo-9\.9\.9\.tgz: No such file or directory\. Check chart_mirror"):
        archive_of(Chart("demo", "9.9.9", mirror=str(mirror)))


def test_a_web_page_is_no_chart(mirror: Path) -> None:
    (mirror / "demo-1.2.3.tgz").write_text("<html>login</html>")
    with pytest.raises(ArtefactError, match="is no archive of a chart"):
        archive_of(Chart("demo", "1.2.3", mirror=str(mirror)))


@pytest.fixture
def url(mirror: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(mirror))

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_archive_from_a_url_is_fetched_once(mirror: Path, url: str) -> None:
    chart = Chart("demo", "1.2.3", mirror=url)
    first = archive_of(chart)
    (mirror / chart.archive).unlink()
    assert archive_of(chart) == first


def test_one_in_the_cache_that_is_not_the_expected_one_is_fetched_again(mirror: Path, url: str, folder: Path) -> None:
    archive_of(Chart("demo", "1.2.3", mirror=url))
    (folder / "values.yaml").write_text("a: 2\n")
    changed = package(folder)
    (mirror / "demo-1.2.3.tgz").write_bytes(changed)
    found = archive_of(Chart("demo", "1.2.3", mirror=url, digest=sha256(changed).hexdigest()))
    assert found.content == changed


def test_a_name_that_leads_elsewhere_is_no_chart() -> None:
    with pytest.raises(ValueError):
        Chart("../demo", "1.2.3", mirror="x")
    with pytest.raises(ValueError):
        Chart("demo", "1.2.3/../..", mirror="x")
    with pytest.raises(ValueError, match="say where it is"):
        Chart("demo", "1.2.3")
