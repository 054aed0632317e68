"""``picluster vault``: initialise, unseal and fill the platform's own vault, HashiCorp Vault or OpenBao."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click
from pyinfra.api.host import Host

from piclusterops.catalogue import Release
from piclusterops.platform import platform_of
from piclusterops.secrets import SecretStore, open_store
from piclusterops.session import connected, output_of
from piclusterops.vault import (
    CURL,
    MOST_SHARES,
    Pod,
    Request,
    Response,
    Send,
    Vault,
    VaultError,
    curl_config,
    parse,
    pod_of,
)
from piclusterops.verbs import env_option, load, plain_errors


@dataclass(frozen=True)
class _Opened:
    """The vault of an environment, and what belongs to it."""

    vault: Vault
    store: SecretStore
    releases: tuple[Release, ...]


def send_over(host: Host, pod: Pod) -> Send:
    """The way to the vault's API: curl on a connected server, which reads the request from its standard input."""

    def send(request: Request) -> Response:
        return parse(pod, output_of(host, CURL, stdin=curl_config(pod, request)))

    return send


@contextmanager
def _opened(env: str) -> Iterator[_Opened]:
    with plain_errors():
        path, inventory, cluster = load(env)
        store = open_store(cluster.settings, path)
        releases = tuple(platform_of(cluster).selected.values())
        pod = pod_of(releases)
        if pod is None:
            raise VaultError(
                f"The platform of {env} has no vault.\n"
                'Next: turn one on in platform_releases: {"openbao": {"enabled": True}} or vault'
            )
        with connected(inventory, cluster.first_server.name) as host:
            yield _Opened(Vault(send_over(host, pod), store, str(pod)), store, releases)


@click.group()
def vault() -> None:
    """The platform's own vault, HashiCorp Vault or OpenBao. Its keys go into the store of `picluster secrets`."""


@vault.command()
@env_option
def status(env: str) -> None:
    """Show whether the vault is initialised and unsealed. Exit code 1 when it can't be used."""
    with _opened(env) as opened:
        seal = opened.vault.seal()
        keys = len(opened.vault.unseal_keys()) if seal.kind == "shamir" else 0
    click.echo(f"{opened.vault.name}: version {seal.version}")
    click.echo(f"initialised: {'yes' if seal.initialised else 'no'}")
    click.echo(f"sealed: {'yes' if seal.sealed else 'no'}")
    if not seal.initialised:
        click.echo(f"Next: picluster vault init{opened.store.option}")
    elif seal.kind != "shamir":
        click.echo(f"unsealed by itself ({seal.kind})")
    else:
        click.echo(f"unsealed by {seal.threshold} of {seal.shares} keys; the store has {keys}")
        if seal.sealed:
            click.echo(f"Next: picluster vault unseal{opened.store.option}")
    if seal.sealed or not seal.initialised:
        raise SystemExit(1)


@vault.command()
@env_option
@click.option(
    "--shares", type=click.IntRange(1, MOST_SHARES), default=5, show_default=True, help="How many keys it gets."
)
@click.option(
    "--threshold", type=click.IntRange(1, MOST_SHARES), default=3, show_default=True, help="How many unseal it."
)
@click.option(
    "--replace-keys", is_flag=True, help="Though the store has keys of another vault, whose backups need them."
)
def init(env: str, shares: int, threshold: int, replace_keys: bool) -> None:
    """Make the vault usable: initialised, unsealed, with an audit log, set up for External Secrets.

    What is done already is left alone.

    Its keys and root token go into the store of secrets, and nowhere else.
    """
    if threshold > shares or (threshold == 1 and shares > 1):
        raise click.UsageError("--threshold must be at least 2 and at most --shares; or both are 1.")
    with _opened(env) as opened:
        name = opened.vault.name
        if not opened.vault.seal().initialised:
            for line in opened.store.provider.prepare():
                click.echo(line)
        if opened.vault.initialise(shares, threshold, replace_keys):
            click.echo(f"{name} is initialised; its keys and root token are in {opened.store.provider.title}.")
            click.echo("Without them it can't be unsealed after a restart: commit or copy what holds them.")
        else:
            click.echo(f"{name} was initialised before.")
        if opened.vault.unseal():
            click.echo(f"{name} is unsealed.")
        # First, so that what comes next is in there.
        audited = opened.vault.audit()
        done = opened.vault.configure()
        click.echo("\n".join(f"Made: {line}" for line in done) or "It is set up for External Secrets.")
        if audited:
            click.echo("Its audit log is on: it is in the log of its pod.")


@vault.command()
@env_option
def unseal(env: str) -> None:
    """Unseal the vault with the keys of the store; it is sealed after every restart."""
    with _opened(env) as opened:
        was_sealed = opened.vault.unseal()
        click.echo(f"{opened.vault.name} {'is unsealed' if was_sealed else 'was not sealed'}.")


@vault.command()
@env_option
def sync(env: str) -> None:
    """Put the Secrets of the selected releases into the vault, at platform/NAME, where they are new or differ."""
    with _opened(env) as opened:
        values = opened.store.values(opened.releases)
        written = opened.vault.sync(values)
    if written:
        click.echo(f"Put into {opened.vault.name}: {', '.join(written)}")
    click.echo(f"{len(values) - len(written)} of {len(values)} Secrets were there already.")
