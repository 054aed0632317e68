"""The operations for Helm and for objects of the cluster, on the first server of a cluster: against a real API."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from processes import process_list
from runs import REPOSITORY, Run, out, pyinfra, until

from piclusterops.lab.fleet import Lab
from piclusterops.paths import cache_root

pytestmark = pytest.mark.lab

SERVER = "pi-master"
HEAD = """
from pathlib import Path

from pyinfra import host, inventory

from piclusterops.facts import cache
from piclusterops.operations import helm, kube
from piclusterops.validation import cluster_from_inventory

settings = cluster_from_inventory(inventory).settings
cache.install()
demo = helm.Chart("demo", "1.2.3", folder=Path(FOLDER) / "demo")
query = helm.query_for([demo])
# Operations are told apart by their lines: the others have nothing to do here.
if host.name == "pi-master":
"""
HELM = 'helm.installed(name="Helm", version=settings.helm_version, mirror=settings.helm_mirror, query=query)'
CHART = 'helm.chart(name="Chart", chart=demo, query=query)'
CHART_YAML = "apiVersion: v2\nname: demo\nversion: 1.2.3\n"
VALUES_YAML = 'image: busybox\ngreeting: hello\npassword: none\nhook: ""\ncluster: false\n'
# A Deployment whose image may fail in the lab, a claim, and a hook when asked for.
TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app.kubernetes.io/instance: "{{ .Release.Name }}"}}
  template:
    metadata:
      labels: {app.kubernetes.io/instance: "{{ .Release.Name }}"}
      annotations: {greeting: "{{ .Values.greeting }}"}
    spec:
      containers:
        - name: app
          image: "{{ .Values.image }}"
          env: [{name: PASSWORD, value: "{{ .Values.password }}"}]
          volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: "{{ .Release.Name }}-data"}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: "{{ .Release.Name }}-data"}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
{{- if .Values.cluster }}
---
apiVersion: postgresql.cnpg.io/v1
kind: Cluster
metadata: {name: "{{ .Release.Name }}"}
{{- end }}
{{- if .Values.hook }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: "{{ .Release.Name }}-prepare"
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: prepare, image: "{{ .Values.hook }}"}]
{{- end }}
"""


FLUX = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: helmreleases.helm.toolkit.fluxcd.io}
spec:
  group: helm.toolkit.fluxcd.io
  scope: Namespaced
  names: {kind: HelmRelease, plural: helmreleases, singular: helmrelease}
  versions:
    - name: v2
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
OPERATOR = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: clusters.postgresql.cnpg.io}
spec:
  group: postgresql.cnpg.io
  scope: Namespaced
  names: {kind: Cluster, plural: clusters, singular: cluster}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
HELM_RELEASE = """
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: web, namespace: demo}
spec: {interval: 10m, chart: {spec: {chart: demo}}}
"""


class Cluster:
    """A cluster of one server, and how operations are run on it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.write_chart()

    def write_chart(self, template: str = TEMPLATE) -> None:
        for name, text in (("Chart.yaml", CHART_YAML), ("values.yaml", VALUES_YAML), ("templates/all.yaml", template)):
            file = self.folder / "demo" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def deploy(self, *operations: str) -> Path:
        """A deploy file with these operations."""
        file = self.folder / f"deploy-{time.monotonic_ns()}.py"
        lines = [f"    {line}\n" for operation in operations for line in operation.splitlines()]
        file.write_text(HEAD.replace("FOLDER", repr(str(self.folder))) + "".join(lines))
        return file

    def run(self, *operations: str, options: tuple[str, ...] = ("-y", "--json")) -> Run:
        return pyinfra(*options, lab=self.lab.name, deploy=str(self.deploy(*operations)))

    def converge(self, *operations: str) -> Run:
        done = self.run(*operations)
        assert done.returncode == 0, done.output
        return done

    def kubectl(self, arguments: str) -> str:
        return out(self.lab, SERVER, f"k3s kubectl {arguments}")

    def apply(self, manifests: str) -> None:
        self.kubectl(f"apply -f - <<'EOF'\n{manifests}\nEOF")

    def start(self, *operations: str) -> subprocess.Popen[bytes]:
        """A run that goes on while the test does."""
        return subprocess.Popen(
            [sys.executable, "-m", "pyinfra", "-y", "inventories/lab.py", str(self.deploy(*operations))],
            cwd=REPOSITORY,
            env={**os.environ, "PICLUSTEROPS_LAB": self.lab.name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def status(self, release: str, namespace: str = "demo") -> tuple[int, str]:
        """Number and status of the newest revision."""
        rows = self.kubectl(
            f"-n {namespace} get secrets -l owner=helm,name={release} --sort-by=.metadata.creationTimestamp "
            "-o jsonpath='{range .items[*]}{.metadata.labels.version} {.metadata.labels.status}{\"\\n\"}{end}'"
        ).splitlines()
        revision, status = max((int(number), status) for number, status in (row.split() for row in rows))
        return revision, status


def release(name: str = "web", more: str = "", **values: object) -> str:
    """The operation that installs the chart."""
    return (
        f'helm.release(name="Release {name}", release="{name}", chart=demo, namespace="demo", create_namespace=True, '
        f"values={values!r}, query=query, timeout_s=60{', ' + more if more else ''})"
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    lab = Lab(f"{os.environ.get('PICLUSTEROPS_LAB', 'test')}-helm")
    lab.up(nodes=1)
    cluster = Cluster(lab, tmp_path_factory.mktemp("helm"))
    done = pyinfra("-y", lab=lab.name, env={"PICLUSTEROPS_LAB_PLATFORM": "none"})
    assert done.returncode == 0, done.output
    cluster.converge(HELM, CHART)
    yield cluster
    if not os.environ.get("PICLUSTEROPS_LAB_KEEP"):
        lab.down()


def test_a_second_run_changes_nothing_and_asks_twice(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    again = cluster.converge(HELM, CHART, release(greeting="hello"))
    assert again.changes == {}
    assert again.executions == {SERVER: 2}
    assert cluster.status("web") == (1, "deployed")


def test_a_dry_run_shows_the_change_and_makes_none(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    before = cluster.status("web")
    dry = cluster.run(CHART, release(greeting="goodbye"), options=("--dry",))
    assert dry.returncode == 0, dry.output
    assert "-greeting: hello" in dry.output and "+greeting: goodbye" in dry.output
    assert cluster.status("web") == before


def test_a_changed_value_upgrades_and_is_shown(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    revision, _ = cluster.status("web")
    changed = cluster.run(release(greeting="good morning"), options=("-y",))
    assert changed.returncode == 0, changed.output
    assert "-greeting: hello" in changed.output and "+greeting: good morning" in changed.output
    assert cluster.status("web") == (revision + 1, "deployed")
    shown = cluster.kubectl("-n demo get deployment web -o jsonpath='{.spec.template.metadata.annotations.greeting}'")
    assert shown == "good morning"


def test_a_changed_chart_of_the_same_version_upgrades(cluster: Cluster) -> None:
    cluster.converge(CHART, release(greeting="hello"))
    revision, _ = cluster.status("web")
    cluster.write_chart(TEMPLATE.replace("kind: Deployment", "kind: Deployment\n# another comment"))
    try:
        changed = cluster.converge(CHART, release(greeting="hello"))
        assert changed.changes == {"Chart": [SERVER], "Release web": [SERVER]}
        assert cluster.status("web") == (revision + 1, "deployed")
    finally:
        cluster.write_chart()
        cluster.converge(CHART, release(greeting="hello"))


def test_a_failed_upgrade_is_rolled_back_and_says_why(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    revision, _ = cluster.status("web")
    failed = cluster.run(
        release(image="no-such-image:1", more="").replace("timeout_s=60", "timeout_s=10"), options=("-y",)
    )
    assert failed.returncode == 1
    assert "pi-master: release web was not upgraded: pod web-" in failed.output
    assert "image no-such-image:1 can't be had" in failed.output
    assert f"it was rolled back to revision {revision}, which is ready" in failed.output
    assert "next: ssh pi-master sudo k3s kubectl -n demo describe pod web-" in failed.output
    assert cluster.status("web") == (revision + 2, "deployed")
    # what was asked for is not there, and the next run tries again
    assert cluster.converge(release(greeting="hello")).changes == {}


def test_helm_is_not_let_wait_for_what_waiting_can_not_mend(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    revision, _ = cluster.status("web")
    started = time.monotonic()
    failed = cluster.run(
        release(image="fail.invalid/crashloopbackoff").replace("timeout_s=60", "timeout_s=400"), options=("-y",)
    )
    assert failed.returncode == 1
    assert time.monotonic() - started < 200
    assert "release web was not upgraded: pod web-" in failed.output
    assert "container app ends again and again (exit code 1)" in failed.output
    assert "s of 400 s only: waiting can't mend that" in failed.output
    assert f"it was rolled back to revision {revision}, which is ready" in failed.output
    assert cluster.status("web") == (revision + 2, "deployed")


def test_a_failed_hook_is_named_with_its_job(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    failed = cluster.run(release(hook="fail.invalid/failed"), options=("-y",))
    assert failed.returncode == 1
    assert "Job web-prepare (a hook) failed" in failed.output
    assert "logs job/web-prepare" in failed.output
    assert cluster.status("web")[1] == "deployed"


def test_a_failed_first_installation_is_kept_and_the_next_run_goes_on_from_there(cluster: Cluster) -> None:
    failed = cluster.run(
        release("late", image="no-such-image:1").replace("timeout_s=60", "timeout_s=10"), options=("-y",)
    )
    assert failed.returncode == 1
    assert "it is left as it is, and the next run goes on from there" in failed.output
    assert cluster.status("late") == (1, "failed")
    cluster.converge(release("late"))
    assert cluster.status("late") == (2, "deployed")


def test_values_that_the_chart_refuses_change_nothing(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    before = cluster.status("web")
    failed = cluster.run(release(greeting='"}} not: [yaml'), options=("-y",))
    assert failed.returncode == 1 and "nothing was changed in the cluster" in failed.output
    assert "next: ssh pi-master sudo" in failed.output
    assert cluster.status("web") == before


def test_a_release_that_a_killed_run_left_pending_is_unlocked(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    revision, _ = cluster.status("web")
    run = cluster.start(release(greeting="hello", image="no-such-image:1"))
    until(lambda: cluster.status("web") == (revision + 1, "pending-upgrade"), 30)
    run.kill()
    run.wait()
    out(cluster.lab, SERVER, "pkill -KILL -x helm")
    assert cluster.status("web") == (revision + 1, "pending-upgrade")
    done = cluster.run(release(greeting="hello"), options=("-y",))
    assert done.returncode == 0, done.output
    assert "release web was left pending by a run that was stopped" in done.output
    assert cluster.status("web") == (revision + 1, "deployed")


def test_a_run_waits_for_what_a_killed_one_still_has_at_work(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    revision, _ = cluster.status("web")
    run = cluster.start(release(greeting="first", hook="busybox"))
    until(lambda: cluster.status("web")[0] == revision + 1, 30)
    run.kill()
    run.wait()
    cluster.converge(release(greeting="second"))
    assert cluster.status("web") == (revision + 2, "deployed")


def test_a_pending_release_of_someone_elses_helm_is_left_alone(cluster: Cluster) -> None:
    helm = "KUBECONFIG=/etc/rancher/k3s/k3s.yaml helm -n demo"
    chart = "/var/lib/piclusterops/charts/demo-1.2.3.tgz"
    out(
        cluster.lab,
        SERVER,
        f"timeout -s KILL 3 sh -c '{helm} install theirs {chart} --set image=no-such-image --wait' || :",
    )
    assert cluster.status("theirs") == (1, "pending-install")
    refused = cluster.run(release("theirs"), options=("-y",))
    assert refused.returncode == 1
    assert "it is pending-install by a Helm that is not ours" in refused.output
    assert "delete secret sh.helm.release.v1.theirs.v1" in refused.output
    assert cluster.status("theirs") == (1, "pending-install")


def test_what_is_removed_leaves_its_volume_and_finds_it_again(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    claim = "-n demo get pvc web-data -o jsonpath='{.metadata.uid} {.spec.volumeName} {.status.phase}'"
    uid, volume, phase = cluster.kubectl(claim).split()
    assert phase == "Bound"
    removed = cluster.converge('helm.absent(name="Remove", release="web", namespace="demo")')
    assert removed.changes == {"Remove": [SERVER]}
    assert cluster.kubectl("-n demo get deployment web --ignore-not-found") == ""
    assert cluster.kubectl(claim).split() == [uid, volume, phase]
    policy = cluster.kubectl(f"get pv {volume} -o jsonpath='{{.spec.persistentVolumeReclaimPolicy}}'")
    assert policy == "Retain"
    assert cluster.converge('helm.absent(name="Remove", release="web", namespace="demo")').changes == {}
    cluster.converge(release(greeting="hello"))
    assert cluster.kubectl(claim).split() == [uid, volume, phase]


def test_a_field_that_someone_changed_is_taken_back_in_our_releases(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello", image="busybox"))
    patch = json.dumps({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "other"}]}}}})
    cluster.kubectl(f"-n demo patch deployment web --field-manager=somebody --type=strategic -p '{patch}'")
    cluster.converge(release(greeting="hello", image="busybox:2"))
    image = cluster.kubectl("-n demo get deployment web -o jsonpath='{.spec.template.spec.containers[0].image}'")
    assert image == "busybox:2"


def test_a_release_that_flux_is_in_charge_of_is_left_to_it(cluster: Cluster) -> None:
    cluster.converge(release(greeting="hello"))
    before = cluster.status("web")
    cluster.apply(FLUX)
    until(lambda: "helmreleases" in cluster.kubectl("api-resources --api-group=helm.toolkit.fluxcd.io -o name"), 30)
    cluster.apply(HELM_RELEASE)
    try:
        left = cluster.run(release(greeting="other"), options=("-y", "-v"))
        assert left.returncode == 0, left.output
        assert "release web is left to Flux (HelmRelease demo/web)" in left.output
        assert cluster.status("web") == before
        cluster.kubectl('-n demo patch helmrelease web --type=merge -p \'{"spec":{"suspend":true}}\'')
        cluster.converge(release(greeting="other"))
        assert cluster.status("web") == (before[0] + 1, "deployed")
    finally:
        cluster.kubectl("delete crd helmreleases.helm.toolkit.fluxcd.io")


def test_what_an_operator_makes_of_a_release_is_waited_for(cluster: Cluster) -> None:
    """Helm is content with any object that its controller has not yet spoken of."""
    cluster.apply(OPERATOR)
    name = 'helm.release(name="Release db", release="db", chart=demo, namespace="demo", values={"cluster": True}, '
    operation = name + "query=query, timeout_s=8)"
    try:
        failed = cluster.run(operation, options=("-y",))
        assert failed.returncode == 1
        assert "release db was not installed: Cluster db is not ready" in failed.output
        run = cluster.start(operation.replace("timeout_s=8", "timeout_s=60"))
        until(lambda: cluster.status("db") == (2, "deployed"), 30)
        time.sleep(2)
        assert run.poll() is None, "it did not wait"
        ready = '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'
        cluster.kubectl(f"-n demo patch clusters.postgresql.cnpg.io db --type=merge -p '{ready}'")
        assert run.wait(timeout=60) == 0
        assert cluster.converge(operation).changes == {}
    finally:
        cluster.kubectl("delete crd clusters.postgresql.cnpg.io")


# -- what nobody may see -------------------------------------------------------------------------------------

PASSWORD = "Xy7-plain-as-day-9Q"
SECOND = "Zz3-another-one-4K"
#: All that a host has written down, but for the cluster's own database.
WRITTEN = (
    "grep -rlaF -e {} /etc /home /root /tmp /run /var/tmp /var/log /var/lib/piclusterops /usr/local 2>/dev/null; "
    "journalctl --no-pager -q | grep -F -e {} | head -n 3; true"
)


def test_secret_values_are_seen_nowhere(cluster: Cluster) -> None:
    first = release("quiet", f'secret_values={{"password": {PASSWORD!r}}}')
    changed = release("quiet", f'secret_values={{"password": {SECOND!r}}}')
    broken = changed.replace("values={}", 'values={"image": "no-such-image"}').replace("timeout_s=60", "timeout_s=8")
    everything = ("-y", "-vvv", "--debug", "--diff")
    with process_list() as processes:
        runs = [cluster.run(operation, options=everything) for operation in (first, changed, broken)]
        runs.append(cluster.run(broken, options=("--dry", "-vvv", "--debug", "--diff")))
    assert [run.returncode for run in runs] == [0, 0, 1, 0], runs[0].output
    assert any("helm upgrade --install quiet" in line for line in processes), "the sampler saw nothing"
    assert "password: (hidden, changed)" in runs[1].output
    for secret in (PASSWORD, SECOND):
        assert not [line for line in processes if secret in line]
        assert not [run for run in runs if secret in run.output]
        assert out(cluster.lab, SERVER, WRITTEN.format(secret, secret)) == ""
    assert SECOND in out(cluster.lab, SERVER, "KUBECONFIG=/etc/rancher/k3s/k3s.yaml helm -n demo get values quiet")
    assert cluster.converge(changed).changes == {}


def secret(name: str = "account", values: str = repr({"user": "admin", "password": PASSWORD}), more: str = "") -> str:
    return (
        f'kube.secret(name="Secret {name}", secret="{name}", namespace="default", values=lambda: {values}'
        f"{', ' + more if more else ''})"
    )


def test_a_secret_is_kept_and_seen_nowhere(cluster: Cluster) -> None:
    changed = secret(values=repr({"user": "admin", "password": SECOND}))
    with process_list() as processes:
        made = cluster.run(secret(), options=("-y", "-vvv", "--debug", "--diff"))
        run = cluster.run(changed, options=("-y", "-vvv", "--debug", "--diff"))
    assert made.returncode == run.returncode == 0, made.output
    assert cluster.kubectl("get secret account -o jsonpath='{.data.password}' | base64 -d") == SECOND
    assert cluster.converge(changed).changes == {}
    assert any("kubectl" in line and "apply" in line for line in processes), "the sampler saw nothing"
    for value in (PASSWORD, SECOND):
        assert not [line for line in processes if value in line]
        assert value not in made.output + run.output
        assert out(cluster.lab, SERVER, WRITTEN.format(value, value)) == ""


def test_a_key_that_is_no_longer_wanted_goes(cluster: Cluster) -> None:
    cluster.converge(secret("shrinks"))
    cluster.converge(secret("shrinks", repr({"user": "admin"})))
    assert json.loads(cluster.kubectl("get secret shrinks -o jsonpath='{.data}'")).keys() == {"user"}


def test_a_secret_of_someone_else_is_left_alone_until_it_is_handed_over(cluster: Cluster) -> None:
    cluster.kubectl("create secret generic foreign --from-literal=user=theirs")
    refused = cluster.run(secret("foreign"), options=("-y",))
    assert refused.returncode == 1
    assert "Secret default/foreign is there and not ours" in refused.output
    assert cluster.kubectl("get secret foreign -o jsonpath='{.data.user}' | base64 -d") == "theirs"
    handing_over = next(line for line in refused.output.splitlines() if "hand it over" in line)
    cluster.kubectl(handing_over.rpartition("k3s kubectl ")[2])
    cluster.converge(secret("foreign"))
    assert cluster.kubectl("get secret foreign -o jsonpath='{.data.user}' | base64 -d") == "admin"


def test_a_workload_is_restarted_after_a_change_of_its_secret_only(cluster: Cluster) -> None:
    cluster.kubectl("create deployment reader --image=busybox")
    restarts = 'restarts=("default/deployment/reader", "default/deployment/not-there")'
    restarted = (
        "get deployment reader -o "
        "jsonpath='{.spec.template.metadata.annotations.kubectl\\.kubernetes\\.io/restartedAt}'"
    )
    cluster.converge(secret("read", more=restarts))
    assert cluster.kubectl(restarted) == ""
    changed = cluster.run(secret("read", repr({"user": "other"}), more=restarts), options=("-y",))
    assert changed.returncode == 0, changed.output
    assert "restarted, as their Secret changed: default/deployment/reader" in changed.output
    first = cluster.kubectl(restarted)
    assert first
    assert cluster.converge(secret("read", repr({"user": "other"}), more=restarts)).changes == {}
    assert cluster.kubectl(restarted) == first


TELL = """
from piclusterops.catalogue import Tell

tell = Tell(workload="default/deployment/keeper", container="busybox", command=("take", "a new one"), stdin=("key",))


def keep(value):
    wanted = kube.WantedSecret(
        "told", "default", lambda: {"key": value}, tells=(tell,), restarts=("default/deployment/follower",)
    )
    kube.secrets(name="Keep it", secrets=[wanted], timeout_s=60)
"""
EXECS, ANSWER = "/opt/piclusterops-lab/execs", "/opt/piclusterops-lab/exec-answer"


def execs(cluster: Cluster) -> list[dict[str, object]]:
    """What kubectl exec was to run, on all nodes: there is one."""
    return [json.loads(line) for line in out(cluster.lab, SERVER, f"cat {EXECS} 2>/dev/null; true").splitlines()]


def test_a_server_is_told_of_its_new_secret_before_its_users_are_restarted(cluster: Cluster) -> None:
    """By a real kubectl, through a real API server, to a kubelet that notes what it was to run."""
    mark = "get secret told -o jsonpath='{.metadata.annotations.piclusterops\\.io/digest}'"
    restarted = (
        "get deployment follower -o "
        "jsonpath='{.spec.template.metadata.annotations.kubectl\\.kubernetes\\.io/restartedAt}'"
    )

    def keeping(value: str) -> str:
        return f"{TELL}\nkeep({value!r})"

    cluster.converge(keeping("first"))
    assert execs(cluster) == [], "nobody is there to be told"
    for name in ("keeper", "follower"):
        cluster.kubectl(f"create deployment {name} --image=busybox")
    cluster.kubectl("rollout status deployment/keeper --timeout=60s")
    out(cluster.lab, SERVER, f"echo 1 >{ANSWER}")
    with process_list() as processes:
        failed = cluster.run(keeping(PASSWORD), options=("-y", "-vvv", "--debug", "--diff"))
    assert failed.returncode == 1 and "exit code 1" in failed.output, failed.output[-3000:]
    assert "default/deployment/keeper could not be told of its new Secret default/told" in failed.output
    assert cluster.kubectl(restarted) == "" and cluster.kubectl(mark) == "unfinished", "its users have the old one"
    (told,) = execs(cluster)
    assert told["command"] == ["take", "a new one"] and told["container"] == "busybox"
    assert told["sha256"] == sha256(f"{PASSWORD}\n".encode()).hexdigest()
    assert any("exec -i deployment/keeper" in line for line in processes), "the sampler saw nothing"
    assert not [line for line in processes if PASSWORD in line] and PASSWORD not in failed.output
    assert out(cluster.lab, SERVER, WRITTEN.format(PASSWORD, PASSWORD)) == ""

    out(cluster.lab, SERVER, f"echo hold >{ANSWER}")
    killed = cluster.start(keeping(PASSWORD))
    until(lambda: len(execs(cluster)) == 2, 30)
    killed.kill()
    killed.wait()
    out(cluster.lab, SERVER, f"rm {ANSWER}")
    assert cluster.kubectl(mark) == "unfinished"
    done = cluster.converge(keeping(PASSWORD))
    assert len(execs(cluster)) == 3 and cluster.kubectl(restarted) and "." in cluster.kubectl(mark), done.output
    assert cluster.converge(keeping(PASSWORD)).changes == {} and len(execs(cluster)) == 3


def test_a_secret_without_its_namespace_names_it(cluster: Cluster) -> None:
    failed = cluster.run(secret().replace('namespace="default"', 'namespace="nowhere"'), options=("-y",))
    assert failed.returncode == 1
    assert 'namespaces "nowhere" not found' in failed.output and "next: " in failed.output


# -- objects of the cluster ----------------------------------------------------------------------------------


def applied(colour: str, more: str = "") -> str:
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "painted"},
        "data": {"colour": colour},
    }
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "painted"}}
    return f'kube.applied(name="Apply", manifests={[space, manifest]!r}{more})'


def test_manifests_are_applied_shown_and_then_left(cluster: Cluster) -> None:
    first = cluster.run(applied("red"), options=("-y",))
    assert first.returncode == 0, first.output
    assert cluster.converge(applied("red")).changes == {}
    dry = cluster.run(applied("blue"), options=("--dry",))
    assert (
        "ConfigMap painted/settings" in dry.output
        and "-  colour: red" in dry.output
        and "+  colour: blue" in dry.output
    )
    assert cluster.kubectl("-n painted get configmap settings -o jsonpath='{.data.colour}'") == "red"
    cluster.converge(applied("blue"))
    assert cluster.kubectl("-n painted get configmap settings -o jsonpath='{.data.colour}'") == "blue"


def test_a_conflict_names_the_owner_and_changes_nothing(cluster: Cluster) -> None:
    cluster.converge(applied("red"))
    metadata = {"name": "settings", "namespace": "painted"}
    theirs = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"colour": "green"}})
    cluster.kubectl(f"apply --server-side --force-conflicts --field-manager=somebody -f - <<'EOF'\n{theirs}\nEOF")
    refused = cluster.run(applied("red"), options=("-y",))
    assert refused.returncode == 1
    assert 'conflict with "somebody"' in refused.output and "force_conflicts=True" in refused.output
    assert cluster.kubectl("-n painted get configmap settings -o jsonpath='{.data.colour}'") == "green"
    cluster.converge(applied("red", ", force_conflicts=True"))
    assert cluster.kubectl("-n painted get configmap settings -o jsonpath='{.data.colour}'") == "red"


def test_labels_are_set_and_taken_away_and_others_stay(cluster: Cluster) -> None:
    cluster.kubectl("create configmap labelled && k3s kubectl label configmap labelled theirs=1 old=1")
    operation = (
        'kube.labels(name="Label", kind="ConfigMap", resource="labelled", namespace="default", '
        'labels={"ours": "yes", "old": None})'
    )
    assert cluster.converge(operation).changes == {"Label": [SERVER]}
    assert json.loads(cluster.kubectl("get configmap labelled -o jsonpath='{.metadata.labels}'")) == {
        "ours": "yes",
        "theirs": "1",
    }
    assert cluster.converge(operation).changes == {}


def test_what_holds_data_is_not_deleted_by_the_way(cluster: Cluster) -> None:
    cluster.kubectl("create configmap gone; k3s kubectl create namespace full")
    operation = 'kube.absent(name="Delete", kind="{}", resource="{}", namespace="default")'
    assert cluster.converge(operation.format("ConfigMap", "gone")).changes == {"Delete": [SERVER]}
    assert cluster.converge(operation.format("ConfigMap", "gone")).changes == {}
    refused = cluster.run(operation.format("Namespace", "full"), options=("-y",))
    assert refused.returncode == 1 and "with_data=True" in refused.output
    assert cluster.kubectl("get namespace full -o name") == "namespace/full"


def test_waiting_ends_when_the_object_is_ready_and_says_what_it_lacks_when_not(cluster: Cluster) -> None:
    operation = (
        'kube.wait(name="Wait", kind="Deployment", resource="slow", condition="{}", namespace="default", timeout_s={})'
    )
    run = cluster.start(operation.format("rollout", 60))
    time.sleep(3)
    assert run.poll() is None
    cluster.kubectl("create deployment slow --image=busybox")
    assert run.wait(timeout=60) == 0
    assert cluster.converge(operation.format("Available", 30)).changes == {}
    failed = cluster.run(operation.format("NeverHeardOf", 3), options=("-y",))
    assert failed.returncode == 1
    assert "Deployment slow is not NeverHeardOf after 3 s" in failed.output
    assert "next: ssh pi-master sudo k3s kubectl describe Deployment slow" in failed.output


# -- Helm itself ---------------------------------------------------------------------------------------------


def test_helm_is_replaced_when_it_is_not_what_we_put_there(cluster: Cluster) -> None:
    assert cluster.converge(HELM).changes == {}
    out(cluster.lab, SERVER, "echo '#!/bin/sh' >/usr/local/bin/helm")
    assert cluster.converge(HELM).changes == {"Helm": [SERVER]}
    assert out(cluster.lab, SERVER, "/usr/local/bin/helm version --short").startswith("v4.1.4")
    assert out(cluster.lab, SERVER, "stat -c '%a %U' /usr/local/bin/helm") == "755 root"
    assert out(cluster.lab, SERVER, "ls /usr/local/bin /var/lib/piclusterops/helm | grep -e new -e tar || true") == ""


def test_an_archive_with_a_wrong_digest_replaces_nothing(cluster: Cluster) -> None:
    mirror = cluster.folder / "mirror"
    mirror.mkdir()
    good = Path(cluster.lab.fleet.mirror) / "helm"
    for file in good.iterdir():
        content = file.read_bytes()
        (mirror / file.name).write_bytes(content if file.suffix == ".sha256sum" else content + b"tampered")
    before = out(cluster.lab, SERVER, "sha256sum /usr/local/bin/helm")
    operation = f'helm.installed(name="Helm", version="v4.1.4", mirror={str(mirror)!r})'
    out(cluster.lab, SERVER, "rm /var/lib/piclusterops/stamps/helm")
    shutil.rmtree(cache_root() / "artefacts" / "helm", ignore_errors=True)
    refused = cluster.run(operation, options=("-y",))
    assert refused.returncode == 1 and "it is not installed" in refused.output
    assert out(cluster.lab, SERVER, "sha256sum /usr/local/bin/helm") == before
    cluster.converge(HELM)


def test_a_repository_is_known_and_forgotten(cluster: Cluster) -> None:
    # the index is asked for when a repository becomes known: the host serves one to itself
    out(
        cluster.lab,
        SERVER,
        "mkdir -p /root/repository && cd /root/repository && printf 'apiVersion: v1\\nentries: {}\\n' >index.yaml && "
        "{ setsid python3 -m http.server -b 127.0.0.1 8879 >/dev/null 2>&1 & sleep 1; }",
    )
    there = 'helm.repository(name="Repository", repository="own", url="http://127.0.0.1:8879")'
    gone = 'helm.repository(name="Repository", repository="own", present=False)'
    for operation in (there, gone):
        assert cluster.converge(operation).changes == {"Repository": [SERVER]}
        assert cluster.converge(operation).changes == {}


# -- the page that shows all this ----------------------------------------------------------------------------


def test_the_example_of_the_how_to(cluster: Cluster, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/how-to/use-the-helm-operations.md").read_text()
    blocks = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert {name for name, _ in blocks} == {
        "charts/greeter/Chart.yaml",
        "charts/greeter/templates/deployment.yaml",
        "greeter.py",
    }
    for name, text in blocks:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def typed(*options: str, password: str = PASSWORD) -> Run:
        inventory = str(REPOSITORY / "inventories/lab.py")
        environment = {"GREETER_PASSWORD": password}
        return pyinfra(
            *options, inventory=inventory, deploy="greeter.py", lab=cluster.lab.name, env=environment, cwd=tmp_path
        )

    dry = typed("--dry")
    assert dry.returncode == 0, dry.output
    first = typed("-y", "--json")
    assert first.returncode == 0, first.output
    assert cluster.status("greeter", "greetings") == (1, "deployed")
    again = typed("-y", "--json")
    assert again.returncode == 0 and again.changes == {}, again.output
    changed = typed("-y", "--json", password=SECOND)
    assert changed.changes == {"Keep the password": [SERVER]}
    assert PASSWORD not in first.output and SECOND not in changed.output
