"""Arguments for the Kubernetes programs: what the real 1.20 ones know, and what only newer releases know.

A ``kube-...-arg`` must be known to current Kubernetes, or the component refuses it as in K3s. One that 1.20 knows
is passed to the real program; one that came later is accepted and not passed.
"""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from . import log
from .checks import split_component_arguments
from .children import CALLED
from .log import Fatal


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Flags added after 1.20 (kube-apiserver, kube-controller-manager and kube-scheduler reference of 1.36).
NEWER: Mapping[str, frozenset[str]] = {
    "kube-apiserver": _words(
        """
        aggregator-reject-forwarding-redirect allow-metric-labels allow-metric-labels-manifest authentication-config
        authorization-config authorization-webhook-version coordinated-leadership-lease-duration
        coordinated-leadership-renew-deadline coordinated-leadership-retry-period debug-socket-path
        disable-http2-serving disabled-metrics emulated-version emulation-forward-compatible
        encryption-provider-config-automatic-reload etcd-readycheck-timeout lease-reuse-duration-seconds
        log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size log-text-split-stream
        peer-advertise-ip peer-advertise-port peer-ca-file requestheader-uid-headers
        runtime-config-emulation-forward-compatible service-account-signing-endpoint shutdown-send-retry-after
        shutdown-watch-termination-grace-period storage-initialization-timeout strict-transport-security-directives
        tracing-config-file
        """
    ),
    "kube-controller-manager": _words(
        """
        allow-metric-labels allow-metric-labels-manifest concurrent-cron-job-syncs concurrent-daemonset-syncs
        concurrent-ephemeralvolume-syncs concurrent-horizontal-pod-autoscaler-syncs concurrent-job-syncs
        concurrent-service-syncs concurrent-validating-admission-policy-status-syncs disable-force-detach-on-timeout
        disable-http2-serving disabled-metrics emulated-version enable-leader-migration leader-migration-config
        legacy-service-account-token-clean-up-period log-json-info-buffer-size log-json-split-stream
        requestheader-uid-headers concurrent-resource-claim-syncs
        """
    ),
    "kube-scheduler": _words(
        """
        allow-metric-labels allow-metric-labels-manifest disable-http2-serving disabled-metrics emulated-version
        log-json-info-buffer-size log-json-split-stream pod-max-in-unschedulable-pods-duration
        requestheader-uid-headers
        """
    ),
}
# Flags of 1.20 that are gone since: current Kubernetes calls them unknown.
REMOVED = _words(
    """
    address port insecure-bind-address insecure-port kubelet-https service-account-api-audiences basic-auth-file
    enable-inflight-quota-handler experimental-cluster-signing-duration deployment-controller-sync-period
    pod-eviction-timeout enable-taint-manager horizontal-pod-autoscaler-upscale-delay algorithm-provider
    policy-config-file policy-configmap policy-configmap-namespace use-legacy-policy-config alsologtostderr
    add-dir-header log-backtrace-at log-dir log-file log-file-max-size logtostderr one-output skip-headers
    skip-log-headers stderrthreshold master-service-namespace target-ram-mb cloud-provider-gce-lb-src-cidrs
    """
)

# kubelet of 1.36 (reference/command-line-tools-reference/kubelet), deprecated ones included.
KUBELET = _words(
    """
    address allowed-unsafe-sysctls anonymous-auth application-metrics-count-limit authentication-token-webhook
    authentication-token-webhook-cache-ttl authorization-mode authorization-webhook-cache-authorized-ttl
    authorization-webhook-cache-unauthorized-ttl boot-id-file bootstrap-kubeconfig cert-dir cgroup-driver cgroup-root
    cgroups-per-qos client-ca-file cloud-config cloud-provider cluster-dns cluster-domain config config-dir
    container-hints container-log-max-files container-log-max-size container-runtime-endpoint containerd
    containerd-namespace contention-profiling cpu-cfs-quota cpu-cfs-quota-period cpu-manager-policy
    cpu-manager-policy-options cpu-manager-reconcile-period enable-controller-attach-detach enable-debugging-handlers
    enable-load-reader enable-server enforce-node-allocatable event-burst event-qps event-storage-age-limit
    event-storage-event-limit eviction-hard eviction-max-pod-grace-period eviction-minimum-reclaim
    eviction-pressure-transition-period eviction-soft eviction-soft-grace-period exit-on-lock-contention
    experimental-allocatable-ignore-eviction fail-cgroupv1 fail-swap-on feature-gates file-check-frequency
    global-housekeeping-interval hairpin-mode healthz-bind-address healthz-port help hostname-override
    housekeeping-interval http-check-frequency image-credential-provider-bin-dir image-credential-provider-config
    image-gc-high-threshold image-gc-low-threshold image-service-endpoint keep-terminated-pod-volumes
    kernel-memcg-notification kube-api-burst kube-api-content-type kube-api-qps kube-reserved kube-reserved-cgroup
    kubeconfig kubelet-cgroups local-storage-capacity-isolation lock-file log-cadvisor-usage log-flush-frequency
    log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size log-text-split-stream logging-format
    machine-id-file make-iptables-util-chains manifest-url manifest-url-header max-open-files max-pods
    maximum-dead-containers maximum-dead-containers-per-container memory-manager-policy minimum-container-ttl-duration
    minimum-image-ttl-duration node-ip node-labels node-status-max-images node-status-update-frequency oom-score-adj
    pod-cidr pod-infra-container-image pod-manifest-path pod-max-pids pods-per-core port protect-kernel-defaults
    provider-id qos-reserved read-only-port register-node register-with-taints registry-burst registry-qps
    reserved-cpus reserved-memory resolv-conf root-dir rotate-certificates rotate-server-certificates runonce
    runtime-cgroups runtime-request-timeout seccomp-default serialize-image-pulls storage-driver-buffer-duration
    storage-driver-db storage-driver-host storage-driver-password storage-driver-secure storage-driver-table
    storage-driver-user streaming-connection-idle-timeout sync-frequency system-cgroups system-reserved
    system-reserved-cgroup tls-cert-file tls-cipher-suites tls-min-version tls-private-key-file
    topology-manager-policy topology-manager-policy-options topology-manager-scope v version vmodule volume-plugin-dir
    volume-stats-agg-period
    """
)
# kube-proxy of 1.36.
KUBE_PROXY = _words(
    """
    bind-address bind-address-hard-fail cleanup cluster-cidr config config-sync-period conntrack-max-per-core
    conntrack-min conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait conntrack-tcp-timeout-established
    conntrack-udp-timeout conntrack-udp-timeout-stream detect-local-mode feature-gates healthz-bind-address
    healthz-port help hostname-override init-only iptables-localhost-nodeports iptables-masquerade-bit
    iptables-min-sync-period iptables-sync-period ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler
    ipvs-strict-arp ipvs-sync-period ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout kube-api-burst
    kube-api-content-type kube-api-qps kubeconfig log-flush-frequency log-json-info-buffer-size log-json-split-stream
    logging-format masquerade-all master metrics-bind-address metrics-port nodeport-addresses oom-score-adj
    pod-bridge-interface pod-interface-name-prefix profiling proxy-mode show-hidden-metrics-for-version v version
    vmodule write-config-to
    """
)


def known_flags(help_text: str) -> frozenset[str]:
    """Flag names of a program's ``--help``."""
    return frozenset(re.findall(r"^\s+(?:-\w, )?--([a-z0-9][a-z0-9-]*)", help_text, re.MULTILINE))


def ask_program(program: Path) -> frozenset[str]:
    done = subprocess.run([str(program), "--help"], capture_output=True, text=True, timeout=30, check=False)
    return known_flags(done.stdout + done.stderr)


def passable(program: str, known: Iterable[str], extra: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of ``extra`` for the real program. Raises Fatal for a name that current Kubernetes does not know."""
    names = frozenset(known)
    keep = []
    for name, value in split_component_arguments(extra):
        if name in REMOVED or (name not in names and name not in NEWER[program]):
            raise Fatal(f"{CALLED[program]} exited: unknown flag: --{name}")
        if name not in names or name == "feature-gates":
            log.info(f"stand-in: {program} 1.20 does not know --{name}={value}; accepted, not passed")
        else:
            keep.append((name, value))
    return keep


def combine(defaults: Mapping[str, str], extra: Sequence[tuple[str, str]]) -> list[str]:
    """The command line: the user's values replace ours of the same name, as in K3s."""
    given = {name for name, _ in extra}
    own = [f"--{name}={value}" for name, value in sorted(defaults.items()) if name not in given]
    return own + [f"--{name}={value}" for name, value in extra]


def check_node_arguments(kubelet: Sequence[str], kube_proxy: Sequence[str]) -> dict[str, str]:
    """The kubelet arguments as a mapping. Raises Fatal for a name that kubelet or kube-proxy does not know."""
    pairs = split_component_arguments(kubelet)
    for name, _ in pairs:
        if name not in KUBELET:
            raise Fatal(f"kubelet exited: failed to parse kubelet flag: unknown flag: --{name}")
    for name, _ in split_component_arguments(kube_proxy):
        if name not in KUBE_PROXY:
            raise Fatal(f"kube-proxy exited: unknown flag: --{name}")
    return dict(pairs)
