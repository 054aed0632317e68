"""What K3s' operations want to know of a host, as one query, and how to read the answers."""

from __future__ import annotations

from collections.abc import Sequence

from piclusterops import preflight
from piclusterops.artefacts import RELEASES
from piclusterops.facts.snapshot import Query, Snapshot
from piclusterops.k3s_config import (
    AGENT_K10_TOKEN,
    AGENT_TOKEN,
    AUDIT_LOG_DIR,
    BINARY,
    DATA_DIR,
    REGISTRIES,
    SERVER_K10_TOKEN,
    STORAGE_DIR,
    TOKEN,
    environment_path,
    registration_files,
    restart_files,
    unit_name,
)
from piclusterops.settings import Cluster, Node

#: Under this name a host remembers which binary and files its running K3s was started with.
STAMP = "k3s"
#: Where the verified binary waits until it is its host's turn.
STAGED = "/usr/local/bin/.k3s.staged"
IMAGES_DIR = f"{DATA_DIR}/agent/images"
#: Commands that are links to k3s, where the host has none of that name (as K3s' install script does it).
TOOLS = ("kubectl", "crictl", "ctr")


def query(cluster: Cluster, node: Node) -> Query:
    """Everything that deciding about K3s on a node needs, in one round trip."""
    paths = [BINARY, STAGED, *restart_files(cluster, node), *registration_files(node), environment_path(node)]
    paths += [TOKEN, REGISTRIES, STORAGE_DIR]
    if node.is_server:
        paths += [AGENT_TOKEN, SERVER_K10_TOKEN, AUDIT_LOG_DIR]
    if cluster.settings.airgap_images:
        paths += [f"{IMAGES_DIR}/{release.images}" for release in RELEASES.values()]
    return Query(
        paths=tuple(dict.fromkeys(paths)),
        units=(unit_name(node),),
        probes=(
            ("preflight", preflight.PROBE),
            ("tokens", _token_probe((TOKEN, AGENT_TOKEN, SERVER_K10_TOKEN, AGENT_K10_TOKEN))),
            ("tools", f'for c in {" ".join(TOOLS)}; do command -v "$c" >/dev/null || echo "$c"; done'),
            ("registries", f"head -n 1 {REGISTRIES}"),
        ),
    )


def _token_probe(paths: Sequence[str]) -> str:
    """Shell that prints each path with the digest of its token; never the token (`printf` is a builtin)."""
    return (
        f'for f in {" ".join(paths)}; do [ -s "$f" ] && '
        'printf \'%s %s\\n\' "$f" "$(printf %s "$(cat "$f")" | sha256sum | cut -c1-64)"; done'
    )


def token_digests(snapshot: Snapshot) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in snapshot.probes.get("tokens", []) if " " in line)


def host_facts(snapshot: Snapshot) -> preflight.HostFacts | None:
    """What the preflight check wants to know, from a snapshot."""
    return preflight.parse(snapshot.probes.get("preflight", []))


def is_starting(snapshot: Snapshot, node: Node) -> bool:
    """Whether K3s is on its way up, as after a boot; not when systemd starts it again because it failed."""
    unit = snapshot.units.get(unit_name(node))
    return unit is not None and unit.active == "activating" and unit.sub in ("start-pre", "start", "start-post")


def has_joined(snapshot: Snapshot, node: Node) -> bool:
    """Whether K3s has been started here before."""
    unit = snapshot.units.get(unit_name(node))
    return STAMP in snapshot.stamps or (unit is not None and unit.active == "active")
