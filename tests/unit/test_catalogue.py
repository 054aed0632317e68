"""The catalogue: every entry is sound, its values can be rendered for clusters of all kinds, and say what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from k3s_samples import cluster

from piclusterops.catalogue import CatalogueError, Release, catalogue, platform_folder, providers, read
from piclusterops.platform import Planned, Platform, platform_of
from piclusterops.secret_values import render

CHARTS = Path(__file__).resolve().parents[2] / "files" / "charts"
ROLES = {
    "four nodes": ("master", "worker", "data_node", "data_node"),
    "one node": ("master",),
    "three servers": ("master", "master", "master"),
}
PROFILES = ("named", "clean", "minimal")
#: What is on only when asked for, all at once.
ASKED_FOR = {
    name: {"enabled": True}
    for name, release in catalogue().items()
    if not release.profiles and not set(release.provides) & {"object-store", "search", "vault"}
}
ADDRESSES = {
    name: f"192.168.0.{201 + i}" for i, name in enumerate(("nifi", "trino", "grafana", "jupyterlab", "krakend"))
}


@cache
def platform(profile: str, size: str = "four nodes") -> Platform:
    return platform_of(
        cluster(
            ROLES[size],
            platform_profile=profile,
            domain="example.org",
            service_addresses=ADDRESSES if size == "four nodes" else {},
            platform_releases=ASKED_FOR if profile != "minimal" else {},
        )
    )


def all_planned(source: str | None = None) -> Iterator[tuple[str, Planned]]:
    """All releases as they are planned in the clusters above, with where."""
    for profile in PROFILES:
        for size in ROLES:
            for planned in platform(profile, size).releases:
                if source in (None, planned.release.source):
                    yield f"{planned.name}, {profile}, {size}", planned


def walk(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value inside a value, with the keys that lead there; an item of a list is called by its number."""
    yield path, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from walk(inner, (*path, str(key)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from walk(inner, (*path, str(number)))


# -- what there is -------------------------------------------------------------------------------------------

#: What users of the platform ask for by name, and what it is called here.
SYSTEMS = {
    "NiFi": "nifi",
    "Trino": "trino",
    "Hive catalog": "hive-metastore",
    "PostgreSQL": "postgres",
    "MinIO": "minio",
    "JupyterLab": "jupyterlab",
    "FastAPI": "fastapi",
    "Prometheus, node-exporter": "kube-prometheus-stack",
    "Grafana": "grafana",
    "Fluentd": "fluentd",
    "Elasticsearch, Kibana": "eck-stack",
    "Logstash": "logstash",
    "Flux CD": "flux2",
    "Vault": "vault",
    "cert-manager": "cert-manager",
    "OAuth2 proxy": "oauth2-proxy",
    "KrakenD": "krakend",
    "MetalLB": "metallb",
    "CoreDNS": "coredns",
    "Cloudflare, DNS": "external-dns",
    "Cloudflare, proxy": "cloudflared",
    "WireGuard": "wireguard",
    "Velero": "velero",
    "Longhorn": "longhorn",
    "NFS, server": "nfs-server",
    "NFS, volumes": "csi-driver-nfs",
    "VS Code Server": "code-server",
    "Docker": "docker",
    "MinIO, of a permissive licence": "seaweedfs",
    "Vault, of a free licence": "openbao",
    "Elasticsearch, of a permissive licence": "opensearch",
    "Kibana, of a permissive licence": "opensearch-dashboards",
}


@pytest.mark.parametrize(("system", "name"), SYSTEMS.items())
def test_every_system_has_an_entry(system: str, name: str) -> None:
    assert name in catalogue(), system


def test_the_profile_minimal_is_what_every_cluster_needs() -> None:
    assert {planned.name for planned in platform("minimal").releases} == {
        "platform-base",
        "metallb",
        "platform-network",
        "cert-manager",
        "platform-issuers",
        "platform-config",
        "platform-policies",
    }


def test_the_profile_clean_has_no_licence_that_needs_a_waiver() -> None:
    clean = [release for release in catalogue().values() if "clean" in release.profiles]
    assert {release.name for release in clean if release.licence.verdict == "not permissive"} == set()
    assert {release.name for release in clean if release.licence.verdict == "weak copyleft"} == {"openbao"}
    assert all(release.maintenance.maintained for release in clean)


def test_what_is_not_permissive_is_in_the_profile_that_names_it_or_in_none() -> None:
    unfree = {name: one.profiles for name, one in catalogue().items() if one.licence.verdict == "not permissive"}
    assert unfree == {
        "eck-operator": ("named",),
        "eck-stack": ("named",),
        "grafana": ("named",),
        "minio": ("named",),
        "nfs-server": (),
        "vault": ("named",),
        "wireguard": (),
    }


@pytest.mark.parametrize("contract", sorted({name for one in catalogue().values() for name in one.provides}))
def test_those_who_fulfil_a_contract_tell_the_same_about_it(contract: str) -> None:
    told = {name: set(one.provides[contract]) for name, one in catalogue().items() if contract in one.provides}
    assert len({frozenset(keys) for keys in told.values()}) == 1, told


# -- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ROLES)
@pytest.mark.parametrize("profile", PROFILES)
def test_values_are_rendered_for_clusters_of_all_kinds(profile: str, size: str) -> None:
    for planned in platform(profile, size).releases:
        assert isinstance(planned.values, dict), planned.name


def test_all_releases_are_rendered_somewhere() -> None:
    rendered = {planned.name for _, planned in all_planned()}
    assert rendered == {name for name, release in catalogue().items() if release.installable}


@pytest.mark.parametrize("name", sorted(name for name, release in catalogue().items() if release.installable))
def test_a_release_needs_no_more_than_what_it_depends_on(name: str) -> None:
    """Alone with that, and with nothing for what is optional, its values are rendered all the same."""
    wanted, found = [name], set()
    while wanted:
        one = wanted.pop()
        found.add(one)
        needed = (providers(catalogue(), need)[0].name for need in catalogue()[one].depends_on)
        wanted += [need for need in needed if need not in found]
    on = {one: {"enabled": True} for one in found if catalogue()[one].source != "k3s"}
    alone = platform_of(cluster(ROLES["four nodes"], platform_profile="none", platform_releases=on))
    assert name in {planned.name for planned in alone.releases}


def test_there_are_no_values_of_releases_that_do_not_exist() -> None:
    files = {path.name.removesuffix(".yaml.j2") for path in (platform_folder() / "values").glob("[!_]*.yaml.j2")}
    assert files == {name for name, release in catalogue().items() if release.installable}


def test_no_image_is_the_latest() -> None:
    for where, planned in all_planned():
        for path, value in walk(planned.values):
            if isinstance(value, str):
                is_tag = path[-1].lower().endswith("tag")
                assert not re.search(r":latest\b", value) and not (is_tag and value == "latest"), (where, path)


def _resources(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What containers get, each as often as there is one; not those of jobs, which come and go."""
    for path, value in walk(values):
        is_job = any(re.search(r"[jJ]ob|Hook$|startupapicheck|^kubectl$", part) for part in path)
        if isinstance(value, Mapping) and "requests" in value and "memory" in value["requests"] and not is_job:
            yield value
            if "prometheusConfigReloader" in path:  # of Prometheus, and of Alertmanager
                yield value


def _mib(quantity: str) -> int:
    assert quantity.endswith("Mi"), quantity
    return int(quantity.removesuffix("Mi"))


#: Pods whose chart has no place for what they ask for.
NOT_IN_VALUES = {"longhorn": {"instance-manager"}}


def test_pods_ask_for_what_the_catalogue_says() -> None:
    for where, planned in all_planned("helm"):
        found = list(_resources(planned.values))
        pods = [pod for pod in planned.release.pods if pod.name not in NOT_IN_VALUES.get(planned.name, ())]
        assert sum(_mib(one["requests"]["memory"]) for one in found) == sum(pod.memory_mib for pod in pods), where
        assert sum(_mib(one["limits"]["memory"]) for one in found) == sum(pod.memory_limit_mib for pod in pods), where
        cpu = sum(int(one["requests"]["cpu"].removesuffix("m")) for one in found)
        assert cpu == sum(pod.cpu_m for pod in pods), where


def test_java_leaves_room_beside_its_heap() -> None:
    """Threads, code and buffers take a third of the heap's size or more."""
    seen = set()
    for where, planned in all_planned("helm"):
        for _, value in walk(planned.values):
            text = value if isinstance(value, str) else ""
            if heap := re.search(r"-Xmx(\d+)m", text):
                pod = planned.release.pods[0]
                assert int(heap[1]) * 1.2 <= pod.memory_mib, where
                seen.add(planned.name)
        if planned.name == "trino":
            for part in ("coordinator", "worker"):
                heap_mib = int(planned.values[part]["jvm"]["maxHeapSize"].removesuffix("M"))
                assert heap_mib * 1.08 <= planned.release.pod(part).memory_mib, where
                assert heap_mib * 1.3 <= planned.release.pod(part).memory_limit_mib, where
            seen.add(planned.name)
    assert seen >= {"trino", "eck-stack", "opensearch"}


def test_priorities_and_classes_of_storage_are_those_of_the_base() -> None:
    base = yaml.safe_load((CHARTS / "platform-base" / "values.yaml").read_text())
    priorities = set(base["priorityClasses"])
    classes = set(base["storageClasses"]["classes"]) | {"local-path", "nfs", "longhorn"}
    for where, planned in all_planned():
        for path, value in walk(planned.values):
            if path and re.fullmatch(r"priorityClass(Name)?", path[-1]) and isinstance(value, str):
                assert value in priorities, (where, path)
            if path and re.fullmatch(r"storageClass(Name)?", path[-1]) and isinstance(value, str):
                assert value in classes, (where, path)


def test_a_release_with_volumes_of_its_own_stays_on_its_node() -> None:
    """A volume of local-path never leaves its node, so neither may its pods."""
    for where, planned in all_planned("helm"):
        if planned.release.volumes:
            text = str(planned.values)
            assert "kubernetes.io/hostname" in text and planned.node in text, where


def test_a_fixed_address_makes_a_service_of_the_load_balancer() -> None:
    service = platform("named").planned("grafana").values["service"]
    assert service["type"] == "LoadBalancer"
    assert service["annotations"] == {"metallb.io/loadBalancerIPs": ADDRESSES["grafana"]}
    assert platform("named", "one node").planned("grafana").values["service"]["type"] == "ClusterIP"


def test_trino_is_published_by_https_alone() -> None:
    """Its chart's own service has plain HTTP beside it."""
    for shape in ("four nodes", "one node"):
        assert platform("named", shape).planned("trino").values["service"] == {"type": "ClusterIP"}
    (published,) = platform("named").planned("platform-network").values["services"].values()
    assert (published["address"], published["port"]) == (ADDRESSES["trino"], 8443)
    assert "services" not in platform("named", "one node").planned("platform-network").values


# -- secrets -------------------------------------------------------------------------------------------------


@cache
def secret_keys(profile: str) -> dict[tuple[str, str], set[str]]:
    """The keys of the Secrets that the releases of a profile have, by namespace and name."""
    found: dict[tuple[str, str], set[str]] = {}
    for planned in platform(profile).releases:
        for secret in planned.release.secrets:
            for namespace in (planned.release.namespace, *secret.namespaces):
                found[str(namespace), secret.name] = set(secret.keys)
    return found


_NAMES_A_SECRET = re.compile(
    r"existingSecret|existingConfigSecret|extraSecret|.*AuthSecret|securityConfigSecret|secretName"
)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_secret_that_values_name_is_there(profile: str) -> None:
    there = secret_keys(profile)
    for planned in platform(profile).releases:
        if planned.release.source != "helm":
            continue
        namespace = str(planned.release.namespace)
        for path, value in walk(planned.values):
            if path and path[-1] == "secretKeyRef":
                assert value["key"] in there.get((namespace, value["name"]), set()), (planned.name, path)
            # certificates' Secrets are cert-manager's
            elif path and _NAMES_A_SECRET.fullmatch(path[-1]) and isinstance(value, str) and not value.endswith("-tls"):
                assert (namespace, value) in there, (planned.name, path)


def test_no_value_is_a_password() -> None:
    """Passwords are in Secrets: what is called like one names a Secret, a key of one, or an environment variable."""
    known = {word for one in catalogue().values() for secret in one.secrets for word in (secret.name, *secret.keys)}
    for where, planned in all_planned():
        for path, value in walk(planned.values):
            if not path or not isinstance(value, str) or not value:
                continue
            if re.search(r"(passw(or)?d|token|(secret|access)_?key|credentials)$", path[-1], re.IGNORECASE):
                assert value in known | {"platform", "velero", "admin"} or value.startswith("/"), (where, path)
            for found in re.findall(r"(?i)(?:password|secret|token|access-key)\w*\s*[=:]\s*([^\s,;]+)", value):
                assert found.startswith(("${ENV:", "/")) or found in known, (where, path)


@pytest.mark.parametrize("release", catalogue().values(), ids=lambda release: release.name)
def test_what_is_restarted_exists(release: Release) -> None:
    workloads = {
        f"{one.namespace}/{kind.lower()}/{name}"
        for one in catalogue().values()
        for kind, name in (item.split("/") for item in one.health)
    }
    for secret in release.secrets:
        assert set(secret.restarts) <= workloads, secret.name


@pytest.mark.parametrize("release", catalogue().values(), ids=lambda release: release.name)
def test_health_names_workloads(release: Release) -> None:
    for item in release.health:
        assert re.fullmatch(r"(Deployment|StatefulSet|DaemonSet)/[a-z0-9.-]+", item)


def test_keys_that_encrypt_what_is_stored_are_never_replaced() -> None:
    for name, secret_name, key in (
        ("minio", "minio-kms", "key"),
        ("seaweedfs", "seaweedfs-sse", "kek"),
        ("velero", "velero-repo-credentials", "repository-password"),
    ):
        secret = next(one for one in catalogue()[name].secrets if one.name == secret_name)
        assert not secret.keys[key].rotates


def test_a_secret_of_two_releases_is_the_same_in_both() -> None:
    """Of releases that stand in for each other only one is on, and its users find the same keys."""
    by_name: dict[str, list[Any]] = {}
    for release in catalogue().values():
        for secret in release.secrets:
            by_name.setdefault(secret.name, []).append((set(secret.keys), secret.namespaces, secret.type))
    for name, found in by_name.items():
        assert all(one == found[0] for one in found), name


def parsed(name: str, text: str) -> Any:
    """What a configuration says, as its reader will understand it."""
    return json.loads(text) if name.endswith(("json", "s3_config")) else yaml.safe_load(text)


def test_secrets_made_of_others_are_what_their_readers_parse() -> None:
    read_by = {}
    for release in catalogue().values():
        for secret in release.secrets:
            for name, key in secret.keys.items():
                text = key.value if key.kind == "static" else key.template
                if text and name.endswith((".yml", "s3_config")):
                    filled = render(text, lambda of, part: f"value-of-{of}-{part}", lambda plain: f"$2y$10${plain}")
                    read_by[secret.name, name] = parsed(name, filled)
    users = read_by["opensearch-security", "internal_users.yml"]
    assert users["logstash"]["hash"] == "$2y$10$value-of-opensearch-writer-password"
    assert set(users["logstash"]["opendistro_security_roles"]) <= set(read_by["opensearch-security", "roles.yml"])
    assert read_by["elasticsearch-roles", "roles.yml"]["platform_writer"]["indices"]
    identities = read_by["seaweedfs-s3", "seaweedfs_s3_config"]["identities"]
    assert [one["name"] for one in identities] == ["root", "platform", "velero"]
    for identity in identities[1:]:  # each in its own buckets only
        assert all(":" in action for action in identity["actions"])


def test_configurations_inside_values_are_what_their_readers_parse() -> None:
    for where, planned in all_planned("helm"):
        for path, value in walk(planned.values):
            if path and path[-1].endswith((".yml", ".json")) and isinstance(value, str):
                assert isinstance(parsed(path[-1], value), dict), (where, path)


def test_nobody_but_known_users_may_do_anything_in_trino() -> None:
    rules = json.loads(platform("named").planned("trino").values["accessControl"]["rules"]["rules.json"])
    passwords = next(one for one in catalogue()["trino"].secrets if one.name == "trino").keys["password.db"].template
    users = set(re.findall(r"^(\w+):", passwords or "", re.MULTILINE))
    assert users == {"admin", "developer", "guest", "metrics"}
    for kind in ("catalogs", "queries", "system_information"):
        assert all(set(rule["user"].split("|")) <= users for rule in rules[kind]), kind
    writers = {rule["user"] for rule in rules["catalogs"] if rule["allow"] == "all"}
    assert writers == {"admin", "developer"}


@pytest.mark.parametrize(
    ("tag", "name"), [(None, "fs.native-s3.enabled"), ("480", "fs.native-s3.enabled"), ("481", "fs.s3.enabled")]
)
def test_trino_is_told_of_s3_in_the_words_of_its_version(tag: str | None, name: str) -> None:
    choice = {"trino": {"values": {"image": {"tag": tag}}}} if tag else {}
    given = cluster(ROLES["four nodes"], platform_profile="named", platform_releases=choice)
    hive = platform_of(given).planned("trino").values["catalogs"]["hive"]
    assert f"\n{name}=true\n" in hive
    assert "s3.endpoint=http://minio.object-store.svc:9000\n" in hive
    assert "hive.metastore.uri=thrift://hive-metastore.data-platform:9083\n" in hive


def test_trino_has_a_worker_on_each_node_of_its_role() -> None:
    roles = ("master", "worker", "worker", "data_node")
    trino = platform_of(cluster(roles, platform_profile="named")).planned("trino")
    assert trino.values["server"]["workers"] == 2
    assert trino.values["worker"]["nodeSelector"] == {"piclusterops.io/role": "worker"}
    assert trino.values["coordinator"]["nodeSelector"] == {"kubernetes.io/hostname": "pi-worker-1"}
    assert platform("named").planned("trino").values["server"]["workers"] == 1


# -- the loader ----------------------------------------------------------------------------------------------

ENTRY = """
name: {name}
title: A test
namespace: tests
chart: {{name: {name}, version: 1.0.0, repository: "https://charts.example.org", app_version: "1"}}
licence: {{spdx: Apache-2.0, source: LICENSE}}
maintenance: {{maintained: true, note: "2026-08"}}
arm64: no image
"""


def entry(folder: Path, name: str, more: str = "", file: str | None = None) -> None:
    (folder / f"{file or name}.yaml").write_text(ENTRY.format(name=name) + more)


def test_the_word_on_is_a_key_and_no_truth(tmp_path: Path) -> None:
    entry(tmp_path, "a", "pods: [{name: a, memory_mib: 1, memory_limit_mib: 2, cpu_m: 3, on: every}]")
    assert read(tmp_path)["a"].pod("a").on == "every"


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("colour: red", "a.yaml: 1 validation error"),
        ("depends_on: [b]", "a: depends on b, which is no release and no contract"),
        ("wave: 14", "a.yaml: 1 validation error"),
        ("secrets: [{name: s, keys: {k: {kind: given}}}]", "a.yaml: 1 validation error"),
        ("wave: [", "a.yaml: while parsing"),
        ("title: Another", "a.yaml: the key 'title' is there twice"),
    ],
)
def test_a_wrong_entry_is_refused(tmp_path: Path, more: str, fault: str) -> None:
    entry(tmp_path, "a", more)
    with pytest.raises(CatalogueError, match=re.escape(fault)):
        read(tmp_path)


def test_all_wrong_entries_are_listed(tmp_path: Path) -> None:
    entry(tmp_path, "a", file="z")
    entry(tmp_path, "b", "depends_on: [c]\nsecrets: [{name: s, keys: {k: {kind: password}}}]")
    entry(tmp_path, "c", "wave: 3\nsecrets: [{name: s, keys: {k: {kind: password}}}]")
    with pytest.raises(CatalogueError) as caught:
        read(tmp_path)
    text = str(caught.value)
    assert "z.yaml: it calls itself a" in text
    assert "b: wave 0 is before c's, 3" in text
    assert "c: the Secret s is also b's" in text


def test_an_unknown_kind_of_pods_is_told() -> None:
    with pytest.raises(KeyError):
        catalogue()["trino"].pod("nonsense")
