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
from piclusterops.platform import choose
from piclusterops.secret_providers import variable
from piclusterops.secret_values import Name
from piclusterops.secrets import SALT, UNSEAL, check_name, definitions


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


def test_the_smallest_platform_needs_nothing_of_its_owner(tmp_path: Path) -> None:
    store = age_store(tmp_path)
    store.provider.prepare()
    releases = selected("minimal")
    store.init(releases)
    assert store.missing(releases) == []
