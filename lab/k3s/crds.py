"""Custom resource definitions without a schema: the API keeps whatever such an object holds."""

import re

from .api import Json

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def plural(kind: str) -> str:
    """The resource's name as code generators make it: ``IPAddressPool`` -> ``ipaddresspools``."""
    word = kind.lower()
    if re.search(r"(s|x|ch|sh)$", word):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", word) else f"{word}s"


def definition(group: str, versions: list[str], kind: str, cluster_scoped: bool = False) -> Json:
    """One definition; the first of `versions` is stored, all are served, each with a status of its own."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural(kind)}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural(kind), "singular": kind.lower(), "listKind": f"{kind}List"},
            "scope": "Cluster" if cluster_scoped else "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == versions[0],
                    "schema": {"openAPIV3Schema": anything},
                    "subresources": {"status": {}},
                }
                for version in versions
            ],
        },
    }


def definitions(names: dict[str, list[str]]) -> list[Json]:
    """Those of a short form: ``{"metallb.io/v1beta1": ["IPAddressPool"], "x.io/v1,v1beta1": ["Thing (cluster)"]}``."""
    made = []
    for place, kinds in names.items():
        group, _, versions = place.partition("/")
        for kind in kinds:
            name, _, scope = kind.partition(" ")
            made.append(definition(group, versions.split(","), name, scope == "(cluster)"))
    return made
