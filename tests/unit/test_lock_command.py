"""`picluster lock` on the command line: K3s, Helm and charts from mirrors, and what the deploy makes of the file."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from piclusterops import helm_artefacts, lock
from piclusterops.artefacts import ArtefactError, WrongDigest
from piclusterops.catalogue import catalogue
from piclusterops.cli import main
from piclusterops.inventory import load_inventory
from piclusterops.platform import Platform, platform_of
from piclusterops.platform_charts import charts_of, check_helm, missing_charts
from piclusterops.settings import ClusterSettings
from piclusterops.validation import cluster_from_inventory

K3S = str(ClusterSettings.model_fields["k3s_version"].default)
HELM = str(ClusterSettings.model_fields["helm_version"].default)
CHARTS = ("cert-manager", "metallb")
INVENTORY = """
master = [("pi-master", {{"ssh_hostname": "192.168.0.120"}})]
cluster = (
    ["pi-master"],
    {{
        "lan_cidr": "192.168.0.0/24",
        "metallb_pool": "192.168.0.200-192.168.0.250",
        "platform_profile": "{profile}",
        "secrets_provider": "environment",
        "lock_file": "one.lock",
        "k3s_mirror": "k3s",
        "helm_mirror": "helm",
        "chart_mirror": "charts",
    }},
)
"""


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inventory with the smallest platform, and mirrors with all of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("PICLUSTEROPS_CACHE", str(tmp_path / "cache"))
    write_inventory()
    (tmp_path / "k3s" / K3S).mkdir(parents=True)
    (tmp_path / "k3s" / K3S / "sha256sum-arm64.txt").write_text(f"{digest('k3s')}  k3s-arm64\n")
    (tmp_path / "helm").mkdir()
    for arch in ("arm64", "amd64"):
        name = f"helm-{HELM}-linux-{arch}.tar.gz"
        (tmp_path / "helm" / name).write_text(name)
        (tmp_path / "helm" / f"{name}.sha256sum").write_text(f"{digest(name)}  {name}\n")
    (tmp_path / "charts").mkdir()
    for release in catalogue().values():
        if release.source == "helm" and release.chart:
            (tmp_path / "charts" / release.chart.archive).write_bytes(b"\x1f\x8b" + release.chart.name.encode())
    return tmp_path


def write_inventory(profile: str = "minimal") -> None:
    Path("one.py").write_text(INVENTORY.format(profile=profile))


def platform() -> Platform:
    return platform_of(cluster_from_inventory(load_inventory(Path("one.py"))))


def run() -> Result:
    return CliRunner().invoke(main, ["lock", "--env", "one.py"])


def locked() -> dict[str, str]:
    """What is pinned: name of the file to its digest."""
    return {entry.file: entry.sha256 for entry in lock.read(Path("one.lock")).values()}


def test_k3s_helm_and_the_selected_charts_are_pinned() -> None:
    done = run()
    assert done.exit_code == 0, done.output
    found = locked()
    assert found["k3s-arm64"] == digest("k3s")
    for arch in ("arm64", "amd64"):
        assert found[f"helm-{HELM}-linux-{arch}.tar.gz"] == digest(f"helm-{HELM}-linux-{arch}.tar.gz")
    charts = {chart.name: found[chart.archive] for chart in charts_of(platform()).values() if chart.mirror}
    assert set(CHARTS) <= set(charts) and charts["metallb"] == sha256(b"\x1f\x8bmetallb").hexdigest()
    assert not [file for file in found if "platform-base" in file], "a chart of ours is packed anew"
    assert f"{charts['metallb']}  " in done.stdout and "Written to one.lock: commit it" in done.stdout


def test_a_second_time_changes_nothing_and_an_old_file_is_added_to() -> None:
    assert run().exit_code == 0
    whole = Path("one.lock").read_text()
    assert run().exit_code == 0 and Path("one.lock").read_text() == whole
    old = [entry for entry in lock.read(Path("one.lock")).values() if entry.file == "k3s-arm64"]
    Path("one.lock").unlink()
    lock.write(Path("one.lock"), old)
    assert run().exit_code == 0 and Path("one.lock").read_text() == whole


def test_without_a_platform_k3s_alone_is_pinned(folder: Path) -> None:
    write_inventory("none")
    for file in (folder / "helm").glob("*.sha256sum"):
        file.unlink()
    assert run().exit_code == 0
    assert set(locked()) == {"k3s-arm64"}


def test_one_architecture_of_helm_is_enough(folder: Path) -> None:
    (folder / "helm" / f"helm-{HELM}-linux-amd64.tar.gz.sha256sum").unlink()
    assert run().exit_code == 0
    assert [file for file in locked() if file.startswith("helm-")] == [f"helm-{HELM}-linux-arm64.tar.gz"]


def test_what_can_not_be_pinned_is_named_and_the_rest_is_pinned_all_the_same(folder: Path) -> None:
    for file in (folder / "helm").glob("*.sha256sum"):
        file.unlink()
    chart = charts_of(platform())["metallb"]
    (folder / "charts" / chart.archive).write_text("<html>")
    done = run()
    assert done.exit_code == 1
    assert f"Not pinned: Helm {HELM}: cannot read" in done.stderr and f"Not pinned: {chart.archive}: " in done.stderr
    assert "k3s-arm64" in locked() and chart.archive not in locked()


def test_what_differs_from_the_file_stops_it_and_nothing_is_written(folder: Path) -> None:
    assert run().exit_code == 0
    before, chart = Path("one.lock").read_text(), charts_of(platform())["metallb"]
    (folder / "charts" / chart.archive).write_bytes(b"\x1f\x8bchanged")
    done = run()
    assert done.exit_code == 1
    for part in (chart.archive, str(chart.digest), sha256(b"\x1f\x8bchanged").hexdigest(), "picluster lock"):
        assert part in done.stderr
    assert Path("one.lock").read_text() == before


# -- what the deploy makes of it -----------------------------------------------------------------------------


def test_charts_are_held_to_the_file(folder: Path) -> None:
    assert run().exit_code == 0
    assert missing_charts(platform()) == {}
    chart = charts_of(platform())["metallb"]
    assert (chart.digest, chart.authority) == (locked()[chart.archive], "one.lock")
    (folder / "charts" / chart.archive).write_bytes(b"\x1f\x8bchanged")
    (text,) = missing_charts(platform()).values()
    for part in (str(chart.digest), sha256(b"\x1f\x8bchanged").hexdigest(), "one.lock", "Next: "):
        assert part in text


def test_of_a_mirror_at_a_url_another_digest_is_refused_and_silence_is_not(folder: Path) -> None:
    """One that is down keeps nobody from a run that needs nothing of it."""
    text = Path("one.py").read_text()
    Path("one.py").write_text(text.replace('"charts"', repr((folder / "charts").as_uri())))
    archive = folder / "charts" / charts_of(platform())["metallb"].archive
    content = archive.read_bytes()
    archive.unlink()
    assert missing_charts(platform()) == {}
    archive.write_bytes(content)
    assert run().exit_code == 0 and missing_charts(platform()) == {}
    archive.write_bytes(b"\x1f\x8bchanged")
    assert list(missing_charts(platform())) == ["metallb"]
    archive.unlink()
    assert missing_charts(platform()) == {}


def test_helm_of_a_directory_is_held_to_the_file(folder: Path) -> None:
    check_helm(platform())  # nothing is pinned
    assert run().exit_code == 0
    check_helm(platform())
    archive = folder / "helm" / f"helm-{HELM}-linux-arm64.tar.gz"
    archive.write_text("changed")
    with pytest.raises(WrongDigest) as error:
        check_helm(platform())
    for part in (digest("changed"), digest(archive.name), "one.lock", "Next: "):
        assert part in str(error.value)
    archive.unlink()
    check_helm(platform())


def test_helm_of_a_url_is_not_asked_for_beforehand(folder: Path) -> None:
    assert run().exit_code == 0
    (folder / "helm" / f"helm-{HELM}-linux-arm64.tar.gz").write_text("changed")
    helm_artefacts.check((folder / "helm").as_uri(), HELM, Path("one.lock"))


def test_a_damaged_lock_file_is_told() -> None:
    Path("one.lock").write_text("[")
    with pytest.raises(ArtefactError, match="is not a lock file"):
        missing_charts(platform())
