"""Zones: who reaches whom, with the policies that the platform installs, all of them together.

The API of the lab stores NetworkPolicies and enforces none: this evaluates what is installed, by the rules of
Kubernetes. `helm test platform-policies` tries some of it on a real cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from harness import PROFILES, Manifest, platform, pods, template_planned
from harness import Pod as Described
from network_policies import Address, End, Network, Pod, network_of
from unit.k3s_samples import cluster

from piclusterops.catalogue import Profile, catalogue
from piclusterops.kube_nodes import KubeNode
from piclusterops.platform import platform_of
from piclusterops.platform_nodes import settled

PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/platform-zones.md"
TABLE = re.compile(r"(?<=<!-- who reaches whom -->\n\n).*?(?=\n<!-- end -->)", re.DOTALL)
CALLS = re.compile(r"(?<=<!-- what kube-apiserver calls -->\n\n).*?(?=\n<!-- end -->)", re.DOTALL)

every_profile = pytest.mark.parametrize("profile", PROFILES)


@cache
def manifests(profile: Profile) -> tuple[Manifest, ...]:
    """Everything that our own releases install in a profile."""
    own = [planned for planned in platform(profile).releases if planned.release.source == "own"]
    return tuple(manifest for planned in own for manifest in template_planned(planned))


@cache
def network(profile: Profile = "named") -> Network:
    return network_of(manifests(profile), ["default", "kube-system"])


def pod(namespace: str, name: str = "") -> Pod:
    """A pod of an application, or one that nobody knows."""
    ours = {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": name, "app.kubernetes.io/component": "server"}
    return Pod(namespace, ours if name else {})


STRANGER = "somebody"
#: Applications with a name in a rule, by namespace; in every namespace there is somebody unknown too.
APPLICATIONS = {
    "data-platform": ("trino", "hive-metastore", "nifi", "jupyterlab", "fastapi", "code-server"),
    "dmz": ("krakend", "oauth2-proxy", "cloudflared"),
    "monitoring": ("prometheus", "alertmanager", "grafana"),
    "logging": ("fluentd", "logstash", "kibana"),
    "kube-system": ("traefik",),
}
ADDRESSES = {
    "LAN": Address("192.168.0.50"),
    "internet": Address("203.0.113.10"),
    "a node": Address("192.168.0.121"),
    "a router": Address("192.168.0.1"),
}


@cache
def everybody(profile: Profile = "named") -> dict[str, End]:
    """Pods of all namespaces and addresses, by what to call them."""
    ends: dict[str, End] = dict(ADDRESSES)
    for namespace in network(profile).namespaces:
        ends[f"{namespace}/{STRANGER}"] = pod(namespace)
        ends |= {f"{namespace}/{name}": pod(namespace, name) for name in APPLICATIONS.get(namespace, ())}
    return ends


def who_reaches(target: str, port: int, profile: Profile = "named") -> set[str]:
    ends = everybody(profile)
    return {
        name for name, end in ends.items() if name != target and network(profile).allowed(end, ends[target], port)
    } - {"a node"}  # a node reaches the pods on it, which no policy is asked about; see the page


@every_profile
def test_every_namespace_of_the_platform_denies_what_is_not_allowed(profile: Profile) -> None:
    for namespace in network(profile).namespaces:
        if namespace in ("default", "kube-system"):
            continue
        stranger = pod(namespace)
        assert not network(profile).allowed(stranger, ADDRESSES["internet"], 22) or namespace == "flux-system", (
            namespace
        )
        assert not network(profile).allowed(pod("default"), stranger, 12345), namespace
        assert not network(profile).allowed(ADDRESSES["LAN"], stranger, 12345), namespace


@every_profile
def test_every_pod_may_ask_for_names(profile: Profile) -> None:
    dns = Pod("kube-system", {"k8s-app": "kube-dns"})
    for name, end in everybody(profile).items():
        for protocol in ("UDP", "TCP"):
            assert network(profile).allowed(end, dns, 53, protocol), name


@every_profile
def test_only_named_pods_reach_postgresql(profile: Profile) -> None:
    assert who_reaches("databases/somebody", 5432, profile) == {
        "data-platform/trino",
        "data-platform/hive-metastore",
        "data-platform/nifi",
        "data-platform/jupyterlab",
        "data-platform/fastapi",
        "cnpg-system/somebody",
    }


@every_profile
@pytest.mark.parametrize(
    ("namespace", "port", "who"),
    [
        ("databases", 5432, {"data-platform", "cnpg-system", "databases"}),
        ("databases", 8000, {"cnpg-system", "databases"}),
        ("databases", 22, set()),
        ("vault", 8200, {"external-secrets", "monitoring", "vault"}),
        ("vault", 8201, {"vault"}),
        ("object-store", 9000, {"data-platform", "velero", "databases", "monitoring", "object-store"}),
        ("object-store", 9001, {"object-store"}),
    ],
)
def test_the_restricted_zone_shuts_its_own_door(profile: Profile, namespace: str, port: int, who: set[str]) -> None:
    """It does not rely on others not to knock."""
    found = {
        name.partition("/")[0]
        for name, end in everybody(profile).items()
        if network(profile).lets_in(pod(namespace), end, port)
    }
    assert found == who


@every_profile
def test_only_external_secrets_and_prometheus_reach_the_vault(profile: Profile) -> None:
    assert who_reaches("vault/somebody", 8200, profile) == {"external-secrets/somebody", "monitoring/prometheus"}


#: Three servers and a worker, on which the vault is; their pods' networks, in the order in which they joined.
NETWORKS = {"pi-master": 0, "pi-worker-3": 1, "pi-worker-1": 2, "pi-worker-2": 3}


@every_profile
def test_servers_reach_a_vault_on_another_node_and_other_nodes_do_not(profile: Profile) -> None:
    """With the address of their tunnel, as flannel sends it, or with their own, where it has none."""
    name = "vault" if profile == "named" else "openbao"
    chosen = {name: {"node": "pi-worker-3"}}
    wanted = platform_of(cluster(("master",) * 3 + ("worker",), platform_profile=profile, platform_releases=chosen))
    nodes = [KubeNode(one, True, "v1", pod_cidrs=(f"10.42.{number}.0/24",)) for one, number in NETWORKS.items()]
    released = [settled(wanted, wanted.planned(release), nodes) for release in ("platform-base", "platform-policies")]
    found = network_of([one for planned in released for one in template_planned(planned)], ["default", "kube-system"])
    vault = pod("vault")
    for server in ("10.42.0.0", "10.42.2.0", "10.42.3.0", "192.168.0.120", "192.168.0.121", "192.168.0.122"):
        assert found.allowed(Address(server), vault, 8200), server
        assert not found.allowed(Address(server), vault, 8201), server
    for other in ("10.42.1.0", "192.168.0.123", "192.168.0.50", "10.42.0.7", "10.42.4.0"):
        assert not found.allowed(Address(other), vault, 8200), other


@pytest.mark.parametrize(("profile", "port"), [("named", 9000), ("clean", 8333)])
def test_only_named_pods_and_backups_reach_the_object_store(profile: Profile, port: int) -> None:
    assert who_reaches("object-store/somebody", port, profile) - {"monitoring/prometheus"} == {
        "data-platform/trino",
        "data-platform/hive-metastore",
        "data-platform/nifi",
        "data-platform/jupyterlab",
        "velero/somebody",
        "databases/somebody",
    }


@every_profile
def test_nothing_of_the_restricted_zone_speaks_to_the_outside_but_backups(profile: Profile) -> None:
    restricted = [
        name
        for name, labels in network(profile).namespaces.items()
        if labels.get("piclusterops.io/zone") == "restricted"
    ]
    assert {"databases", "vault", "object-store", "external-secrets"} <= set(restricted)
    for namespace in restricted:
        for outside in ("internet", "LAN", "a router"):
            open_to = [
                port for port in (22, 53, 80, 443, 9000) if allowed(profile, pod(namespace), ADDRESSES[outside], port)
            ]
            assert open_to == ([443, 9000] if namespace == "velero" else []), namespace


def allowed(profile: Profile, source: End, target: End, port: int) -> bool:
    return network(profile).allowed(source, target, port)


@every_profile
def test_the_dmz_reaches_what_is_published_inside_and_nothing_restricted(profile: Profile) -> None:
    ends = everybody(profile)
    for name in APPLICATIONS["dmz"]:
        for namespace, port in (("vault", 8200), ("databases", 5432), ("object-store", 9000), ("object-store", 8333)):
            assert not network(profile).allowed(ends[f"dmz/{name}"], pod(namespace), port), name
        assert not network(profile).allowed(ends[f"dmz/{name}"], ADDRESSES["LAN"], 443), name
    assert network(profile).allowed(ends["dmz/krakend"], ends["data-platform/fastapi"], 8000)
    assert network(profile).allowed(ends["dmz/krakend"], ends["monitoring/prometheus"], 9090)
    assert network(profile).allowed(ends["dmz/oauth2-proxy"], ADDRESSES["internet"], 443)


@every_profile
def test_traefik_reaches_the_dashboards_and_the_login(profile: Profile) -> None:
    ends = everybody(profile)
    for target, port in (
        ("data-platform/nifi", 8443),
        ("data-platform/jupyterlab", 8888),
        ("data-platform/code-server", 8080),
        ("monitoring/grafana", 3000),
        ("logging/kibana", 5601),
        ("dmz/oauth2-proxy", 4180),
        ("dmz/krakend", 8080),
    ):
        assert network(profile).allowed(ends["kube-system/traefik"], ends[target], port), target
        assert not network(profile).allowed(pod("default"), ends[target], port), target


@every_profile
def test_published_services_let_the_lan_in(profile: Profile) -> None:
    ends = everybody(profile)
    for target, port in (("nifi", 8443), ("trino", 8443), ("jupyterlab", 8888)):
        assert network(profile).allowed(ADDRESSES["LAN"], ends[f"data-platform/{target}"], port), target
    assert network(profile).allowed(ADDRESSES["LAN"], ends["monitoring/grafana"], 3000)
    assert not network(profile).allowed(ADDRESSES["LAN"], ends["data-platform/hive-metastore"], 9083)


@every_profile
def test_the_metastore_answers_trino_alone(profile: Profile) -> None:
    assert who_reaches("data-platform/hive-metastore", 9083, profile) == {"data-platform/trino"}


@every_profile
def test_trino_is_reached_over_tls_by_people_and_by_programs_that_are_named(profile: Profile) -> None:
    """And by none of them without TLS, which is for its own nodes."""
    assert who_reaches("data-platform/trino", 8443, profile) == {
        *("LAN", "internet", "a router"),  # let in by the address that is published, see loadBalancerSourceRanges
        *("data-platform/nifi", "data-platform/jupyterlab", "data-platform/code-server", "monitoring/prometheus"),
    }
    assert who_reaches("data-platform/trino", 8080, profile) == set()


#: What kube-apiserver calls: webhooks and APIs that are pods, by what they are.
CALLED = {
    "cert-manager's webhook": ("cert-manager", 10250),
    "External Secrets' webhook": ("external-secrets", 10250),
    "MetalLB's webhook": ("metallb-system", 9443),
    "CloudNativePG's webhook": ("cnpg-system", 9443),
    "the Prometheus operator's webhook": ("monitoring", 10250),
    "the Elastic operator's webhook": ("logging", 9443),
    "Longhorn's webhooks": ("longhorn-system", 9502),
    "metrics-server": ("kube-system", 10250),
}


@every_profile
@pytest.mark.parametrize(("namespace", "port"), CALLED.values(), ids=CALLED)
def test_kube_apiserver_reaches_webhooks_from_its_node(profile: Profile, namespace: str, port: int) -> None:
    """From another node it comes with the address of flannel's interface, which is one of a pod's network."""
    for address in ("192.168.0.120", "10.42.3.0"):
        assert network(profile).allowed(Address(address), pod(namespace), port)


@every_profile
def test_controllers_reach_the_api_and_applications_do_not(profile: Profile) -> None:
    api = Address("192.168.0.120")
    ends = everybody(profile)
    controllers = (
        *("cert-manager", "metallb-system", "external-secrets", "external-dns", "cnpg-system", "velero", "flux-system"),
        *("monitoring", "logging", "databases", "vault", "longhorn-system", "csi-nfs"),
    )
    for namespace in controllers:
        assert network(profile).allowed(pod(namespace), api, 6443), namespace
    for name in ("data-platform/trino", "data-platform/code-server", "dmz/krakend", "dmz/oauth2-proxy"):
        assert not network(profile).allowed(ends[name], api, 6443), name


@every_profile
def test_prometheus_reads_metrics_everywhere(profile: Profile) -> None:
    ends = everybody(profile)
    for target, port in (
        ("data-platform/trino", 8443),
        ("data-platform/nifi", 9092),
        ("databases/somebody", 9187),
        ("vault/somebody", 8200),
        ("object-store/somebody", 9000),
        ("cert-manager/somebody", 9402),
        ("velero/somebody", 8085),
        ("flux-system/somebody", 8080),
        ("logging/fluentd", 24231),
        ("dmz/krakend", 9090),
        ("dmz/oauth2-proxy", 44180),
        ("external-secrets/somebody", 8080),
        ("cnpg-system/somebody", 8080),
    ):
        assert network(profile).allowed(ends["monitoring/prometheus"], ends[target], port), target
    assert network(profile).allowed(ends["monitoring/prometheus"], ADDRESSES["a node"], 9100)


def test_the_names_in_rules_are_those_of_pods() -> None:
    """A name that no pod has opens nothing, and nobody notices."""
    named = {name for names in APPLICATIONS.values() for name in names}
    own = {described.metadata["labels"]["app.kubernetes.io/name"] for described in _own_pods()}
    third = {
        "trino",
        "code-server",
        "oauth2-proxy",
        "prometheus",
        "alertmanager",
        "grafana",
        "fluentd",
        "kibana",
        "traefik",
    }
    in_rules = {
        value
        for manifest in manifests("named")
        if manifest["kind"] == "NetworkPolicy"
        for value in _names(manifest["spec"])
    }
    assert named <= own | third
    assert in_rules - {"notification-controller"} <= named


def _own_pods() -> list[Described]:
    return [described for described in pods(manifests("named")) if described.lasting]


def _names(spec: object) -> set[str]:
    """Values of app.kubernetes.io/name that a policy selects by."""
    found: set[str] = set()
    if isinstance(spec, dict):
        if spec.get("key") == "app.kubernetes.io/name":
            found |= set(spec["values"])
        if "app.kubernetes.io/name" in spec:
            found.add(str(spec["app.kubernetes.io/name"]))
        for value in spec.values():
            found |= _names(value)
    elif isinstance(spec, list):
        for value in spec:
            found |= _names(value)
    return found


# -- namespaces ----------------------------------------------------------------------------------------------


def test_every_release_has_a_namespace_of_its_zone() -> None:
    """Or is part of the system, and next to what it looks after."""
    namespaces = network().namespaces
    for release in catalogue().values():
        if release.installable and release.namespace != "kube-system":
            assert release.namespace in namespaces, release.name
            zone = namespaces[release.namespace]["piclusterops.io/zone"]
            assert release.zone in (zone, "system"), f"{release.name}: {release.zone}, not {zone}"


def test_every_namespace_has_policies() -> None:
    policies = {policy["metadata"]["namespace"] for policy in network().policies}
    assert {name for name in network().namespaces if name not in ("default", "kube-system")} <= policies


def test_the_page_shows_what_namespaces_enforce() -> None:
    """Those that are not named enforce `restricted`."""
    section = PAGE.read_text(encoding="utf-8").partition("## Which pods a namespace takes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+`) \| `(\w+)` \|", section, re.MULTILINE)
    said = {name: level for names, level in rows for name in re.findall(r"`([\w-]+)`", names)}
    levels = {name: labels.get("pod-security.kubernetes.io/enforce") for name, labels in network().namespaces.items()}
    assert said == {name: level for name, level in levels.items() if level not in (None, "restricted")}


def test_the_page_shows_the_zones() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Who reaches whom")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
    said = {name: zone for zone, names in rows for name in re.findall(r"`([\w-]+)`", names)}
    assert said == {
        name: labels["piclusterops.io/zone"]
        for name, labels in network().namespaces.items()
        if "piclusterops.io/zone" in labels
    }


# -- the page --------------------------------------------------------------------------------------------------

#: Columns of the table: what, where and by which port.
TARGETS: dict[str, tuple[str, int]] = {
    "Vault": ("vault/somebody", 8200),
    "PostgreSQL": ("databases/somebody", 5432),
    "object store": ("object-store/somebody", 9000),
    "Hive metastore": ("data-platform/hive-metastore", 9083),
    "Trino": ("data-platform/trino", 8443),
    "NiFi": ("data-platform/nifi", 8443),
    "Grafana": ("monitoring/grafana", 3000),
    "Kibana": ("logging/kibana", 5601),
    "API": ("API", 6443),
    "LAN": ("LAN", 443),
    "internet": ("internet", 443),
}
#: Rows whose names need no explanation are those of everybody; these say more.
ROWS = {
    "LAN": "a machine of the LAN",
    "kube-system/traefik": "Traefik (kube-system)",
    "dmz/krakend": "KrakenD (dmz)",
    "dmz/oauth2-proxy": "OAuth2 proxy (dmz)",
    "dmz/cloudflared": "cloudflared (dmz)",
    "data-platform/trino": "Trino (data-platform)",
    "data-platform/hive-metastore": "Hive metastore (data-platform)",
    "data-platform/nifi": "NiFi (data-platform)",
    "data-platform/jupyterlab": "JupyterLab (data-platform)",
    "data-platform/fastapi": "FastAPI (data-platform)",
    "data-platform/code-server": "code-server (data-platform)",
    "data-platform/somebody": "another pod of data-platform",
    "monitoring/prometheus": "Prometheus (monitoring)",
    "monitoring/grafana": "Grafana (monitoring)",
    "logging/fluentd": "Fluentd (logging)",
    "databases/somebody": "PostgreSQL (databases)",
    "vault/somebody": "Vault (vault)",
    "object-store/somebody": "the object store (object-store)",
    "external-secrets/somebody": "External Secrets (external-secrets)",
    "velero/somebody": "Velero (velero)",
    "flux-system/somebody": "Flux (flux-system)",
    "cert-manager/somebody": "cert-manager (cert-manager)",
    "default/somebody": "a pod of default",
}


def table() -> str:
    """Who reaches whom, for people."""
    ends = {**everybody(), "API": Address("192.168.0.120")}
    lines = [f"| from | {' | '.join(f'{name} {port}' for name, (_, port) in TARGETS.items())} |"]
    lines.append("| --- |" + " --- |" * len(TARGETS))
    for source, title in ROWS.items():
        cells = [
            "·" if source == target else "yes" if network().allowed(ends[source], ends[target], port) else ""
            for target, port in TARGETS.values()
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def called() -> str:
    """What kube-apiserver reaches on a node that is not its own, for people."""
    ways = {"with its server's address": Address("192.168.0.120"), "with flannel's": Address("10.42.3.0")}
    lines = [f"| kube-apiserver calls | port | {' | '.join(ways)} |", "| --- | --- |" + " --- |" * len(ways)]
    for title, (namespace, port) in CALLED.items():
        cells = ["yes" if network().allowed(way, pod(namespace), port) else "**no**" for way in ways.values()]
        lines.append(f"| {title} ({namespace}) | {port} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def examples() -> list[dict[str, Any]]:
    """The settings that the page shows."""
    found = []
    for text in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        given: dict[str, Any] = {}
        exec(compile(text, PAGE.name, "exec"), {}, given)
        found.append(given["platform_releases"])
    return found


def installed(releases: dict[str, Any]) -> list[Manifest]:
    """What base and policies of the smallest platform are with such settings."""
    wanted = platform_of(cluster(("master", "worker"), platform_profile="minimal", platform_releases=releases))
    names = ("platform-base", "platform-policies")
    return [manifest for name in names for manifest in template_planned(wanted.planned(name))]


def test_the_page_shows_how_to_let_another_program_in() -> None:
    (releases,) = (one for one in examples() if "platform-policies" in one)
    shop = network_of(installed(releases), ["default", "kube-system"])
    database = pod("databases")
    assert shop.allowed(pod("shop", "backend"), database, 5432)
    assert not shop.allowed(pod("shop", "frontend"), database, 5432)
    assert not shop.allowed(pod("shop", "backend"), database, 8000)
    assert shop.allowed(pod("data-platform", "trino"), database, 5432), "the other rules are still there"


def test_the_page_shows_how_to_make_an_account() -> None:
    (releases,) = (one for one in examples() if "platform-base" in one and "platform-policies" not in one)
    accounts = [one["metadata"]["name"] for one in installed(releases) if one["kind"] == "ServiceAccount"]
    assert accounts == ["ci"]


@pytest.mark.parametrize(("place", "computed"), [(TABLE, table), (CALLS, called)], ids=["who", "calls"])
def test_the_page_shows_who_reaches_whom(
    place: re.Pattern[str], computed: Callable[[], str], update_golden: bool
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    if update_golden:
        PAGE.write_text(place.sub(lambda _: computed(), text), encoding="utf-8")
        return
    found = place.search(text)
    assert found and found[0] == computed(), "write it anew: pytest tests/charts/test_zones.py --update-golden"
