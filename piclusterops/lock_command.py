"""``picluster lock``: pin K3s, Helm and the charts of the inventory by digest, in the lock file beside it."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from piclusterops import helm_artefacts
from piclusterops import lock as lock_file
from piclusterops.artefacts import ArtefactError
from piclusterops.chart_lock import Resolved, resolve
from piclusterops.platform import Platform, platform_of
from piclusterops.platform_charts import unlocked_charts
from piclusterops.session import CommandFailed
from piclusterops.verbs import env_option, load, plain_errors


@click.command()
@env_option
def lock(env: str) -> None:
    """Resolve K3s, Helm and the selected charts of the inventory to digests, as those who publish them state them.

    What is in the lock file already stays, and is compared. Exit code 1 when something differs, or could not be pinned
    now.
    """
    with plain_errors():
        path, _, cluster = load(env)
        file = Path(cluster.settings.lock_file or path.with_suffix(".lock")).expanduser()
        with Console(stderr=True).status("asking for digests ..."):
            found = resolved(platform_of(cluster))
        if not found.entries:
            raise CommandFailed("\n".join(found.failed))
        lock_file.write(file, found.entries)
    for entry in found.entries:
        click.echo(f"{entry.sha256}  {entry.version}/{entry.file}")
    for line in found.unpinnable:
        click.echo(f"Not pinned before its first use: {line}")
    click.echo(f"Written to {file}: commit it with the inventory.")
    if found.failed:
        click.echo("\n".join(f"Not pinned: {line}" for line in found.failed), err=True)
        raise click.ClickException("not everything is pinned; mend that, and run it again")


def resolved(platform: Platform) -> Resolved:
    """The digests of K3s, and of Helm and the charts if there are releases for it to install."""
    settings = platform.cluster.settings
    entries: list[lock_file.LockEntry] = []
    failed: list[str] = []
    try:
        entries += lock_file.resolve(settings.k3s_mirror, settings.k3s_version)
    except ArtefactError as error:
        failed.append(f"K3s {settings.k3s_version}: {error}")
    if not platform.releases:
        return Resolved(tuple(entries), tuple(failed))
    try:
        entries += helm_artefacts.resolve(settings.helm_mirror, settings.helm_version)
    except ArtefactError as error:
        failed.append(f"Helm {settings.helm_version}: {error}")
    charts = resolve(unlocked_charts(platform).values())
    return Resolved((*entries, *charts.entries), (*failed, *charts.failed), charts.unpinnable)
