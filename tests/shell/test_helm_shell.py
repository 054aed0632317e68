"""The shell that Helm and kubectl are run with on a server, under dash, with stand-ins for both."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from hostshell import Host

from piclusterops import helm_commands as shell
from piclusterops import helm_releases, kube_objects
from piclusterops.facts import helm as helm_fact
from piclusterops.facts import kube as kube_fact
from piclusterops.helm_charts import Chart
from piclusterops.kube_commands import waiting

HELM = shell.HELM
K3S = "/usr/local/bin/k3s"
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"


class Server(Host):
    """A server whose `k3s kubectl` and `helm` are scripts of a test; they note arguments, and Helm its input too."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.write(KUBECONFIG, "x")
        self.kubectl("exit 0")
        self.helm("exit 0")

    def kubectl(self, body: str) -> None:
        """What `k3s kubectl ...` does; `$*` are its arguments, without limits of time."""
        self.fake("k3s", f"shift; case $1 in --request-timeout*) shift;; esac\n{body}")

    def helm(self, body: str) -> None:
        self.fake("helm", body)

    def shell(self, text: str) -> str:
        return super().shell(text.replace(K3S, str(self.bin / "k3s")).replace(HELM, str(self.bin / "helm")))

    def called(self, program: str) -> list[str]:
        return [line.partition(" ")[2] for line in self.calls if line.startswith(f"{program} ")]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "root")


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- releases ------------------------------------------------------------------------------------------------


def upgrade(**changes: object) -> str:
    given = {"release": "web", "namespace": "demo", "chart": "/c.tgz", "labels": {"a": "b", "c": None}, "timeout_s": 60}
    return shell.upgrade(**{**given, **changes})  # type: ignore[arg-type]


def test_values_reach_helm_on_its_input_and_nowhere_else(server: Server) -> None:
    server.helm(f"cat >{server.root}/values; echo secret notes")
    assert ok(server.run(upgrade(), stdin='{"password":"hunter2"}')) == ""
    assert (server.root / "values").read_text() == '{"password":"hunter2"}'
    assert not [line for line in server.calls if "hunter2" in line]
    (call,) = server.called("helm")
    assert call == (
        "upgrade --install web /c.tgz -n demo -f - --reset-values --history-max 5 --timeout 60s "
        "--labels a=b,c=null --wait"
    )


def test_options_of_an_upgrade(server: Server) -> None:
    ok(server.run(upgrade(wait=False, create_namespace=True, force_conflicts=True)))
    (call,) = server.called("helm")
    assert call.endswith("--create-namespace --force-conflicts") and "--wait" not in call


def test_a_revision_that_a_killed_run_left_is_forgotten_before_helm_begins(server: Server) -> None:
    server.kubectl(
        'case "$*" in *"get secrets"*) echo secret/sh.helm.release.v1.web.v2;; *delete*) cat >/dev/null;; esac'
    )
    server.helm(f"cat >{server.root}/values")
    said = ok(server.run(upgrade(), stdin="{}"))
    assert said == "@@unlocked secret/sh.helm.release.v1.web.v2\n"
    asked, deleted = server.called("k3s")
    assert "name=web,piclusterops.io/digest,status in (pending-install," in asked
    assert deleted.endswith("-n demo delete secret/sh.helm.release.v1.web.v2")
    assert (server.root / "values").read_text() == "{}", "kubectl took Helm's input"


def test_helm_does_not_begin_when_a_revision_can_not_be_forgotten(server: Server) -> None:
    server.kubectl('case "$*" in *"get secrets"*) echo secret/x;; *) exit 1;; esac')
    assert server.run(upgrade()).returncode != 0
    assert server.called("helm") == []


def test_one_run_of_helm_at_a_time(server: Server) -> None:
    server.helm("sleep 2")
    first = threading.Thread(target=server.run, args=(upgrade(),))
    first.start()
    while not server.called("helm"):
        time.sleep(0.05)
    # waits for the first one; one without patience gives up
    impatient = server.run(upgrade().replace("flock -w 120", "flock -w 0"))
    assert impatient.returncode == shell.BUSY and "another run of Helm is at work" in impatient.stderr
    assert ok(server.run(upgrade())) == ""
    first.join()
    assert len(server.called("helm")) == 2


@contextmanager
def helm_at_work(server: Server, word: str) -> Iterator[subprocess.Popen[str]]:
    """A Helm that waits, until it is ended or the block is over."""
    environment = {**os.environ, "PATH": f"{server.bin}:{os.environ['PATH']}"}
    run = subprocess.Popen(["dash", "-c", server.shell(upgrade(word=word))], env=environment, text=True)
    at_work = server.path(f"{shell.STATE_DIR}/at-work")
    try:
        while not (at_work.is_file() and at_work.read_text()):
            assert run.poll() is None
            time.sleep(0.02)
        yield run
    finally:
        ok(server.run(shell.end(word)))
        run.wait(10)


def test_a_helm_that_is_known_by_its_word_gets_its_input_and_tells_how_it_ended(server: Server) -> None:
    server.helm(f"cat >{server.root}/values")
    ok(server.run(upgrade(word="abc"), stdin='{"password":"hunter2"}'))
    assert (server.root / "values").read_text() == '{"password":"hunter2"}'
    server.helm("echo why >&2; exit 3")
    failed = server.run(upgrade(word="abc"))
    assert failed.returncode != 0 and failed.stderr == "why\n"
    assert not server.path(f"{shell.STATE_DIR}/at-work").exists()


def test_what_a_helm_at_work_waits_for_is_seen_by_its_own_run_alone(server: Server) -> None:
    server.helm("exec sleep 30")
    server.kubectl(
        'case "$*" in *nodes*) echo "4 8Gi";; *FailedCreate*) echo "{}";; *pods*) echo "{}{}";; esac; echo odd >&2'
    )
    assert ok(server.run(shell.watch("demo", "abc"))) == ""
    with helm_at_work(server, "abc"):
        done = server.run(shell.watch("demo", "abc"))
        times, *rest = ok(done).splitlines()
        now, since = map(int, times.split())
        assert 0 <= now - since < 10 and done.stderr == ""
        assert rest == ["@@nodes", "4 8Gi", "@@objects", "{}{}", "@@objects", "{}"]
        assert ok(server.run(shell.watch("demo", "other"))) == ""
    assert ok(server.run(shell.watch("demo", "abc"))) == ""


def test_a_helm_at_work_is_ended_by_its_own_run_alone(server: Server) -> None:
    server.helm("trap 'echo cancelled >&2; exit 1' TERM; sleep 30 & wait")
    with helm_at_work(server, "abc") as run:
        ok(server.run(shell.end("other")))
        time.sleep(0.3)
        assert run.poll() is None
        ok(server.run(shell.end("abc")))
        assert run.wait(10) != 0
    ok(server.run(shell.end("abc")))


def test_evidence_holds_storage_logs_and_objects(server: Server) -> None:
    labels = "name=web,owner=helm,status=failed,version=2"
    server.kubectl(
        'case "$*" in\n'
        f'*"get secrets"*) echo "sh.helm.release.v1.web.v2 helm.sh/release.v1 1 5m {labels}";;\n'
        '*"get pods --no"*) printf "%s\\n" "web-1 1/1 Running 0 5m app.kubernetes.io/instance=web" '
        '"web-2 0/1 CrashLoopBackOff 3 (2m ago) 5m a=b" "x-1 0/1 Error 0 5m app.kubernetes.io/instance=web,a=b" '
        '"y-1 0/1 Pending 0 5m a=b" "web-3 0/1 Completed 0 5m a=b";;\n'
        '*logs*--previous*) case "$*" in *web-2*) echo last words;; *) exit 1;; esac;;\n'
        "*logs*) echo current;;\n"
        '*"-o json"*) echo \'{"items": []}\';;\nesac'
    )
    lines = ok(server.run(shell.evidence("web", "demo"))).splitlines()
    assert lines == [
        "@@releases",
        f"demo sh.helm.release.v1.web.v2 helm.sh/release.v1 1 5m {labels}",
        "@@charts",
        "@@flux",
        "@@log web-2",
        "last words",
        "@@log x-1",
        "current",
        "@@objects",
        '{"items": []}',
    ]
    assert helm_releases.parse(lines[:4]).releases["demo", "web"].revision == 2


def test_volumes_are_kept_before_a_release_goes(server: Server) -> None:
    blob = base64.b64encode(b"the record").decode()
    server.kubectl(
        f'case "$*" in *persistentvolumeclaims*) printf "pv1\\npv2\\n";; *"get secret "*) printf {blob};; esac'
    )
    said = ok(server.run(shell.retain_volumes("web", "demo", 3)))
    assert said.splitlines() == ["@@volume pv1", "@@volume pv2", "the record"]
    patches = [call for call in server.called("k3s") if "patch" in call]
    assert len(patches) == 2 and all('"persistentVolumeReclaimPolicy":"Retain"' in call for call in patches)


def test_a_volume_that_can_not_be_kept_stops_the_removal(server: Server) -> None:
    server.kubectl('case "$*" in *persistentvolumeclaims*) echo pv1;; *patch*) exit 1;; esac')
    assert server.run(shell.retain_volumes("web", "demo", 3)).returncode != 0


# -- facts ---------------------------------------------------------------------------------------------------


def record(text: str) -> str:
    """A release as the API hands it out."""
    return base64.b64encode(base64.b64encode(gzip.compress(text.encode()))).decode()


def test_the_chart_of_others_is_read_on_the_host(server: Server) -> None:
    metadata = '{"name":"traefik","version":"37.1.1+up37.1.0","dependencies":[{"version":"0.1.0"}]}'
    notes = json.dumps('"chart":{"metadata":{"name":"wrong"')
    blob = record(
        f'{{"name":"traefik","info":{{"notes":{notes}}},"chart":{{"metadata":{metadata}}},"config":{{"x":"s3cret"}}}}'
    )
    labels = "name=traefik,owner=helm,status=deployed,version=1"
    server.kubectl(
        'case "$*" in\n'
        f'*--show-labels*) echo "kube-system sh.helm.release.v1.traefik.v1 helm.sh/release.v1 1 9d {labels}";;\n'
        f'*"!piclusterops.io/chart"*) echo "kube-system sh.helm.release.v1.traefik.v1 {blob}";;\n'
        "*--raw*) echo 'Error from server (NotFound): the server could not find the requested resource' >&2; "
        "exit 1;;\nesac"
    )
    output = ok(server.run(helm_fact.HelmReleases().command()))
    assert "s3cret" not in output
    state = helm_releases.parse(output.splitlines())
    release = state.release("kube-system", "traefik")
    assert release and (release.chart, release.version) == ("traefik", "37.1.1+up37.1.0")
    assert not state.fault


def test_workloads_are_read_with_the_releases(server: Server) -> None:
    server.kubectl('case "$*" in *deployments,*) echo "Deployment|data|trino|1|1||";; esac')
    state = helm_releases.parse(ok(server.run(helm_fact.HelmReleases().command())).splitlines())
    assert state.workloads["Deployment", "data", "trino"].ready == 1
    (call,) = [call for call in server.called("k3s") if "deployments,statefulsets,daemonsets" in call]
    assert "{.status.readyReplicas}" in call


def test_flux_is_asked_without_what_kubectl_remembers(server: Server) -> None:
    server.kubectl('case "$*" in *helmreleases*) [ -d "${4#--cache-dir=}" ] && echo "flux-system|web|||demo|";; esac')
    state = helm_releases.parse(ok(server.run(helm_fact.HelmReleases().command())).splitlines())
    assert state.flux_owner("demo", "demo-web") == "flux-system/web"
    (call,) = [call for call in server.called("k3s") if "--cache-dir" in call]
    folder = Path(call.partition("--cache-dir=")[2].split(" ")[0])
    assert not folder.exists(), "it was left behind"


def test_releases_of_ours_are_not_opened(server: Server) -> None:
    labels = "name=web,owner=helm,piclusterops.io/chart=demo-1.2.3,status=deployed,version=1"
    server.kubectl(
        f'case "$*" in *--show-labels*) echo "demo sh.helm.release.v1.web.v1 helm.sh/release.v1 1 9d {labels}";; esac'
    )
    state = helm_releases.parse(ok(server.run(helm_fact.HelmReleases().command())).split("\n"))
    assert len(state.releases) == 1
    assert not [call for call in server.called("k3s") if "data.release" in call]


@pytest.mark.parametrize(
    ("fact", "parse"), [(helm_fact.HelmReleases, helm_releases.parse), (kube_fact.Objects, kube_objects.parse)]
)
def test_an_api_that_does_not_answer_is_told(server: Server, fact: type, parse: object) -> None:
    server.kubectl("echo 'The connection was refused' >&2; exit 1")
    lines = [line for line in ok(server.run(fact().command())).splitlines() if line]
    assert parse(lines).fault == "The connection was refused"  # type: ignore[operator]


@pytest.mark.parametrize("fact", [helm_fact.HelmReleases, kube_fact.Objects])
def test_a_host_without_an_api_server_says_nothing(server: Server, fact: type) -> None:
    server.path(KUBECONFIG).unlink()
    assert ok(server.run(fact().command())) == ""
    assert server.calls == []


# -- files ---------------------------------------------------------------------------------------------------


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


PROGRAM = b"#!/bin/sh\necho v4.1.4\n"
ARCHIVE = tar({"linux-arm64/helm": PROGRAM, "linux-arm64/README.md": b"x"}, "w:gz")


def install_helm(server: Server, archive: bytes = ARCHIVE, program: bytes = PROGRAM, version: str = "v4.1.4") -> str:
    server.fake("chown", "true")
    upload = server.write("/var/upload.tar.gz", "")
    upload.write_bytes(archive)
    return shell.install_helm(str(upload), digest(ARCHIVE), "linux-arm64/helm", digest(program), version)


def test_helm_is_installed_once_it_has_shown_that_it_runs(server: Server) -> None:
    ok(server.run(install_helm(server)))
    assert (server.bin / "helm").read_bytes() == PROGRAM
    assert (server.bin / "helm").stat().st_mode & 0o777 == 0o755
    assert not server.path("/var/upload.tar.gz").exists()
    assert list(server.path(shell.STATE_DIR).iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"archive": ARCHIVE[:-9]},
        {"archive": ARCHIVE + b"more"},
        {"program": PROGRAM + b"other"},
        {"version": "v4.2.0"},
    ],
)
def test_a_damaged_or_wrong_helm_replaces_nothing(server: Server, changes: dict[str, object]) -> None:
    before = (server.bin / "helm").read_bytes()
    assert server.run(install_helm(server, **changes)).returncode != 0  # type: ignore[arg-type]
    assert (server.bin / "helm").read_bytes() == before
    assert not [file for file in server.bin.iterdir() if "new" in file.name]


def upload_charts(server: Server, **charts: bytes) -> str:
    server.fake("chown", "true")
    upload = server.write("/var/charts.tar", "")
    upload.write_bytes(tar({f"{name}-1.0.0.tgz": content for name, content in charts.items()}))
    return str(upload)


def test_charts_are_put_into_their_folder_together(server: Server) -> None:
    upload = upload_charts(server, a=b"one", b=b"two")
    digests = {"a-1.0.0.tgz": digest(b"one"), "b-1.0.0.tgz": digest(b"two")}
    ok(server.run(shell.install_charts(upload, digests)))
    folder = server.path(shell.CHARTS_DIR)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"a-1.0.0.tgz": b"one", "b-1.0.0.tgz": b"two"}
    assert folder.stat().st_mode & 0o777 == 0o755
    assert not Path(upload).exists()


def test_one_chart_that_is_not_as_expected_replaces_none(server: Server) -> None:
    old = server.write(f"{shell.CHARTS_DIR}/a-1.0.0.tgz", "old")
    upload = upload_charts(server, a=b"one", b=b"tampered")
    digests = {"a-1.0.0.tgz": digest(b"one"), "b-1.0.0.tgz": digest(b"two")}
    assert server.run(shell.install_charts(upload, digests)).returncode != 0
    assert old.read_text() == "old" and [file.name for file in old.parent.iterdir()] == ["a-1.0.0.tgz"]


def pulled(server: Server, chart: Chart) -> subprocess.CompletedProcess[str]:
    server.helm('while [ "$1" != -d ]; do shift; done; printf chart >"$2/demo-1.2.3.tgz"')
    return server.run(shell.pull(chart))


def test_a_chart_is_pulled_beside_and_then_renamed(server: Server) -> None:
    ok(pulled(server, Chart("demo", "1.2.3", repository="https://charts.example", digest=digest(b"chart"))))
    assert server.path(f"{shell.CHARTS_DIR}/demo-1.2.3.tgz").read_text() == "chart"
    assert [file.name for file in server.path(shell.CHARTS_DIR).iterdir()] == ["demo-1.2.3.tgz"]
    assert server.called("helm")[0].startswith("pull demo --repo https://charts.example --version 1.2.3 -d ")


def test_a_chart_of_a_registry_is_named_by_its_address(server: Server) -> None:
    ok(pulled(server, Chart("demo", "1.2.3", repository="oci://registry.example/charts")))
    assert server.called("helm")[0].startswith("pull oci://registry.example/charts/demo --version 1.2.3")


def test_a_pulled_chart_with_another_digest_is_thrown_away_and_both_are_named(server: Server) -> None:
    chart = Chart("demo", "1.2.3", repository="https://x", digest="0" * 64, authority="inventories/it's.lock")
    done = pulled(server, chart)
    assert done.returncode != 0 and done.stdout == ""
    expected = f"but {'0' * 64} is expected by inventories/it's.lock"
    assert done.stderr == f"its SHA-256 is {digest(b'chart')}, {expected}\n"
    assert list(server.path(shell.CHARTS_DIR).iterdir()) == []


def test_what_was_pulled_is_told_by_its_digest(server: Server) -> None:
    assert ok(pulled(server, Chart("demo", "1.2.3", repository="https://x"))) == f"{digest(b'chart')}\n"


def test_names_of_repositories_are_read_without_passwords(server: Server) -> None:
    server.write(
        f"{shell.STATE_DIR}/config/repositories.yaml",
        "apiVersion: ''\nrepositories:\n- caFile: ''\n  name: own\n  password: s3cret\n  url: https://charts.example\n"
        "- name: two\n  url: 'https://two.example'\n",
    )
    lines = ok(server.run(shell.REPOSITORIES)).splitlines()
    assert "s3cret" not in "".join(lines)
    assert shell.parse_repositories(lines) == {"own": "https://charts.example", "two": "https://two.example"}


# -- waiting -------------------------------------------------------------------------------------------------


def test_what_is_not_there_yet_is_waited_for(server: Server) -> None:
    there = server.root / "there"
    server.kubectl(f'case "$1" in get) [ -e {there} ] || {{ touch {there}; exit 1; }};; esac')
    ok(server.run(waiting("Deployment web -n demo", "rollout", 20)))
    assert [call.split(" --timeout")[0] for call in server.called("k3s") if "rollout" in call] == [
        "kubectl rollout status Deployment web -n demo"
    ]


def test_what_never_comes_ends_the_wait(server: Server) -> None:
    server.kubectl("exit 1")
    done = server.run(waiting("Deployment web", "Available", 1))
    assert done.returncode != 0 and "it does not exist" in done.stderr


@pytest.mark.parametrize(
    ("condition", "argument"),
    [
        ("Available", "--for=condition=Available"),
        ("jsonpath={.status.phase}=Bound", "--for=jsonpath={.status.phase}=Bound"),
        ("deleted", "--for=delete"),
    ],
)
def test_conditions_that_kubectl_knows(server: Server, condition: str, argument: str) -> None:
    ok(server.run(waiting("pvc x", condition, 5)))
    assert f"kubectl wait pvc x {argument}" in server.called("k3s")[-1]
