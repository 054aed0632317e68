"""The charts of the platform's releases: where each comes from, and what it comes to with its values."""

from __future__ import annotations

from collections.abc import Mapping

from piclusterops.artefacts import ArtefactError
from piclusterops.catalogue import platform_folder
from piclusterops.helm_charts import Chart, archive_of
from piclusterops.platform import Planned, Platform


def chart_of(planned: Planned, mirror: str | None) -> Chart:
    """The chart of a release: our own folder, else an archive of the mirror, else of its repository."""
    about = planned.release.chart
    assert about is not None, "what Helm installs has a chart"
    if planned.release.source == "own":
        return Chart(about.name, planned.version, folder=platform_folder().parent / "charts" / about.name)
    digest = about.digest if planned.version == about.version else None
    return Chart(about.name, planned.version, mirror=mirror, repository=about.repository, digest=digest)


def charts_of(platform: Platform) -> dict[str, Chart]:
    """The charts of all releases that Helm installs, by name of the release."""
    mirror = platform.cluster.settings.chart_mirror
    return {planned.name: chart_of(planned, mirror) for planned in platform.releases}


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
    """Charts that can't be had, by name of the release, with the reason.

    Those in a mirror at a URL, and those that the server itself fetches, are only known once they are needed.
    """
    faults: dict[str, str] = {}
    for name, chart in charts_of(platform).items():
        if chart.folder or (chart.mirror and "://" not in chart.mirror):
            try:
                archive_of(chart)
            except ArtefactError as error:
                faults[name] = str(error)
    return faults
