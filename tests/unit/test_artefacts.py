"""Downloads: only a file with the right digest ever gets a name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from piclusterops.artefacts import RELEASES, ArtefactError, checksums, fetch, location, parse_checksums

VERSION = "v1.36.5+k3s1"
CONTENT = b"k3s" * 1000
DIGEST = sha256(CONTENT).hexdigest()
IMAGES = sha256(b"images").hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PICLUSTEROPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "artefacts" / VERSION


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror" / VERSION
    folder.mkdir(parents=True)
    (folder / "k3s-arm64").write_bytes(CONTENT)
    (folder / "sha256sum-arm64.txt").write_text(
        f"{IMAGES}  k3s-airgap-images-arm64.tar.zst\n{DIGEST}  k3s-arm64\n{IMAGES}  k3s-arm64.extra\n"
    )
    return folder.parent


class Server(ThreadingHTTPServer):
    def __init__(self, root: Path) -> None:
        self.root, self.requests, self.cut_off = root, list[str](), False
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        file = self.server.root / self.path.lstrip("/").replace("%2B", "+")
        if "+" in self.path or not file.is_file():
            self.send_error(404)
            return
        body = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.server.cut_off else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(mirror: Path) -> Iterator[Server]:
    with Server(mirror) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/"


def test_names_in_a_checksum_file_are_whole_names(mirror: Path) -> None:
    digests = checksums(str(mirror), VERSION, RELEASES["aarch64"])
    assert digests["k3s-arm64"] == DIGEST
    assert digests["k3s-airgap-images-arm64.tar.zst"] == IMAGES
    assert "k3s" not in digests


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("<html>Not Found</html>", "line 1"),
        (f"{DIGEST}  k3s\n{DIGEST[:-1]}  k3s-arm64", "line 2"),
        (f"{DIGEST}  ../k3s", "line 1"),
        (f"{DIGEST}  k3s\n{IMAGES}  k3s", "two digests"),
    ],
)
def test_what_is_not_a_checksum_file_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_checksums(text)


def test_a_plus_is_escaped_in_urls_only(tmp_path: Path) -> None:
    assert location("https://example.org/dl/", VERSION, "k3s") == "https://example.org/dl/v1.36.5%2Bk3s1/k3s"
    assert location(str(tmp_path), VERSION, "k3s") == f"{tmp_path}/v1.36.5+k3s1/k3s"


def test_a_directory_is_a_mirror(mirror: Path, cache: Path) -> None:
    assert fetch(str(mirror), VERSION, "k3s-arm64", DIGEST, "x.lock") == cache / "k3s-arm64"
    assert (cache / "k3s-arm64").read_bytes() == CONTENT


def test_a_url_is_a_mirror(server: Server, cache: Path) -> None:
    assert fetch(url(server), VERSION, "k3s-arm64", DIGEST, "x.lock").read_bytes() == CONTENT
    assert server.requests == ["/v1.36.5%2Bk3s1/k3s-arm64"]


def test_a_file_url_is_a_mirror(mirror: Path) -> None:
    assert fetch(f"file://{mirror}", VERSION, "k3s-arm64", DIGEST, "x.lock").read_bytes() == CONTENT


def test_a_file_with_another_digest_is_refused_and_leaves_nothing(mirror: Path, cache: Path) -> None:
    with pytest.raises(ArtefactError) as error:
        fetch(str(mirror), VERSION, "k3s-arm64", IMAGES, "prod.lock")
    assert DIGEST in str(error.value) and IMAGES in str(error.value) and "prod.lock" in str(error.value)
    assert list(cache.iterdir()) == []


def test_a_download_that_breaks_off_is_refused_and_leaves_nothing(server: Server, cache: Path) -> None:
    server.cut_off = True
    with pytest.raises(ArtefactError):
        fetch(url(server), VERSION, "k3s-arm64", DIGEST, "prod.lock")
    assert list(cache.iterdir()) == []


def test_a_verified_file_is_not_fetched_again(server: Server) -> None:
    fetch(url(server), VERSION, "k3s-arm64", DIGEST, "x.lock")
    fetch(url(server), VERSION, "k3s-arm64", DIGEST, "x.lock")
    assert len(server.requests) == 1


def test_a_file_that_changed_in_the_cache_is_fetched_again(mirror: Path, cache: Path) -> None:
    fetch(str(mirror), VERSION, "k3s-arm64", DIGEST, "x.lock")
    (cache / "k3s-arm64").write_bytes(b"tampered")
    assert fetch(str(mirror), VERSION, "k3s-arm64", DIGEST, "x.lock").read_bytes() == CONTENT


def test_hosts_that_want_the_same_file_share_one_download(server: Server) -> None:
    threads = [
        threading.Thread(target=fetch, args=(url(server), VERSION, "k3s-arm64", DIGEST, "x.lock")) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("/nowhere", "cannot read /nowhere/v1.36.5"),
        ("http://127.0.0.1:9/", "cannot read http://127.0.0.1:9/"),
        ("ftp://example.org", "must be a directory or an http, https or file URL"),
    ],
)
def test_a_mirror_that_cannot_be_read_is_named(where: str, text: str) -> None:
    with pytest.raises(ArtefactError, match=text):
        fetch(where, VERSION, "k3s-arm64", DIGEST, "x.lock")


def test_a_missing_version_is_named(server: Server) -> None:
    with pytest.raises(ArtefactError, match=r"sha256sum-arm64\.txt: Not Found"):
        checksums(url(server), "v9.9.9+k3s1", RELEASES["aarch64"])
