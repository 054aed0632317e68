"""The platform's secrets: made once, kept by a provider, handed to who puts them into the cluster.

`open_store(...)` costs nothing and reads nothing; `values(releases)` gives what the Kubernetes Secrets of these
releases hold. Values are wrapped (`pydantic.SecretStr`), so that no log, traceback or repr shows one: take them out
with `get_secret_value()`, where they leave the process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import SecretStr

from piclusterops.catalogue import Release, Secret, SecretKey
from piclusterops.secret_providers import (
    AgeFile,
    Dates,
    Environment,
    PasswordStore,
    Provider,
    SecretsError,
)
from piclusterops.secret_values import (
    GENERATED,
    Name,
    TemplateFault,
    bcrypt,
    generate,
    references,
    render,
    uses_bcrypt,
)
from piclusterops.settings import ClusterSettings

__all__ = ["Missing", "Name", "Row", "SecretStore", "SecretsError", "open_store"]

#: The name under which the unseal keys and the root token of the platform's own vault are kept; no release has it.
UNSEAL = "vault-unseal"
#: What the salt of bcrypt is derived from: one for all templates of a store.
SALT: Name = ("picluster", "salt-key")
_NOT_MADE = "random, and not made yet"
_SALT_KEY = SecretKey(kind="hex", length=32)
_T = TypeVar("_T")
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class Missing(NamedTuple):
    """A value that is not there."""

    secret: str
    key: str
    why: str
    """What it is, and where its owner gets it; or that it is random and not made yet."""


@dataclass(frozen=True)
class Row:
    """One key in the list of all."""

    secret: str
    key: str
    kind: str
    there: bool
    age_days: int | None
    """Days since the value was made or replaced; None where that is not known."""
    users: tuple[str, ...]
    """Releases whose Secrets it goes into."""


class SecretStore:
    """The secrets of one environment, wherever they are kept."""

    def __init__(self, provider: Provider, option: str = "") -> None:
        """`option` is how commands name the environment: `` --env prod``."""
        self.provider, self.option = provider, option
        self.command = f"picluster secrets init{option}"

    def values(self, releases: Iterable[Release]) -> dict[str, dict[str, SecretStr]]:
        """What the Secrets of these releases hold: Secret's name -> key -> value.

        Templates may use keys of other releases' Secrets: give all selected releases at once.

        Raises:
            SecretsError: values are missing, all of which are named, or they can't be read.
        """
        wanted = definitions(releases)
        if not wanted:
            return {}
        value = self._values(wanted)
        found: dict[str, dict[str, SecretStr]] = {}
        for secret, key in wanted:
            found.setdefault(secret, {})[key] = SecretStr(value(secret, key))
        return found

    def value(self, releases: Iterable[Release], secret: str, key: str) -> SecretStr:
        """One value, of these releases or of what else is kept.

        Raises:
            SecretsError: it, or what it is made of, is missing, or can't be read.
        """
        wanted, name = definitions(releases), (secret, key)
        if name in wanted:
            chosen = {other: wanted[other] for other in {name} | _sources(wanted, name)}
            return SecretStr(self._values(chosen)(secret, key))
        kept = self.get([name])
        if name not in kept:
            raise SecretsError(_unknown(wanted, secret, key))
        return kept[name]

    def _values(self, wanted: dict[Name, SecretKey]) -> Callable[[str, str], str]:
        """How to get a value of these keys, all of which are there."""
        stored = self.provider.read(_needed(wanted))
        missing = self._missing(wanted, stored)
        if missing:
            raise SecretsError(self.missing_text(missing))
        return _Evaluation(wanted, stored).value

    def missing(self, releases: Iterable[Release]) -> list[Missing]:
        """The values that these releases need and that are not there. Reads no value.

        Raises:
            SecretsError: the provider can't be asked.
        """
        wanted = definitions(releases)
        return self._missing(wanted, self.provider.known(_needed(wanted))) if wanted else []

    def missing_text(self, missing: Collection[Missing]) -> str:
        """What is missing, for people, with the next command."""
        random = [f"{entry.secret}/{entry.key}" for entry in missing if entry.why == _NOT_MADE]
        lines = [f"  {entry.secret}/{entry.key}: {entry.why}" for entry in missing if entry.why != _NOT_MADE]
        lines += [f"  {_NOT_MADE}: {', '.join(random)}"] if random else []
        commands = [self.command] if random else []
        if len(random) < len(missing):
            commands.append(f"picluster secrets set SECRET KEY{self.option}")
        text, following = "\n".join(lines), "\n      ".join(commands)
        return f"Secrets are missing ({self.provider.title}):\n{text}\nNext: {following}"

    def init(self, releases: Iterable[Release]) -> list[Name]:
        """Make the random values of these releases that are missing, and no other; returns which.

        Raises:
            SecretsError: they can't be kept.
        """
        wanted = definitions(releases)
        needed = _needed(wanted)
        if not needed:
            return []

        def change(there: frozenset[Name]) -> dict[Name, SecretStr]:
            return {
                name: SecretStr(generate(key))
                for name, key in needed.items()
                if key.kind in GENERATED and name not in there
            }

        return self.provider.update(needed, change)

    def set(self, releases: Iterable[Release], secret: str, key: str, value: SecretStr) -> bool:
        """Put the owner's value of a key there; returns whether it is another one than before.

        Raises:
            SecretsError: the releases have no such key, its value is not the owner's to choose, or it can't be kept.
        """
        wanted = definitions(releases)
        kind = "given" if secret == UNSEAL else _definition(wanted, secret, key).kind
        if kind == "static":
            raise SecretsError(f"{secret}/{key} is no secret: its value is in the catalogue of releases.")
        if kind == "template":
            raise SecretsError(f"{secret}/{key} is made of other keys: set those.")
        return bool(self.put({(secret, key): value}))

    def put(self, values: dict[Name, SecretStr]) -> list[Name]:
        """Keep these values; returns the names of those that are new or differ.

        Raises:
            SecretsError: a name or value can't be kept.
        """
        for name, value in values.items():
            check_name(name)
            _check_value(name, value)
        return self.provider.update(values.keys(), lambda there: values)

    def get(self, names: Collection[Name]) -> dict[Name, SecretStr]:
        """The kept values among these names, whoever they belong to.

        Raises:
            SecretsError: they can't be read.
        """
        return self.provider.read(names)

    def rotate(
        self, releases: Iterable[Release], secret: str, key: str | None = None, even_if_data_is_lost: bool = False
    ) -> list[Name]:
        """Replace random values of a Secret by new ones: of one key, or of all keys that may be; returns which.

        Raises:
            SecretsError: there is nothing that may be replaced, or it can't be kept.
        """
        wanted = definitions(releases)
        names = _rotating(wanted, secret, key, even_if_data_is_lost)
        return self.provider.update(names, lambda there: {n: SecretStr(generate(wanted[n])) for n in names})

    def rows(self, releases: Iterable[Release]) -> list[Row]:
        """All keys of these releases, and what else is kept, by name.

        Raises:
            SecretsError: the provider can't be asked.
        """
        chosen = list(releases)
        wanted = definitions(chosen)
        needed = _needed(wanted)
        known = self.provider.known(needed)
        absent = {(entry.secret, entry.key) for entry in self._missing(wanted, known)}
        rows = []
        for name in sorted({*wanted, *needed, *known}):
            key = wanted.get(name) or needed.get(name)
            there = name in known or (key is not None and key.kind == "static")
            if key and key.kind == "template":
                there = not _sources(wanted, name) & absent
            rows.append(Row(*name, key.kind if key else "", there, _days(known.get(name)), users(chosen, [name])))
        return rows

    def _missing(self, wanted: dict[Name, SecretKey], there: Collection[Name]) -> list[Missing]:
        return [
            Missing(*name, key.why if key.kind == "given" else _NOT_MADE)
            for name, key in _needed(wanted).items()
            if name not in there
        ]


def open_store(settings: ClusterSettings, inventory_path: Path | None) -> SecretStore:
    """The secrets of an environment, by the settings `secrets_provider`, `secrets_file` and `secrets_key`.

    Nothing is read or made here. `inventory_path` is the inventory's file: the secrets are beside it, unless
    `secrets_file` names another place, and commands in messages name it.

    Raises:
        SecretsError: neither says where the secrets are.
    """
    option = _option(inventory_path)
    if settings.secrets_provider == "environment":
        return SecretStore(Environment(), option)
    if settings.secrets_provider == "pass":
        return SecretStore(PasswordStore(settings.cluster_name), option)
    if settings.secrets_file:
        file = Path(settings.secrets_file).expanduser()
    elif inventory_path:
        file = inventory_path.with_suffix(".secrets.age")
    else:
        raise SecretsError(
            "secrets_file is not set: name the file of the secrets, such as inventories/prod.secrets.age"
        )
    command = f"picluster secrets init{option}"
    return SecretStore(AgeFile(file, Path(settings.secrets_key).expanduser(), command), option)


def _option(inventory_path: Path | None) -> str:
    if inventory_path is None:
        return ""
    known = inventory_path.parent.name == "inventories"
    return f" --env {inventory_path.stem if known else inventory_path}"


def definitions(releases: Iterable[Release]) -> dict[Name, SecretKey]:
    """The keys of all Secrets of these releases."""
    return {
        (secret.name, name): key
        for release in releases
        for secret in release.secrets
        for name, key in secret.keys.items()
    }


def touched(releases: Iterable[Release], names: Collection[Name]) -> list[tuple[Release, Secret]]:
    """The Secrets that these values go into, as they are or through a template, with their releases, in that order."""
    chosen = list(releases)
    wanted = definitions(chosen)
    through = {name for name in wanted if _sources(wanted, name) & set(names)} | set(names)
    return [
        (release, secret)
        for release in chosen
        for secret in release.secrets
        if any((secret.name, key) in through for key in secret.keys)
    ]


def made_of(releases: Iterable[Release]) -> dict[str, frozenset[str]]:
    """For each Secret of these releases the names of those that its values come from, its own included.

    Raises:
        SecretsError: the catalogue has a template that can't work.
    """
    wanted = definitions(releases)
    found: dict[str, set[str]] = {}
    for name in wanted:
        found.setdefault(name[0], {name[0]}).update(secret for secret, _ in _sources(wanted, name))
    return {secret: frozenset(names) for secret, names in found.items()}


def users(releases: Iterable[Release], names: Collection[Name]) -> tuple[str, ...]:
    """The names of the releases that use these values; see `touched`."""
    return tuple(dict.fromkeys(release.name for release, _ in touched(releases, names)))


def check_name(name: Name) -> None:
    """Raise unless a name can be one of a Kubernetes Secret and its key, in every provider.

    Raises:
        SecretsError: it can't.
    """
    if not all(_WORD.fullmatch(word) and len(word) <= 253 for word in name):
        raise SecretsError(f"{'/'.join(name)} can't be a name: a-z, A-Z, 0-9, and inside also . _ -")


def _check_value(name: Name, value: SecretStr) -> None:
    fault = ""
    if not value.get_secret_value():
        fault = "is empty"
    try:
        value.get_secret_value().encode()
    except UnicodeEncodeError:
        fault = "is no text (UTF-8)"
    if fault:
        raise SecretsError(f"The value of {'/'.join(name)} {fault}; nothing was changed.")


def _definition(wanted: dict[Name, SecretKey], secret: str, key: str) -> SecretKey:
    if (secret, key) in wanted:
        return wanted[secret, key]
    raise SecretsError(_unknown(wanted, secret, key))


def _unknown(wanted: dict[Name, SecretKey], secret: str, key: str | None) -> str:
    keys = sorted(name[1] for name in wanted if name[0] == secret)
    if keys:
        return f"The Secret {secret} has no key {key}; it has: {', '.join(keys)}."
    names = sorted({name[0] for name in wanted})
    return f"No selected release has a Secret {secret}. There are: {', '.join(names) or 'none'}."


def _rotating(wanted: dict[Name, SecretKey], secret: str, key: str | None, even_if_data_is_lost: bool) -> list[Name]:
    """The names of what is to be replaced."""
    if key is None:
        if even_if_data_is_lost:
            raise SecretsError("--even-if-data-is-lost is about one KEY: name it.")
        names = [name for name in wanted if name[0] == secret]
        if not names:
            raise SecretsError(_unknown(wanted, secret, key))
        names = [name for name in names if wanted[name].kind in GENERATED and wanted[name].rotates]
        if not names:
            raise SecretsError(f"The Secret {secret} has no key that may be replaced by a new random value.")
        return names
    found = _definition(wanted, secret, key)
    if found.kind not in GENERATED:
        hint = f"Next: picluster secrets set {secret} {key}" if found.kind == "given" else ""
        raise SecretsError(f"{secret}/{key} is {found.kind}, not random: it can't be made anew.\n{hint}".rstrip())
    if not found.rotates and not even_if_data_is_lost:
        raise SecretsError(
            f"{secret}/{key} is never replaced: what it encrypted could not be read again, and would be lost.\n"
            f"Only if that is what you want: picluster secrets rotate {secret} {key} --even-if-data-is-lost"
        )
    return [(secret, key)]


def _days(dates: Dates | None) -> int | None:
    return (datetime.now(UTC) - dates.since).days if dates and dates.since else None


# -- templates ---------------------------------------------------------------------------------------------


def _needed(wanted: dict[Name, SecretKey]) -> dict[Name, SecretKey]:
    """What must be kept for these keys: those that neither the catalogue nor a template gives, and salt.

    Raises:
        SecretsError: the catalogue has a template that can't work.
    """
    needed = {name: key for name, key in wanted.items() if key.kind not in ("static", "template")}
    for name, key in wanted.items():
        if key.template is None:
            continue
        _sources(wanted, name)  # raises
        if _about(name, uses_bcrypt, key.template):
            needed[SALT] = _SALT_KEY
    return needed


def _sources(wanted: dict[Name, SecretKey], name: Name, path: tuple[Name, ...] = ()) -> set[Name]:
    """All keys that a key is made of, directly and through others; none when it is no template.

    Raises:
        SecretsError: one is no key of these releases, or is made of itself.
    """
    if name in path:
        raise SecretsError(f"{'/'.join(name)} is made of itself: the catalogue of releases is wrong.")
    template = wanted[name].template
    if template is None:
        return set()
    found: set[Name] = set()
    for other in _about(name, references, template):
        if other not in wanted:
            raise SecretsError(f"{'/'.join(name)} is made of {'/'.join(other)}, which no selected release has.")
        found |= {other} | _sources(wanted, other, (*path, name))
    return found


def _about(name: Name, function: Callable[[str], _T], template: str) -> _T:
    try:
        return function(template)
    except TemplateFault as fault:
        raise SecretsError(f"{'/'.join(name)}: {fault}.") from None


class _Evaluation:
    """Values of keys, those of templates computed once."""

    def __init__(self, wanted: dict[Name, SecretKey], stored: dict[Name, SecretStr]) -> None:
        self._wanted, self._stored = wanted, stored
        self._made: dict[Name, SecretStr] = {}

    def value(self, secret: str, key: str) -> str:
        name = (secret, key)
        definition = self._wanted[name]
        if definition.kind == "static" and definition.value is not None:
            return definition.value
        if definition.template is None:
            return self._stored[name].get_secret_value()
        if name not in self._made:
            self._made[name] = SecretStr(self._rendered(name, definition.template))
        return self._made[name].get_secret_value()

    def _rendered(self, name: Name, template: str) -> str:
        try:
            return render(template, self.value, lambda text: self._hashed(name, text))
        except TemplateFault as fault:
            reason = str(fault)
        raise SecretsError(f"{'/'.join(name)}: {reason}.")

    def _hashed(self, name: Name, text: str) -> str:
        return bcrypt(text, self._stored[SALT].get_secret_value(), "/".join(name))
