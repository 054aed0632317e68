"""The secrets of the real catalogue: every one can be made, told apart, and put where it belongs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path

import bcrypt
import pytest
from k3s_samples import cluster
from pydantic import SecretStr
from secret_samples import age_store, plain

from piclusterops.catalogue import Release, catalogue
from piclusterops.operations.platform import restart_order
from piclusterops.platform import choose, platform_of
from piclusterops.secret_providers import variable
from piclusterops.secret_values import Name
from piclusterops.secrets import SALT, UNSEAL, check_name, definitions, made_of, touched


def selected(profile: str) -> list[Release]:
    """What a profile selects."""
    waivers = {"grafana": "tests"} if profile == "clean" else {}
    settings = cluster(platform_profile=profile, platform_waivers=waivers).settings
    return list(choose(catalogue(), settings).values())


def everything(profile: str) -> list[Release]:
    """A profile with all that goes together with it."""
    chosen = selected(profile)
    names = {release.name for release in chosen}
    contracts = {contract for release in chosen for contract in release.provides}
    others = [r for r in catalogue().values() if r.name not in names and not contracts & set(r.provides)]
    return [*chosen, *others]


@pytest.fixture(scope="module", params=["named", "clean"])
def values(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Name, str]:
    """All values of a profile with everything turned on."""
    releases = everything(request.param)
    store = age_store(tmp_path_factory.mktemp("store"))
    store.provider.prepare()
    store.init(releases)
    store.put({entry[:2]: SecretStr(f"given {entry.secret}/{entry.key}") for entry in store.missing(releases)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("piclusterops.secret_values.BCRYPT_COST", 4)
        return plain(store.values(releases))


def test_every_secret_of_a_profile_can_be_made(values: dict[Name, str]) -> None:
    assert len(values) > 30 and all(values.values())


def test_templates_of_the_catalogue_make_what_their_readers_read(values: dict[Name, str]) -> None:
    lines = dict(line.split(":", 1) for line in values["trino", "password.db"].splitlines())
    assert bcrypt.checkpw(values["trino-passwords", "admin"].encode(), lines["admin"].encode())
    velero = ConfigParser()
    velero.read_string(values["velero-s3", "cloud"])
    assert velero["default"]["aws_secret_access_key"] == values["object-store-velero", "secret-key"]
    for (_, key), value in values.items():
        if key.endswith((".json", "_config")):
            assert json.loads(value)


def test_names_of_the_catalogue_are_fit_for_every_provider() -> None:
    names: Sequence[Name] = [*definitions(catalogue().values()), SALT]
    for name in names:
        check_name(name)
    assert UNSEAL not in {secret for secret, _ in names} and SALT[0] not in {
        secret for secret, _ in definitions(catalogue().values())
    }
    variables = [variable(name) for name in dict.fromkeys(names)]
    assert len(set(variables)) == len(variables)


def test_what_only_the_owner_knows_says_where_it_comes_from() -> None:
    for name, key in definitions(catalogue().values()).items():
        if key.kind == "given":
            assert len(key.why) > 25, name


def test_no_static_value_looks_like_a_secret() -> None:
    for (secret, key), definition in definitions(catalogue().values()).items():
        if definition.kind == "static" and re.search(r"pass|secret|token|kek$", key):
            pytest.fail(f"{secret}/{key} is in the catalogue for all to read")


def _restarted(namespace: str, name: str) -> str:
    return f"{namespace}/deployment/{name} is restarted"


#: What brings a new value of a Secret into force, of all that may be replaced: whoever changes one has to know.
GRAFANA, MINIO = "monitoring/deployment/grafana is told", "object-store/deployment/minio is told"
OPENSEARCH = "logging/statefulset/opensearch is told"
ELASTIC = "taken over by the operator of Elastic, which watches it; Elasticsearch reads it within two minutes"
CNPG = "taken over by CloudNativePG, which watches Secrets with this label"
SEAWEEDFS = "object-store/deployment/seaweedfs-all-in-one is restarted"
METASTORE = "data-platform/deployment/hive-metastore is restarted"
TRINO = [f"data-platform/deployment/trino-{part} is restarted" for part in ("coordinator", "worker")]
VELERO = ["velero/deployment/velero is restarted", "velero/daemonset/node-agent is restarted"]
IN_FORCE = {
    "cloudflare-api": [
        "taken over by cert-manager, which reads it for each challenge",
        _restarted("external-dns", "external-dns"),
    ],
    "cloudflared": [_restarted("dmz", "cloudflared")],
    "code-server": [_restarted("data-platform", "code-server")],
    "elasticsearch-admin": [ELASTIC],
    "elasticsearch-writer": [ELASTIC, _restarted("logging", "logstash")],
    "grafana-admin": [GRAFANA],
    "jupyterlab": [_restarted("data-platform", "jupyterlab")],
    "minio-root": [_restarted("object-store", "minio")],
    "nifi": ["data-platform/statefulset/nifi is restarted"],
    "oauth2-proxy": [_restarted("dmz", "oauth2-proxy")],
    "opensearch-admin": [OPENSEARCH],
    "opensearch-dashboards": [OPENSEARCH, _restarted("logging", "opensearch-dashboards")],
    "opensearch-writer": [OPENSEARCH, _restarted("logging", "logstash")],
    "postgres-app": [CNPG, *TRINO],
    "postgres-metastore": [CNPG, METASTORE],
    "seaweedfs-root": [SEAWEEDFS],
    "trino": TRINO,
    "trino-metrics": ["taken over by the operator of Prometheus, which watches it", *TRINO],
    "trino-passwords": TRINO,
}


@pytest.mark.parametrize("profile", ["named", "clean"])
def test_something_brings_every_value_that_may_be_replaced_into_force(profile: str) -> None:
    store = [MINIO] if profile == "named" else [SEAWEEDFS]
    wanted = IN_FORCE | {"object-store": [*store, METASTORE, *TRINO], "object-store-velero": [*store, *VELERO]}
    releases = everything(profile)
    found = {}
    for (secret, key), about in definitions(releases).items():
        if about.kind in ("static", "template") or not about.rotates:
            continue
        ways = {way for _, owner in touched(releases, [(secret, key)]) for way in owner.in_force_by}
        assert ways, f"nothing brings a new {secret}/{key} into force"
        found.setdefault(secret, set()).update(ways)
    assert found == {secret: set(ways) for secret, ways in wanted.items() if secret in found}
    assert wanted.keys() - found.keys() == {
        secret for secret in wanted if secret not in {name for name, _ in definitions(releases)}
    }


def test_secrets_are_made_of_what_their_templates_name() -> None:
    sources = made_of(everything("named"))
    assert sources["hive-metastore"] == {"hive-metastore", "postgres-metastore", "object-store"}
    assert sources["velero-s3"] == {"velero-s3", "object-store-velero"}
    assert sources["trino"] == {"trino", "trino-passwords", "trino-metrics"}
    assert made_of(everything("clean"))["opensearch-security"] >= {"opensearch-admin", "opensearch-writer"}


def test_whoever_is_told_or_restarted_is_a_workload_whose_health_is_known() -> None:
    """Else its place in the order of restarts is not, nor whether it is there at all."""
    known = set(restart_order(list(catalogue().values())))
    for release in catalogue().values():
        for secret in release.secrets:
            named = {*secret.restarts, *(tell.workload for tell in secret.tells)}
            assert named <= known, f"{release.name}, {secret.name}: {named - known}"


@pytest.mark.parametrize("profile", ["named", "clean"])
def test_servers_come_before_their_users_in_the_order_of_restarts(profile: str) -> None:
    platform = platform_of(cluster(platform_profile=profile))
    order = restart_order([planned.release for planned in platform.releases])
    store = "minio" if profile == "named" else "seaweedfs-all-in-one"
    users = ["data-platform/deployment/hive-metastore", "data-platform/deployment/trino-worker"]
    assert all(order.index(f"object-store/deployment/{store}") < order.index(user) for user in users)


def test_what_a_server_is_told_has_to_be_in_its_secret() -> None:
    raw = catalogue()["grafana"].model_dump()
    raw["secrets"][0]["tells"][0]["stdin"] = ["pasword"]
    with pytest.raises(ValueError, match="is told pasword, which grafana-admin does not have"):
        Release.model_validate(raw)


def test_the_smallest_platform_needs_nothing_of_its_owner(tmp_path: Path) -> None:
    store = age_store(tmp_path)
    store.provider.prepare()
    releases = selected("minimal")
    store.init(releases)
    assert store.missing(releases) == []
