"""The charts of the platform's releases: where each comes from, and what it comes to with its values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from piclusterops import helm_artefacts, lock
from piclusterops.artefacts import ArtefactError, WrongDigest
from piclusterops.catalogue import platform_folder
from piclusterops.chart_lock import held
from piclusterops.helm_charts import Chart, archive_of
from piclusterops.platform import Planned, Platform


def chart_of(planned: Planned, mirror: str | None) -> Chart:
    """The chart of a release: our own folder, else an archive of the mirror, else of its repository; not yet locked."""
    about = planned.release.chart
    assert about is not None, "what Helm installs has a chart"
    if planned.release.source == "own":
        return Chart(about.name, planned.version, folder=platform_folder().parent / "charts" / about.name)
    digest = about.digest if planned.version == about.version else None
    return Chart(about.name, planned.version, mirror=mirror, repository=about.repository, digest=digest)


def charts_of(platform: Platform) -> dict[str, Chart]:
    """The charts of all releases that Helm installs, by name of the release, with the digests of the lock file.

    Raises:
        ArtefactError: the lock file can't be read, or says another digest than the catalogue.
    """
    path = _lock_file(platform)
    known = lock.read(path) if path else {}
    return {name: held(chart, known, path) for name, chart in unlocked_charts(platform).items()}


def unlocked_charts(platform: Platform) -> dict[str, Chart]:
    """The charts of all releases that Helm installs, by name of the release, whatever the lock file says."""
    mirror = platform.cluster.settings.chart_mirror
    return {planned.name: chart_of(planned, mirror) for planned in platform.releases}


def _lock_file(platform: Platform) -> Path | None:
    file = platform.cluster.settings.lock_file
    return Path(file).expanduser() if file else None


def check_helm(platform: Platform) -> None:
    """See that the Helm of a mirror that is a directory is the one of the lock file.

    Raises:
        ArtefactError: it is another one, or can't be read.
    """
    settings = platform.cluster.settings
    helm_artefacts.check(settings.helm_mirror, settings.helm_version, _lock_file(platform))


def chart_digests(charts: Mapping[str, Chart], there: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """SHA-256 of the archives that releases would be installed from, and why there is none, by name of the release.

    Args:
        charts: by name of the release.
        there: path of an archive on the server to its SHA-256; what the server fetches itself is known from there only,
            and missing from the answer before that.
    """
    digests: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name, chart in charts.items():
        try:
            digest = archive_of(chart).digest if chart.is_local else chart.digest or there.get(chart.path, "")
        except ArtefactError as error:
            faults[name] = str(error)
        else:
            if digest:
                digests[name] = digest
    return digests, faults


def missing_charts(platform: Platform) -> dict[str, str]:
    """Charts that can't be had, or are not the ones of the lock file, by name of the release, with the reason.

    Of those in a mirror at a URL only another digest is a fault: one that does not answer is known once it is needed.
    What the server itself fetches is compared there.

    Raises:
        ArtefactError: the lock file can't be read, or says another digest than the catalogue.
    """
    faults: dict[str, str] = {}
    for name, chart in charts_of(platform).items():
        is_remote = chart.mirror is not None and "://" in chart.mirror
        if chart.folder or (chart.mirror and (chart.digest or not is_remote)):
            try:
                archive_of(chart)
            except WrongDigest as error:
                faults[name] = str(error)
            except ArtefactError as error:
                if not is_remote:
                    faults[name] = str(error)
    return faults
