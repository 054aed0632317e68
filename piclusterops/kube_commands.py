"""The shell that kubectl is run with on a server. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import Any

from piclusterops.k3s_config import BINARY

KUBECTL = f"{BINARY} kubectl --request-timeout=30s"
#: Without that limit, which would end a watch too.
PATIENT_KUBECTL = f"{BINARY} kubectl"

#: When objects that operators work on are ready; Helm does not know that. By API group and kind.
#: Sources: cloudnative-pg docs (Cluster status), cloud-on-k8s docs (status.phase and status.health).
OPERATED: Mapping[tuple[str, str], str] = {
    ("postgresql.cnpg.io", "Cluster"): "Ready",
    ("elasticsearch.k8s.elastic.co", "Elasticsearch"): "jsonpath={.status.phase}=Ready",
    ("kibana.k8s.elastic.co", "Kibana"): "jsonpath={.status.health}=green",
    ("logstash.k8s.elastic.co", "Logstash"): "jsonpath={.status.health}=green",
}


def waiting(what: str, condition: str, timeout_s: int) -> str:
    """Shell that waits for an object, and says on stderr what it lacks in the end.

    Args:
        what: kubectl's arguments that name it, quoted.
        condition: a condition of its status; `rollout`; `exists`; `deleted`; or what ``kubectl wait --for`` takes.
        timeout_s: how long, in seconds.
    """
    left = "--timeout=$(( end - $(date +%s) > 0 ? end - $(date +%s) : 1 ))s"
    # kubectl itself gives up at once on what is not there yet.
    there = (
        f"end=$(( $(date +%s) + {timeout_s} )); until {KUBECTL} get {what} >/dev/null 2>&1; do "
        '[ "$(date +%s)" -lt "$end" ] || { echo "it does not exist" >&2; false; break; }; sleep 1; done'
    )
    if condition == "deleted":
        return f"{PATIENT_KUBECTL} wait {what} --for=delete --timeout={timeout_s}s >/dev/null"
    if condition == "exists":
        return there
    if condition == "rollout":
        return f"{there} && {PATIENT_KUBECTL} rollout status {what} {left} >/dev/null"
    wanted = condition if "=" in condition else f"condition={condition}"
    return f"{there} && {PATIENT_KUBECTL} wait {what} --for={quote(wanted)} {left} >/dev/null"


def operated(item: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Kind for kubectl, name and condition of an object that an operator works on; None for any other object."""
    group, kind = str(item.get("apiVersion", "")).partition("/")[0], str(item.get("kind", ""))
    condition = OPERATED.get((group, kind))
    name = (item.get("metadata") or {}).get("name")
    return (f"{kind}.{group}", str(name), condition) if condition and name else None
