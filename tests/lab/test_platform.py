"""The platform on a cluster: refused, installed, kept, changed, broken, mended, thinned out and switched.

Helm, the own charts and the API are real; other people's charts are the lab's stand-ins, and no container runs. The
tests go on from each other, on one lab.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from processes import process_list
from runs import FINGERPRINT, REPOSITORY, Run, anew, out, pyinfra, until

from piclusterops.catalogue import Release, catalogue
from piclusterops.lab.fleet import Lab
from piclusterops.paths import cache_root

pytestmark = pytest.mark.lab

SERVER = "pi-master"
NODES = (SERVER, "pi-worker-1", "pi-worker-2", "pi-worker-3")
SITE, PLATFORM = "deploys/site.py", "deploys/platform.py"
#: Most SSH executions of a run of site.py that changes nothing: the first server is asked about the platform too.
SERVER_BUDGET, BUDGET = 8, 6
#: What fits on the nodes besides the profiles' own releases.
EXTRA = ("cloudflared", "code-server", "csi-driver-nfs", "external-dns", "fastapi")
#: Image that fails, and one whose pods never become ready, in the lab.
CRASHES, NEVER_READY = "fail.invalid/crashloopbackoff", "fail.invalid/neverready"
#: Lines of `picluster lock`.
PINNED = re.compile(r"^([0-9a-f]{64})  (\S+)$", re.MULTILINE)
#: People with a token, one of each role.
ACCOUNTS = {"ann": "admin", "dev": "developer", "guest": "guest"}

Settings = dict[str, Any]


class Cluster:
    """The lab as a cluster with a platform, and what is typed to work on it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.inventory = folder / "inventories/lab.py"
        self.wanted = folder / "wanted.json"
        shutil.copytree(REPOSITORY / "inventories", self.inventory.parent)
        with (self.inventory.parent / "group_data/lab.py").open("a") as group_data:
            group_data.write(f"\nimport json\n\nglobals().update(json.loads(Path({str(self.wanted)!r}).read_text()))\n")
        self.want()

    def want(self, profile: str = "named", releases: Mapping[str, Settings] | None = None, **more: Any) -> None:
        """Write down what the inventory selects: a profile, `EXTRA`, and what differs from these."""
        choices = {name: {"enabled": True} for name in EXTRA} | dict(releases or {})
        self.wanted.write_text(json.dumps({"platform_profile": profile, "platform_releases": choices, **more}))

    def run(self, *args: str, deploy: str = PLATFORM, **wanted: Any) -> Run:
        """Run a deploy with what is wanted; see `want`."""
        self.want(**wanted)
        return pyinfra("-y", "--json", *args, lab=self.lab.name, inventory=str(self.inventory), deploy=deploy)

    def picluster(self, *words: str, given: str = "") -> str:
        """What `picluster WORDS` prints about this inventory, with `given` on its standard input."""
        done = subprocess.run(
            [Path(sys.executable).with_name("picluster"), *words, "--env", self.inventory],
            cwd=REPOSITORY,
            env={**os.environ, "PICLUSTEROPS_LAB": self.lab.name},
            input=given,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def give_secrets(self) -> None:
        """Have all random values made, and give those that only a cluster's owner knows."""
        self.picluster("secrets", "init")
        for release in catalogue().values():
            for secret in release.secrets:
                for key, about in secret.keys.items():
                    if about.kind == "given" and release.name in (*EXTRA, "oauth2-proxy"):
                        self.picluster("secrets", "set", secret.name, key, given=f"made-up-{secret.name}-{key}")

    def kubectl(self, arguments: str) -> str:
        return out(self.lab, SERVER, f"k3s kubectl {arguments}")

    def items(self, arguments: str) -> list[dict[str, Any]]:
        """Objects of the API."""
        found: list[dict[str, Any]] = json.loads(self.kubectl(f"get {arguments} -o json"))["items"]
        return found

    def records(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Helm's own records: release to revision to record."""
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for item in self.items("secrets --all-namespaces -l owner=helm"):
            labels = item["metadata"]["labels"]
            found.setdefault(labels["name"], {})[int(labels["version"])] = item
        return found

    def revisions(self) -> dict[str, tuple[int, str]]:
        """Number and status of the newest revision of each release."""
        return {
            name: max((number, item["metadata"]["labels"]["status"]) for number, item in found.items())
            for name, found in self.records().items()
        }

    def changed_since(self, before: Mapping[str, tuple[int, str]]) -> set[str]:
        """The releases that have another newest revision than before, or are gone or new."""
        now = self.revisions()
        return {name for name in {*before, *now} if before.get(name) != now.get(name)}

    def secrets(self) -> set[str]:
        """All secret values of the platform, as its Secrets in the cluster have them."""
        kinds = {
            (secret.name, key): about.kind
            for release in catalogue().values()
            for secret in release.secrets
            for key, about in secret.keys.items()
        }
        return {
            b64decode(value).decode()
            for item in self.items("secrets --all-namespaces")
            for key, value in (item.get("data") or {}).items()
            if kinds.get((item["metadata"]["name"], key)) in ("password", "hex", "base64", "given")
        }

    def unready(self) -> list[str]:
        """Pods that are not as they should be, with their phase."""
        return [
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']} {pod['status'].get('phase')}"
            for pod in self.items("pods --all-namespaces")
            if pod["status"].get("phase") != "Succeeded"
            and not any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])
        ]


def selected(profile: str) -> dict[str, Release]:
    """What Helm has to install for a profile, and `EXTRA`."""
    return {
        name: release
        for name, release in catalogue().items()
        if release.installable and (profile in release.profiles or name in EXTRA)
    }


@pytest.fixture(scope="module")
def cluster(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four bare hosts."""
    anew(lab, *NODES)
    yield Cluster(lab, tmp_path_factory.mktemp("platform"))


def said(result: Run) -> str:
    """What a failed run said, in one line; never a traceback."""
    assert result.returncode == 1, result.output[-3000:]
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_without_its_secrets_nothing_is_changed_and_what_is_missing_is_said(cluster: Cluster) -> None:
    before = {node: out(cluster.lab, node, FINGERPRINT) for node in NODES}
    text = said(cluster.run(deploy=SITE))
    assert "Nothing was changed on any host. Secrets are missing" in text
    assert "minio-root/rootPassword" in text
    assert "picluster secrets init --env" in text

    cluster.picluster("secrets", "init")  # what only the owner knows is still missing
    text = said(cluster.run(deploy=SITE))
    assert "minio-root" not in text
    assert "oauth2-proxy/client-id: client ID of an OAuth application" in text
    assert "picluster secrets set SECRET KEY" in text
    assert {node: out(cluster.lab, node, FINGERPRINT) for node in NODES} == before


def test_what_changed_in_a_mirror_after_picluster_lock_is_refused_and_nothing_is_changed(cluster: Cluster) -> None:
    before = {node: out(cluster.lab, node, FINGERPRINT) for node in NODES}
    cluster.want()
    pinned = {name.rpartition("/")[2]: digest for digest, name in re.findall(PINNED, cluster.picluster("lock"))}
    mirror = Path(cluster.lab.fleet.mirror)
    chart = catalogue()["metallb"].chart
    assert chart
    helm = next((mirror / "helm").glob("helm-*.tar.gz"))
    for archive in (mirror / "charts" / chart.archive, helm):
        good = archive.read_bytes()
        archive.write_bytes(good + b"tampered")
        try:
            text = said(cluster.run(deploy=SITE))
        finally:
            archive.write_bytes(good)
        assert "Nothing was changed on any host" in text
        for part in (archive.name, pinned[archive.name], sha256(good + b"tampered").hexdigest(), "lab.lock", "Next: "):
            assert part in text
    assert {node: out(cluster.lab, node, FINGERPRINT) for node in NODES} == before


def test_bare_hosts_get_the_whole_platform_wave_by_wave(cluster: Cluster) -> None:
    cluster.give_secrets()
    with process_list() as processes:
        result = cluster.run("-vvv", "--diff", deploy=SITE)
    assert result.returncode == 0, result.output[-6000:]
    wanted = selected("named")
    assert cluster.revisions() == dict.fromkeys(wanted, (1, "deployed"))
    assert cluster.unready() == []

    began, ended = {}, {}
    for name, (record,) in ((name, found.values()) for name, found in cluster.records().items()):
        began[name] = datetime.fromisoformat(record["metadata"]["creationTimestamp"]).timestamp()
        ended[name] = int(record["metadata"]["labels"]["modifiedAt"])
    waves = sorted({release.wave for release in wanted.values()})
    for earlier, later in pairwise(waves):
        last = max(ended[name] for name, release in wanted.items() if release.wave == earlier)
        assert last <= min(began[name] for name, release in wanted.items() if release.wave == later), later

    secrets = cluster.secrets()
    assert len(secrets) > 20
    assert not [secret for secret in secrets if secret in result.output]
    assert len(processes) > 100
    assert not [line for line in processes for secret in secrets if secret in line]


def test_pods_and_volumes_are_on_their_nodes_and_services_have_their_addresses(cluster: Cluster) -> None:
    nodes = {
        pod["metadata"]["labels"].get("app.kubernetes.io/instance"): pod["spec"]["nodeName"]
        for pod in cluster.items("pods --all-namespaces")
        if pod["metadata"]["ownerReferences"][0]["kind"] != "DaemonSet"
    }
    assert {name: nodes[name] for name in ("nifi", "trino", "postgres", "minio")} == dict(
        zip(("nifi", "trino", "postgres", "minio"), NODES, strict=True)
    )
    claims = {item["metadata"]["name"]: item["status"]["phase"] for item in cluster.items("pvc --all-namespaces")}
    assert set(claims.values()) == {"Bound"}
    wanted = [volume for release in selected("named").values() for volume in release.volumes]
    assert len(claims) >= len(wanted)
    addresses = {
        item["metadata"]["name"]: [one["ip"] for one in item["status"]["loadBalancer"].get("ingress") or []]
        for item in cluster.items("services --all-namespaces")
        if item["spec"]["type"] == "LoadBalancer"
    }
    block = cluster.lab.fleet.block
    assert addresses["traefik"] == [f"10.{block}.0.201"]
    assert all(addresses.values())
    assert max(Counter(address for (address,) in addresses.values()).values()) == 1
    assert {"grafana", "nifi", "trino-https", "jupyterlab", "krakend"} <= set(addresses)


def leaks(lab: Lab, host: str, secrets: set[str]) -> str:
    """Files of a host that hold a secret, outside the datastore, which encrypts them, and Kubernetes' own."""
    search = (
        "cat >/run/patterns; grep -rlaF -f /run/patterns /var/log /home /root /tmp /etc /var/lib/piclusterops "
        "/usr/local /var/lib/rancher/k3s/server/logs /run/log 2>/dev/null; "
        "journalctl --no-pager -o cat | grep -aF -f /run/patterns; "
        "find /var/lib/rancher/k3s -path '*/db/*' -prune -o -type f -exec grep -laF -f /run/patterns {} +; "
        "rm /run/patterns"
    )
    return lab.exec(host, ["sh", "-c", search], input="\n".join(secrets) + "\n").stdout


def test_no_secret_is_in_a_values_file_a_manifest_a_log_or_a_file(cluster: Cluster) -> None:
    secrets = cluster.secrets()
    script = (
        "export KUBECONFIG=/etc/rancher/k3s/k3s.yaml; helm list -A --no-headers | while read -r name namespace rest; "
        'do helm get all -n "$namespace" "$name"; done; k3s kubectl get configmaps,pods,events -A -o yaml'
    )
    shown = out(cluster.lab, SERVER, script)
    assert "USER-SUPPLIED VALUES" in shown
    assert not [secret for secret in secrets if secret in shown]

    assert {node: leaks(cluster.lab, node, secrets) for node in NODES} == dict.fromkeys(NODES, "")
    places = [str(cache_root() / "lab"), str(cache_root() / "artefacts"), str(REPOSITORY), str(cluster.wanted.parent)]
    here = subprocess.run(
        ["grep", "-rlaF", "-f", "-", "--exclude-dir=.git", "--exclude-dir=.venv", *places],
        input="\n".join(secrets) + "\n",
        text=True,
        capture_output=True,
        check=False,
    )
    assert here.stdout == ""

    # the search can fail: it finds what is there to find
    out(cluster.lab, "pi-worker-1", f"echo 'password is {min(secrets)}' >/var/log/leak")
    assert leaks(cluster.lab, "pi-worker-1", secrets) == "/var/log/leak\n"
    out(cluster.lab, "pi-worker-1", "rm /var/log/leak")


def test_a_second_run_changes_nothing_within_the_budget_of_round_trips(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    before = cluster.revisions()
    result = cluster.run(deploy=SITE)
    assert (result.returncode, result.changes) == (0, {}), result.output[-3000:]
    assert cluster.changed_since(before) == set()
    executions = result.executions
    with capsys.disabled():
        print(f"SSH executions of a run that changes nothing: {dict(executions)}")
    assert executions.pop(SERVER) <= SERVER_BUDGET
    assert max(executions.values()) <= BUDGET


REFUSED: dict[str, tuple[Settings, list[str]]] = {
    "a release that there is not": (
        {"releases": {"nify": {"enabled": True}}},
        ["platform_releases.nify", "did you mean nifi", "nothing was changed on any host"],
    ),
    "two with the same contract": (
        {"releases": {"seaweedfs": {"enabled": True}}},
        ["minio", "seaweedfs", "object-store", "nothing was changed on any host"],
    ),
    "one that others depend on is off": (
        {"releases": {"cloudnative-pg": {"enabled": False}}},
        ["cloudnative-pg", "postgres", "nothing was changed on any host"],
    ),
    "a licence that the clean profile does not take": (
        {"profile": "clean", "releases": {"grafana": {"enabled": True}}},
        ["grafana", "AGPL-3.0", "platform_waivers", "nothing was changed on any host"],
    ),
    "more than a node has": (
        {
            "releases": {
                name: {"node": "pi-worker-2"} for name in ("trino", "minio", "eck-stack", "kube-prometheus-stack")
            }
        },
        ["Nothing was changed on any host", "does not fit", "pi-worker-2", "picluster plan"],
    ),
    "a chart that the mirror has not": (
        {"releases": {"grafana": {"version": "99.0.0"}}},
        ["grafana-99.0.0.tgz", "nothing was changed on any host"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_before_anything_changes(cluster: Cluster, what: str) -> None:
    settings, words = REFUSED[what]
    before = cluster.revisions()
    text = said(cluster.run(**settings))
    assert not [word for word in words if word.lower() not in text.lower()], text[-3000:]
    assert cluster.changed_since(before) == set()


def test_a_changed_value_upgrades_its_release_alone(cluster: Cluster) -> None:
    before = cluster.revisions()
    accounts = [{"name": name, "role": role, "token": True} for name, role in ACCOUNTS.items()]
    result = cluster.run(releases={"platform-base": {"values": {"rbac": {"accounts": accounts}}}})
    assert result.changes == {"Platform | Release platform-base": [SERVER]}, result.output[-3000:]
    assert cluster.changed_since(before) == {"platform-base"}
    assert cluster.revisions()["platform-base"] == (2, "deployed")


ALLOWED: dict[str, dict[str, str]] = {
    "ann": {
        "delete nodes": "yes",
        "get secrets -n kube-system": "yes",
        "create clusterrolebindings": "yes",
    },
    "dev": {
        "create deployments -n data-platform": "yes",
        "get pods -n databases": "yes",
        "get nodes": "yes",
        "get helmreleases.helm.toolkit.fluxcd.io -n flux-system": "yes",
        "create deployments -n databases": "no",
        "get secrets -n databases": "no",
        "delete nodes": "no",
        "create clusterrolebindings": "no",
    },
    "guest": {
        "create selfsubjectaccessreviews.authorization.k8s.io": "yes",
        "get pods -n data-platform": "no",
        "list namespaces": "no",
        "get nodes": "no",
    },
}


@pytest.mark.parametrize("account", ALLOWED)
def test_people_may_do_what_their_role_says_and_no_more(cluster: Cluster, account: str) -> None:
    questions = ALLOWED[account]
    script = (
        f"token=$(k3s kubectl -n platform-system get secret {account}-token -o jsonpath={{.data.token}} | base64 -d)\n"
        "while read -r question; do k3s kubectl --kubeconfig /dev/null --server https://127.0.0.1:6443 --token $token "
        "--certificate-authority /var/lib/rancher/k3s/server/tls/server-ca.crt auth can-i $question; done; true"
    )
    done = cluster.lab.exec(SERVER, ["sh", "-c", script], input="\n".join(questions) + "\n")
    answers = [line for line in done.stdout.splitlines() if line in ("yes", "no")]
    assert dict(zip(questions, answers, strict=True)) == questions, done.stderr


def test_one_that_fails_is_rolled_back_its_dependants_wait_and_the_others_go_on(cluster: Cluster) -> None:
    before = cluster.revisions()
    result = cluster.run(
        releases={
            "minio": {"values": {"image": {"repository": CRASHES}}, "timeout_s": 30},
            "hive-metastore": {"values": {"jvm": {"heapMax": "512m"}}},
            "grafana": {"values": {"podAnnotations": {"example.org/changed": "yes"}}},
        }
    )
    text = said(result)
    assert "failed: minio" in text
    assert "container minio ends again and again (exit code 1)" in text
    assert f"rolled back to revision {before['minio'][0]}" in text
    assert "skipped: hive-metastore" in text
    # platform-base loses its accounts; what depends on MinIO and needs no change is left alone
    assert cluster.changed_since(before) - {"platform-base"} == {"minio", "grafana"}
    assert {status for _, status in cluster.revisions().values()} == {"deployed"}
    assert cluster.unready() == []

    result = cluster.run()
    assert result.returncode == 0, result.output[-3000:]
    assert set(result.changes) == {"Platform | Release grafana"}  # MinIO is as it was


def test_a_run_that_was_killed_amid_a_release_is_finished_by_the_next(cluster: Cluster) -> None:
    cluster.want(releases={"grafana": {"values": {"image": {"repository": NEVER_READY}}, "timeout_s": 40}})
    command = [sys.executable, "-m", "pyinfra", "-y", str(cluster.inventory), PLATFORM]
    environment = {**os.environ, "PICLUSTEROPS_LAB": cluster.lab.name}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL) as controller:
        until(lambda: cluster.revisions()["grafana"][1] == "pending-upgrade")
        controller.kill()
    result = cluster.run()
    assert result.returncode == 0, result.output[-3000:]
    assert set(result.changes) == {"Platform | Release grafana"}
    assert cluster.revisions()["grafana"][1] == "deployed"
    assert cluster.unready() == []
    assert cluster.run().changes == {}


def test_what_is_down_fails_a_run_that_changes_nothing_and_what_just_restarts_does_not(cluster: Cluster) -> None:
    before, space = cluster.revisions(), catalogue()["nifi"].namespace
    cluster.kubectl(f"-n {space} set image statefulset/nifi '*={CRASHES}'")
    until(lambda: any("/nifi-0 " in pod for pod in cluster.unready()))
    result = cluster.run(ready_timeout_s=30)
    text = said(result)
    assert "not ready: nifi: of StatefulSet nifi 0 of 1 pods are ready" in text
    assert "ends again and again (exit code 1)" in text
    assert f"next: ssh {SERVER} sudo k3s kubectl -n {space} logs nifi-0" in text
    assert cluster.changed_since(before) == set()

    cluster.kubectl(
        f"-n {space} rollout undo statefulset/nifi && k3s kubectl -n {space} delete pod nifi-0 --wait=false"
    )
    result = cluster.run()
    assert (result.returncode, result.changes) == (0, {}), result.output[-3000:]
    assert cluster.unready() == []


def test_what_somebody_deleted_is_named_with_how_to_make_it_anew(cluster: Cluster) -> None:
    space = catalogue()["grafana"].namespace
    cluster.kubectl(f"-n {space} delete deployment grafana")
    text = said(cluster.run(ready_timeout_s=30))
    assert "not ready: grafana: Deployment grafana is not there" in text
    typed = re.search(r"next: ssh pi-master sudo (helm .* rollback grafana \d+)", text)
    assert typed
    out(cluster.lab, SERVER, f"{typed[1]} --wait")
    assert cluster.run().changes == {}


def test_what_is_off_stays_until_it_is_pruned_and_its_volumes_stay_after_that(cluster: Cluster) -> None:
    def volume() -> str:
        return cluster.kubectl("-n data-platform get pvc jupyterlab -o jsonpath={.spec.volumeName}")

    before, kept = cluster.revisions(), volume()
    off = {"jupyterlab": {"enabled": False}}
    result = cluster.run(releases=off)
    assert result.returncode == 0, result.output[-3000:]
    assert "off, but present: jupyterlab (data-platform)" in result.output
    assert cluster.changed_since(before) == {"platform-config"}  # the route to it
    before = cluster.revisions()

    result = cluster.run(releases=off, platform_prune=True)
    assert result.returncode == 0, result.output[-3000:]
    assert cluster.changed_since(before) == {"jupyterlab"}
    assert "jupyterlab" not in cluster.revisions()
    assert volume() == kept

    assert cluster.run().returncode == 0
    assert cluster.revisions()["jupyterlab"] == (1, "deployed")
    assert volume() == kept
    assert cluster.unready() == []


def test_the_clean_profile_takes_the_place_of_the_named_one_and_no_volume_is_lost(cluster: Cluster) -> None:
    volumes = {item["metadata"]["name"] for item in cluster.items("pv")}
    cluster.want(profile="clean")
    cluster.give_secrets()
    result = cluster.run(profile="clean", platform_prune=True)
    assert result.returncode == 0, result.output[-4000:]
    now = cluster.revisions()
    assert set(now) == set(selected("clean"))
    assert {status for _, status in now.values()} == {"deployed"}
    assert {"seaweedfs", "openbao", "opensearch"} <= set(now)
    assert cluster.unready() == []
    assert volumes <= {item["metadata"]["name"] for item in cluster.items("pv")}
    verdicts = {selected("clean")[name].licence.verdict for name in now}
    assert "not permissive" not in verdicts
    assert cluster.run(profile="clean").changes == {}
