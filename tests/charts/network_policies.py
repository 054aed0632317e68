"""NetworkPolicies, evaluated as Kubernetes defines them: who may connect to whom.

A pod that no policy of a direction selects is open in that direction; one that is selected may do what one of them
allows. A connection needs both ends: out of the source and into the target. Addresses are no pods: only `ipBlock`s know
them. Nodes are addresses too, and so are pods in the network of their host. (https://kubernetes.io/docs/concepts/
services-networking/network-policies)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Pod:
    """A pod: where it is, and how it is labelled."""

    namespace: str
    labels: Labels = field(default_factory=dict, hash=False)
    address: str = "10.42.1.10"


@dataclass(frozen=True)
class Address:
    """Whatever is no pod."""

    address: str


End = Pod | Address


@dataclass(frozen=True)
class Network:
    """All policies, and the labels of all namespaces."""

    policies: tuple[dict[str, Any], ...]
    namespaces: Mapping[str, Labels]

    def allowed(self, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection from one to the other can be made."""
        return self.lets_out(source, target, port, protocol) and self.lets_in(target, source, port, protocol)

    def lets_out(self, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
        """Whether the source's own policies allow it, whatever those of the target say."""
        return self._open("Egress", source, target, port, protocol)

    def lets_in(self, target: End, source: End, port: int, protocol: str = "TCP") -> bool:
        """Whether the target's own policies allow it, whatever those of the source say."""
        return self._open("Ingress", target, source, port, protocol)

    def _open(self, direction: str, own: End, other: End, port: int, protocol: str) -> bool:
        if isinstance(own, Address):
            return True
        selecting = [
            policy
            for policy in self.policies
            if policy["metadata"]["namespace"] == own.namespace
            and direction in policy["spec"]["policyTypes"]
            and selects(policy["spec"]["podSelector"], own.labels)
        ]
        rules = [rule for policy in selecting for rule in policy["spec"].get(direction.lower(), [])]
        return not selecting or any(self._matches(rule, direction, own, other, port, protocol) for rule in rules)

    def _matches(self, rule: Any, direction: str, own: Pod, other: End, port: int, protocol: str) -> bool:
        peers = rule.get("from" if direction == "Ingress" else "to")
        ports = rule.get("ports")
        return (not peers or any(self._is(peer, own, other) for peer in peers)) and (
            not ports or any(_covers(entry, port, protocol) for entry in ports)
        )

    def _is(self, peer: Any, own: Pod, other: End) -> bool:
        if block := peer.get("ipBlock"):
            address = ip_address(other.address)
            return address in ip_network(block["cidr"]) and not any(
                address in ip_network(hole) for hole in block.get("except", [])
            )
        if isinstance(other, Address):
            return False
        if "namespaceSelector" in peer:
            in_namespace = selects(peer["namespaceSelector"], self.namespaces[other.namespace])
        else:
            in_namespace = other.namespace == own.namespace
        return in_namespace and selects(peer.get("podSelector", {}), other.labels)


def _covers(entry: Any, port: int, protocol: str) -> bool:
    first = entry.get("port")
    assert first is None or isinstance(first, int), "ports by name are not evaluated"
    inside = first is None or first <= port <= entry.get("endPort", first)
    return inside and entry.get("protocol", "TCP") == protocol


def selects(selector: Any, labels: Labels) -> bool:
    """Whether a label selector selects what has these labels; an empty one selects everything."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    return all(_expression(entry, labels) for entry in selector.get("matchExpressions", []))


def _expression(entry: Any, labels: Labels) -> bool:
    key, values = entry["key"], entry.get("values", [])
    match entry["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise ValueError(f"no operator of label selectors: {other}")


def network_of(manifests: Iterable[dict[str, Any]], namespaces: Sequence[str]) -> Network:
    """The policies among manifests, and the namespaces among them and of these names."""
    everything = list(manifests)
    labels = {
        one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in everything if one["kind"] == "Namespace"
    }
    labels |= {name: {} for name in namespaces if name not in labels}
    # the API server labels every namespace with its name
    named = {name: {**found, "kubernetes.io/metadata.name": name} for name, found in labels.items()}
    return Network(tuple(one for one in everything if one["kind"] == "NetworkPolicy"), named)
