"""Charts in the lock file: pinned by what mirror, repository or registry serve, and held to that."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from piclusterops import lock
from piclusterops.artefacts import ArtefactError, WrongDigest
from piclusterops.chart_lock import entry_of, held, remember, resolve
from piclusterops.chart_repository import digest_in_repository
from piclusterops.helm_charts import Chart, archive_of

ARCHIVE, OTHER = b"\x1f\x8b an archive", b"\x1f\x8b another archive"
DIGEST, OTHER_DIGEST = sha256(ARCHIVE).hexdigest(), sha256(OTHER).hexdigest()
MANIFEST = {
    "schemaVersion": 2,
    "layers": [
        {"mediaType": "application/vnd.cncf.helm.chart.provenance.v1.prov", "digest": f"sha256:{'0' * 64}"},
        {"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": f"sha256:{DIGEST}"},
    ],
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICLUSTEROPS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prod.lock"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "demo-1.2.3.tgz").write_bytes(ARCHIVE)
    return folder


class Served:
    """What a server answers: path to content; `token` is what it wants to see, if anything."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.token = ""
        self.asked: list[tuple[str, str]] = []
        self.address = ""


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Served]:
    """A server on this machine; with TLS if there is a certificate."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization", "")
            served.asked.append((self.path, authorization))
            content = served.pages.get(self.path.partition("?")[0])
            wants_token = bool(served.token) and self.path.startswith("/v2/")
            if wants_token and authorization != f"Bearer {served.token}":
                self.send_response(401)
                realm = f'realm="{served.address}/token",service="demo",scope="repository:charts/demo:pull"'
                self.send_header("WWW-Authenticate", f"Bearer {realm}")
                content = b"who are you?"
            else:
                self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        served.address = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield served
        server.shutdown()


@pytest.fixture
def repository() -> Iterator[Served]:
    """A chart repository that has demo 1.2.3."""
    with serving() as served:
        served.pages = {"/charts/index.yaml": index("demo-1.2.3.tgz"), "/charts/demo-1.2.3.tgz": ARCHIVE}
        yield served


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A registry that has demo 1.2.3+1 for those with a token, which it gives to everybody."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    certificate = tmp_path / "registry.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    certificate.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(certificate) as served:
        served.token = "for-everybody"
        served.pages = {
            "/token": json.dumps({"token": served.token}).encode(),
            "/v2/charts/demo/manifests/1.2.3_1": json.dumps(MANIFEST).encode(),
            f"/v2/charts/demo/blobs/sha256:{DIGEST}": ARCHIVE,
        }
        yield served


def index(url: str, digest: str = DIGEST, version: str = "1.2.3") -> bytes:
    entry = {"name": "demo", "version": version, "urls": [url], **({"digest": digest} if digest else {})}
    older = {"name": "demo", "version": "1.2.2", "urls": ["demo-1.2.2.tgz"], "digest": "0" * 64}
    return json.dumps({"apiVersion": "v1", "entries": {"demo": [entry, older]}}).encode()


def in_repository(served: Served) -> Chart:
    return Chart("demo", "1.2.3", repository=f"{served.address}/charts")


def in_registry(served: Served) -> Chart:
    return Chart("demo", "1.2.3+1", repository=f"oci://{served.address.removeprefix('https://')}/charts/")


# -- mirrors -------------------------------------------------------------------------------------------------


def test_a_chart_of_a_mirror_is_pinned_by_its_archive_and_held_to_it(mirror: Path, path: Path) -> None:
    chart = Chart("demo", "1.2.3", mirror=str(mirror))
    found = resolve([chart, chart])
    assert [(entry.version, entry.file, entry.sha256, entry.how) for entry in found.entries] == [
        ("1.2.3", "demo-1.2.3.tgz", DIGEST, "lock command")
    ]
    lock.write(path, found.entries)
    locked = held(chart, lock.read(path), path)
    assert archive_of(locked).digest == DIGEST
    (mirror / "demo-1.2.3.tgz").write_bytes(OTHER)
    with pytest.raises(WrongDigest) as error:
        archive_of(locked)
    for part in (DIGEST, OTHER_DIGEST, str(path), "Next: ", "picluster lock"):
        assert part in str(error.value)


def test_a_mirror_at_a_url_is_asked_for_what_it_has_now(repository: Served) -> None:
    chart = Chart("demo", "1.2.3", mirror=f"{repository.address}/charts")
    assert archive_of(chart).digest == DIGEST  # and is in the cache from now on
    repository.pages["/charts/demo-1.2.3.tgz"] = OTHER
    assert [entry.sha256 for entry in resolve([chart]).entries] == [OTHER_DIGEST]


def test_what_the_mirror_lacks_is_told_and_does_not_stop_the_others(mirror: Path) -> None:
    lacking = Chart("gone", "1.0.0", mirror=str(mirror))
    found = resolve([lacking, Chart("demo", "1.2.3", mirror=str(mirror))])
    assert len(found.entries) == 1
    assert "gone-1.0.0.tgz: cannot read" in found.failed[0] and "Check chart_mirror" in found.failed[0]


def test_a_chart_in_a_folder_of_ours_is_not_pinned(tmp_path: Path, path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text("name: demo\nversion: 1.2.3\n")
    own = Chart("demo", "1.2.3", folder=tmp_path)
    assert resolve([own]).entries == ()
    entry = entry_of(Chart("demo", "1.2.3", mirror="x"), "0" * 64)
    assert held(own, {entry.key: entry}, path) is own
    assert remember(path, {own: DIGEST}) == [] and lock.read(path) == {}


def test_a_lock_file_that_says_another_digest_than_the_chart_is_refused(path: Path) -> None:
    chart = Chart("demo", "1.2.3", mirror="x", digest=OTHER_DIGEST)
    entry = entry_of(chart, DIGEST)
    with pytest.raises(WrongDigest, match=f"prod.lock says .*{DIGEST}, but {OTHER_DIGEST} is expected"):
        held(chart, {entry.key: entry}, path)


def test_the_first_use_is_recorded_and_another_archive_stops_the_next(path: Path) -> None:
    chart = Chart("demo", "1.2.3", mirror="/srv/charts")
    (first,) = remember(path, {chart: DIGEST})
    assert (first.how, first.source) == ("first use", "/srv/charts/demo-1.2.3.tgz")
    assert remember(path, {chart: DIGEST}) == []
    with pytest.raises(ArtefactError, match=f"{OTHER_DIGEST}.*but {DIGEST} in"):
        remember(path, {chart: OTHER_DIGEST})


# -- repositories --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "version"),
    [("demo-1.2.3.tgz", "1.2.3"), ("{}/charts/demo-1.2.3.tgz", "1.2.3"), ("demo-1.2.3.tgz", "v1.2.3")],
)
def test_a_repository_states_the_digest_and_serves_that(repository: Served, url: str, version: str) -> None:
    repository.pages["/charts/index.yaml"] = index(url.format(repository.address), version=version)
    found = digest_in_repository(in_repository(repository))
    assert found == (DIGEST, f"{repository.address}/charts/index.yaml")


def test_an_old_index_without_digests_leaves_the_archive_itself(repository: Served) -> None:
    repository.pages["/charts/index.yaml"] = index("demo-1.2.3.tgz", digest="")
    assert digest_in_repository(in_repository(repository)) == (DIGEST, f"{repository.address}/charts/demo-1.2.3.tgz")


def test_an_archive_that_is_not_what_the_index_says_is_not_pinned(repository: Served) -> None:
    repository.pages["/charts/demo-1.2.3.tgz"] = OTHER
    with pytest.raises(WrongDigest, match=f"has SHA-256 {OTHER_DIGEST}, but .*index.yaml says {DIGEST}"):
        digest_in_repository(in_repository(repository))


def test_an_archive_that_is_not_what_the_chart_says_is_not_pinned(repository: Served) -> None:
    with pytest.raises(WrongDigest, match=f"has SHA-256 {DIGEST}, but {OTHER_DIGEST} is expected"):
        digest_in_repository(replace(in_repository(repository), digest=OTHER_DIGEST))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (index("demo-1.2.3.tgz", version="2.0.0"), "has no demo 1.2.3"),
        (b"entries: {}", "has no demo 1.2.3"),
        (b"<html>", "is no index of a chart repository"),
        (b"entries: {demo: [{version: 1.2.3}]}", "is no index of a chart repository"),
        (b"a: [", "is no index of a chart repository"),
    ],
)
def test_an_index_without_the_chart_is_told(repository: Served, content: bytes, why: str) -> None:
    repository.pages["/charts/index.yaml"] = content
    (text,) = resolve([in_repository(repository)]).failed
    assert why in text and "Check the chart's repository" in text


def test_a_repository_that_does_not_answer_is_a_failure_and_one_that_only_helm_can_ask_is_not() -> None:
    found = resolve(
        [
            Chart("demo", "1.2.3", repository="http://127.0.0.1:9"),
            Chart("demo", "1.2.3", repository="oci://127.0.0.1:9/charts"),
            Chart("demo", "1.2.3", repository="git+https://charts.example"),
        ]
    )
    assert len(found.failed) == 2 and all("Connection refused" in text for text in found.failed)
    assert found.unpinnable == ("demo-1.2.3.tgz: only Helm can ask git+https://charts.example",)


# -- registries ----------------------------------------------------------------------------------------------


def test_a_registry_states_the_digest_of_the_layer_that_is_the_archive(registry: Served) -> None:
    digest, source = digest_in_repository(in_registry(registry))
    assert digest == DIGEST
    assert source == f"oci://{registry.address.removeprefix('https://')}/charts/demo:1.2.3_1"
    paths = [path for path, _ in registry.asked]
    assert "/token?service=demo&scope=repository%3Acharts%2Fdemo%3Apull" in paths
    assert len(paths) == 4, "it asked for a token twice"


def test_a_layer_that_is_not_what_the_manifest_says_is_not_pinned(registry: Served) -> None:
    registry.pages[f"/v2/charts/demo/blobs/sha256:{DIGEST}"] = OTHER
    with pytest.raises(WrongDigest, match=f"has SHA-256 {OTHER_DIGEST}, but .* says sha256:{DIGEST}"):
        digest_in_repository(in_registry(registry))


def test_a_registry_that_wants_a_login_leaves_the_chart_to_its_first_use(registry: Served) -> None:
    del registry.pages["/token"]
    found = resolve([in_registry(registry)])
    assert found.failed == () and found.unpinnable[0].endswith("wants a login")
    registry.pages["/token"] = b'{"token": "of no use"}'
    assert resolve([in_registry(registry)]).unpinnable[0].endswith("wants a login")


@pytest.mark.parametrize("manifest", [b"{}", b"[", json.dumps({"layers": MANIFEST["layers"][:1]}).encode()])  # type: ignore[index]
def test_what_is_no_chart_is_told(registry: Served, manifest: bytes) -> None:
    registry.pages["/v2/charts/demo/manifests/1.2.3_1"] = manifest
    assert "is no chart" in resolve([in_registry(registry)]).failed[0]


def test_a_version_that_the_registry_lacks_is_told(registry: Served) -> None:
    found = resolve([replace(in_registry(registry), version="9.9.9")])
    assert "demo:9.9.9: 404 Not Found" in found.failed[0]
