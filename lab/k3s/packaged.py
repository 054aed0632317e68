"""K3s' packaged components, as API objects: what K3s' own manifests would make of them, with pods that run nothing.

Names, labels and the storage class are those of K3s' ``manifests/`` folder. Left out: the APIService of
metrics-server, which nothing would answer, and Traefik's dashboard.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import yaml

from . import crds, log
from .api import MERGE, Api, ApiError, Json

if TYPE_CHECKING:
    from .server import Server

#: Definitions that K3s and its Traefik charts bring.
DEFINITIONS: dict[str, list[str]] = {
    "helm.cattle.io/v1": ["HelmChart", "HelmChartConfig"],
    "k3s.cattle.io/v1": ["Addon"],
}
TRAEFIK: dict[str, list[str]] = {
    "traefik.io/v1alpha1": [
        *("IngressRoute", "IngressRouteTCP", "IngressRouteUDP", "Middleware", "MiddlewareTCP"),
        *("ServersTransport", "ServersTransportTCP", "TLSOption", "TLSStore", "TraefikService"),
    ]
}
CHART_CONFIGS = "/apis/helm.cattle.io/v1/helmchartconfigs"
STORAGE_CLASS = "local-path"
PROVISIONER = "rancher.io/local-path"
_RESOURCES = {
    "coredns": ("100m", "70Mi", "170Mi"),
    "metrics-server": ("100m", "70Mi", ""),
    "local-path-provisioner": ("", "", ""),
    "traefik": ("", "", ""),
}


def deployment(name: str, labels: dict[str, str]) -> Json:
    """A Deployment of one pod in kube-system with K3s' requests."""
    cpu, memory, limit = _RESOURCES[name]
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    resources = {"requests": requests, **({"limits": {"memory": limit}} if limit else {})}
    container = {"name": name, "image": f"standin.invalid/{name}:1", "resources": resources}
    spec = {
        "containers": [container],
        "priorityClassName": "system-cluster-critical",
        "tolerations": [
            {"key": "CriticalAddonsOnly", "operator": "Exists"},
            {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def service(name: str, selector: dict[str, str], ports: dict[str, int], **spec: str) -> Json:
    """A Service in kube-system."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {
            "selector": selector,
            "ports": [
                {"name": key, "port": port, "protocol": "UDP" if key == "dns" else "TCP"} for key, port in ports.items()
            ],
            **spec,
        },
    }


def components(disabled: list[str], dns: str) -> Iterator[tuple[str, Json]]:
    """API path and object of all that is not disabled, in the order in which they must be made."""
    for definition in crds.definitions({**DEFINITIONS, **({} if "traefik" in disabled else TRAEFIK)}):
        yield f"{crds.CRDS}/{definition['metadata']['name']}", definition
    objects = []
    if "coredns" not in disabled:
        labels = {"k8s-app": "kube-dns"}
        objects += [
            deployment("coredns", labels),
            service("kube-dns", labels, {"dns": 53, "dns-tcp": 53, "metrics": 9153}, clusterIP=dns),
        ]
    if "local-storage" not in disabled:
        objects += [_storage_class(), deployment("local-path-provisioner", {"app": "local-path-provisioner"})]
    if "metrics-server" not in disabled:
        labels = {"k8s-app": "metrics-server"}
        objects += [deployment("metrics-server", labels), service("metrics-server", labels, {"https": 443})]
    if "traefik" not in disabled:
        labels = {"app.kubernetes.io/name": "traefik", "app.kubernetes.io/instance": "traefik-kube-system"}
        objects += [
            _ingress_class(),
            deployment("traefik", labels),
            service("traefik", labels, {"web": 80, "websecure": 443}, type="LoadBalancer"),
        ]
    for item in objects:
        yield path_of(item), item


_PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/kube-system/deployments",
    "Service": "/api/v1/namespaces/kube-system/services",
    "StorageClass": "/apis/storage.k8s.io/v1/storageclasses",
    "IngressClass": "/apis/networking.k8s.io/v1/ingressclasses",
}


def path_of(item: Json) -> str:
    """Where the API has one of these objects."""
    return f"{_PATHS[item['kind']]}/{item['metadata']['name']}"


def _storage_class() -> Json:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }


def _ingress_class() -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "traefik", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "traefik.io/ingress-controller"},
    }


def disabled(server: "Server") -> list[str]:
    """The components of `disable`, which may be given separated by commas."""
    return [name for item in server.options.many("disable") for name in item.split(",")]


def configure(api: Api, config: Json) -> bool:
    """What a HelmChartConfig says about Traefik's Service: its annotations, and parts of its spec."""
    if (config["metadata"]["namespace"], config["metadata"]["name"]) != ("kube-system", "traefik"):
        return True
    values = yaml.safe_load(config["spec"].get("valuesContent") or "") or {}
    wanted = values.get("service") or {}
    change = {"metadata": {"annotations": wanted.get("annotations") or {}}, "spec": wanted.get("spec") or {}}
    if wanted.get("annotations") or wanted.get("spec"):
        api.call("PATCH", f"{_PATHS['Service']}/traefik", change, MERGE)
    return True


def apply(server: "Server", dns: str) -> None:
    """Make them, again until the API takes them all."""
    api: Api = server.admin()
    left = list(components(disabled(server), dns))
    while left and not server.stop.is_set():
        path, item = left[0]
        try:
            api.apply(path, item)
            left.pop(0)
        except (ApiError, OSError) as problem:
            log.warning(f"{item['kind']} {item['metadata']['name']}: {problem}")
            time.sleep(1)
    api.close()
