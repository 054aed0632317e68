"""NiFi's chart: its scripts, run for real, and what its values change."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness import Chart, Manifest, of_kind, planned, pods, render, template
from servers import Request, certificate, free_port, web

CHART = Chart("nifi")
FILES = CHART.folder / "files"
OIDC = {
    "auth": {
        "mode": "oidc",
        "oidc": {
            "discoveryUrl": "https://login.example.org/.well-known/openid-configuration",
            "admin": "o'me&you@x.org",
        },
    }
}
PUBLISHED = {
    "service": {"type": "LoadBalancer", "loadBalancerIP": "192.168.0.201", "allowedNetworks": ["192.168.0.0/24"]}
}
HASH = "$2y$12$" + "a" * 53
SECRETS = {
    "username": "admin",
    "password-bcrypt": HASH,
    "sensitive-props-key": "key-of-the-flow-&|/1",
    "client-id": "the-client",
    "client-secret": "secret-of-the-client|&",
}

#: What the image has, as far as the entrypoint cares: apache/nifi 2.x, docker/dockerhub/sh/common.sh and conf/.
COMMON = """\
prop_replace () {
  target_file=${3:-${nifi_props_file}}
  sed -i -e "s|^$1=.*$|$1=$2|"  ${target_file}
}
export nifi_bootstrap_file=${NIFI_HOME}/conf/bootstrap.conf
export nifi_props_file=${NIFI_HOME}/conf/nifi.properties
export hostname=$(hostname)
"""
START = """\
#!/bin/sh -e
. "${NIFI_BASE_DIR}/scripts/common.sh"
prop_replace 'nifi.web.https.port' "${NIFI_WEB_HTTPS_PORT:-8443}"
env > "$NIFI_HOME/environment"
pwd > "$NIFI_HOME/folder"
"""
PROPERTIES = """\
# Core Properties #
nifi.flow.configuration.file=./conf/flow.json.gz
nifi.web.https.port=8443
nifi.sensitive.props.key=
nifi.sensitive.props.algorithm=NIFI_PBKDF2_AES_GCM_256
nifi.security.keystore=./conf/keystore.p12
nifi.security.keystoreType=PKCS12
nifi.provenance.repository.max.storage.size=10 GB
nifi.content.repository.archive.max.usage.percentage=50%"""  # no newline at its end
BOOTSTRAP = """\
java.arg.2=-Xms1g
#management.server.address=http://127.0.0.1:52020
graceful.shutdown.seconds=20
"""


@dataclass
class Image:
    """The tree of the image, and what the pod mounts into it."""

    root: Path
    config: Manifest
    mode: str = "single-user"

    def __post_init__(self) -> None:
        for folder in ("scripts", "nifi-current/conf", "config", "auth", "tls", "bin"):
            (self.root / folder).mkdir(parents=True)
        self._write("scripts/common.sh", COMMON)
        self._write("scripts/start.sh", START).chmod(0o755)
        self._write("nifi-current/conf/nifi.properties", PROPERTIES)
        self._write("nifi-current/conf/bootstrap.conf", BOOTSTRAP)
        for name, text in self.config["data"].items():
            self._write(f"config/{name}", text)
        for name, text in SECRETS.items():
            self._write(f"auth/{name}", text)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            self._write(f"tls/{name}", "PEM")
        for program in ("awk", "cat", "sed", "rm", "hostname"):
            # what it starts is written down: nothing secret may be among the arguments
            path = self._write(
                f"bin/{program}",
                f'#!/bin/sh\nprintf \'%s\\n\' "$0 $*" >> {self.root}/started\nPATH=/usr/bin:/bin exec {program} "$@"\n',
            )
            path.chmod(0o755)

    def _write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.write_text(text, encoding="utf-8")
        return path

    def start(self) -> subprocess.CompletedProcess[str]:
        """What the entrypoint of the pod says."""
        environment = {
            "PATH": f"{self.root}/bin:/usr/bin:/bin",
            "HOME": str(self.root),
            "NIFI_BASE_DIR": str(self.root),
            "NIFI_HOME": str(self.root / "nifi-current"),
            "NIFI_CONFIG_DIR": str(self.root / "config"),
            "NIFI_AUTH_DIR": str(self.root / "auth"),
            "NIFI_TLS_DIR": str(self.root / "tls"),
            "NIFI_AUTH_MODE": self.mode,
        }
        command = ["sh", str(self.root / "config/entrypoint.sh")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)

    def conf(self, name: str) -> str:
        """A file that NiFi reads."""
        return (self.root / "nifi-current/conf" / name).read_text(encoding="utf-8")

    def properties(self, name: str = "nifi.properties") -> dict[str, str]:
        """The properties that NiFi reads; each is there once."""
        lines = [line for line in self.conf(name).splitlines() if "=" in line and not line.startswith("#")]
        found = dict(line.split("=", 1) for line in lines)
        assert len(found) == len(lines)
        return found


def config(values: Mapping[str, Any] | None = None) -> Manifest:
    return of_kind(template(CHART, values), "ConfigMap")


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path, config())


@pytest.fixture
def oidc(tmp_path: Path) -> Image:
    return Image(tmp_path, config(OIDC), "oidc")


# -- the entrypoint ------------------------------------------------------------------------------------------


def test_the_entrypoint_writes_the_settings_and_starts_nifi(image: Image) -> None:
    answer = image.start()
    assert answer.returncode == 0, answer.stderr
    found = image.properties()
    assert found["nifi.flow.configuration.file"] == "/opt/nifi/nifi-current/persistent/flow.json.gz"
    assert found["nifi.security.keystoreType"] == "PEM"
    assert found["nifi.security.keystore"] == ""
    assert found["nifi.security.keystore.certificate"] == "/etc/nifi/tls/tls.crt"
    assert found["nifi.provenance.repository.max.storage.size"] == "512 MB"
    assert found["nifi.content.repository.archive.max.usage.percentage"] == "30%"
    assert found["nifi.sensitive.props.key"] == SECRETS["sensitive-props-key"]
    # what the chart says nothing of stays as the image has it
    assert found["nifi.sensitive.props.algorithm"] == "NIFI_PBKDF2_AES_GCM_256"
    assert image.conf("nifi.properties").startswith("# Core Properties #\nnifi.flow.configuration.file=/opt")
    boot = image.properties("bootstrap.conf")
    assert boot["management.server.address"] == "http://127.0.0.1:52020"
    assert boot["graceful.shutdown.seconds"] == "90"
    assert boot["java.arg.2"] == "-Xms1g"
    # start.sh stops NiFi by a relative path
    assert (image.root / "nifi-current/folder").read_text().strip() == str(image.root / "nifi-current")


def test_the_user_is_the_one_of_the_secret(image: Image) -> None:
    assert image.start().returncode == 0
    provider = ET.fromstring(image.conf("login-identity-providers.xml")).find("provider")
    assert provider is not None
    told = {one.attrib["name"]: one.text for one in provider.findall("property")}
    # NiFi's own version of bcrypt, of the same hash
    assert told == {"Username": "admin", "Password": "$2b$12$" + "a" * 53}


def test_starting_again_changes_nothing(image: Image) -> None:
    image.start()
    before = (image.conf("nifi.properties"), image.conf("bootstrap.conf"), image.conf("login-identity-providers.xml"))
    image.start()
    after = (image.conf("nifi.properties"), image.conf("bootstrap.conf"), image.conf("login-identity-providers.xml"))
    assert before == after


@pytest.mark.parametrize("name", ["image", "oidc"])
def test_no_secret_is_in_arguments_output_or_variables(name: str, request: pytest.FixtureRequest) -> None:
    image: Image = request.getfixturevalue(name)
    answer = image.start()
    assert answer.returncode == 0, answer.stderr
    seen = (image.root / "started").read_text() + answer.stdout + answer.stderr
    seen += (image.root / "nifi-current/environment").read_text()
    assert "/bin/awk" in seen
    assert [key for key, value in SECRETS.items() if key != "username" and value in seen] == []


def test_files_with_secrets_are_private(image: Image) -> None:
    image.start()
    home = image.root / "nifi-current/conf"
    assert not (home / "chart.properties").exists()
    assert stat.S_IMODE((home / "login-identity-providers.xml").stat().st_mode) == 0o600


def test_oidc_has_its_client_and_first_admin(oidc: Image) -> None:
    assert oidc.start().returncode == 0
    found = oidc.properties()
    assert found["nifi.security.user.oidc.client.id"] == "the-client"
    assert found["nifi.security.user.oidc.client.secret"] == SECRETS["client-secret"]
    assert found["nifi.security.user.login.identity.provider"] == ""
    assert found["nifi.security.user.authorizer"] == "managed-authorizer"
    admins = [
        one.text
        for one in ET.fromstring(oidc.conf("authorizers.xml")).iter("property")
        if "Initial" in one.attrib["name"]
    ]
    assert admins == ["o'me&you@x.org"] * 2
    assert not (oidc.root / "nifi-current/conf/login-identity-providers.xml").exists()


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("auth/sensitive-props-key", "", "the Secret has no key sensitive-props-key"),
        ("auth/sensitive-props-key", "short", "fewer than 12 characters"),
        ("auth/password-bcrypt", "in-the-clear", "no hash of bcrypt"),
        ("auth/username", "<admin>", "characters other than"),
        ("tls/ca.crt", "", "there is no certificate"),
    ],
)
def test_it_does_not_start_with_what_can_not_work(image: Image, file: str, text: str, why: str) -> None:
    (image.root / file).write_text(text)
    answer = image.start()
    assert answer.returncode != 0
    assert why in answer.stderr
    assert "in-the-clear" not in answer.stderr
    assert not (image.root / "nifi-current/folder").exists(), "NiFi was started"


# -- the probe -----------------------------------------------------------------------------------------------


def probe(port: int) -> int:
    environment = {"PATH": "/usr/bin:/bin", "NIFI_MANAGEMENT_PORT": str(port)}
    command = ["bash", str(FILES / "health.sh")]
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=20).returncode


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False), (404, False)])
def test_the_probe_believes_the_management_server(status: int, well: bool) -> None:
    with web(lambda request: (status if request.path == "/health" else 500, b"")) as server:
        assert (probe(int(server.url.rsplit(":", 1)[1])) == 0) is well


def test_the_probe_fails_while_nobody_listens() -> None:
    assert probe(free_port()) != 0


# -- the exporter --------------------------------------------------------------------------------------------


class FakeNiFi:
    """NiFi's API for logins and metrics; tokens are good until it forgets them."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.password = "pass word&1"

    def __call__(self, request: Request) -> tuple[int, bytes]:
        if request.path == "/nifi-api/access/token":
            if request.body != b"username=admin&password=pass+word%261":
                return 400, b"no"
            self.tokens.append(f"token-{len(self.tokens)}")
            return 201, self.tokens[-1].encode()
        allowed = {f"Bearer {token}" for token in self.tokens if token}
        if request.headers.get("Authorization") not in allowed:
            return 401, b""
        return 200, b"nifi_amount_threads_active 3.0\n" if "metrics" in request.path else b'{"about": {}}'


@dataclass
class Exporter:
    """A running exporter."""

    port: int
    process: subprocess.Popen[str]

    def get(self, path: str = "/metrics") -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self) -> str:
        """End it; what it said."""
        self.process.kill()
        return self.process.communicate()[0]


@contextmanager
def exporter(url: str, folder: Path, ca: Path) -> Iterator[Exporter]:
    port = free_port()
    environment = {"NIFI_URL": url, "AUTH_DIR": str(folder), "CA_FILE": str(ca), "PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, str(FILES / "exporter.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Exporter(port, process)
    try:
        for _ in range(100):
            try:
                if running.get("/healthz")[0] == 200:
                    break
            except OSError:
                time.sleep(0.05)
        yield running
    finally:
        if process.poll() is None:
            running.stop()


@pytest.fixture
def auth(tmp_path: Path) -> Path:
    (tmp_path / "username").write_text("admin")
    (tmp_path / "password").write_text("pass word&1")
    return tmp_path


def test_the_exporter_logs_in_once_and_hands_the_metrics_on(auth: Path) -> None:
    pem = certificate(auth)
    with web(FakeNiFi(), pem) as nifi, exporter(nifi.url, auth, pem) as running:
        assert running.get() == (200, "nifi_amount_threads_active 3.0\n")
        assert running.get() == (200, "nifi_amount_threads_active 3.0\n")
        assert nifi.paths().count("/nifi-api/access/token") == 1
        assert running.get("/other")[0] == 404


def test_the_exporter_logs_in_again_when_its_token_has_ended(auth: Path) -> None:
    pem, answers = certificate(auth), FakeNiFi()
    with web(answers, pem) as nifi, exporter(nifi.url, auth, pem) as running:
        assert running.get()[0] == 200
        answers.tokens = [""]
        assert running.get()[0] == 200
        assert nifi.paths().count("/nifi-api/access/token") == 2


def test_the_exporter_is_down_when_nifi_is_and_tells_no_secret(auth: Path) -> None:
    pem = certificate(auth)
    with web(FakeNiFi(), pem) as nifi, exporter(nifi.url, auth, pem) as running:
        (auth / "password").write_text("another one")
        assert running.get()[0] == 503
        said = running.stop()
        assert "NiFi gives no metrics: HTTP 400" in said
        assert "another" not in said
    with exporter(f"https://localhost:{free_port()}", auth, pem) as running:
        assert running.get()[0] == 503
        assert running.get("/healthz")[0] == 200


def test_the_exporter_trusts_only_its_authority(auth: Path) -> None:
    pem = certificate(auth)
    other = certificate(auth, "other.example.org")
    answers = FakeNiFi()
    with web(answers, pem) as nifi, exporter(nifi.url, auth, other) as running:
        assert running.get()[0] == 503
        assert not nifi.requests


@pytest.mark.parametrize(("mode", "asked"), [("single-user", "/nifi-api/flow/about"), ("oidc", "/configuration")])
def test_helm_test_tries_what_people_do(auth: Path, mode: str, asked: str) -> None:
    pem, answers = certificate(auth), FakeNiFi()
    if mode == "oidc":
        answers.tokens = ["open"]

    def answer(request: Request) -> tuple[int, bytes]:
        return (200, b"{}") if mode == "oidc" else answers(request)

    with web(answer, pem) as nifi:
        environment = {
            **os.environ,
            "NIFI_URL": nifi.url,
            "NIFI_AUTH_MODE": mode,
            "CA_FILE": str(pem),
            "AUTH_DIR": str(auth),
        }
        ran = subprocess.run([sys.executable, str(FILES / "try.py")], env=environment, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert nifi.paths()[-1].endswith(asked)


# -- the values ----------------------------------------------------------------------------------------------


def test_oidc_gets_no_password_and_no_exporter() -> None:
    manifests = template(CHART, OIDC)
    pod = next(pods(manifests))
    assert [one["name"] for one in pod.containers] == ["nifi"]
    keys = [
        item["key"] for volume in pod.spec["volumes"] if volume["name"] == "auth" for item in volume["secret"]["items"]
    ]
    assert keys == ["client-id", "client-secret", "sensitive-props-key"]
    assert "ServiceMonitor" not in {one["kind"] for one in manifests}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"auth": {"mode": "oidc"}}, "auth.oidc.discoveryUrl"),
        ({"service": {"type": "LoadBalancer"}}, "service.allowedNetworks"),
        ({"properties": {"nifi.web.http.port": 8080}}, "got number, want string"),
        ({"image": {"tag": "latest"}}, "image"),
        ({"persistence": {"size": "20"}}, "pattern"),
    ],
)
def test_what_can_not_work_is_refused(values: dict[str, Any], why: str) -> None:
    answer = render(CHART, values)
    assert answer.returncode != 0
    assert why in answer.stderr


def test_the_address_of_the_load_balancer_is_in_the_certificate_and_known_to_nifi() -> None:
    manifests = template(CHART, PUBLISHED)
    assert of_kind(manifests, "Certificate")["spec"]["ipAddresses"] == ["192.168.0.201"]
    variables = {one["name"]: one.get("value") for one in next(pods(manifests)).containers[0]["env"]}
    assert variables["NIFI_WEB_PROXY_HOST"].endswith(",192.168.0.201")
    policy = of_kind(manifests, "NetworkPolicy", "nifi")
    assert {"ipBlock": {"cidr": "192.168.0.0/24"}} in policy["spec"]["ingress"][0]["from"]


def test_own_properties_win_over_those_of_the_chart() -> None:
    text = config({"properties": {"nifi.security.autoreload.enabled": "false", "nifi.ui.banner.text": "Home"}})["data"]
    assert "nifi.security.autoreload.enabled=false\n" in text["nifi.properties"]
    assert "nifi.ui.banner.text=Home" in text["nifi.properties"]


def test_traefik_leads_to_it_by_the_name_of_its_certificate() -> None:
    manifests = template(CHART, {"host": "nifi.example.org", "ingressRoute": {"enabled": True}})
    assert of_kind(manifests, "ServersTransport")["spec"] == {
        "serverName": "nifi.example.org",
        "rootCAs": [{"secret": "nifi-tls"}],
    }
    route = of_kind(manifests, "IngressRoute")["spec"]
    assert route["routes"][0]["services"][0] == {
        "name": "nifi",
        "port": 443,
        "scheme": "https",
        "serversTransport": "nifi",
    }
    assert "nifi.example.org" in of_kind(manifests, "Certificate")["spec"]["dnsNames"]


def test_without_the_kind_servicemonitor_there_is_none() -> None:
    values = {"metrics": {"serviceMonitor": {"enabled": True}}}
    assert "ServiceMonitor" in {one["kind"] for one in template(CHART, values)}
    assert "ServiceMonitor" not in {one["kind"] for one in template(CHART, values, apis=())}


def test_the_heap_fits_into_the_memory() -> None:
    """1 GiB of heap, as much again for classes, buffers and Python, and something to spare."""
    pod = next(pods(template(CHART, planned("nifi").values)))
    variables = {one["name"]: one.get("value") for one in pod.containers[0]["env"]}
    assert variables["NIFI_JVM_HEAP_MAX"] == "1g"
    assert pod.containers[0]["resources"]["requests"]["memory"] == "1792Mi"
