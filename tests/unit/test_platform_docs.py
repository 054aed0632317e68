"""The examples of the how-tos about the platform are settings, entries and templates that work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from k3s_samples import cluster

import piclusterops.platform as platform_module
from piclusterops.catalogue import Release, catalogue
from piclusterops.platform import Planned, platform_of
from piclusterops.validation import HostData, find_faults

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"
PAGES = ("add-a-release", "clean-profile", "own-chart", "nfs-and-docker", "vpn")
HOSTS = {"pi-master": "master", "pi-worker-1": "worker", "pi-worker-2": "data_node", "pi-worker-3": "data_node"}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (HOW_TO / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)


def entries(page: str) -> list[Release]:
    """The entries of the catalogue that a page shows."""
    return [Release.model_validate(yaml.safe_load(text)) for text in blocks(page, "yaml") if text.startswith("name: ")]


SETTINGS = [(page, number) for page in PAGES for number in range(len(blocks(page, "python")))]


@pytest.mark.parametrize(("page", "number"), SETTINGS)
def test_settings_are_accepted(page: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    exec(compile(blocks(page, "python")[number], page, "exec"), {}, given)
    known = {**catalogue(), **{entry.name: entry for entry in entries(page)}}
    monkeypatch.setattr("piclusterops.platform_rules.catalogue", lambda: known)
    # the template of what only the page has is in no folder: its values are another test's
    monkeypatch.setattr(platform_module, "_planned", lambda *_: ([], []))
    monkeypatch.setattr(platform_module, "catalogue", lambda: known)
    shared = {"lan_cidr": "192.168.0.0/24", "metallb_pool": "192.168.0.200-192.168.0.250", **given}
    hosts = [
        HostData(name, (role,), {"ssh_hostname": f"192.168.0.{120 + n}", **shared})
        for n, (name, role) in enumerate(HOSTS.items())
    ]
    assert find_faults(hosts) == []


@pytest.mark.parametrize("page", ["add-a-release", "own-chart"])
def test_an_entry_is_one_and_its_chart_comes_from_where_the_page_says(page: str) -> None:
    (entry,) = entries(page)
    assert entry.chart and (entry.chart.repository is None) == (page == "own-chart")
    assert entry.profiles == () and entry.licence.verdict == "permissive"
    assert f"files/platform/releases/{entry.name}.yaml" in (HOW_TO / f"{page}.md").read_text()


def test_a_template_becomes_the_values_that_the_page_tells_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = entries("add-a-release")
    (text,) = [text for text in blocks("add-a-release", "yaml") if "{{" in text]
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / f"{entry.name}.yaml.j2").write_text(text)
    monkeypatch.setattr(platform_module, "platform_folder", lambda: tmp_path)
    k3s = {name: release for name, release in catalogue().items() if release.source == "k3s"}
    wanted = cluster(platform_profile="minimal", domain="example.org", platform_releases={"podinfo": {"enabled": True}})
    (planned,) = platform_of(wanted, {**k3s, entry.name: entry}).releases
    assert isinstance(planned, Planned) and planned.values["resources"]["requests"]["memory"] == "32Mi"
    assert planned.values["nodeSelector"] == {"kubernetes.io/hostname": "pi-worker-1"}
    assert planned.values["ingress"]["hosts"][0]["host"] == "podinfo.example.org"


def test_the_table_of_licences_is_the_catalogues() -> None:
    text = (HOW_TO / "clean-profile.md").read_text()
    for name in ("minio", "seaweedfs", "vault", "openbao", "eck-stack", "opensearch", "grafana"):
        assert catalogue()[name].licence.spdx.removesuffix("-only") in text
    unmaintained = [release.name for release in catalogue().values() if not release.maintenance.maintained]
    assert unmaintained == ["minio"]
    refused = {release.name for release in catalogue().values() if release.licence.verdict == "not permissive"}
    told = {"minio", "vault", "eck-operator", "eck-stack", "grafana"}
    assert told <= refused and all(catalogue()[name].source == "host" for name in refused - told)
