"""Why K3s did not start: from lines of its journal to a cause and the next command.

The texts are those of K3s, the kubelet, kube-apiserver and etcd, as found in issues of k3s-io/k3s (numbers below).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Lines that may tell why K3s does not start, as a pattern for ``grep -E`` too: an agent that is refused says so at
#: level info and tries for ever, and a kubelet that gives up writes no fatal line.
SERIOUS = (
    'level=(fatal|error)|^[EF][0-9]{4} |"level":"(fatal|error)"|^Error: |Incorrect Usage'
    "|server is not ready|configuration mismatched"
)
_SERIOUS = re.compile(SERIOUS)
_FATAL = re.compile(r"level=fatal|^F\d{4} |\"level\":\"fatal\"|^Error: |Incorrect Usage")
# The K10 form of a token, bare passwords of ours (64 hexadecimal digits; hashes go with them), basic auth in URLs.
_SECRETS = (
    (re.compile(r"K10[0-9A-Za-z]*::\S+"), "K10..."),
    (re.compile(r"\b[0-9a-f]{64}\b"), "(64 hex digits)"),
    (re.compile(r"://[^/@\s]+@"), "://(hidden)@"),
)
_LONGEST = 600


@dataclass(frozen=True)
class Cause:
    """A known reason: `certain` means that waiting longer cannot help."""

    pattern: re.Pattern[str]
    text: str
    next_step: str
    certain: bool = False


def _cause(pattern: str, text: str, next_step: str, certain: bool = False) -> Cause:
    return Cause(re.compile(pattern, re.IGNORECASE), text, next_step, certain)


_LOOK = "ssh {host} sudo journalctl -u {unit} -n 100"

#: The first that matches counts, so the narrow ones come before the wide ones.
CAUSES: tuple[Cause, ...] = (
    _cause(  # k3s#746, k3s#6054
        r"node password rejected|duplicate hostname|node password not set|unable to verify password for node",
        "the cluster knows a node of this name with another password: the host was flashed anew, or its name is taken",
        "ssh {server} sudo k3s kubectl delete node {host} && ssh {server} sudo k3s kubectl -n kube-system "
        "delete secret {host}.node-password.k3s, then run the deployment again",
        certain=True,
    ),
    _cause(  # k3s#4640
        r"bootstrap data already found and encrypted with different token",
        "the token of this server is not the one its datastore was made with",
        "put the cluster's own token back into /etc/rancher/k3s/token of {host} (it is in every backup)",
        certain=True,
    ),
    _cause(  # k3s#3727
        r"token CA hash does not match|does not match the cluster CA",
        "the token is of another cluster: the first server was installed anew, or its CA was changed",
        "compare ssh {server} sudo ls -l /var/lib/rancher/k3s/server/tls with what you expect, then run again: "
        "the deployment fetches the token of the present first server",
        certain=True,
    ),
    _cause(  # k3s#12745
        r"critical configuration (value )?mismatch",
        "this server's settings differ from the first server's in values that must be the same",
        "ssh {host} 'sudo journalctl -u {unit} | grep -i mismatched', and run the deployment for all servers",
        certain=True,
    ),
    _cause(
        r"failed to validate token|not authorized|401 Unauthorized|invalid token",
        "the first server refuses this node's token",
        "ssh {server} systemctl is-active k3s, then run the deployment again: it fetches the present token",
        certain=True,
    ),
    _cause(
        r"failed to find memory cgroup|cgroup_enable=memory|memory cgroup.*(missing|not)",
        "the kernel runs without the memory cgroup",
        "ssh {host} cat /sys/fs/cgroup/cgroup.controllers; it must contain 'memory' (cmdline.txt, then a reboot)",
        certain=True,
    ),
    _cause(  # rke2#3804
        r"invalid kernel flag",
        "protect-kernel-defaults is on and kernel parameters do not have the values the kubelet wants",
        "ssh {host} sudo sysctl --system, then run the deployment again",
        certain=True,
    ),
    _cause(
        r"EventRateLimit|limits: (Invalid value|must not be empty)",
        "kube-apiserver refuses the admission configuration",
        "ssh {host} sudo cat /var/lib/rancher/k3s/server/psa.yaml: EventRateLimit needs at least one limit",
        certain=True,
    ),
    _cause(
        r"flag provided but not defined|unknown flag|unknown shorthand|invalid argument .* for|Incorrect Usage",
        "an argument is not known to this version of K3s or of one of its components",
        "look at the last change of kube_apiserver_args, kube_controller_manager_args and kubelet_args",
        certain=True,
    ),
    _cause(
        r"address already in use",
        "another program has one of K3s' ports (6443, 6444, 2379, 2380, 10250)",
        "ssh {host} sudo ss -ltnp",
    ),
    _cause(
        r"no space left on device|disk quota exceeded",
        "the disk is full",
        "ssh {host} df -h /var/lib/rancher",
    ),
    _cause(
        r"read-only file system|input/output error",
        "the disk fails: the kernel has made it read-only, or cannot read it",
        "ssh {host} sudo dmesg -T --level err,warn, and replace the card or disk",
    ),
    _cause(
        r"certificate has expired or is not yet valid|current time .* is (before|after)",
        "the clocks of the node and the server differ, or a certificate has expired",
        "ssh {host} timedatectl; and ssh {server} timedatectl",
    ),
    _cause(
        r"duplicate node name found",
        "etcd still has a member of this name from an earlier installation",
        "ssh {server} sudo k3s kubectl delete node {host}, then run the deployment again",
    ),
    _cause(
        r"leaderelection lost|apply request took too long|slow fdatasync|etcdserver: request timed out|"
        r"database is locked|Slow SQL",
        "the datastore is too slow: the SD card or disk cannot keep up",
        "move /var/lib/rancher to an SSD or NVMe; see iostat -x 1 on {host} while K3s starts",
    ),
    _cause(
        r"no route to host|network is unreachable|connection refused|i/o timeout|context deadline exceeded|"
        r"connection reset by peer|no such host",
        "the node does not reach the API of the first server on port 6443",
        "ssh {host} curl -ks https://{address}:6443/ping; it must answer pong",
    ),
    _cause(
        r"no default routes? found|unable to select an IP|failed to find interface|unable to find.*interface",
        "K3s finds no interface or default route for this node's address",
        "ssh {host} ip -4 address; ip route: the address of the inventory must be there, and a default route",
    ),
    _cause(
        r"permission denied|operation not permitted",
        "K3s lacks a right on this host",
        _LOOK,
    ),
)


@dataclass(frozen=True)
class Diagnosis:
    """What the journal says: the line that tells most, fit to be shown, and the cause if it is known."""

    line: str
    cause: Cause | None

    @property
    def is_certain(self) -> bool:
        """Whether waiting longer cannot help."""
        return bool(self.cause and self.cause.certain)

    def advice(self, host: str, unit: str, server: str, address: str) -> str:
        """Cause and next command, for an error text."""
        where = {"host": host, "unit": unit, "server": server, "address": address}
        if self.cause is None:
            return f"cause: not one that is known here\nnext: {_LOOK.format(**where)}"
        return f"likely cause: {self.cause.text}\nnext: {self.cause.next_step.format(**where)}"


def diagnose(journal: Sequence[str]) -> Diagnosis:
    """What the last serious lines of K3s' journal mean; the last fatal one counts most."""
    serious = [line for line in journal if _SERIOUS.search(line)]
    ranked = [line for line in reversed(serious) if _FATAL.search(line)]
    ranked += [line for line in reversed(serious) if not _FATAL.search(line)]
    for line in ranked:
        for cause in CAUSES:
            if cause.pattern.search(line):
                return Diagnosis(brief(line), cause)
    return Diagnosis(brief(ranked[0]) if ranked else "", None)


def redact(text: str) -> str:
    """The text without tokens."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def brief(text: str) -> str:
    """The text without tokens, at a readable length."""
    text = redact(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
