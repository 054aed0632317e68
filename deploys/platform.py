"""The platform on the cluster; alone: ``pyinfra -y inventories/prod.py deploys/platform.py``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache as once
from functools import partial

from pydantic import SecretStr
from pyinfra import host, inventory
from pyinfra.api import deploy
from pyinfra.api.exceptions import PyinfraError

from piclusterops.artefacts import ArtefactError
from piclusterops.deploys.budget import refuse_overfull
from piclusterops.deploys.stop import refuse_unreachable, stop_at_first_failure
from piclusterops.facts import cache
from piclusterops.helm_releases import Outcome
from piclusterops.helm_values import secret_texts
from piclusterops.inventory import inventory_file
from piclusterops.operations import helm, vault
from piclusterops.operations import platform as operations
from piclusterops.platform import Platform, platform_of
from piclusterops.platform_charts import charts_of, check_helm, missing_charts
from piclusterops.platform_run import Progress
from piclusterops.secrets import SecretStore, open_store
from piclusterops.settings import Cluster
from piclusterops.validation import cluster_from_inventory
from piclusterops.vault import pod_of

#: The release that makes the namespaces; the Secrets come right after it.
BASE = "platform-base"


def refuse_platform(cluster: Cluster) -> None:
    """End the run, nothing changed, when the platform can't be installed; to be called from a deploy file.

    Raises:
        PyinfraError: the platform can't work or does not fit, charts or secrets are missing, or charts or Helm are not
            those of the lock file; lists all of these.
    """
    if host.name != cluster.first_server.name:
        return
    platform = platform_of(cluster)
    if not platform.releases:
        return
    try:
        check_helm(platform)
        missing = missing_charts(platform)
    except ArtefactError as error:
        raise PyinfraError(f"Nothing was changed on any host. {error}") from error
    if missing:
        lines = "\n".join(f"  {name}: {why}" for name, why in missing.items())
        raise PyinfraError(
            "Nothing was changed on any host, because charts are missing, or are not those of the lock file:\n"
            f"{lines}\nNext: put the right ones into chart_mirror, or turn these releases off in platform_releases"
        )
    store = _store(cluster)
    lacking = store.missing(platform.selected.values())
    if lacking:
        raise PyinfraError(f"Nothing was changed on any host. {store.missing_text(lacking)}")
    refuse_overfull(platform)


def _store(cluster: Cluster) -> SecretStore:
    return open_store(cluster.settings, inventory_file(inventory))


@deploy("Platform")
def platform(cluster: Cluster) -> None:
    """Install, upgrade and report the releases that the inventory selects, on the first server, in their order.

    A release that fails stops those that depend on it, and no other; the run fails at its end, also when one that it
    left unchanged is not ready. What is off is removed with ``--data platform_prune=true`` only. Costs nothing when
    nothing is selected.
    """
    if host.name != cluster.first_server.name:
        return
    wanted = platform_of(cluster)
    if not wanted.releases and not cluster.settings.platform_prune:
        return
    cache.install()
    settings, progress, charts = cluster.settings, Progress(wanted), charts_of(wanted)
    query = helm.query_for(list(charts.values()))
    values = once(lambda: _values(cluster, wanted))
    hidden = once(lambda: _hidden(wanted, values()))
    helm.installed(
        name="Install Helm",
        version=settings.helm_version,
        mirror=settings.helm_mirror,
        lock_file=settings.lock_file,
        query=query,
    )
    operations.charts(
        name="Stage the charts", progress=progress, charts=charts, query=query, lock_file=settings.lock_file
    )

    def releases(of_base: bool) -> None:
        for planned in host.loop([one for one in wanted.releases if (one.name == BASE) is of_base]):
            operations.release(
                name=f"Release {planned.name}",
                progress=progress,
                planned=planned,
                chart=charts[planned.name],
                hidden=hidden,
                query=query,
                _ignore_errors=True,
            )

    releases(of_base=True)
    operations.secrets(name="Keep the Secrets", progress=progress, values=values)
    releases(of_base=False)
    for planned in wanted.releases:
        pod = pod_of([planned.release])
        if pod:
            vault.unsealed(
                name="Unseal the vault",
                pod=pod,
                store=_store(cluster),
                server=host.name,
                failed=partial(_failed, progress, planned.name),
                _ignore_errors=True,
            )
    operations.prune(
        name="Look for releases that are off",
        progress=progress,
        remove=settings.platform_prune,
        _ignore_errors=True,
    )
    operations.report(name="Report on the platform", progress=progress, prune_command=_prune_command(), hidden=hidden)


def _failed(progress: Progress, release: str, text: str) -> None:
    """A release that is installed and can't be used has failed after all."""
    progress.outcomes[release] = Outcome(release, "failed", text)


def _values(cluster: Cluster, wanted: Platform) -> Mapping[str, Mapping[str, SecretStr]]:
    return _store(cluster).values(wanted.selected.values())


def _hidden(wanted: Platform, values: Mapping[str, Mapping[str, SecretStr]]) -> tuple[str, ...]:
    """The texts that no log may show: values that are no constants of the catalogue."""
    texts = {
        f"{secret.name}/{key}": values[secret.name][key].get_secret_value()
        for release in wanted.selected.values()
        for secret in release.secrets
        for key, about in secret.keys.items()
        if about.kind != "static"
    }
    return secret_texts(texts)


def _prune_command() -> str:
    path = inventory_file(inventory)
    return f"pyinfra -y --data platform_prune=true {path or 'INVENTORY'} deploys/platform.py"


# pyinfra executes a deploy file under another name than Python imports it by.
if __name__ != "piclusterops.deploys.platform":
    _cluster = cluster_from_inventory(inventory)
    stop_at_first_failure()
    refuse_unreachable()
    refuse_platform(_cluster)
    platform(cluster=_cluster)
