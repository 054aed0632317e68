"""platform-config: what each of its releases installs, and that it fits what it is for."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest
from harness import (
    ADDRESSES,
    KUBE_VERSION,
    PROFILES,
    Chart,
    Manifest,
    charts_with_a_release,
    of_kind,
    planned,
    platform,
    pods,
    render,
    template,
    template_planned,
)
from unit.k3s_samples import cluster

from piclusterops.catalogue import Profile, catalogue
from piclusterops.networks import parse_range
from piclusterops.platform import Platform, platform_of
from piclusterops.vault import KV_MOUNT, LOGIN_MOUNT, ROLE, SERVICE_ACCOUNT, SERVICE_NAMESPACE

CHART = Chart("platform-config")
#: The releases that are made of the chart, and the kinds that each of them may install.
RELEASES: dict[str, set[str]] = {
    "platform-network": {"IPAddressPool", "L2Advertisement", "Service"},
    "platform-issuers": {"ClusterIssuer", "Certificate"},
    "platform-secret-store": {"ClusterSecretStore"},
    "platform-config": {
        *("PrometheusRule", "PodMonitor", "ConfigMap", "Certificate"),
        *("Middleware", "ServersTransport", "IngressRoute"),
    },
    "platform-logs": {"ConfigMap", "Job"},
    "platform-policies": {"NetworkPolicy", "Pod"},
}

every_profile = pytest.mark.parametrize("profile", PROFILES)
every_release = pytest.mark.parametrize("name", RELEASES)


def manifests(name: str, profile: Profile = "named") -> list[Manifest]:
    return template_planned(planned(name, profile))


def minimal(*, pool: str | None = None, **settings: Any) -> Platform:
    """The smallest platform."""
    return platform_of(cluster(("master", "worker"), platform_profile="minimal", metallb_pool=pool, **settings))


def names(rendered: Sequence[Manifest], kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in rendered if one["kind"] == kind}


@every_profile
@every_release
def test_a_release_installs_its_part_alone(name: str, profile: Profile) -> None:
    kinds = {manifest["kind"] for manifest in manifests(name, profile)}
    assert kinds and kinds <= RELEASES[name]


def test_all_releases_of_the_chart_are_tested() -> None:
    made = {name for name, entry in catalogue().items() if entry.chart and entry.chart.name == CHART.name}
    assert made == set(RELEASES)


def test_nothing_is_installed_unless_it_is_asked_for() -> None:
    assert template(CHART) == []


def test_parts_come_after_what_they_need() -> None:
    order = [one.name for one in platform("named").releases]
    for first, then in (
        ("platform-base", "metallb"),
        ("metallb", "platform-network"),
        ("cert-manager", "platform-issuers"),
        ("platform-issuers", "vault"),
        ("external-secrets", "platform-secret-store"),
        ("kube-prometheus-stack", "platform-config"),
        ("oauth2-proxy", "platform-config"),
        ("eck-stack", "platform-logs"),
        ("logstash", "platform-logs"),
        ("platform-logs", "platform-policies"),
    ):
        assert order.index(first) < order.index(then), f"{first} before {then}"
    assert order[-1] == "platform-policies"


@every_profile
@every_release
def test_kubernetes_knows_what_is_its_own(name: str, profile: Profile) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    minor = ".".join(KUBE_VERSION.split(".")[:2])
    for manifest in manifests(name, profile):
        if "." not in manifest["apiVersion"].split("/")[0] or manifest["apiVersion"].endswith(".k8s.io/v1"):
            kubernetes_validate.validate(manifest, minor, strict=True)


@every_profile
@every_release
def test_labels_and_namespaces_are_said(name: str, profile: Profile) -> None:
    for manifest in manifests(name, profile):
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == name
        if not manifest["kind"].startswith("Cluster"):
            assert manifest["metadata"]["namespace"]


def test_the_smallest_platform_has_no_words_of_what_it_lacks() -> None:
    small = minimal(pool="192.168.0.200-192.168.0.210")
    kinds = {manifest["kind"] for name in RELEASES if name in small.selected for manifest in _of(small, name)}
    assert kinds == {"IPAddressPool", "L2Advertisement", "ClusterIssuer", "Certificate", "NetworkPolicy", "Pod"}
    # of K3s' Traefik there would be something to read, but nobody to read it
    assert _of(small, "platform-config") == []


def _of(wanted: Platform, name: str) -> list[Manifest]:
    return template_planned(wanted.planned(name))


# -- addresses -------------------------------------------------------------------------------------------------


@every_profile
def test_no_address_of_trinos_has_plain_http(profile: Profile) -> None:
    """Of its chart's service no address is outside the cluster, and ours has HTTPS alone, for people."""
    assert planned("trino", profile).values["service"]["type"] == "ClusterIP"
    (service,) = (one for one in manifests("platform-network", profile) if one["kind"] == "Service")
    assert service["metadata"]["annotations"] == {"metallb.io/loadBalancerIPs": ADDRESSES["trino"]}
    spec = service["spec"]
    assert [(port["port"], port["targetPort"]) for port in spec["ports"]] == [(8443, 8443)]
    # one at each node would have no policy of its own
    assert spec["allocateLoadBalancerNodePorts"] is False and spec["externalTrafficPolicy"] == "Local"
    assert spec["loadBalancerSourceRanges"] == ["192.168.0.0/24", "10.8.0.0/24"]


@every_profile
def test_plain_http_is_at_no_address_outside_the_cluster(profile: Profile) -> None:
    for release in platform(profile).releases:
        if release.release.source == "own":
            for service in (one for one in template_planned(release) if one["kind"] == "Service"):
                if service["spec"].get("type") == "LoadBalancer":
                    assert 8080 not in {port["port"] for port in service["spec"]["ports"]}, release.name


def test_an_address_is_in_one_pool() -> None:
    """MetalLB refuses pools that overlap, and gives no service what another is to have."""
    pools = {
        one["metadata"]["name"]: one["spec"] for one in manifests("platform-network") if one["kind"] == "IPAddressPool"
    }
    fixed = [IPv4Address(address.removesuffix("/32")) for address in pools["fixed"]["addresses"]]
    assert pools["fixed"]["autoAssign"] is False and pools["automatic"]["autoAssign"] is True
    assert IPv4Address("192.168.0.201") in fixed
    ranges = [parse_range(text) for text in pools["automatic"]["addresses"]]
    assert not [address for address in fixed for one in ranges if address in one]
    assert sum(int(one.last) - int(one.first) + 1 for one in ranges) + len(fixed) == 51
    announced = of_kind(manifests("platform-network"), "L2Advertisement")["spec"]["ipAddressPools"]
    assert set(announced) == set(pools)


def test_addresses_of_the_services_network_are_announced_too() -> None:
    wanted = minimal(services_cidr="10.0.1.0/24", service_addresses={"nifi": "10.0.1.7"})
    pool = of_kind(_of(wanted, "platform-network"), "IPAddressPool")
    assert pool["spec"] == {"addresses": ["10.0.1.7/32"], "autoAssign": False}


def test_without_addresses_nothing_is_announced() -> None:
    assert _of(minimal(), "platform-network") == []


# -- certificates ----------------------------------------------------------------------------------------------


def test_the_internal_authority_signs_what_releases_ask_for() -> None:
    rendered = manifests("platform-issuers")
    issuer = catalogue()["platform-issuers"].provides["certificates"]["issuer"]
    authority = of_kind(rendered, "Certificate", "internal-ca")["spec"]
    assert of_kind(rendered, "ClusterIssuer", issuer)["spec"]["ca"]["secretName"] == authority["secretName"]
    assert authority["isCA"] and authority["issuerRef"]["name"] == "selfsigned-root"
    # else everybody would have to trust another key on the day of the renewal
    assert authority["privateKey"]["rotationPolicy"] == "Never"
    assert _hours(authority["duration"]) > 5 * 8760 and _hours(authority["renewBefore"]) > 720


def _hours(text: str) -> int:
    return int(text.removesuffix("h"))


@every_profile
def test_certificates_are_renewed_long_before_they_end(profile: Profile) -> None:
    for name in ("platform-issuers", "platform-config"):
        for one in manifests(name, profile):
            if one["kind"] == "Certificate":
                assert 720 <= _hours(one["spec"]["renewBefore"]) < _hours(one["spec"]["duration"]) / 2


@every_profile
def test_the_vault_s_certificate_has_the_name_that_others_use(profile: Profile) -> None:
    url = platform(profile).selected["vault" if profile == "named" else "openbao"].provides["vault"]["url"]
    certificate = of_kind(manifests("platform-issuers", profile), "Certificate", "vault-tls")
    assert url.split("//")[1].split(":")[0] in certificate["spec"]["dnsNames"]
    assert certificate["spec"]["ipAddresses"] == ["127.0.0.1"]
    assert certificate["metadata"]["namespace"] == "vault"


def test_letsencrypt_is_on_when_asked_for_and_wants_an_address() -> None:
    values = {"issuers": {"enabled": True, "letsencrypt": {"enabled": True}}}
    refused = render(CHART, values)
    assert refused.returncode != 0 and "where Let's Encrypt writes to" in refused.stderr
    values["issuers"]["letsencrypt"] = {"enabled": True, "email": "me@example.org", "zones": ["example.org"]}
    acme = of_kind(template(CHART, values), "ClusterIssuer", "letsencrypt")["spec"]["acme"]
    (solver,) = acme["solvers"]
    assert solver["selector"] == {"dnsZones": ["example.org"]}
    token = solver["dns01"]["cloudflare"]["apiTokenSecretRef"]
    secret = next(one for entry in catalogue().values() for one in entry.secrets if one.name == token["name"])
    assert token["key"] in secret.keys


# -- secrets ---------------------------------------------------------------------------------------------------


@every_profile
def test_external_secrets_reads_from_the_vault_there_is(profile: Profile) -> None:
    store = of_kind(manifests("platform-secret-store", profile), "ClusterSecretStore")
    vault = store["spec"]["provider"]["vault"]
    certificate = of_kind(manifests("platform-issuers", profile), "Certificate", "vault-tls")
    assert vault["server"].startswith("https://")
    assert vault["caProvider"]["name"] == certificate["spec"]["secretName"]
    assert vault["caProvider"]["namespace"] == certificate["metadata"]["namespace"]
    assert vault["auth"]["kubernetes"]["serviceAccountRef"]["namespace"] == "external-secrets"


@every_profile
def test_the_store_uses_the_names_that_the_vault_is_set_up_with(profile: Profile) -> None:
    vault = of_kind(manifests("platform-secret-store", profile), "ClusterSecretStore")["spec"]["provider"]["vault"]
    login = vault["auth"]["kubernetes"]
    assert (vault["path"], login["mountPath"], login["role"]) == (KV_MOUNT, LOGIN_MOUNT, ROLE)
    assert login["serviceAccountRef"] == {"name": SERVICE_ACCOUNT, "namespace": SERVICE_NAMESPACE}


def test_helm_does_not_wait_for_a_sealed_vault() -> None:
    """Helm 4 waits for the readiness of everything but hooks."""
    store = of_kind(manifests("platform-secret-store"), "ClusterSecretStore")
    assert store["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"


def test_without_a_vault_the_secrets_of_one_namespace_are_read_and_only_read() -> None:
    values = {"secretStore": {"enabled": True, "provider": "kubernetes"}}
    rendered = template(CHART, values, namespace="platform-system")
    provider = of_kind(rendered, "ClusterSecretStore")["spec"]["provider"]["kubernetes"]
    role = of_kind(rendered, "Role")
    assert provider["remoteNamespace"] == role["metadata"]["namespace"] == "platform-secrets"
    assert provider["auth"]["serviceAccount"]["name"] == of_kind(rendered, "RoleBinding")["subjects"][0]["name"]
    secrets = next(rule for rule in role["rules"] if "secrets" in rule["resources"])
    assert set(secrets["verbs"]) == {"get", "list", "watch"}


@every_profile
def test_not_every_namespace_may_read_from_the_store(profile: Profile) -> None:
    (condition,) = of_kind(manifests("platform-secret-store", profile), "ClusterSecretStore")["spec"]["conditions"]
    assert "default" not in condition["namespaces"] and condition["namespaces"]


def test_who_may_change_things_in_a_namespace_makes_no_external_secret_there() -> None:
    assert planned("external-secrets").values["rbac"]["aggregateToEdit"] is False


def test_an_external_secret_can_be_asked_for() -> None:
    wanted = {"shop": {"namespace": "data-platform", "key": "shop/database"}}
    values = {
        "secretStore": {"enabled": True, "vault": {"url": "https://vault.vault.svc:8200"}, "externalSecrets": wanted}
    }
    one = of_kind(template(CHART, values), "ExternalSecret")
    assert one["metadata"] | {"labels": {}} == {"name": "shop", "namespace": "data-platform", "labels": {}}
    assert one["spec"]["dataFrom"] == [{"extract": {"key": "shop/database"}}]
    assert one["spec"]["secretStoreRef"] == {"kind": "ClusterSecretStore", "name": "platform"}


# -- routes ----------------------------------------------------------------------------------------------------


@every_profile
def test_every_dashboard_is_behind_the_login(profile: Profile) -> None:
    rendered = manifests("platform-config", profile)
    routes = [one for one in rendered if one["kind"] == "IngressRoute"]
    hosts = {re.findall(r"Host\(`([^`]+)`\)", route["match"])[0] for one in routes for route in one["spec"]["routes"]}
    wanted = {"nifi", "jupyterlab"} | ({"grafana", "kibana"} if profile == "named" else {"opensearch"})
    assert hosts >= {f"{name}.home.arpa" for name in wanted}
    middlewares = {
        (one["metadata"]["namespace"], one["metadata"]["name"]) for one in rendered if one["kind"] == "Middleware"
    }
    for one in routes:
        (route,) = one["spec"]["routes"]
        assert route["middlewares"][0] == {"name": "login"}
        for middleware in route["middlewares"]:
            assert (one["metadata"]["namespace"], middleware["name"]) in middlewares
        assert one["spec"]["entryPoints"] == ["websecure"]


@every_profile
def test_routes_have_a_certificate_for_their_host(profile: Profile) -> None:
    rendered = manifests("platform-config", profile)
    for one in (one for one in rendered if one["kind"] == "IngressRoute"):
        (certificate,) = (
            other
            for other in rendered
            if other["kind"] == "Certificate" and other["spec"]["secretName"] == one["spec"]["tls"]["secretName"]
        )
        assert certificate["metadata"]["namespace"] == one["metadata"]["namespace"]
        assert f"Host(`{certificate['spec']['dnsNames'][0]}`)" == one["spec"]["routes"][0]["match"]


def _own(profile: Profile) -> list[Manifest]:
    """What our charts of applications install."""
    return [
        manifest
        for chart in charts_with_a_release()
        if not chart.name.startswith("platform-") and chart.name in platform(profile).selected
        for manifest in template_planned(planned(chart.name, profile))
    ]


@every_profile
def test_routes_lead_to_services_of_ours_that_are_there(profile: Profile) -> None:
    services = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): {port["port"] for port in one["spec"]["ports"]}
        for one in _own(profile)
        if one["kind"] == "Service"
    }
    found = 0
    for one in (one for one in manifests("platform-config", profile) if one["kind"] == "IngressRoute"):
        (service,) = one["spec"]["routes"][0]["services"]
        key = one["metadata"]["namespace"], service["name"]
        if key[0] == "data-platform":
            assert service["port"] in services[key], key
            found += 1
    assert found == 2


@every_profile
def test_traefik_checks_the_certificate_behind_it(profile: Profile) -> None:
    """By a name that this certificate has, and by its own authority."""
    made = {
        (one["metadata"]["namespace"], one["spec"]["secretName"]): one["spec"]["dnsNames"]
        for one in [*_own(profile), *_extra_certificates(profile)]
        if one["kind"] == "Certificate" and "dnsNames" in one["spec"]
    }
    transports = [one for one in manifests("platform-config", profile) if one["kind"] == "ServersTransport"]
    assert transports
    for one in transports:
        (authority,) = one["spec"]["rootCAs"]
        key = one["metadata"]["namespace"], authority["secret"]
        assert one["spec"]["serverName"] in made[key], key


def _extra_certificates(profile: Profile) -> list[Manifest]:
    """Certificates that charts of others make of objects in their values."""
    found = []
    for release in platform(profile).releases:
        for objects in _extra_objects(release.values):
            for one in objects:
                metadata = {"namespace": release.release.namespace, **one["metadata"]}
                found.append({**one, "metadata": metadata})
    return found


def _extra_objects(values: Any) -> list[list[Manifest]]:
    if not isinstance(values, dict):
        return []
    found = [value for key, value in values.items() if key in ("extraObjects", "extraManifests") and value]
    return found + [inner for value in values.values() for inner in _extra_objects(value)]


@every_profile
def test_oauth2_proxy_answers_what_traefik_asks(profile: Profile) -> None:
    """The middleware asks for /, which oauth2-proxy answers with 202 or with the way to the login."""
    login = of_kind(
        [one for one in manifests("platform-config", profile) if one["metadata"].get("namespace") == "data-platform"],
        "Middleware",
        "login",
    )
    proxy = planned("oauth2-proxy", profile)
    address = login["spec"]["forwardAuth"]["address"]
    assert address == f"http://{proxy.name}.{proxy.release.namespace}.svc.cluster.local"
    assert proxy.values["extraArgs"]["upstream"] == "static://202"
    assert proxy.values["extraArgs"]["reverse-proxy"] == "true"
    # a header that a client sends is not believed
    assert "trustForwardHeader" not in login["spec"]["forwardAuth"]


# -- rules and dashboards --------------------------------------------------------------------------------------


def test_rules_are_those_of_what_is_there() -> None:
    rules = names(manifests("platform-config", "named"), "PrometheusRule")
    assert {"platform-node", "platform-nifi", "platform-postgres", "platform-backup"} <= rules
    wanted = platform_of(
        cluster(
            ("master", "worker"),
            platform_profile="minimal",
            platform_releases={
                name: {"enabled": True} for name in ("prometheus-operator-crds", "kube-prometheus-stack")
            },
        )
    )
    assert names(_of(wanted, "platform-config"), "PrometheusRule") == {
        *("platform-node", "platform-kubernetes", "platform-k3s", "platform-monitoring", "platform-certificates")
    }


def test_dashboards_are_where_grafana_looks() -> None:
    sidecar = planned("grafana").values["sidecar"]["dashboards"]
    for one in (one for one in manifests("platform-config") if one["kind"] == "ConfigMap"):
        assert one["metadata"]["labels"][sidecar["label"]] == sidecar["labelValue"]
        assert one["metadata"]["annotations"][sidecar["folderAnnotation"]] == "Platform"
        assert len(one["data"]) == 1
    # the profile without Grafana has nobody to show them to
    assert names(manifests("platform-config", "clean"), "ConfigMap") == set()


def test_prometheus_keeps_the_metrics_of_k3s_that_rules_and_dashboards_need() -> None:
    values = planned("kube-prometheus-stack").values
    needed = {
        "kubeApiServer": (
            "apiserver_request_total",
            "etcd_request_duration_seconds_sum",
            "etcd_request_duration_seconds_count",
            "k3s_certificate_expiration_seconds",
        ),
        "kubelet": ("kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"),
    }
    for job, metrics in needed.items():
        for metric in metrics:
            assert kept(metric, values[job]["serviceMonitor"]["metricRelabelings"]), metric
    (trino,) = values["prometheus"]["additionalServiceMonitors"]
    for metric in (
        "trino_node_name_CoordinatorNodeManager_ActiveNodeCount",
        "trino_execution_name_QueryManager_FailedQueries",
    ):
        assert kept(metric, trino["endpoints"][0]["metricRelabelings"]), metric
    assert trino["name"] == "trino"


def kept(metric: str, relabelings: Sequence[dict[str, Any]]) -> bool:
    """Whether a metric passes, as Prometheus relabels: expressions match the whole name."""
    for one in relabelings:
        assert one["sourceLabels"] == ["__name__"]
        if bool(re.fullmatch(one["regex"], metric)) != (one["action"] == "keep"):
            return False
    return True


def test_an_alert_comes_from_one_set_of_rules() -> None:
    """Those of kube-prometheus-stack would say the same, without what to do."""
    off = {name for name, on in planned("kube-prometheus-stack").values["defaultRules"]["rules"].items() if on is False}
    assert {
        "general",
        "kubernetesApps",
        "kubernetesStorage",
        "nodeExporterAlerting",
        "prometheus",
        "alertmanager",
    } <= off


# -- policies --------------------------------------------------------------------------------------------------


def test_the_trial_of_helm_test_fails_when_something_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = next(iter(pods(manifests("platform-policies"))))
    script, *targets = pod.containers[0]["args"]
    assert {target.rpartition(":")[0] for target in targets} == {
        *("vault.vault.svc", "postgres-rw.databases.svc", "minio.object-store.svc")
    }
    reachable = {"kube-dns"}

    class Connection:
        def close(self) -> None: ...

    def connect(address: tuple[str, int], timeout: float) -> Connection:
        if address[0].split(".")[0] in reachable:
            return Connection()
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "gethostbyname", lambda name: name)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr("sys.argv", ["-c", *targets])
    assert _exit_code(script) == 0
    reachable.add("vault")
    assert _exit_code(script) == "reached, but should not be: vault.vault.svc:8200"
    reachable.clear()
    with pytest.raises(ConnectionRefusedError):  # nothing works, so that a refusal proves nothing
        _exit_code(script)


def _exit_code(script: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        exec(compile(script, "helm-test", "exec"), {})
    return ended.value.code


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"addressPools": {"enabled": True, "fixed": ["192.168.0.201"]}}, "/addressPools/fixed/0"),
        ({"logs": {"enabled": True, "kind": "loki"}}, "/logs/kind"),
        ({"secretStore": {"enabled": True, "provider": "file"}}, "/secretStore/provider"),
        ({"networkPolicies": {"namespaces": {"x": {"ingress": {"y": {"ports": [1]}}}}}}, "peers"),
        ({"networkPolicies": {"namespaces": {"x": {"ingress": {"y": {"peers": ["A B"]}}}}}}, "/peers/0"),
        (
            {"networkPolicies": {"namespaces": {"x": {"ingress": {"y": {"peers": ["z"], "ports": [70000]}}}}}},
            "/ports/0",
        ),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any], said: str) -> None:
    answer = render(CHART, values)
    assert answer.returncode != 0
    assert said in answer.stderr
