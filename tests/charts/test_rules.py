"""What every manifest of our charts keeps to, whatever the profile."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from harness import PROFILES, Manifest, Pod, charts_with_a_release, is_test, planned, pods, template_planned

from piclusterops.catalogue import Profile, catalogue

CASES = [(chart.name, profile) for chart in charts_with_a_release() for profile in PROFILES]
every_case = pytest.mark.parametrize(("name", "profile"), CASES)

#: What a label of Kubernetes may be.
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
#: An image with its registry, a tag that says a version, and perhaps its digest.
_PINNED = re.compile(r"[a-z0-9.-]+\.[a-z]+(:\d+)?/[a-z0-9./_-]+:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?")
_STANDARD = ("name", "instance", "version", "managed-by", "part-of")


def manifests(name: str, profile: Profile) -> list[Manifest]:
    return template_planned(planned(name, profile))


def pods_of(name: str, profile: Profile) -> list[Pod]:
    return list(pods(manifests(name, profile)))


def lasting(name: str, profile: Profile) -> Iterator[Pod]:
    return (pod for pod in pods_of(name, profile) if pod.lasting)


@every_case
def test_the_standard_labels_are_on_everything(name: str, profile: Profile) -> None:
    for manifest in manifests(name, profile):
        labels = manifest["metadata"].get("labels", {})
        what = f"{manifest['kind']}/{manifest['metadata']['name']}"
        assert [key for key in _STANDARD if f"app.kubernetes.io/{key}" not in labels] == [], what
        assert all(_LABEL.fullmatch(str(value)) for value in labels.values()), what


@every_case
def test_nothing_leaves_its_namespace_unsaid(name: str, profile: Profile) -> None:
    """Namespaced manifests have the namespace of the release, and not that of whoever applies them."""
    cluster_wide = ("Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding", "StorageClass", "ClusterIssuer")
    cluster_wide += ("ClusterSecretStore", "CustomResourceDefinition")
    for manifest in manifests(name, profile):
        if manifest["kind"] not in cluster_wide:
            assert manifest["metadata"].get("namespace"), f"{manifest['kind']}/{manifest['metadata']['name']}"


@every_case
def test_no_pod_shares_anything_with_its_host(name: str, profile: Profile) -> None:
    for pod in pods_of(name, profile):
        assert not any(pod.spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), pod.name
        assert not [volume for volume in pod.spec.get("volumes", []) if "hostPath" in volume], pod.name
        ports = [port for one in pod.all_containers for port in one.get("ports", [])]
        assert not [port for port in ports if "hostPort" in port], pod.name


@every_case
def test_pods_meet_the_restricted_pod_security_standard(name: str, profile: Profile) -> None:
    """As https://kubernetes.io/docs/concepts/security/pod-security-standards has it."""
    for pod in pods_of(name, profile):
        context = pod.spec["securityContext"]
        assert context["runAsNonRoot"] is True, pod.name
        assert context["runAsUser"] > 0, pod.name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        for container in pod.all_containers:
            own = container["securityContext"]
            where = f"{pod.name}, {container['name']}"
            assert own["allowPrivilegeEscalation"] is False, where
            assert own["capabilities"]["drop"] == ["ALL"], where
            assert set(own["capabilities"].get("add", [])) <= {"NET_BIND_SERVICE"}, where
            assert not own.get("privileged"), where
            assert own.get("runAsUser", 1) > 0, where


@every_case
def test_root_file_systems_are_read_only(name: str, profile: Profile) -> None:
    for pod in pods_of(name, profile):
        writable = [one["name"] for one in pod.all_containers if not one["securityContext"]["readOnlyRootFilesystem"]]
        assert writable == [], pod.name


@every_case
def test_pods_have_no_access_to_the_api(name: str, profile: Profile) -> None:
    for pod in pods_of(name, profile):
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        assert pod.spec["enableServiceLinks"] is False, pod.name


@every_case
def test_every_container_has_requests_and_limits(name: str, profile: Profile) -> None:
    for pod in pods_of(name, profile):
        for container in pod.all_containers:
            resources = container["resources"]
            assert set(resources["requests"]) >= {"cpu", "memory"}, f"{pod.name}, {container['name']}"
            assert "memory" in resources["limits"], f"{pod.name}, {container['name']}"


@every_case
def test_every_lasting_container_is_watched(name: str, profile: Profile) -> None:
    for pod in lasting(name, profile):
        for container in pod.containers:
            assert "livenessProbe" in container, f"{pod.name}, {container['name']}"
            assert "readinessProbe" in container, f"{pod.name}, {container['name']}"


@every_case
def test_images_are_pinned_and_come_from_a_named_registry(name: str, profile: Profile) -> None:
    for pod in pods_of(name, profile):
        for container in pod.all_containers:
            image = container["image"]
            assert re.fullmatch(
                r"[a-z0-9.-]+\.[a-z]+(:\d+)?/[a-z0-9./_-]+:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?", image
            )
            assert container["imagePullPolicy"] == "IfNotPresent", f"{pod.name}, {container['name']}"


@every_case
def test_one_setting_moves_all_images_to_another_registry(name: str, profile: Profile) -> None:
    release = planned(name, profile)
    if "imageRegistry" not in release.values and not pods_of(name, profile):
        pytest.skip("it has no pods")
    moved = type(release)(
        release.release,
        release.version,
        release.nodes,
        {**release.values, "imageRegistry": "registry.home.arpa:5000"},
        release.timeout_s,
    )
    images = [one["image"] for pod in pods(template_planned(moved)) for one in pod.all_containers]
    assert images and all(image.startswith("registry.home.arpa:5000/") for image in images), images


@every_case
def test_no_manifest_holds_a_secret(name: str, profile: Profile) -> None:
    assert not [one["metadata"]["name"] for one in manifests(name, profile) if one["kind"] == "Secret"]


@every_case
def test_pods_use_only_secrets_that_exist_by_then(name: str, profile: Profile) -> None:
    """Those of the catalogue that their namespace has, and those that their own Certificate makes."""
    release = planned(name, profile).release
    there = {
        secret.name
        for entry in catalogue().values()
        for secret in entry.secrets
        if release.namespace in (entry.namespace, *secret.namespaces)
    }
    there |= {one["spec"]["secretName"] for one in manifests(name, profile) if one["kind"] == "Certificate"}
    # those of certificates that other releases make, and tell of in their contracts
    there |= {
        given["ca_secret"]
        for entry in catalogue().values()
        for given in entry.provides.values()
        if "ca_secret" in given
    }
    used = {secret for pod in pods_of(name, profile) for secret in _secrets_of(pod)}
    assert used <= there, f"nobody makes {sorted(used - there)}"


def _secrets_of(pod: Pod) -> Iterator[str]:
    for volume in pod.spec.get("volumes", []):
        if "secret" in volume and not volume["secret"].get("optional"):
            yield volume["secret"]["secretName"]
        for source in volume.get("projected", {}).get("sources", []):
            if "secret" in source:
                yield source["secret"]["name"]
    for container in pod.all_containers:
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield variable["valueFrom"]["secretKeyRef"]["name"]
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                yield source["secretRef"]["name"]


@every_case
def test_pods_mount_only_volumes_they_have(name: str, profile: Profile) -> None:
    for pod in pods_of(name, profile):
        there = {volume["name"] for volume in pod.spec.get("volumes", [])}
        mounted = {mount["name"] for one in pod.all_containers for mount in one.get("volumeMounts", [])}
        assert mounted == there, pod.name


@every_case
def test_config_maps_of_pods_are_there_and_a_change_restarts_them(name: str, profile: Profile) -> None:
    rendered = manifests(name, profile)
    there = {one["metadata"]["name"] for one in rendered if one["kind"] == "ConfigMap"}
    for pod in pods(rendered):
        used = {volume["configMap"]["name"] for volume in pod.spec.get("volumes", []) if "configMap" in volume}
        assert used <= there, pod.name
        if used and pod.lasting:
            sums = [key for key in pod.metadata.get("annotations", {}) if key.startswith("checksum/")]
            assert sums, f"{pod.name} goes on with its old configuration"


@every_case
def test_volumes_outlive_the_release(name: str, profile: Profile) -> None:
    for manifest in manifests(name, profile):
        if manifest["kind"] == "PersistentVolumeClaim":
            assert manifest["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert not manifest.get("spec", {}).get("volumeClaimTemplates") if manifest["kind"] == "StatefulSet" else True


@every_case
def test_pods_with_a_volume_are_never_two_at_a_time_and_have_a_place(name: str, profile: Profile) -> None:
    """A local volume is on one node, and only one pod can write to it."""
    for pod in lasting(name, profile):
        if any("persistentVolumeClaim" in volume for volume in pod.spec.get("volumes", [])):
            assert pod.spec["nodeSelector"], pod.name
            if pod.owner["kind"] == "Deployment":
                assert pod.owner["spec"]["strategy"] == {"type": "Recreate"}, pod.name


@every_case
def test_a_network_policy_selects_every_pod(name: str, profile: Profile) -> None:
    rendered = manifests(name, profile)
    policies = [one["spec"] for one in rendered if one["kind"] == "NetworkPolicy"]
    if not any(pod.lasting for pod in pods(rendered)):
        pytest.skip("no pod of it lasts")
    for pod in pods(rendered):
        labels = pod.metadata["labels"].items()
        selecting = [one for one in policies if one["podSelector"]["matchLabels"].items() <= labels]
        assert selecting, f"{pod.name} is open to all"
        assert {kind for one in selecting for kind in one["policyTypes"]} == {"Ingress", "Egress"}, pod.name


@every_case
def test_nobody_is_let_in_from_everywhere(name: str, profile: Profile) -> None:
    for manifest in manifests(name, profile):
        if manifest["kind"] == "NetworkPolicy":
            for rule in manifest["spec"].get("ingress", []):
                assert rule.get("from"), f"{manifest['metadata']['name']} lets everyone in"
                assert rule.get("ports"), f"{manifest['metadata']['name']} opens all ports"
                assert {} not in rule["from"]
                assert not [peer for peer in rule["from"] if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"]


@every_case
def test_services_select_pods_and_ports_that_are_there(name: str, profile: Profile) -> None:
    rendered = manifests(name, profile)
    for service in (one for one in rendered if one["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        ports = {
            port[key]
            for pod in pods(rendered)
            if selector <= pod.metadata["labels"].items()
            for container in pod.containers
            for port in container.get("ports", [])
            for key in ("name", "containerPort")
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, service["metadata"]["name"]


@every_case
def test_published_services_ask_for_their_address_and_know_who_may_come(name: str, profile: Profile) -> None:
    interface = planned(name, profile).release.interface
    for service in (one for one in manifests(name, profile) if one["kind"] == "Service"):
        if service["spec"].get("type") == "LoadBalancer":
            assert interface is not None and interface.address
            assert service["metadata"]["annotations"]["metallb.io/loadBalancerIPs"]
            assert service["spec"]["loadBalancerSourceRanges"]
            # else the pod sees the address of a node, and its network policy lets nobody in
            assert service["spec"]["externalTrafficPolicy"] == "Local"


@every_case
def test_the_catalogue_knows_what_the_pods_ask_for(name: str, profile: Profile) -> None:
    """The memory and CPU of the budget are those of the rendered pods."""
    rendered = sorted(
        (
            sum(_mebibytes(one["resources"]["requests"]["memory"]) for one in pod.containers),
            sum(_mebibytes(one["resources"]["limits"]["memory"]) for one in pod.containers),
            sum(_millicores(one["resources"]["requests"]["cpu"]) for one in pod.containers),
        )
        for pod in lasting(name, profile)
        for _ in range(pod.owner["spec"].get("replicas", 1))
    )
    entry = planned(name, profile).release
    assert rendered == sorted((pod.memory_mib, pod.memory_limit_mib, pod.cpu_m) for pod in entry.pods)


def _mebibytes(quantity: str) -> int:
    number, unit = int(quantity[:-2]), quantity[-2:]
    return number * {"Mi": 1, "Gi": 1024}[unit]


def _millicores(quantity: str) -> int:
    return int(quantity[:-1]) if str(quantity).endswith("m") else 1000 * int(quantity)


@every_case
def test_the_catalogue_knows_the_workloads_and_volumes(name: str, profile: Profile) -> None:
    rendered, entry = manifests(name, profile), planned(name, profile).release
    workloads = {pod.name for pod in pods(rendered) if pod.lasting}
    assert set(entry.health) == workloads
    claims = {
        one["metadata"]["name"]: int(one["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
        for one in rendered
        if one["kind"] == "PersistentVolumeClaim"
    }
    assert claims == {volume.claim: volume.size_gib for volume in entry.volumes}
    assert set(entry.backup.volumes) <= set(claims)


@every_case
def test_it_can_be_tried(name: str, profile: Profile) -> None:
    rendered = manifests(name, profile)
    if any(pod.lasting for pod in pods(rendered)):
        assert [one for one in rendered if is_test(one)], "`helm test` would try nothing"
