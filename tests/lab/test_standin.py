"""The stand-in k3s on real lab hosts, under K3s' own systemd unit: what it refuses, what it does, what survives."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from piclusterops.lab.fleet import Lab
from piclusterops.lab.k3s import checks, join
from piclusterops.lab.k3s.api import Api, ApiError, fetch_ca
from piclusterops.lab.k3s.build import build

pytestmark = pytest.mark.lab

VERSION = "v1.36.5+k3s1"
S1, S2, S3, AGENT = "pi-master", "pi-worker-1", "pi-worker-2", "pi-worker-3"
TOKEN, AGENT_TOKEN = "first-server-secret", "agents-only-secret"
DATA = "/var/lib/rancher/k3s"
UNIT = """[Unit]
Description=Lightweight Kubernetes
[Install]
WantedBy=multi-user.target
[Service]
Type=notify
KillMode=process
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStart=/usr/local/bin/k3s {mode}
"""
ADMISSION = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            "name": "PodSecurity",
            "configuration": {
                "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "kind": "PodSecurityConfiguration",
                "defaults": {"enforce": "restricted", "enforce-version": "latest"},
                "exemptions": {"namespaces": ["kube-system"]},
            },
        },
        {
            "name": "EventRateLimit",
            "configuration": {
                "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
                "kind": "Configuration",
                "limits": [{"type": "Server", "qps": 5000, "burst": 20000}],
            },
        },
    ],
}
AUDIT = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
HARDENED = {
    "token": TOKEN,
    "agent-token": AGENT_TOKEN,
    "secrets-encryption": True,
    "protect-kernel-defaults": True,
    "disable": ["servicelb"],
    "kube-apiserver-arg": [
        "enable-admission-plugins=NodeRestriction,EventRateLimit",
        f"admission-control-config-file={DATA}/server/psa.yaml",
        f"audit-log-path={DATA}/server/logs/audit.log",
        f"audit-policy-file={DATA}/server/audit.yaml",
        "audit-log-maxage=30",
        "service-account-extend-token-expiration=false",
    ],
    "kube-controller-manager-arg": ["terminated-pod-gc-threshold=100"],
    "kubelet-arg": ["streaming-connection-idle-timeout=5m", "pod-max-pids=4096"],
}


class Hosts:
    """The lab's hosts with the stand-in installed."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.address = {node.name: node.address for node in lab.fleet.nodes}

    def sh(self, host: str, script: str) -> str:
        """Standard output and error of a script that must succeed."""
        done = self.lab.exec(host, ["sh", "-c", script])
        assert done.returncode == 0, f"{host}: {script}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def put(self, host: str, path: str, content: str | bytes) -> None:
        done = self.lab.exec(host, ["sh", "-c", f'umask 077; mkdir -p "$(dirname {path})"; cat >{path}'], content)
        assert done.returncode == 0, done.stderr

    def configure(self, host: str, settings: dict[str, Any]) -> None:
        self.put(host, "/etc/rancher/k3s/config.yaml", yaml.safe_dump({"node-name": host, **settings}))

    def refusal(self, host: str, mode: str = "server", arguments: str = "") -> str:
        """What k3s says when it does not start, run by hand."""
        done = self.lab.exec(host, ["timeout", "60", "sh", "-c", f"k3s {mode} {arguments}"])
        assert done.returncode == 1, f"exit {done.returncode}: {done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr

    def start(self, host: str, unit: str = "k3s") -> None:
        done = self.lab.exec(host, ["timeout", "120", "systemctl", "restart", unit])
        assert done.returncode == 0, f"{host}: {self.journal(host, unit)}"

    def journal(self, host: str, unit: str = "k3s") -> str:
        return self.lab.exec(host, ["journalctl", "-u", unit, "-o", "cat", "--no-pager"]).stdout

    def wipe(self, host: str) -> None:
        self.sh(host, f"systemctl stop k3s k3s-agent; rm -rf {DATA} /etc/rancher/node")

    def kubectl(self, arguments: str, host: str = S1) -> str:
        return self.sh(host, f"k3s kubectl {arguments}")

    def nodes(self, host: str = S1) -> dict[str, Any]:
        found = json.loads(self.kubectl("get nodes -o json", host))["items"]
        return {node["metadata"]["name"]: node for node in found}

    def members(self, host: str) -> list[dict[str, Any]]:
        text = self.sh(host, "cd /tmp && python3 -c " + _quoted(_MEMBERS))
        return list(json.loads(text))


_MEMBERS = (
    "import sys,json,pathlib; sys.path.insert(0,'/usr/local/bin/k3s'); from k3s_standin import etcd; "
    f"print(json.dumps(etcd.Client('127.0.0.1', pathlib.Path('{DATA}/server/tls/etcd')).members()))"
)


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def eventually(check: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true result of ``check``; it may raise AssertionError meanwhile."""
    end = time.monotonic() + seconds
    while True:
        try:
            result = check()
            assert result
            return result
        except (AssertionError, ApiError, KeyError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


def is_ready(node: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    lab = Lab("standin")
    lab.up(roles=["master", "master", "master", "worker"], nodes=4)
    hosts = Hosts(lab)
    binary = tmp_path_factory.mktemp("standin") / "k3s"
    build(binary, VERSION)
    for host in hosts.address:
        hosts.put(host, "/usr/local/bin/k3s", binary.read_bytes())
        hosts.sh(host, f"chmod 755 /usr/local/bin/k3s; ln -sf k3s /usr/local/bin/kubectl; hostnamectl hostname {host}")
        for unit, mode in (("k3s", "server"), ("k3s-agent", "agent")):
            hosts.put(host, f"/etc/systemd/system/{unit}.service", UNIT.format(mode=mode))
        hosts.sh(host, "systemctl daemon-reload")
    yield hosts
    lab.down()


# The tests below build on each other: a bare host becomes a cluster of three servers and an agent.


def test_a_host_without_the_memory_cgroup_is_refused(hosts: Hosts) -> None:
    hosts.configure(S1, {"cluster-init": True})
    assert 'level=fatal msg="Error: failed to find memory cgroup (v2)"' in hosts.refusal(S1)
    for host in hosts.address:
        hosts.sh(host, "sed -i 's/$/ cgroup_enable=memory/' /boot/firmware/cmdline.txt; systemctl reboot")

    def back() -> bool:
        found = [hosts.lab.exec(h, ["cat", "/sys/fs/cgroup/cgroup.controllers"]).stdout for h in hosts.address]
        return all("memory" in text for text in found)

    eventually(back)
    hosts.lab.wait_ssh(list(hosts.address))


def test_protected_kernel_defaults_are_refused_until_the_sysctls_are_right(hosts: Hosts) -> None:
    hosts.configure(S1, {"cluster-init": True, **HARDENED})
    said = hosts.refusal(S1)
    assert '"Failed to start ContainerManager" err="' in said
    assert "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: " in said
    values = [f"{name.replace('/', '.')}={value}" for name, value in checks.KERNEL_TUNABLES.items()]
    for host in hosts.address:
        hosts.sh(host, f"sysctl -w {' '.join(values)}")


@pytest.mark.parametrize(
    ("settings", "arguments", "words"),
    ids=["flag", "component-argument", "kubelet-argument", "label", "admission-file", "token"],
    argvalues=[
        ({}, "--nonsense", 'level=fatal msg="Error: flag provided but not defined: -nonsense"'),
        ({"kube-apiserver-arg": ["no-such=1"]}, "", "Error: apiserver exited: unknown flag: --no-such"),
        ({"kubelet-arg": ["no-such=1"]}, "", "kubelet exited: failed to parse kubelet flag: unknown flag: --no-such"),
        ({"node-label": ["node-role.kubernetes.io/worker=true"]}, "", "labels specified with --node-labels"),
        (HARDENED, "", "unable to read admission control configuration"),
        ({"token": "abcdef.0123456789abcdef"}, "", "failed to normalize server token"),
    ],
)
def test_faulty_settings_are_refused(hosts: Hosts, settings: dict[str, Any], arguments: str, words: str) -> None:
    hosts.configure(S1, {"cluster-init": True, **settings})
    assert words in hosts.refusal(S1, arguments=arguments)


def test_event_rate_limit_without_limits_is_refused_by_the_real_api_server(hosts: Hosts) -> None:
    without = {**ADMISSION, "plugins": ADMISSION["plugins"][:1]}  # type: ignore[index]
    hosts.put(S1, f"{DATA}/server/psa.yaml", yaml.safe_dump(without))
    hosts.put(S1, f"{DATA}/server/audit.yaml", yaml.safe_dump(AUDIT))
    hosts.configure(S1, {"cluster-init": True, **HARDENED})
    said = hosts.refusal(S1)
    assert "Error: apiserver exited: " in said
    assert "couldn't init admission plugin" in said
    assert "limits" in said


def test_a_hardened_first_server_comes_up_under_systemd(hosts: Hosts) -> None:
    hosts.wipe(S1)
    hosts.put(S1, f"{DATA}/server/psa.yaml", yaml.safe_dump(ADMISSION))
    hosts.put(S1, f"{DATA}/server/audit.yaml", yaml.safe_dump(AUDIT))
    hosts.sh(S1, f"mkdir -m 700 {DATA}/server/logs")
    hosts.start(S1)
    assert hosts.kubectl("get --raw /readyz") == "ok"
    node = eventually(lambda: [n for n in hosts.nodes().values() if is_ready(n)])[0]
    labels = node["metadata"]["labels"]
    assert labels["node-role.kubernetes.io/control-plane"] == labels["node-role.kubernetes.io/etcd"] == "true"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == VERSION
    assert node["status"]["addresses"][0]["address"] == hosts.address[S1]
    assert hosts.sh(S1, f"test -s {DATA}/server/logs/audit.log && stat -c %a /etc/rancher/k3s/k3s.yaml") == "600\n"
    journal = hosts.journal(S1)
    assert "has no PodSecurity admission; its configuration was checked and is not enforced" in journal
    assert 'level=info msg="Running kube-apiserver ' in journal


def test_the_journal_and_the_process_list_hold_no_secret(hosts: Hosts) -> None:
    seen = hosts.journal(S1) + hosts.sh(S1, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "kube-apiserver" in seen
    assert TOKEN not in seen
    assert AGENT_TOKEN not in seen


def test_token_files_are_private_and_name_the_ca(hosts: Hosts) -> None:
    ca = fetch_ca(hosts.address[S1], 6443)
    text = hosts.sh(S1, f"cd {DATA}/server; stat -c %a token agent-token; readlink node-token; cat token")
    assert text.splitlines()[:3] == ["600", "600", f"{DATA}/server/token"]
    from piclusterops.lab.k3s import tokens

    assert text.splitlines()[3] == tokens.format_token(ca, f"server:{TOKEN}")


def test_the_agent_token_opens_no_server_secret(hosts: Hosts) -> None:
    server = [(hosts.address[S1], 6443)]
    ca = fetch_ca(*server[0])
    with pytest.raises(join.NotAuthorized):
        join.bootstrap_data(Api(server, ca, bearer=AGENT_TOKEN))
    with pytest.raises(join.NotAuthorized):
        join.bootstrap_data(Api(server, ca, bearer="wrong"))
    assert "tls/server-ca.key" in join.bootstrap_data(Api(server, ca, bearer=TOKEN))["files"]
    assert join.agent_settings(Api(server, ca, bearer=AGENT_TOKEN))["cluster-dns"] == "10.43.0.10"
    with pytest.raises(ApiError, match="403"):
        Api(server, ca, bearer=AGENT_TOKEN).call("GET", f"{join.SYSTEM}/secrets")


def test_an_agent_with_a_wrong_token_keeps_asking_and_never_gets_in(hosts: Hosts) -> None:
    url = f"https://{hosts.address[S1]}:6443"
    hosts.configure(AGENT, {"server": url, "token": f"K10{'ab' * 32}::node:{AGENT_TOKEN}"})
    hosts.sh(AGENT, "systemctl start --no-block k3s-agent")
    eventually(lambda: "token CA hash does not match the Cluster CA certificate" in hosts.journal(AGENT, "k3s-agent"))
    hosts.configure(AGENT, {"server": url, "token": "wrong"})
    hosts.sh(AGENT, "systemctl restart --no-block k3s-agent")
    eventually(lambda: "server is not ready: failed to retrieve configuration" in hosts.journal(AGENT, "k3s-agent"))
    assert "not authorized" in hosts.journal(AGENT, "k3s-agent")
    assert hosts.lab.exec(AGENT, ["systemctl", "is-active", "k3s-agent"]).stdout == "activating\n"
    assert AGENT not in hosts.nodes()


def test_an_agent_refuses_a_key_of_servers(hosts: Hosts) -> None:
    hosts.sh(AGENT, "systemctl stop k3s-agent")
    hosts.configure(AGENT, {"server": "https://x:6443", "token": "t", "cluster-cidr": "10.42.0.0/16"})
    assert "Error: flag provided but not defined: -cluster-cidr" in hosts.refusal(AGENT, "agent")


def test_an_agent_joins_with_the_agent_token(hosts: Hosts) -> None:
    token = hosts.sh(S1, f"cat {DATA}/server/agent-token").strip()
    settings = {"server": f"https://{hosts.address[S1]}:6443", "token": token, "protect-kernel-defaults": True}
    hosts.configure(AGENT, {**settings, "node-label": ["tier=one"], "node-taint": ["a=b:PreferNoSchedule"]})
    hosts.start(AGENT, "k3s-agent")
    node = eventually(lambda: is_ready(hosts.nodes()[AGENT]) and hosts.nodes()[AGENT], 15)
    assert node["metadata"]["labels"]["tier"] == "one"
    assert {"key": "a", "value": "b", "effect": "PreferNoSchedule"} in node["spec"]["taints"]
    assert not [label for label in node["metadata"]["labels"] if label.startswith("node-role")]


def test_labels_follow_the_settings_at_a_restart_and_taints_do_not(hosts: Hosts) -> None:
    settings = yaml.safe_load(hosts.sh(AGENT, "cat /etc/rancher/k3s/config.yaml"))
    hosts.configure(AGENT, {**settings, "node-label": ["tier=two", "new=yes"], "node-taint": ["c=d:NoSchedule"]})
    hosts.start(AGENT, "k3s-agent")
    node = hosts.nodes()[AGENT]
    assert (node["metadata"]["labels"]["tier"], node["metadata"]["labels"]["new"]) == ("two", "yes")
    assert [t["key"] for t in node["spec"]["taints"]] == ["a"]


def test_a_node_with_another_password_is_rejected_until_its_node_is_deleted(hosts: Hosts) -> None:
    hosts.sh(AGENT, f"systemctl stop k3s-agent; rm -r /etc/rancher/node {DATA}/agent/client-kubelet.*")
    hosts.sh(AGENT, "systemctl start --no-block k3s-agent")
    eventually(lambda: "Node password rejected, duplicate hostname" in hosts.journal(AGENT, "k3s-agent"))
    hosts.kubectl(f"delete node {AGENT}")
    eventually(lambda: is_ready(hosts.nodes()[AGENT]), 30)


def test_pods_run_end_and_are_deleted(hosts: Hosts) -> None:
    hosts.kubectl("create deployment web --image=nginx --replicas=2")
    hosts.kubectl("create job once --image=busybox")
    hosts.kubectl("wait --for=condition=Available --timeout=30s deployment/web")
    hosts.kubectl("wait --for=condition=Complete --timeout=30s job/once")
    assert "never ran" in hosts.kubectl("logs deployment/web")
    hosts.kubectl("delete deployment web --timeout=30s")
    eventually(lambda: "No resources" in hosts.kubectl("get pods -l app=web"))


def test_manifests_are_applied_and_skipped_ones_are_not(hosts: Hosts) -> None:
    for name in ("one", "two"):
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
        hosts.sh(S1, f"touch {DATA}/server/manifests/two.yaml.skip")
        hosts.put(S1, f"{DATA}/server/manifests/{name}.yaml", yaml.safe_dump(manifest))
    eventually(lambda: "one" in hosts.kubectl("get configmaps -o name"), 20)
    assert "two" not in hosts.kubectl("get configmaps -o name")


def test_a_bootstrap_token_can_be_made_listed_and_deleted(hosts: Hosts) -> None:
    kept, deleted = (hosts.sh(S1, "k3s token create --ttl 1h").strip().rpartition("::")[2] for _ in range(2))
    identity = deleted.partition(".")[0]
    assert identity in hosts.sh(S1, "k3s token list")
    assert hosts.sh(S1, f"k3s token delete {identity}") == f'bootstrap token "{identity}" deleted\n'
    assert identity not in hosts.sh(S1, "k3s token list")
    server = [(hosts.address[S1], 6443)]
    ca = fetch_ca(*server[0])
    assert join.agent_settings(Api(server, ca, bearer=kept))
    with pytest.raises(join.NotAuthorized):
        join.agent_settings(Api(server, ca, bearer=deleted))
    with pytest.raises(join.NotAuthorized):
        join.bootstrap_data(Api(server, ca, bearer=kept))


def test_secrets_are_encrypted_at_rest(hosts: Hosts) -> None:
    assert "Encryption Status: Enabled" in hosts.sh(S1, "k3s secrets-encrypt status")
    script = (
        "import sys,pathlib; sys.path.insert(0,'/usr/local/bin/k3s'); from k3s_standin import etcd; "
        f"c=etcd.Client('127.0.0.1', pathlib.Path('{DATA}/server/tls/etcd')); "
        f"print(list(c.get('/registry/secrets/kube-system/{join.BOOTSTRAP_SECRET}').values())[0][:22])"
    )
    assert "k8s:enc:aescbc:v1:" in hosts.sh(S1, "python3 -c " + _quoted(script))


def test_a_server_with_other_critical_values_is_refused(hosts: Hosts) -> None:
    token = hosts.sh(S1, f"cat {DATA}/server/token").strip()
    settings = {**HARDENED, "token": token, "server": f"https://{hosts.address[S1]}:6443"}
    hosts.put(S2, f"{DATA}/server/psa.yaml", yaml.safe_dump(ADMISSION))
    hosts.put(S2, f"{DATA}/server/audit.yaml", yaml.safe_dump(AUDIT))
    hosts.configure(S2, {**settings, "cluster-cidr": "10.52.0.0/16", "disable": []})
    said = hosts.refusal(S2)
    assert 'level=warning msg="critical configuration mismatched: cluster-cidr"' in said
    assert 'level=warning msg="critical configuration mismatched: disable-servicelb"' in said
    assert "critical configuration value mismatch between servers" in said
    hosts.configure(S2, {**settings, "token": "wrong"})
    assert "failed to validate server configuration: not authorized" in hosts.refusal(S2)
    hosts.configure(S2, {**settings, "token": AGENT_TOKEN})
    assert "failed to validate server configuration: not authorized" in hosts.refusal(S2)
    hosts.configure(S2, {**settings, "token": f"K10{'ab' * 32}::server:{TOKEN}"})
    assert "failed to validate token: token CA hash does not match" in hosts.refusal(S2)


def test_two_more_servers_join_and_make_a_quorum_of_three(hosts: Hosts) -> None:
    token = hosts.sh(S1, f"cat {DATA}/server/token").strip()
    for host in (S2, S3):
        hosts.put(host, f"{DATA}/server/psa.yaml", yaml.safe_dump(ADMISSION))
        hosts.put(host, f"{DATA}/server/audit.yaml", yaml.safe_dump(AUDIT))
        hosts.configure(host, {**HARDENED, "token": token, "server": f"https://{hosts.address[S1]}:6443"})
    with ThreadPoolExecutor() as pool:
        list(pool.map(hosts.start, (S2, S3)))
    members = hosts.members(S3)
    assert sorted(m["name"].rpartition("-")[0] for m in members) == [S1, S2, S3]
    assert not [m for m in members if m.get("isLearner")]
    nodes = eventually(lambda: all(is_ready(n) for n in hosts.nodes(S3).values()) and hosts.nodes(S3), 30)
    assert set(nodes) == {S1, S2, S3, AGENT}
    endpoints = json.loads(hosts.kubectl("get endpoints kubernetes -o json", S2))["subsets"][0]["addresses"]
    assert {e["ip"] for e in endpoints} == {hosts.address[h] for h in (S1, S2, S3)}


def test_a_killed_server_takes_its_programs_with_it_and_the_others_go_on(hosts: Hosts) -> None:
    file = f"{DATA}/agent/etc/k3s-agent-load-balancer.json"
    eventually(lambda: hosts.sh(AGENT, f"cat {file}").count(":6443") >= 3, 30)
    old = hosts.sh(S1, "pgrep -x 'etcd|kube-apiserver|kube-controller|kube-scheduler'").split()
    assert len(old) == 4
    hosts.sh(S1, "kill -9 $(systemctl show -p MainPID --value k3s)")
    eventually(
        lambda: hosts.lab.exec(S1, ["sh", "-c", f"kill -0 {' '.join(old)} 2>&1 | grep -c 'No such'"]).stdout == "4\n", 5
    )
    lease = f"get --raw /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{AGENT}"

    def beat() -> str:
        return str(json.loads(hosts.kubectl(lease, S2))["spec"]["renewTime"])

    first = eventually(beat)  # etcd may have to choose a new leader first
    eventually(lambda: beat() > first, 30)
    eventually(lambda: "created" in hosts.kubectl("create configmap without-first", S2))
    eventually(lambda: hosts.lab.exec(S1, ["systemctl", "is-active", "k3s"]).stdout == "active\n", 60)
    assert "without-first" in hosts.kubectl("get configmap -o name")


def test_a_snapshot_is_restored_to_a_single_server(hosts: Hosts) -> None:
    said = hosts.sh(S1, "k3s etcd-snapshot save --name drill")
    assert f"Snapshot drill-{S1}-" in said
    hosts.kubectl("create configmap after-snapshot")
    path = hosts.sh(S1, f"ls {DATA}/server/db/snapshots/drill-*").strip()
    assert path in hosts.sh(S1, "k3s etcd-snapshot ls")
    assert "address already in use" in hosts.refusal(S1, arguments="--cluster-reset")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: hosts.sh(host, "systemctl stop k3s"), (S1, S2, S3)))
    reset = f"--cluster-reset --cluster-reset-restore-path={path}"
    assert "encrypted with different token" in hosts.refusal(S1, arguments=f"{reset} --token wrong")
    said = hosts.sh(S1, f"k3s server {reset}")
    assert "Pre-restore etcd database moved to " in said
    assert "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now." in said
    assert "membership was previously reset" in hosts.refusal(S1, arguments="--cluster-reset")
    hosts.start(S1)
    names = hosts.kubectl("get configmap -o name")
    assert "without-first" in names
    assert "after-snapshot" not in names
    assert len(hosts.members(S1)) == 1
    assert hosts.lab.exec(S1, ["test", "-e", f"{DATA}/server/db/reset-flag"]).returncode == 1


def test_a_rotated_token_counts_at_once_and_the_old_one_no_more(hosts: Hosts) -> None:
    assert "Token rotated, restart k3s nodes with new token" in hosts.sh(S1, "k3s token rotate --new-token rotated")
    server = [(hosts.address[S1], 6443)]
    ca = fetch_ca(*server[0])
    assert join.bootstrap_data(Api(server, ca, bearer="rotated"))
    with pytest.raises(join.NotAuthorized):
        eventually(lambda: not join.bootstrap_data(Api(server, ca, bearer=TOKEN)), 10)
    hosts.sh(S1, "systemctl stop k3s")
    assert "bootstrap data already found and encrypted with different token" in hosts.refusal(S1)


def test_what_the_executable_reports_about_itself_is_honest(hosts: Hosts) -> None:
    assert "stand-in" in hosts.sh(AGENT, "k3s --version")
    assert hosts.sh(S1, "k3s certificate check --output table").count(" OK") > 10
    assert "STATUS: pass" in hosts.sh(S1, "k3s check-config")
