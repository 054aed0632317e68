"""Namespaces and Secrets of a cluster: that they are there, and whether we made them; never what they hold. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from piclusterops.helm_releases import FAULT_MARK

#: Annotation of a Secret of ours, with the mark of its content (`piclusterops.value_digest`).
DIGEST_ANNOTATION = "piclusterops.io/digest"
NAMESPACES_MARK = "@@namespaces"
SECRETS_MARK = "@@secrets"

#: Namespace and name.
Key = tuple[str, str]


@dataclass(frozen=True)
class SecretState:
    """A Secret as it is: its type, and the mark that we left; empty when it is not ours."""

    type: str
    mark: str = ""


@dataclass(frozen=True)
class ClusterObjects:
    """Namespaces (name to phase) and Secrets, without those of Helm. With a `fault` nothing else is known."""

    namespaces: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[Key, SecretState] = field(default_factory=dict)
    fault: str = ""


def parse(output: Sequence[str]) -> ClusterObjects:
    """What the script of the fact printed: `name|phase` and `namespace|name|type|mark`.

    Raises:
        ValueError: it is not of the expected form.
    """
    namespaces: dict[str, str] = {}
    secrets: dict[Key, SecretState] = {}
    section = ""
    for line in output:
        if line.startswith(FAULT_MARK):
            return ClusterObjects(fault=line.removeprefix(FAULT_MARK).strip() or "no answer")
        if line in (NAMESPACES_MARK, SECRETS_MARK):
            section = line
        elif section and line[:1].isupper():
            continue  # a remark of kubectl ("Warning: ...", "E1123 ..."); names are in lower case
        elif section == NAMESPACES_MARK:
            name, phase = line.split("|")
            namespaces[name] = phase
        elif section == SECRETS_MARK:
            namespace, name, kind, mark = line.split("|")
            secrets[namespace, name] = SecretState(kind, mark)
        else:
            raise ValueError(f"unexpected line: {line!r}")
    return ClusterObjects(namespaces, secrets)
