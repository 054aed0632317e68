"""``picluster secrets``: make, look at, replace and move the platform's secrets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import pyrage
import yaml
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from piclusterops.catalogue import Release
from piclusterops.platform import platform_of
from piclusterops.secret_providers import AgeFile, decrypt, parse_recipient, read_key
from piclusterops.secret_values import GENERATED
from piclusterops.secrets import Name, SecretsError, SecretStore, definitions, open_store, touched
from piclusterops.settings import Cluster
from piclusterops.verbs import env_option, load, plain_errors

_ARMOUR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_BINARY = b"age-encryption.org/"


@dataclass(frozen=True)
class _Secrets:
    """The secrets of an environment, and who uses them."""

    env: str
    inventory: Path
    cluster: Cluster
    store: SecretStore
    releases: tuple[Release, ...]

    @property
    def deploy(self) -> str:
        """The command that puts them into the cluster."""
        return f"pyinfra -y {_typed(self.inventory)} deploys/platform.py"


@contextmanager
def _opened(env: str) -> Iterator[_Secrets]:
    with plain_errors():
        path, _, cluster = load(env)
        store = open_store(cluster.settings, path)
        yield _Secrets(env, path, cluster, store, tuple(platform_of(cluster).selected.values()))


def _typed(path: Path) -> Path:
    """As one types it in the current directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _names(names: list[Name]) -> str:
    return ", ".join("/".join(name) for name in names)


@click.group()
def secrets() -> None:
    """The platform's passwords, keys and tokens: made once, kept encrypted, put into the cluster by a deployment."""


@secrets.command()
@env_option
def init(env: str) -> None:
    """Make what is missing: the key, and every random value of the selected releases. Replaces nothing.

    Says which values only you can give.
    """
    with _opened(env) as opened:
        store, releases = opened.store, opened.releases
        if not definitions(releases):
            profile = opened.cluster.settings.platform_profile
            click.echo(f"The platform of {env} has no secrets (platform_profile = {profile}).")
            return
        for line in store.provider.prepare():
            click.echo(line)
        made = store.init(releases)
        click.echo(f"Made {len(made)} random values: {_names(made)}" if made else "No random value was missing.")
        missing = store.missing(releases)
        if missing:
            click.echo("\nOnly you know these; they are asked for without being shown:")
            for entry in missing:
                click.echo(f"  picluster secrets set {entry.secret} {entry.key}{store.option}\n      {entry.why}")
        if isinstance(store.provider, AgeFile):
            files = f"{_typed(store.provider.file)} {_typed(store.provider.recipients_file)}"
            click.echo(f"\nCommit both: git add {files}\nNever commit the key: {store.provider.key}")


@secrets.command("list")
@env_option
def list_command(env: str) -> None:
    """Show which secrets there are, which are missing, how old they are and who uses them. Shows no value."""
    with _opened(env) as opened:
        rows = opened.store.rows(opened.releases)
    table = Table(title=f"Secrets of {env}, in {opened.store.provider.title}")
    for column in ("Secret", "Key", "Kind", "There", "Age, days", "Used by"):
        table.add_column(column, justify="right" if column == "Age, days" else "left", overflow="fold")
    for row in rows:
        age = "-" if row.age_days is None else str(row.age_days)
        there = "[green]yes[/]" if row.there else "[red]missing[/]"
        table.add_row(row.secret, row.key, row.kind or "-", there, age, ", ".join(row.users) or "-")
    Console().print(table)


@secrets.command()
@env_option
@click.argument("secret")
@click.argument("key", required=False)
@click.option("--reveal", is_flag=True, help="Print the value even when the output is no terminal.")
def show(env: str, secret: str, key: str | None, reveal: bool) -> None:
    """Show one value, on a terminal only; without KEY, the keys of a secret."""
    with _opened(env) as opened:
        if key is None:
            keys = [row.key for row in opened.store.rows(opened.releases) if row.secret == secret]
            if not keys:
                raise SecretsError(f"There is no secret {secret}.\nNext: picluster secrets list{opened.store.option}")
            click.echo("\n".join(keys))
            return
        terminal = sys.stdout.isatty()
        if not terminal and not reveal:
            raise SecretsError(
                f"The output is no terminal, so that {secret}/{key} would end in a file or another program.\n"
                f"Next: picluster secrets show {secret} {key}{opened.store.option} --reveal, if that is what you want"
            )
        value = opened.store.value(opened.releases, secret, key)
        click.echo(value.get_secret_value(), nl=terminal)


@secrets.command("set")
@env_option
@click.argument("secret")
@click.argument("key")
def set_command(env: str, secret: str, key: str) -> None:
    """Keep a value of yours: asked for without being shown, or read from standard input (without its last newline)."""
    with _opened(env) as opened:
        changed = opened.store.set(opened.releases, secret, key, _given(f"{secret}/{key}"))
        if not changed:
            click.echo(f"{secret}/{key} has that value already.")
            return
        click.echo(f"{secret}/{key} is kept.")
        _say_who_gets_it(opened, [(secret, key)])


def _given(what: str) -> SecretStr:
    """The value that the user types or sends."""
    if sys.stdin.isatty():
        return SecretStr(click.prompt(what, hide_input=True, confirmation_prompt=True))
    raw = sys.stdin.buffer.read()
    try:
        return SecretStr(raw.decode().removesuffix("\n"))
    except UnicodeDecodeError:
        pass
    raise SecretsError(f"The value of {what} is no text (UTF-8); nothing was changed.")


@secrets.command()
@env_option
@click.argument("secret")
@click.argument("key", required=False)
@click.option("--even-if-data-is-lost", is_flag=True, help="Also a key whose old value data is encrypted with.")
def rotate(env: str, secret: str, key: str | None, even_if_data_is_lost: bool) -> None:
    """Replace random values by new ones: that of KEY, or all of a secret that may be."""
    with _opened(env) as opened:
        names = opened.store.rotate(opened.releases, secret, key, even_if_data_is_lost)
        click.echo(f"New: {_names(names)}")
        wanted = definitions(opened.releases)
        kept = [name for name in wanted if name[0] == secret and name not in names and wanted[name].kind in GENERATED]
        if key is None and kept:
            click.echo(f"As it was, for what it encrypted would be lost: {_names(kept)}")
        _say_who_gets_it(opened, names)
        if key and not wanted[secret, key].rotates:
            click.echo(_how_it_is_lost(opened, secret))


def _how_it_is_lost(opened: _Secrets, secret: str) -> str:
    """What more it takes until a key that encrypts data is replaced: a deployment never does it."""
    namespace = next(r.namespace for r in opened.releases for one in r.secrets if one.name == secret)
    return (
        "The cluster keeps the old one, and its data, until you delete the Secret, on the first server: "
        f"sudo k3s kubectl -n {namespace} delete secret {secret}"
    )


def _say_who_gets_it(opened: _Secrets, names: list[Name]) -> None:
    """Which releases use these values, and what it takes until they do."""
    secrets_of = touched(opened.releases, names)
    if not secrets_of:
        return
    using = dict.fromkeys(release.name for release, _ in secrets_of)
    click.echo(f"In the Secrets of {', '.join(using)} after: {opened.deploy}")
    for release, secret in secrets_of:
        if secret.tells:
            click.echo(f"  {release.name}: that tells {', '.join(tell.workload for tell in secret.tells)}")
        if secret.restarts:
            click.echo(f"  {release.name}: that restarts {', '.join(secret.restarts)}")
        if secret.taken_by:
            click.echo(f"  {release.name}: taken over by {secret.taken_by}")


@secrets.command()
@env_option
@click.option("--to", "recipients", multiple=True, metavar="AGE1...", help="Encrypt to this public key; repeatable.")
@click.option("--reveal", is_flag=True, help="Print it as it is, not encrypted.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["yaml", "kubernetes"]),
    default="yaml",
    show_default=True,
    help="`yaml`: all that is kept, for `picluster secrets import`; `kubernetes`: Secrets of the selected releases.",
)
def export(env: str, recipients: tuple[str, ...], reveal: bool, form: Literal["yaml", "kubernetes"]) -> None:
    """Print all secrets, encrypted to someone else: for another machine, another provider or another cluster."""
    if bool(recipients) == reveal:
        raise click.UsageError("Say to whom with --to AGE1..., or --reveal to print it for all to read.")
    keys = []
    for word in recipients:
        recipient = parse_recipient(word)
        if recipient is None:
            raise click.UsageError(f"--to: {word} is no public key of age, which is age1...")
        keys.append(recipient)
    with _opened(env) as opened:
        text = _exported(opened, form)
    click.echo(pyrage.encrypt(text.encode(), keys, armored=True).decode("ascii") if keys else text, nl=False)


def _exported(opened: _Secrets, form: Literal["yaml", "kubernetes"]) -> str:
    store, releases = opened.store, opened.releases
    if form == "kubernetes":
        return yaml.safe_dump_all(_manifests(releases, store.values(releases)), sort_keys=False, width=1_000_000)
    names = [(row.secret, row.key) for row in store.rows(releases)]
    kept: dict[str, dict[str, str]] = {}
    for (secret, key), value in sorted(store.get(names).items()):
        kept.setdefault(secret, {})[key] = value.get_secret_value()
    return yaml.safe_dump({"secrets": kept}, sort_keys=False, width=1_000_000)


def _manifests(releases: tuple[Release, ...], values: dict[str, dict[str, SecretStr]]) -> Iterator[dict[str, object]]:
    for release in releases:
        for secret in release.secrets:
            own = (release.namespace,) if release.namespace else ()
            for namespace in dict.fromkeys((*own, *secret.namespaces)):
                yield {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": secret.name, "namespace": namespace, "labels": dict(secret.labels)},
                    "type": secret.type,
                    "stringData": {key: value.get_secret_value() for key, value in values[secret.name].items()},
                }


@secrets.command("import")
@env_option
@click.option("--replace", is_flag=True, help="Also replace values that are kept already and differ.")
def import_command(env: str, replace: bool) -> None:
    """Keep the secrets of an export, read from standard input: encrypted to your own key, or plain."""
    with _opened(env) as opened:
        content = sys.stdin.buffer.read()
        if content.lstrip().startswith((_ARMOUR, _BINARY)):
            content = _decrypted(opened, content)
        values = _imported(content)
        kept = opened.store.get(list(values))
        differing = sorted(name for name, value in kept.items() if value != values[name])
        if differing and not replace:
            raise SecretsError(
                f"Other values are kept already; nothing was changed: {_names(differing)}\n"
                "Next: say --replace if those of the export are right"
            )
        for line in opened.store.provider.prepare():
            click.echo(line)
        written = opened.store.put(values)
    click.echo(f"Kept {len(written)} of {len(values)} values; the others were there already.")


def _decrypted(opened: _Secrets, content: bytes) -> bytes:
    key = Path(opened.cluster.settings.secrets_key).expanduser()
    plain = decrypt(content.lstrip(), read_key(key, opened.store.command))
    if not plain:
        cause = "is damaged" if plain is not None else f"was not encrypted to the key {key}"
        raise SecretsError(f"The export {cause}; nothing was changed.")
    return plain


def _imported(content: bytes) -> dict[Name, SecretStr]:
    """The values of an export.

    Raises:
        SecretsError: it is none.
    """
    found: dict[Name, SecretStr] = {}
    try:
        for secret, keys in yaml.safe_load(content)["secrets"].items():
            for key, value in keys.items():
                if not isinstance(value, str):
                    raise TypeError
                found[str(secret), str(key)] = SecretStr(value)
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError):
        found = {}
    if not found:
        raise SecretsError("That is no export of `picluster secrets export`; nothing was changed.")
    return found
