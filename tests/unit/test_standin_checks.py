"""What the stand-in k3s refuses, in the words of the component that refuses it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from piclusterops.lab.k3s import checks, kubeargs
from piclusterops.lab.k3s.log import Fatal

PSA = {
    "apiVersion": "pod-security.admission.config.k8s.io/v1",
    "kind": "PodSecurityConfiguration",
    "defaults": {"enforce": "restricted", "enforce-version": "latest", "audit": "restricted", "warn": "baseline"},
    "exemptions": {"usernames": [], "runtimeClasses": [], "namespaces": ["kube-system"]},
}
LIMITS = {
    "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
    "kind": "Configuration",
    "limits": [{"type": "Server", "qps": 5000, "burst": 20000}],
}


def sysctls(folder: Path, **changed: int) -> Path:
    for name, value in checks.KERNEL_TUNABLES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{changed.get(file.name, value)}\n")
    return folder


def admission(folder: Path, *plugins: tuple[str, object]) -> str:
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": name, "configuration": content} for name, content in plugins],
    }
    (folder / "psa.yaml").write_text(yaml.safe_dump(document))
    return str(folder / "psa.yaml")


def test_right_kernel_tunables_pass(tmp_path: Path) -> None:
    assert checks.kernel_tunables(sysctls(tmp_path)) is None


def test_wrong_kernel_tunables_are_named_with_both_values(tmp_path: Path) -> None:
    one = checks.kernel_tunables(sysctls(tmp_path, overcommit_memory=0))
    assert one == "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0"
    two = checks.kernel_tunables(sysctls(tmp_path, overcommit_memory=0, panic=0))
    assert two is not None
    assert two.startswith("[invalid kernel flag: kernel/panic, ")
    assert two.endswith("]")


def test_a_larger_key_limit_is_refused_too(tmp_path: Path) -> None:
    assert checks.kernel_tunables(sysctls(tmp_path, root_maxkeys=2000000)) is not None


def test_the_memory_controller_is_looked_for_in_cgroup_v2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io pids\n")
    assert checks.memory_cgroup(tmp_path) == "failed to find memory cgroup (v2)"
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert checks.memory_cgroup(tmp_path) is None


def test_labels_of_kubernetes_namespaces_are_refused_unless_allowed() -> None:
    assert checks.parse_labels(["a=b", "node.kubernetes.io/x=1,topology.kubernetes.io/zone=z", "example.com/y=2"])
    with pytest.raises(Fatal, match=r"labels specified with --node-labels: \[node-role.kubernetes.io/worker\]"):
        checks.parse_labels(["node-role.kubernetes.io/worker=true"])


def test_taints_need_a_known_effect() -> None:
    assert checks.parse_taints(["a=b:NoSchedule", "c:NoExecute"]) == [
        {"key": "a", "effect": "NoSchedule", "value": "b"},
        {"key": "c", "effect": "NoExecute"},
    ]
    with pytest.raises(Fatal, match="invalid taint spec: a=b:Never"):
        checks.parse_taints(["a=b:Never"])


def test_pod_security_is_taken_out_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = admission(tmp_path, ("PodSecurity", PSA), ("EventRateLimit", LIMITS))
    document, had = checks.admission_configuration(path)
    assert had
    assert [p["name"] for p in document["plugins"]] == ["EventRateLimit"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"apiVersion": "pod-security.admission.config.k8s.io/v2"}, "is registered for version"),
        ({"kind": "Wrong"}, 'no kind "Wrong"'),
        ({"default": {}}, 'unknown field "default"'),
        ({"defaults": {"enforce": "strict"}}, "must be one of privileged, baseline, restricted"),
        ({"defaults": {"enforce-version": "1.36"}}, 'must be "latest" or "v1.x"'),
        ({"exemptions": {"namespace": []}}, 'unknown field "exemptions.namespace"'),
        ({"exemptions": {"namespaces": ["a", "a"]}}, 'Duplicate value: "a"'),
    ],
)
def test_a_faulty_pod_security_configuration_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = admission(tmp_path, ("PodSecurity", {**PSA, **change}))
    with pytest.raises(Fatal, match="couldn't init admission plugin") as problem:
        checks.admission_configuration(path)
    assert words in str(problem.value)


def test_missing_or_broken_admission_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="unable to read admission control configuration"):
        checks.admission_configuration(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("plugins: [\n")
    with pytest.raises(Fatal, match="error converting YAML"):
        checks.admission_configuration(str(tmp_path / "bad.yaml"))


def test_kubelet_drop_ins_merge_in_order_and_must_be_kubelet_configurations(tmp_path: Path) -> None:
    head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
    (tmp_path / "50-b.conf").write_text(head + "shutdownGracePeriod: 60s\nshutdownGracePeriodCriticalPods: 20s\n")
    (tmp_path / "00-a.conf").write_text(head + "shutdownGracePeriod: 1s\nmaxPods: 50\n")
    merged = checks.kubelet_drop_ins(tmp_path)
    assert (merged["shutdownGracePeriod"], merged["maxPods"]) == ("60s", 50)
    (tmp_path / "60-c.conf").write_text(head + "shutdownGracePeriod: 10s\n")
    with pytest.raises(Fatal, match="must be <= shutdownGracePeriod"):
        checks.kubelet_drop_ins(tmp_path)
    (tmp_path / "60-c.conf").write_text("kind: [\n")
    with pytest.raises(Fatal, match="error converting YAML"):
        checks.kubelet_drop_ins(tmp_path)


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("1m30s", 90), ("1h", 3600), ("0", 0), ("500ms", 0.5)])
def test_go_durations(text: str, seconds: float) -> None:
    assert checks.duration_seconds(text) == seconds


def test_what_is_no_go_duration() -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        checks.duration_seconds("60")


def test_component_arguments_must_be_known_to_current_kubernetes(capsys: pytest.CaptureFixture[str]) -> None:
    help_text = "Flags:\n      --audit-log-path string   where\n      --insecure-port int\n  -h, --help   help\n"
    known = kubeargs.known_flags(help_text)
    assert known == {"audit-log-path", "insecure-port", "help"}
    passed = kubeargs.passable("kube-apiserver", known, ["audit-log-path=/x", "authentication-config=/y"])
    assert passed == [("audit-log-path", "/x")]
    assert "accepted, not passed" in capsys.readouterr().err
    for wrong in ("audit-log-pth=/x", "insecure-port=0"):
        with pytest.raises(Fatal, match=r"^apiserver exited: unknown flag: --"):
            kubeargs.passable("kube-apiserver", known, [wrong])


def test_the_users_arguments_replace_ours() -> None:
    line = kubeargs.combine({"a": "1", "b": "2"}, [("b", "3"), ("c", "4")])
    assert line == ["--a=1", "--b=3", "--c=4"]


def test_kubelet_and_kube_proxy_arguments_must_be_known() -> None:
    known = ["streaming-connection-idle-timeout=5m", "pod-max-pids=4096", "tls-cipher-suites=A,B", "max-pods=60"]
    assert kubeargs.check_node_arguments(known, ["proxy-mode=nftables"])["max-pods"] == "60"
    with pytest.raises(Fatal, match=r"kubelet exited: failed to parse kubelet flag: unknown flag: --max-pod$"):
        kubeargs.check_node_arguments(["max-pod=60"], [])
    with pytest.raises(Fatal, match=r"kube-proxy exited: unknown flag: --proxymode$"):
        kubeargs.check_node_arguments([], ["proxymode=x"])


@pytest.mark.parametrize("text", ["mirrors: [\n", "- a\n", "mirrors: [a]\n"])
def test_a_broken_registries_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "registries.yaml"
    checks.registries(file)
    file.write_text("mirrors:\n  docker.io: {endpoint: [https://r:5000]}\n")
    checks.registries(file)
    file.write_text(text)
    with pytest.raises(Fatal, match="failed to parse"):
        checks.registries(file)
