"""What servers and agents share: who this node is, its own checks, its password, its kubelet."""

import hashlib
import json
import secrets
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import checks, kubeargs, log
from .baked import VERSION
from .config import Options
from .kubelet import NodeSpec
from .layout import NODE_PASSWORD, Layout, make_dir, write_file
from .log import Fatal

# Values of these never show in the node-args annotation (k3s pkg/nodeconfig).
_SECRET_ARGUMENTS = (
    "token",
    "agent-token",
    "etcd-s3-access-key",
    "etcd-s3-secret-key",
    "datastore-endpoint",
    "vpn-auth",
)


def node_name(options: Options) -> str:
    name = (options.text("node-name") or socket.gethostname()).lower()
    if options.on("with-node-id"):
        file = NODE_PASSWORD.parent / "id"
        if not file.is_file():
            write_file(file, secrets.token_hex(4) + "\n", 0o644)
        name = f"{name}-{file.read_text().strip()}"
    return name


def _addresses_of(*interface: str) -> list[str]:
    """IPv4 addresses of the interfaces, in the order of their names (a lab host has its LAN on eth0)."""
    command = ["ip", "-4", "-j", "addr", "show", *(["dev", *interface] if interface else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return []
    found = []
    for link in sorted(json.loads(done.stdout or "[]"), key=lambda item: str(item.get("ifname"))):
        if link.get("ifname") == "lo" or str(link.get("ifname", "")).startswith(("cni", "flannel", "docker", "veth")):
            continue
        found += [a["local"] for a in link.get("addr_info", []) if a.get("scope") == "global"]
    return found


def own_addresses(options: Options, server_host: str = "") -> list[str]:
    """``node-ip``, else the flannel interface's, else the one towards the server, else the first. Raises Fatal."""
    if options.many("node-ip"):
        return options.many("node-ip")
    interface = options.text("flannel-iface")
    if interface:
        found = _addresses_of(interface)
        if not found:
            raise Fatal(f"unable to find interface {interface}: route ip+net: no such network interface")
        return found[:1]
    if server_host:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((server_host, 9))
                address = str(probe.getsockname()[0])
            if not address.startswith("127."):
                return [address]
        except OSError:
            pass
    found = _addresses_of()
    if not found:
        raise Fatal('no default routes found in "/proc/net/route" or "/proc/net/ipv6_route"')
    return found[:1]


def refuse_early(options: Options, layout: Layout) -> NodeSpec:
    """Refuse what the node's own part refuses; the node as configured otherwise. Raises Fatal, SystemExit."""
    if not options.on("disable-agent"):
        fault = checks.memory_cgroup()
        if fault:
            if "(v2)" not in fault:
                log.error(fault[0].upper() + fault[1:])
            raise Fatal(fault)
    kubelet = kubeargs.check_node_arguments(options.many("kubelet-arg"), options.many("kube-proxy-arg"))
    checks.registries(Path(options.text("private-registry", "/etc/rancher/k3s/registries.yaml")))
    labels = checks.parse_labels(
        [*options.many("node-label"), *([kubelet["node-labels"]] if "node-labels" in kubelet else [])]
    )
    taints = checks.parse_taints(options.many("node-taint"))
    layout.prepare_agent()
    settings = checks.kubelet_drop_ins(layout.agent / "etc" / "kubelet.conf.d")
    protect = options.on("protect-kernel-defaults") or settings.get("protectKernelDefaults") is True
    if protect:
        fault = checks.kernel_tunables()
        if fault:
            # The kubelet inside K3s ends the process itself, without a fatal line of K3s.
            log.klog_error("kubelet.go:1566", f'"Failed to start ContainerManager" err="{fault}"')
            raise SystemExit(1)
    host = ""
    if options.text("server"):
        from .api import split_url

        host = split_url(options.text("server"))[0]
    return NodeSpec(
        name=node_name(options),
        addresses=own_addresses(options, host),
        external=options.many("node-external-ip"),
        labels=labels,
        taints=taints,
        annotations=node_annotations(options),
        version=VERSION,
        max_pods=int(kubelet.get("max-pods", settings.get("maxPods", 110))),
        reserved=checks.reservations(kubelet, settings),
    )


def node_annotations(options: Options) -> dict[str, str]:
    """``k3s.io/node-args`` and its hash, secrets masked, as K3s sets them."""
    arguments: list[str] = [options.mode]
    for name, value in options.values.items():
        for item in value if isinstance(value, list) else [value]:
            text = str(item).lower() if isinstance(item, bool) else item
            arguments += [f"--{name}", "********" if name in _SECRET_ARGUMENTS else text]
    digest = hashlib.sha256(json.dumps(arguments).encode()).hexdigest()
    return {"k3s.io/node-args": json.dumps(arguments), "k3s.io/node-config-hash": digest.upper()}


def node_password(path: Path = NODE_PASSWORD) -> str:
    """The password of this host, made once and kept."""
    if not path.is_file():
        make_dir(path.parent, 0o755)
        write_file(path, secrets.token_hex(16) + "\n")
    return path.read_text().strip()


def password_proof(node: str, password: str) -> str:
    """What leaves the host in place of the password (scrypt; the API of Kubernetes has no field to hide it in)."""
    salt = f"k3s-standin:{node}".encode()
    return hashlib.scrypt(password.encode(), salt=salt, n=16384, r=8, p=1).hex()


def arguments_line(name: str, arguments: Sequence[str]) -> str:
    """The line that CIS checkers look for in the journal."""
    return f"Running {name} {' '.join(arguments)}"
