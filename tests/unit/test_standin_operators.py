"""What the stand-in does in place of pods that would run controllers: volumes, addresses, certificates, needs."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from piclusterops.lab.k3s import certificates, crds, loadbalancer, packaged, volumes
from piclusterops.lab.k3s.api import Api, ApiError
from piclusterops.lab.k3s.needs import needs

POOL = {"spec": {"addresses": ["10.0.0.8-10.0.0.10", "10.0.1.0/30"]}}


class FakeApi(Api):
    """Objects by path; `apply` and `PATCH` replace parts, `POST` adds to a list."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.objects = objects
        self.posted: list[tuple[str, Any]] = []

    def call(self, method: str, path: str, body: Any = None, kind: str = "") -> Any:
        if method == "GET":
            if path not in self.objects:
                raise ApiError(404, path)
            return self.objects[path]
        if method == "PATCH" and path.endswith("/status"):
            self.objects[path.removesuffix("/status")]["status"] = body["status"]
        elif method == "PATCH" and "?" in path:
            self.objects[path.partition("?")[0]] = body
        else:
            self.posted.append((f"{method} {path}", body))
        return body or {}


def service(name: str, has: str = "", **annotations: str) -> dict[str, Any]:
    notes = {key.replace("__", "/").replace("_", "."): value for key, value in annotations.items()}
    status = {"loadBalancer": {"ingress": [{"ip": has}]}} if has else {}
    meta = {"name": name, "namespace": "n", "uid": name, "resourceVersion": "7", "annotations": notes}
    return {"metadata": meta, "spec": {"type": "LoadBalancer"}, "status": status}


def cluster_of(*services: dict[str, Any], available: int = 1) -> FakeApi:
    return FakeApi(
        {
            loadbalancer.SERVICES: {"items": list(services)},
            loadbalancer.POOLS: {"items": [POOL]},
            "/apis/apps/v1/namespaces/metallb-system/deployments": {
                "items": [{"status": {"availableReplicas": available}}]
            },
            **{f"/api/v1/namespaces/n/services/{item['metadata']['name']}": item for item in services},
        }
    )


def test_pools_are_ranges_and_networks() -> None:
    assert list(loadbalancer.expand(POOL["spec"]["addresses"])) == [
        *("10.0.0.8", "10.0.0.9", "10.0.0.10"),
        *("10.0.1.0", "10.0.1.1", "10.0.1.2", "10.0.1.3"),
    ]


@pytest.mark.parametrize(
    ("asked", "taken", "address", "why"),
    [
        ({}, {"10.0.0.8"}, "10.0.0.9", ""),
        ({"metallb_io__loadBalancerIPs": "10.0.1.2"}, set(), "10.0.1.2", ""),
        ({"metallb_io__loadBalancerIPs": "10.0.1.2"}, {"10.0.1.2"}, "", "is in use"),
        ({"metallb_io__loadBalancerIPs": "10.9.9.9"}, set(), "", "is not allowed in config"),
    ],
)
def test_a_service_gets_the_address_it_asks_for_or_the_next_free_one(
    asked: dict[str, str], taken: set[str], address: str, why: str
) -> None:
    found, reason = loadbalancer.choose(service("s", **asked), [POOL], taken)
    assert found == address
    assert why in reason


def test_a_pool_that_is_not_for_everyone_is_used_only_when_asked_for() -> None:
    closed = {"spec": {**POOL["spec"], "autoAssign": False}}
    assert loadbalancer.choose(service("s"), [closed], set()) == ("", "no available IPs")


def test_addresses_are_given_while_metallb_is_there_and_only_to_those_without() -> None:
    first, second = service("a"), service("b", has="10.0.0.8")
    api = cluster_of(first, second)
    balancer = loadbalancer.Balancer()
    assert balancer.serve(api, second) is True
    assert balancer.serve(cluster_of(first, second, available=0), first) is False
    assert balancer.serve(api, first) is True
    assert loadbalancer.addresses_of(first) == ["10.0.0.9"]


def test_a_service_that_now_asks_for_another_address_gets_that() -> None:
    moved = service("a", has="10.0.0.8", metallb_io__loadBalancerIPs="10.0.0.10")
    assert loadbalancer.Balancer().serve(cluster_of(moved), moved) is True
    assert loadbalancer.addresses_of(moved) == ["10.0.0.10"]


def test_an_address_outside_the_pools_is_said_once_and_the_service_stays_without() -> None:
    lost = service("a", metallb_io__loadBalancerIPs="10.9.9.9")
    api, balancer = cluster_of(lost), loadbalancer.Balancer()
    assert [balancer.serve(api, lost), balancer.serve(api, lost)] == [False, False]
    assert [body["message"] for _, body in api.posted] == [
        'Failed to allocate IP for "n/a": ["10.9.9.9"] is not allowed in config'
    ]


def claim(node: str = "", by: str = packaged.PROVISIONER, phase: str = "Pending") -> dict[str, Any]:
    notes = {"volume.beta.kubernetes.io/storage-provisioner": by}
    if node:
        notes["volume.kubernetes.io/selected-node"] = node
    return {
        "metadata": {"name": "data", "namespace": "n", "uid": "u1", "annotations": notes},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "local-path",
            "resources": {"requests": {"storage": "2Gi"}},
        },
        "status": {"phase": phase},
    }


def test_a_local_volume_is_made_on_the_node_that_the_scheduler_chose_and_not_before() -> None:
    api = FakeApi({})
    volumes.provide(api, claim(), "/data")
    volumes.provide(api, claim("pi-worker-2", phase="Bound"), "/data")
    volumes.provide(api, claim("pi-worker-2", by="someone.else/driver"), "/data")
    assert api.posted == []
    volumes.provide(api, claim("pi-worker-2"), "/data")
    (_, made) = api.posted[0]
    assert made["spec"]["hostPath"]["path"] == "/data/pvc-u1_n_data"
    assert made["spec"]["claimRef"]["uid"] == "u1"
    terms = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["pi-worker-2"]


def test_a_volume_whose_claim_is_gone_is_deleted_unless_it_is_to_be_kept() -> None:
    api = FakeApi({})
    for policy in ("Retain", "Delete"):
        item = volumes.volume(claim(), packaged.PROVISIONER, "n1", "/data")
        item["spec"]["persistentVolumeReclaimPolicy"] = policy
        volumes.reclaim(api, {**item, "status": {"phase": "Bound"}})
        volumes.reclaim(api, {**item, "status": {"phase": "Released"}})
    assert [path for path, _ in api.posted] == [f"DELETE {volumes.VOLUMES}/pvc-u1"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("IPAddressPool", "ipaddresspools"),
        ("Prometheus", "prometheuses"),
        ("ImagePolicy", "imagepolicies"),
        ("HelmRepository", "helmrepositories"),
        ("Elasticsearch", "elasticsearches"),
    ],
)
def test_resources_are_named_as_code_generators_do(kind: str, name: str) -> None:
    assert crds.plural(kind) == name


def test_definitions_from_their_short_form() -> None:
    (things,) = crds.definitions({"x.io/v1,v1beta1": ["Thing (cluster)"]})
    assert things["metadata"]["name"] == "things.x.io"
    assert things["spec"]["scope"] == "Cluster"
    assert [(v["name"], v["storage"]) for v in things["spec"]["versions"]] == [("v1", True), ("v1beta1", False)]


def test_packaged_components_can_be_left_out() -> None:
    everything = [path for path, _ in packaged.components([], "10.43.0.10")]
    less = [path for path, _ in packaged.components(["traefik", "local-storage"], "10.43.0.10")]
    assert [path for path in everything if path.endswith("/traefik")] != []
    assert [path for path in less if "traefik" in path or "local-path" in path] == []
    assert "/apis/apps/v1/namespaces/kube-system/deployments/coredns" in less


def test_the_configuration_of_traefiks_chart_reaches_its_service_and_no_other() -> None:
    def config(name: str, values: str) -> dict[str, Any]:
        return {"metadata": {"namespace": "kube-system", "name": name}, "spec": {"valuesContent": values}}

    api = FakeApi({})
    packaged.configure(api, config("other", "service: {annotations: {a: b}}"))
    packaged.configure(api, config("traefik", "logs: {}"))
    assert api.posted == []
    packaged.configure(api, config("traefik", "service:\n  annotations:\n    metallb.io/loadBalancerIPs: 10.0.0.9"))
    (path, change) = api.posted[0]
    assert path.endswith("/services/traefik")
    assert change["metadata"]["annotations"] == {"metallb.io/loadBalancerIPs": "10.0.0.9"}


def test_what_a_pod_needs_before_its_containers_start() -> None:
    spec = {
        "volumes": [
            {"name": "v", "secret": {"secretName": "tls", "items": [{"key": "tls.key", "path": "k"}]}},
            {"name": "o", "secret": {"secretName": "unneeded", "optional": True}},
            {"name": "p", "projected": {"sources": [{"configMap": {"name": "root"}}, {"downwardAPI": {}}]}},
            {"name": "e", "emptyDir": {}},
        ],
        "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "env"}}]}],
        "containers": [
            {
                "name": "c",
                "env": [
                    {"name": "A", "value": "plain"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
                    {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": True}}},
                ],
            }
        ],
    }
    assert [(need.resource, need.name, need.key) for need in needs(spec)] == [
        ("secrets", "tls", "tls.key"),
        ("configmaps", "root", ""),
        ("secrets", "env", ""),
        ("secrets", "login", "password"),
    ]


def test_what_is_lacking_is_said_in_the_kubelets_words() -> None:
    mounted, _, variable = (
        *needs({"volumes": [{"name": "v", "secret": {"secretName": "tls"}}], "containers": []}),
        None,
        *needs(
            {"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]}]},
        ),
    )
    assert mounted.absent() == 'MountVolume.SetUp failed for volume "v" : secret "tls" not found'
    assert variable.absent() == 'secret "login" not found'
    assert variable.lacking("n") == "couldn't find key password in Secret n/login"


def issuer(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "generation": 1, **({"namespace": "n"} if kind == "Issuer" else {})}
    return {"kind": kind, "metadata": meta, "spec": spec}


def certificate(name: str, by: str, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Certificate",
        "metadata": {"name": name, "namespace": spec.pop("namespace", "n"), "generation": 1},
        "spec": {"secretName": name, "issuerRef": {"kind": "ClusterIssuer", "name": by}, **spec},
    }


def placed(*items: dict[str, Any]) -> FakeApi:
    return FakeApi({certificates._path(item): item for item in items})


def secret_of(api: FakeApi, name: str, namespace: str = "n") -> dict[str, bytes]:
    data = api.objects[f"/api/v1/namespaces/{namespace}/secrets/{name}"]["data"]
    return {key: base64.b64decode(value) for key, value in data.items()}


def test_a_ca_made_by_a_self_signed_issuer_signs_for_the_next(tmp_path: Path) -> None:
    own, internal = (
        issuer("ClusterIssuer", "own", selfSigned={}),
        issuer("ClusterIssuer", "ca", ca={"secretName": "root"}),
    )
    root = certificate("root", "own", isCA=True, commonName="home", namespace="cert-manager")
    leaf = certificate("web", "ca", dnsNames=["web.home.arpa"])
    api, signer = placed(own, internal, root, leaf), certificates.Signer(tmp_path)

    assert certificates.check_issuer(api, own) is True
    assert certificates.check_issuer(api, internal) is False
    assert signer.issue(api, leaf) is False
    assert "not found or not Ready: ca" in leaf["status"]["conditions"][0]["message"]
    assert signer.issue(api, root) is True
    assert certificates.check_issuer(api, internal) is True
    assert signer.issue(api, leaf) is True
    assert certificates.ready(leaf)

    made = secret_of(api, "web")
    ca = x509.load_pem_x509_certificate(secret_of(api, "root", "cert-manager")["tls.crt"])
    cert = x509.load_pem_x509_certificate(made["tls.crt"])
    cert.verify_directly_issued_by(ca)
    assert made["ca.crt"] == secret_of(api, "root", "cert-manager")["tls.crt"]
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["web.home.arpa"]


def test_a_certificate_is_made_once_and_again_when_it_changes_or_its_secret_is_lost(tmp_path: Path) -> None:
    own, web = issuer("ClusterIssuer", "acme", acme={}), certificate("web", "acme", dnsNames=["web"])
    api, signer = placed(own, web), certificates.Signer(tmp_path)
    certificates.check_issuer(api, own)
    seen = []
    for change in (None, None, "generation", "lost"):
        if change == "generation":
            web["metadata"]["generation"] = 2
        if change == "lost":
            del api.objects["/api/v1/namespaces/n/secrets/web"]
        assert signer.issue(api, web) is True
        seen.append(secret_of(api, "web")["tls.crt"])
    assert [seen[0] == seen[1], seen[1] == seen[2], seen[2] == seen[3]] == [True, False, False]
