"""What the checks say of the platform that is wanted: licences, maintenance, images, pages, addresses, budget."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from check_samples import TRIXIE, report, subject
from k3s_samples import cluster, with_node
from platform_samples import platform, pods, release

import piclusterops.check_platform as checks
import piclusterops.platform_rules as rules
from piclusterops.catalogue import Release
from piclusterops.check import TOPICS, Finding, Subject
from piclusterops.check_platform import (
    PLATFORM_RULES,
    answers_probe,
    is_unproved,
    platform_findings,
    services_network,
)
from piclusterops.facts.check import check_query
from piclusterops.facts.snapshot import UnitState
from piclusterops.settings import ClusterSettings
from piclusterops.survey import secret_findings

STORES = {
    entry.name: entry
    for entry in (
        release(
            "oldstore",
            profiles=["named"],
            provides={"store": {}},
            licence={"spdx": "AGPL-3.0-only", "source": "LICENSE"},
            maintenance={"maintained": False, "note": "archived in 2026"},
        ),
        release("newstore", profiles=["clean"], provides={"store": {}}),
    )
}


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "catalogue", lambda: STORES)
    monkeypatch.setattr(rules, "catalogue", lambda: STORES)


def found(releases: Sequence[Release], topic: str, subjects: Sequence[Subject] = (), **settings: Any) -> list[Finding]:
    whole = platform(releases, cluster(**settings))
    return [finding for rule in PLATFORM_RULES for finding in rule(whole, subjects) if finding.topic == topic]


def hosts(**probes: list[str]) -> list[Subject]:
    return [subject(report(**probes), name=name) for name in ("pi-master", "pi-worker-1", "pi-worker-2")]


# -- licences and maintenance --------------------------------------------------------------------------------


def test_in_the_profile_named_a_licence_is_a_warning_with_the_way_out() -> None:
    (finding,) = found([STORES["oldstore"]], "licence")
    assert (finding.severity, finding.host) == ("warning", "cluster")
    assert finding.found == "oldstore is licensed AGPL-3.0-only, which is not permissive"
    assert finding.fix == 'platform_profile = "clean" takes newstore in its place'


def test_in_the_profile_clean_it_is_an_error_without_a_waiver() -> None:
    (finding,) = found([STORES["oldstore"]], "licence", platform_profile="clean")
    assert finding.severity == "error"
    assert finding.fix == (
        'use newstore (Apache-2.0) in its place: platform_releases = {"oldstore": {"enabled": False}}; '
        'or platform_waivers = {"oldstore": "the reason"}'
    )


@pytest.mark.parametrize("topic", ["licence", "maintenance"])
def test_a_waiver_makes_it_news_with_its_reason(topic: str) -> None:
    (finding,) = found(
        [STORES["oldstore"]], topic, platform_profile="clean", platform_waivers={"oldstore": "at home only"}
    )
    assert finding.severity == "info" and finding.found.endswith("; waived: at home only")


@pytest.mark.parametrize(("profile", "severity"), [("named", "warning"), ("clean", "error")])
def test_what_nobody_mends_is_named_with_the_reason(profile: str, severity: str) -> None:
    (finding,) = found([STORES["oldstore"]], "maintenance", platform_profile=profile)
    assert finding.severity == severity
    assert finding.found == "oldstore is not maintained: archived in 2026"
    assert "newstore" in finding.fix


def test_without_an_equivalent_the_release_can_only_be_left_out() -> None:
    lonely = release("lonely", licence={"spdx": "BUSL-1.1", "source": "LICENSE"})
    (finding,) = found([lonely], "licence")
    assert finding.fix == 'turn it off: platform_releases = {"lonely": {"enabled": False}}'


def test_a_weak_copyleft_is_news_and_a_permissive_licence_is_none() -> None:
    weak = release("weak", licence={"spdx": "MPL-2.0", "source": "LICENSE"})
    (finding,) = found([weak, release("fine")], "licence")
    assert finding.severity == "info" and "weak copyleft" in finding.found


def test_packages_of_the_hosts_are_part_of_the_operating_system() -> None:
    vpn = release("vpn", source="host", chart=None, licence={"spdx": "GPL-2.0-only", "source": "COPYING"})
    assert found([vpn], "licence", platform_profile="clean") == []


# -- images and pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", ["", " ", "none", "not verified: no manifest was read", "Unknown."])
def test_an_image_without_evidence_for_arm64_is_a_warning(evidence: str) -> None:
    assert is_unproved(evidence)
    (finding,) = found([release("amd", arm64=evidence)], "images")
    assert finding.severity == "warning" and "amd" in finding.found


@pytest.mark.parametrize("evidence", ["nodejs image, which has linux/arm64", "no image"])
def test_evidence_for_arm64_is_enough(evidence: str) -> None:
    assert found([release("arm", arm64=evidence)], "images") == []


def test_a_release_that_breaks_on_large_pages_is_an_error_on_nodes_that_keep_them() -> None:
    breaks = release("breaks", page_16k=False, pods=[pods(on="node")])
    large = [subject(report(TRIXIE), name=name) for name in ("pi-master", "pi-worker-1")]
    (finding,) = found([breaks], "page size", large, page_size="keep")
    assert (finding.severity, finding.host) == ("error", "pi-worker-1")
    assert finding.found == "breaks end at once on memory pages of 16 KiB"
    assert found([breaks], "page size", large, page_size="4k") == [], "the deploy boots another kernel"
    assert found([breaks], "page size", hosts(), page_size="keep") == [], "4 KiB already"
    assert [entry.host for entry in found([breaks], "page size", hosts(), page_size="16k")] == ["pi-worker-1"]


def test_a_daemon_set_breaks_on_every_node() -> None:
    breaks = release("breaks", page_16k=False, pods=[pods(on="every")])
    assert len(found([breaks], "page size", hosts(**{"system": TRIXIE["system"]}), page_size="keep")) == 3


# -- addresses and ports -------------------------------------------------------------------------------------

ADDRESSES = {"service_addresses": {"nifi": "192.168.0.210", "trino": "192.168.0.211"}}


def test_an_address_that_somebody_has_is_an_error() -> None:
    taken = hosts(answers=["192.168.0.211"])
    (finding,) = found([], "addresses", taken, **ADDRESSES)
    assert finding.severity == "error" and "192.168.0.211 of trino" in finding.found
    assert "pi-master, pi-worker-1, pi-worker-2" in finding.found


def test_an_address_of_the_clusters_own_service_is_right() -> None:
    ours = hosts(answers=["192.168.0.211"], held=["", "192.168.0.210 192.168.0.211", "known"])
    assert found([], "addresses", ours, **ADDRESSES) == []
    others = hosts(answers=["192.168.0.211"], held=["192.168.0.210", "known"])
    assert len(found([], "addresses", others, **ADDRESSES)) == 1


def test_an_address_in_a_vlan_that_no_node_is_in_is_a_warning() -> None:
    settings = {"services_cidr": "10.0.1.0/24", "service_addresses": {"nifi": "10.0.1.10", "trino": "192.168.0.210"}}
    (finding,) = found([], "addresses", **settings)
    assert finding.severity == "warning" and finding.found.endswith("there: 10.0.1.10 (nifi)")
    tagged = with_node(cluster(**settings), "pi-worker-1", vlans={"services": {"id": 10, "address": "10.0.1.121/24"}})
    assert not list(services_network(platform([], tagged), []))


def test_without_an_answer_of_the_api_nobody_is_accused() -> None:
    answer = report(answers=["192.168.0.211"])
    answer.snapshot.units["k3s"] = UnitState("active", "enabled")
    assert found([], "addresses", [subject(answer)], **ADDRESSES) == []


def test_only_wanted_addresses_are_tried() -> None:
    def probes(**given: Any) -> dict[str, str]:
        settings = ClusterSettings.model_validate({"lan_cidr": "192.168.0.0/24", **given})
        return dict(check_query(settings, [], []).probes)

    assert {"held", "answers", "stored"} <= probes(**ADDRESSES).keys()
    assert not {"held", "answers"} & probes().keys() and "stored" in probes()
    assert not {"held", "answers", "stored"} & probes(platform_profile="none", **ADDRESSES).keys()


def test_an_address_that_answers_is_printed_and_no_other(tmp_path: Path) -> None:
    for name, text in {"ping": '[ "$5" = 192.168.0.210 ]', "ip": "echo $4 dev eth0 FAILED", "sleep": "true"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = answers_probe(ClusterSettings.model_validate({"lan_cidr": "192.168.0.0/24", **ADDRESSES}))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["dash", "-c", script], capture_output=True, text=True, env=env)
    assert done.stdout.splitlines() == ["192.168.0.210"]
    (tmp_path / "ip").write_text("#!/bin/sh\necho $4 dev eth0 lladdr 02:42:0a:00:00:01 REACHABLE\n")
    done = subprocess.run(["dash", "-c", script], capture_output=True, text=True, env=env)
    assert sorted(done.stdout.splitlines()) == ["192.168.0.210", "192.168.0.211"]


# -- all together --------------------------------------------------------------------------------------------


def test_the_budget_is_that_of_the_hosts_that_answered() -> None:
    silent = replace(hosts()[1], report=None)
    large = release("large", memory=9000, pods=[pods(9000, on="role"), pods(8000, on="every", limit=8000)])
    whole = found([large], "budget", [hosts()[0], silent])
    assert {finding.host for finding in whole if finding.severity == "error"} == {"pi-master"}
    assert any("(estimated)" in finding.found for finding in whole)


def test_without_a_platform_nothing_is_said() -> None:
    assert platform_findings(cluster(platform_profile="none"), hosts()) == []
    assert secret_findings(cluster(platform_profile="none"), None) == []


def test_every_topic_has_its_place_in_the_order() -> None:
    source = Path(checks.__file__).read_text()
    assert set(re.findall(r'"(licence|maintenance|images|addresses|page size)"', source)) <= set(TOPICS)
    assert {"budget", "secrets"} <= set(TOPICS)


# -- secrets -------------------------------------------------------------------------------------------------


def with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        "password": {"kind": "password"},
        "token": {"kind": "given", "why": "a token of the provider's console"},
        "user": {"kind": "static", "value": "admin"},
    }
    entry = release("sql", secrets=[{"name": "sql", "keys": keys}])
    monkeypatch.setattr(rules, "catalogue", lambda: {"sql": entry})


def test_secrets_that_are_missing_are_errors_with_the_command_that_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with_secrets(monkeypatch)
    random, given = secret_findings(cluster(secrets_provider="environment"), Path("inventories/prod.py"))
    assert (random.severity, random.topic, random.found) == (
        "error",
        "secrets",
        "secrets are not made yet: sql/password",
    )
    assert random.fix.startswith("picluster secrets init")
    assert (given.found, given.why) == ("sql/token is missing", "a token of the provider's console")
    assert given.fix.startswith("picluster secrets set") and given.fix.endswith(" sql token")


def test_secrets_that_nobody_can_read_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_secrets(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "prod.secrets.age").write_text("no age file")
    (finding,) = secret_findings(cluster(secrets_key=str(tmp_path / "age.key")), tmp_path / "prod.py")
    assert finding.severity == "error" and finding.topic == "secrets" and "Traceback" not in finding.found
