"""The main job, whole: bare hosts become a cluster, and stay one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import process_list
from runs import FINGERPRINT, REPOSITORY, Run, anew, out, pyinfra, until

from piclusterops.lab.fleet import Lab
from piclusterops.paths import cache_root

pytestmark = pytest.mark.lab

NODES = ("pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3")
NO_OP_BUDGET = 6
SECRET_FILES = (
    "/etc/rancher/k3s/token",
    "/etc/rancher/k3s/agent-token",
    "/var/lib/rancher/k3s/server/token",
    "/var/lib/rancher/k3s/server/agent-token",
    "/etc/rancher/node/password",
)


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Lab]:
    """The session's lab, its hosts bare at first; the tests below go on from each other."""
    anew(lab, *NODES)
    yield lab
    if "pi-worker-4" in {node.name for node in lab.fleet.nodes}:
        lab.remove_node("pi-worker-4")


def run(lab: Lab, *args: str) -> Run:
    return pyinfra("-y", "--json", *args, lab=lab.name)


def nodes(lab: Lab) -> dict[str, dict[str, str]]:
    """The cluster's nodes, as kubectl on the first server sees them."""
    items = json.loads(out(lab, "pi-master", "k3s kubectl get nodes -o json"))["items"]
    return {
        item["metadata"]["name"]: {
            "ready": next(c["status"] for c in item["status"]["conditions"] if c["type"] == "Ready"),
            "version": item["status"]["nodeInfo"]["kubeletVersion"],
            **item["metadata"]["labels"],
        }
        for item in items
    }


def all_ready(lab: Lab) -> bool:
    """K3s has started on the first server, and every node is Ready: the API may still say so of the time before."""
    if lab.exec("pi-master", ["systemctl", "is-active", "-q", "k3s"]).returncode:
        return False
    done = lab.exec("pi-master", ["sh", "-c", "k3s kubectl get nodes --no-headers"])
    lines = done.stdout.splitlines()
    return done.returncode == 0 and bool(lines) and all(" Ready " in line for line in lines)


def started(lab: Lab, host: str) -> str:
    """When K3s was last started on a host."""
    unit = "k3s" if host == "pi-master" else "k3s-agent"
    return out(lab, host, f"systemctl show -p ExecMainStartTimestampMonotonic --value {unit}")


def assert_explained(result: Run, *words: str) -> None:
    """The run failed, and says what a person needs to know."""
    assert result.returncode == 1, result.output
    assert "Traceback" not in result.output
    text = " ".join(result.output.split())
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in: {text[-3000:]}"


def secrets_of(lab: Lab) -> set[str]:
    """The parts of all tokens and node passwords that must stay on their hosts."""
    found = set()
    for host in NODES:
        for path in SECRET_FILES:
            text = lab.exec(host, ["sh", "-c", f"cat {path} 2>/dev/null"]).stdout.strip()
            if text:
                found.add(text.rsplit(":", 1)[-1])
    return found


def readable_by_others(lab: Lab, host: str, secrets: set[str]) -> str:
    """Files of a host that hold a secret and that user `nobody` can read, and can reach."""
    lab.exec(host, ["sh", "-c", "cat >/run/patterns; chmod 644 /run/patterns"], input="\n".join(secrets) + "\n")
    search = "find / -xdev -type f -readable -size -20M -exec grep -lF -f /run/patterns {} + 2>/dev/null"
    hits = lab.exec(host, ["runuser", "-u", "nobody", "--", "sh", "-c", search])
    lab.exec(host, ["rm", "/run/patterns"])
    return hits.stdout


def test_a_dry_run_on_bare_hosts_names_the_changes_and_makes_none(site: Lab) -> None:
    before = {node: out(site, node, FINGERPRINT) for node in NODES}
    result = pyinfra("--dry", "--json", lab=site.name)
    assert result.returncode == 0, result.output
    assert result.plan["K3s | Run K3s on pi-master"] == ["pi-master"]
    assert result.plan["K3s | Join new agents"] == ["pi-worker-1", "pi-worker-2", "pi-worker-3"]
    assert result.plan["Base | Install packages"] == sorted(NODES)
    assert {node: out(site, node, FINGERPRINT) for node in NODES} == before
    assert not (cache_root() / "lab" / site.name / "lab.lock").exists()


def test_bare_hosts_become_a_cluster_and_no_secret_is_seen(site: Lab) -> None:
    with process_list() as processes:
        result = run(site, "-vvv", "--diff")
    assert result.returncode == 0, result.output[-5000:]
    found = nodes(site)
    assert set(found) == set(NODES)
    assert {node["ready"] for node in found.values()} == {"True"}
    assert {node["version"] for node in found.values()} == {site.fleet.k3s_version}
    assert {name: node["piclusterops.io/role"] for name, node in found.items()} == {
        "pi-master": "master",
        "pi-worker-1": "worker",
        "pi-worker-2": "data_node",
        "pi-worker-3": "data_node",
    }
    assert "node-role.kubernetes.io/control-plane" in found["pi-master"]

    secrets = secrets_of(site)
    # server token, agent token, four node passwords
    assert len(secrets) == 6
    assert all(len(secret) >= 32 for secret in secrets)
    assert not [secret for secret in secrets if secret in result.output]
    assert len(processes) > 100
    assert not [line for line in processes for secret in secrets if secret in line]
    for node in NODES:
        assert readable_by_others(site, node, secrets) == ""
    # the scan can fail: it finds what is there to find
    out(site, "pi-master", "install -m 644 /etc/rancher/k3s/token /var/tmp/leak")
    assert readable_by_others(site, "pi-master", secrets) == "/var/tmp/leak\n"
    out(site, "pi-master", "rm /var/tmp/leak")


def test_no_secret_is_in_a_file_of_the_controller(site: Lab) -> None:
    secrets = secrets_of(site)
    assert len(secrets) == 6
    patterns = "\n".join(secrets) + "\n"
    places = [str(cache_root() / "lab"), str(cache_root() / "artefacts"), str(REPOSITORY), "/tmp"]
    hits = subprocess.run(
        ["grep", "-rlF", "-f", "-", "--exclude-dir=.git", "--exclude-dir=.venv", *places],
        input=patterns,
        text=True,
        capture_output=True,
        check=False,
    )
    assert hits.stdout == ""


def test_a_second_run_changes_nothing_within_the_budget_of_round_trips(
    site: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(site)
    assert result.returncode == 0, result.output
    assert result.changes == {}
    with capsys.disabled():
        print(f"SSH executions of a run that changes nothing: {dict(result.executions)}")
    assert set(result.executions) == set(NODES)
    assert max(result.executions.values()) <= NO_OP_BUDGET


def test_a_changed_label_is_applied_alone(site: Lab) -> None:
    before = {node: started(site, node) for node in NODES}
    labels = "--data", 'node_labels={"example.org/tier": "gold"}'
    result = run(site, *labels)
    assert result.returncode == 0, result.output
    assert result.changes.pop("K3s | Label and taint the nodes") == ["pi-master"]
    # the file that K3s reads when a node registers; nothing is restarted for it
    assert set(result.changes) <= {"K3s | Label and taint the nodes"} | {f"K3s | Run K3s on {node}" for node in NODES}
    assert {node["example.org/tier"] for node in nodes(site).values()} == {"gold"}
    assert {node: started(site, node) for node in NODES} == before
    assert run(site, *labels).changes == {}
    assert run(site).returncode == 0
    assert not [node for node in nodes(site).values() if "example.org/tier" in node]


def test_status_shows_the_cluster(site: Lab) -> None:
    picluster = [str(Path(sys.executable).with_name("picluster"))]
    shown = subprocess.run([*picluster, "status", "--env", "lab"], text=True, capture_output=True, cwd=REPOSITORY)
    assert shown.returncode == 0, shown.stderr
    assert all(node in shown.stdout for node in NODES)
    data = subprocess.run([*picluster, "status", "--env", "lab", "--json"], text=True, capture_output=True)
    assert {node["name"]: node["ready"] for node in json.loads(data.stdout)["nodes"]} == dict.fromkeys(NODES, True)


def test_the_kubeconfig_works_from_the_controller_under_its_own_context(site: Lab, tmp_path: Path) -> None:
    target = tmp_path / "config"
    target.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: mine\n"
        "contexts: [{name: mine, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n"
    )
    fetched = subprocess.run(
        [str(Path(sys.executable).with_name("picluster")), "kubeconfig", "--env", "lab", "--file", str(target)],
        text=True,
        capture_output=True,
        cwd=REPOSITORY,
    )
    assert fetched.returncode == 0, fetched.stderr
    assert target.stat().st_mode & 0o777 == 0o600
    code = (
        "import sys; from kubernetes import client, config; config.load_kube_config(sys.argv[1], context=sys.argv[2]); "
        "print(sorted(n.metadata.name for n in client.CoreV1Api().list_node().items)); "
        "print(config.list_kube_config_contexts(sys.argv[1])[1]['name'])"
    )
    asked = subprocess.run([sys.executable, "-c", code, str(target), site.name], text=True, capture_output=True)
    assert asked.stdout.splitlines() == [str(sorted(NODES)), "mine"], asked.stderr


def reboot(lab: Lab, host: str) -> None:
    """Returns when the host answers again, and K3s may still be starting."""
    boot = out(lab, host, "cat /proc/sys/kernel/random/boot_id")
    lab.ssh(host, ["sudo", "systemctl", "reboot"])
    until(lambda: lab.exec(host, ["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip() not in ("", boot))
    lab.wait_ssh([host])


def test_a_host_that_reboots_comes_back_and_needs_nothing(site: Lab) -> None:
    for host in ("pi-worker-2", "pi-master"):
        reboot(site, host)
    until(lambda: all_ready(site))
    assert run(site).changes == {}


def test_a_run_right_after_a_boot_waits_for_k3s_and_starts_it_no_second_time(site: Lab) -> None:
    reboot(site, "pi-master")
    result = run(site)
    journal = out(site, "pi-master", "journalctl -b -u k3s -o short-monotonic --no-pager")
    assert (result.returncode, result.changes) == (0, {}), result.output[-5000:] + journal[-8000:]
    assert "k3s is starting: waiting for it" in result.output
    assert journal.count(": Starting ") == 1, journal


def test_a_host_out_of_reach_stops_the_run_before_any_change(site: Lab) -> None:
    site.power_cut("pi-worker-3")
    out(site, "pi-worker-1", "rm /etc/systemd/journald.conf.d/*piclusterops*")
    before = out(site, "pi-worker-1", FINGERPRINT)
    result = pyinfra("-y", lab=site.name)
    site.power_on("pi-worker-3")
    assert_explained(result, "pi-worker-3", "can't be reached", "nothing was changed on any host", "try ssh")
    assert out(site, "pi-worker-1", FINGERPRINT) == before
    site.wait_ssh(["pi-worker-3"])
    until(lambda: all_ready(site))
    assert run(site).changes == {"Base | Cap the journal": ["pi-worker-1"]}


def test_a_release_with_a_wrong_checksum_replaces_nothing(site: Lab) -> None:
    version = "v1.36.6+k3s1"
    site.add_version(version)
    # the release's own file is damaged, and so no copy that was verified earlier will do
    checksums = next((Path(site.fleet.mirror) / version).glob("sha256sum-*.txt"))
    checksums.write_text(re.sub(r"^[0-9a-f]{64}", "1" * 64, checksums.read_text(), flags=re.MULTILINE))
    before = {node: out(site, node, "sha256sum /usr/local/bin/k3s") for node in NODES}
    result = pyinfra("-y", "--data", f"k3s_version={version}", lab=site.name)
    assert_explained(result, "pi-master", "has SHA-256", "1" * 64, "it is not installed", "Next: picluster lock")
    assert {node: out(site, node, "sha256sum /usr/local/bin/k3s") for node in NODES} == before
    assert version not in (cache_root() / "lab" / site.name / "lab.lock").read_text()
    assert run(site).changes == {}


def test_a_node_added_to_the_inventory_joins_and_the_others_go_on(site: Lab) -> None:
    before = {node: started(site, node) for node in NODES}
    site.add_node("pi-worker-4", "worker")
    result = run(site)
    assert result.returncode == 0, result.output
    assert nodes(site)["pi-worker-4"]["ready"] == "True"
    assert {node: started(site, node) for node in NODES} == before
    # the others learn its name, and their firewalls its address
    for operation, changed in result.changes.items():
        if not re.search("in /etc/hosts|Label and taint|Configure the firewall", operation):
            assert changed == ["pi-worker-4"], operation
    assert run(site).changes == {}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("mkdir -p /var/lib/rancher && mount -t tmpfs -o size=64m tmpfs /var/lib/rancher", ("disk", "64 MB", "4096")),
        ("sed -i 's/^ID=.*/ID=plan9/; s/^PRETTY_NAME=.*/PRETTY_NAME=Plan9/' /etc/os-release", ("Plan9", "bookworm")),
    ],
    ids=["too little disk", "unknown system"],
)
def test_a_host_that_cannot_work_stops_the_run_before_any_change(site: Lab, spoil: str, words: tuple[str, ...]) -> None:
    site.recreate("pi-worker-4")
    out(site, "pi-worker-4", spoil)
    before = {node: out(site, node, FINGERPRINT) for node in ("pi-worker-1", "pi-worker-4")}
    result = pyinfra("-y", lab=site.name)
    assert_explained(result, "pi-worker-4", "Nothing was changed on any host", *words)
    assert {node: out(site, node, FINGERPRINT) for node in before} == before


def kill_at(lab: Lab, marker: str, delay: float) -> None:
    """Start a run and kill the controller some time after it says `marker`."""
    command = [sys.executable, "-m", "pyinfra", "-y", "inventories/lab.py", "deploys/site.py"]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PICLUSTEROPS_LAB": lab.name},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr
    for line in process.stderr:
        if marker in line:
            time.sleep(delay)
            process.kill()
            break
    else:
        pytest.fail(f"the run ended without: {marker}")
    process.wait()


def test_a_controller_that_is_killed_leaves_what_the_next_run_finishes(site: Lab) -> None:
    if "pi-worker-4" in {node.name for node in site.fleet.nodes}:
        site.remove_node("pi-worker-4")
    site.recreate(*NODES)
    for marker, delay in (
        ("Stage the K3s release", 0.3),
        ("Run K3s on pi-master", 0.5),
        ("Run K3s on pi-master", 4),
        ("Join new agents", 0.5),
    ):
        kill_at(site, marker, delay)
    result = run(site)
    assert result.returncode == 0, result.output[-5000:]
    assert {name: node["ready"] for name, node in nodes(site).items()} == dict.fromkeys(NODES, "True")
    assert run(site).changes == {}
    for node in NODES:
        leftovers = out(
            site,
            node,
            "find /etc/rancher /usr/local/bin /var/lib/rancher/k3s/server -type f "
            "'(' -name '*.??????' -o -name '.k3s.staged*' ')' 2>/dev/null || true",
        )
        assert leftovers == ""


def test_three_servers_become_one_cluster_that_survives_the_loss_of_one(request: pytest.FixtureRequest) -> None:
    lab = Lab("test-servers")
    request.addfinalizer(lab.down)
    lab.up(roles=["master", "master", "master"], nodes=3)
    names = [node.name for node in lab.fleet.nodes]
    result = run(lab)
    assert result.returncode == 0, result.output[-5000:]
    members = nodes_of(lab, names[0])
    assert members == dict.fromkeys(names, "True")
    again = run(lab)
    assert again.changes == {}
    assert max(again.executions.values()) <= NO_OP_BUDGET
    lab.power_cut(names[0])
    until(lambda: nodes_of(lab, names[1]).get(names[0]) == "Unknown", 90)


def nodes_of(lab: Lab, server: str) -> dict[str, str]:
    """Name and Ready condition of the nodes, asked on one server."""
    path = '{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
    done = lab.exec(server, ["k3s", "kubectl", "get", "nodes", "-o", f"jsonpath={path}"])
    return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else {}
