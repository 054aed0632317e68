"""What a Pod's containers need before they can start: the Secrets and ConfigMaps that its spec names.

Optional ones are left out. The texts are the kubelet's (kubernetes ``pkg/kubelet/kubelet_pods.go``,
``pkg/volume/secret``, ``pkg/volume/util``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .api import Json

KINDS = {"secrets": "secret", "configmaps": "configmap"}


@dataclass(frozen=True)
class Need:
    """A Secret or ConfigMap, perhaps one key of it, for a volume or else for an environment variable."""

    resource: str
    name: str
    key: str = ""
    volume: str = ""

    def absent(self) -> str:
        """The kubelet's complaint when there is no such object."""
        return self._framed(f'{KINDS[self.resource]} "{self.name}" not found')

    def lacking(self, namespace: str) -> str:
        """The kubelet's complaint when the object has no such key."""
        if self.volume:
            return self._framed(f"references non-existent {KINDS[self.resource].replace('map', '')} key: {self.key}")
        kind = {"secrets": "Secret", "configmaps": "ConfigMap"}[self.resource]
        return f"couldn't find key {self.key} in {kind} {namespace}/{self.name}"

    def _framed(self, text: str) -> str:
        return f'MountVolume.SetUp failed for volume "{self.volume}" : {text}' if self.volume else text


def needs(spec: Json) -> list[Need]:
    """In the order in which the kubelet looks: volumes first, then the variables of each container."""
    return [*_of_volumes(spec), *_of_variables(spec)]


def _of_volumes(spec: Json) -> Iterator[Need]:
    for volume in spec.get("volumes") or []:
        name = volume["name"]
        yield from _of_source(name, "secrets", volume.get("secret"), "secretName")
        yield from _of_source(name, "configmaps", volume.get("configMap"), "name")
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield from _of_source(name, "secrets", source.get("secret"), "name")
            yield from _of_source(name, "configmaps", source.get("configMap"), "name")


def _of_source(volume: str, resource: str, source: Json | None, field: str) -> Iterator[Need]:
    if source is None or source.get("optional") or not source.get(field):
        return
    keys = [item["key"] for item in source.get("items") or []] or [""]
    for key in keys:
        yield Need(resource, source[field], key, volume)


def _of_variables(spec: Json) -> Iterator[Need]:
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for group in container.get("envFrom") or []:
            for field, resource in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
                source = group.get(field)
                if source and not source.get("optional"):
                    yield Need(resource, source["name"])
        for variable in container.get("env") or []:
            origin = variable.get("valueFrom") or {}
            for field, resource in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
                source = origin.get(field)
                if source and not source.get("optional"):
                    yield Need(resource, source["name"], source["key"])
