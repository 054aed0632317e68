"""What K3s, or a component inside it, refuses at a start. The texts are those of the component that refuses.

Sources: k3s ``pkg/cgroups``, kubelet ``setupKernelTunables`` and ``cmd/kubelet/app/options`` (labels),
PodSecurity's ``pkg/admission/admission.go`` and ``api/load`` in kubernetes.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from . import log
from .log import Fatal

# kubelet: exact values, or --protect-kernel-defaults makes it exit.
KERNEL_TUNABLES: Mapping[str, int] = {
    "kernel/keys/root_maxbytes": 25000000,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
}
_ALLOWED_LABELS = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)
_ALLOWED_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def kernel_tunables(proc: Path = Path("/proc/sys")) -> str | None:
    """The kubelet's complaint about sysctls for protect-kernel-defaults, or None when all are right."""
    faults = []
    for flag, wanted in KERNEL_TUNABLES.items():
        try:
            actual = int((proc / flag).read_text())
        except (OSError, ValueError):
            faults.append(f"open {proc / flag}: no such file or directory")
            continue
        if actual != wanted:
            faults.append(f"invalid kernel flag: {flag}, expected value: {wanted}, actual value: {actual}")
    if not faults:
        return None
    return faults[0] if len(faults) == 1 else "[" + ", ".join(faults) + "]"


def memory_cgroup(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> str | None:
    """K3s' complaint about missing cgroup controllers, or None."""
    unified = root / "cgroup.controllers"
    if unified.is_file():
        present = unified.read_text().split()
        missing = [c for c in ("cpu", "cpuset", "memory") if c not in present]
        return f"failed to find {missing[0]} cgroup (v2)" if missing else None
    if "memory" in own.read_text():
        return None
    return (
        'failed to find memory cgroup, you may need to add "cgroup_memory=1 cgroup_enable=memory" to your '
        "linux cmdline (/boot/cmdline.txt on a Raspberry Pi)"
    )


def parse_labels(items: Sequence[str]) -> dict[str, str]:
    """``key=value`` labels; raises Fatal for labels of the kubernetes.io namespaces that a kubelet may not set."""
    labels: dict[str, str] = {}
    for item in items:
        for part in item.split(","):
            key, _, value = part.partition("=")
            if key:
                labels[key] = value
    refused = [key for key in labels if not _label_allowed(key)]
    if refused:
        raise Fatal(
            "kubelet exited: failed to validate kubelet flags: unknown 'kubernetes.io' or 'k8s.io' labels specified "
            f"with --node-labels: [{' '.join(sorted(refused))}]\n--node-labels in the 'kubernetes.io' namespace must "
            f"begin with an allowed prefix ({', '.join(_ALLOWED_PREFIXES)}) or be in the specifically allowed set "
            f"({', '.join(sorted(_ALLOWED_LABELS))})"
        )
    return labels


def _label_allowed(key: str) -> bool:
    prefix = key.partition("/")[0] if "/" in key else ""
    if not any(prefix == d or prefix.endswith("." + d) for d in ("kubernetes.io", "k8s.io")):
        return True
    return key in _ALLOWED_LABELS or any(prefix == p or prefix.endswith("." + p) for p in _ALLOWED_PREFIXES)


def parse_taints(items: Sequence[str]) -> list[dict[str, str]]:
    """``key=value:Effect`` or ``key:Effect``. Raises Fatal in the kubelet's words."""
    taints = []
    for item in items:
        head, colon, effect = item.rpartition(":")
        if not colon or effect not in _TAINT_EFFECTS or not head:
            raise Fatal(
                f'kubelet exited: failed to parse kubelet flag: invalid argument "{item}" for '
                f'"--register-with-taints" flag: invalid taint spec: {item}'
            )
        key, _, value = head.partition("=")
        taints.append({"key": key, "effect": effect, **({"value": value} if value else {})})
    return taints


def split_component_arguments(items: Sequence[str]) -> list[tuple[str, str]]:
    """``name=value`` pairs of a ``kube-...-arg`` list; a bare name means true."""
    pairs = []
    for item in items:
        name, equals, value = item.lstrip("-").partition("=")
        pairs.append((name, value if equals else "true"))
    return pairs


# ---- the admission configuration


def admission_configuration(path: str) -> tuple[dict[str, Any], bool]:
    """The file without its PodSecurity plugin, and whether there was one.

    Kubernetes 1.20 has no PodSecurity; its document is still validated. Raises Fatal.
    """
    start = "apiserver exited: failed to initialize admission: failed to read plugin config: "
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        reason = (problem.strerror or "").lower()
        raise Fatal(
            f'{start}unable to read admission control configuration from "{path}" [open {path}: {reason}]'
        ) from problem
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise Fatal(f"{start}error converting YAML to JSON: {str(problem).replace(chr(10), ' ')}") from problem
    if not isinstance(document, dict) or document.get("kind") != "AdmissionConfiguration":
        raise Fatal(f'{start}no kind "AdmissionConfiguration" in {path}')
    if document.get("apiVersion") not in ("apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"):
        raise Fatal(f'{start}no kind "AdmissionConfiguration" is registered for version "{document.get("apiVersion")}"')
    plugins = document.get("plugins") or []
    if not isinstance(plugins, list) or not all(isinstance(p, dict) and p.get("name") for p in plugins):
        raise Fatal(f"{start}plugins: every entry needs a name")
    pod_security = [p for p in plugins if p["name"] == "PodSecurity"]
    for plugin in pod_security:
        fault = pod_security_fault(_plugin_configuration(plugin, Path(path).parent))
        if fault:
            raise Fatal(
                "apiserver exited: failed to initialize admission: "
                f'couldn\'t init admission plugin "PodSecurity": {fault}'
            )
    return {**document, "plugins": [p for p in plugins if p["name"] != "PodSecurity"]}, bool(pod_security)


def _plugin_configuration(plugin: Mapping[str, Any], folder: Path) -> object:
    if plugin.get("configuration") is not None:
        return plugin["configuration"]
    if plugin.get("path"):
        try:
            return yaml.safe_load((folder / str(plugin["path"])).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as problem:
            raise Fatal(
                f"apiserver exited: failed to initialize admission: failed to read plugin config: {problem}"
            ) from problem
    return None


def pod_security_fault(document: object) -> str | None:
    """What PodSecurity's own validation would say about its configuration, or None."""
    if document is None:
        return None
    if not isinstance(document, dict):
        return "configuration is no object"
    if document.get("kind") != "PodSecurityConfiguration":
        return f'no kind "{document.get("kind")}" is registered'
    group, _, version = str(document.get("apiVersion", "")).partition("/")
    if group != "pod-security.admission.config.k8s.io" or version not in ("v1", "v1beta1", "v1alpha1"):
        return f'no kind "PodSecurityConfiguration" is registered for version "{document.get("apiVersion")}"'
    unknown = set(document) - {"apiVersion", "kind", "defaults", "exemptions"}
    if unknown:
        return f'strict decoding error: unknown field "{sorted(unknown)[0]}"'
    return _defaults_fault(document.get("defaults") or {}) or _exemptions_fault(document.get("exemptions") or {})


def _defaults_fault(defaults: Mapping[str, Any]) -> str | None:
    for key, value in defaults.items():
        mode, _, suffix = str(key).partition("-")
        if mode not in ("enforce", "audit", "warn") or suffix not in ("", "version"):
            return f'strict decoding error: unknown field "defaults.{key}"'
        if suffix and not re.fullmatch(r"latest|v1\.\d+", str(value)):
            return f'defaults.{key}: Invalid value: "{value}": must be "latest" or "v1.x"'
        if not suffix and value not in ("privileged", "baseline", "restricted"):
            return f'defaults.{key}: Invalid value: "{value}": must be one of privileged, baseline, restricted'
    return None


def _exemptions_fault(exemptions: Mapping[str, Any]) -> str | None:
    for key, value in exemptions.items():
        if key not in ("usernames", "runtimeClasses", "namespaces"):
            return f'strict decoding error: unknown field "exemptions.{key}"'
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            return f"exemptions.{key}: must be a list of strings"
        if len(set(value)) != len(value):
            return f'exemptions.{key}: Duplicate value: "{next(v for v in value if value.count(v) > 1)}"'
    return None


# ---- the kubelet's drop-in files


def kubelet_drop_ins(folder: Path) -> dict[str, Any]:
    """All ``*.conf`` files of kubelet.conf.d merged in order. Raises Fatal for one that the kubelet would not load."""
    merged: dict[str, Any] = {}
    for file in sorted(folder.glob("*.conf")):
        start = f"kubelet exited: failed to merge kubelet configs: failed to load kubelet config from {file}: "
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as problem:
            raise Fatal(f"{start}error converting YAML to JSON: {str(problem).replace(chr(10), ' ')}") from problem
        if not isinstance(document, dict) or document.get("kind") != "KubeletConfiguration":
            raise Fatal(f"{start}Object 'Kind' is missing or is not \"KubeletConfiguration\"")
        if document.get("apiVersion") != "kubelet.config.k8s.io/v1beta1":
            raise Fatal(
                f'{start}no kind "KubeletConfiguration" is registered for version "{document.get("apiVersion")}"'
            )
        merged.update(document)
    fault = kubelet_configuration_fault(merged)
    if fault:
        raise Fatal(f"kubelet exited: failed to validate kubelet configuration, error: {fault}")
    return merged


def reservations(arguments: Mapping[str, str], settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """What the kubelet keeps from Pods, by its arguments or else its configuration; K3s evicts by disk alone."""
    kept = []
    for argument, setting in (("system-reserved", "systemReserved"), ("kube-reserved", "kubeReserved")):
        if argument in arguments:
            kept.append(dict(part.split("=", 1) for part in arguments[argument].split(",") if "=" in part))
        else:
            kept.append({str(name): str(value) for name, value in (settings.get(setting) or {}).items()})
    return kept


def registries(file: Path) -> None:
    """registries.yaml must be a mapping with the sections that K3s knows. Raises Fatal."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (OSError, yaml.YAMLError) as problem:
        raise Fatal(f"failed to parse {file}: {str(problem).replace(chr(10), ' ')}") from problem
    if document is None:
        return
    if not isinstance(document, dict) or not all(v is None or isinstance(v, dict) for v in document.values()):
        raise Fatal(f"failed to parse {file}: mirrors and configs must be mappings")
    unknown = set(document) - {"mirrors", "configs", "auths"}
    if unknown:
        log.warning(f"stand-in: {file}: unknown section {sorted(unknown)[0]}")


_DURATION = re.compile(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+|0")
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration_seconds(text: str) -> float:
    """Seconds of a Go duration such as ``1m30s``. Raises ValueError."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f'time: invalid duration "{text}"')
    return sum(float(m[1]) * _UNITS[m[3]] for m in re.finditer(r"(\d+(\.\d+)?)(ns|us|ms|s|m|h)", text))


def kubelet_configuration_fault(merged: Mapping[str, Any]) -> str | None:
    """The kubelet's validation, as far as it concerns graceful shutdown; None when nothing is wrong."""
    try:
        total = duration_seconds(str(merged.get("shutdownGracePeriod", "0")))
        critical = duration_seconds(str(merged.get("shutdownGracePeriodCriticalPods", "0")))
    except ValueError as problem:
        return str(problem)
    if critical > total:
        return (
            f"invalid configuration: shutdownGracePeriodCriticalPods {{{critical}s}} must be <= "
            f"shutdownGracePeriod {{{total}s}}"
        )
    return None
