"""Where secrets are kept: an age-encrypted file, environment variables, or the password store `pass`."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pyrage
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pyinfra.api.exceptions import PyinfraError

from piclusterops.secret_values import Name
from piclusterops.whole_file import exclusive, write_whole

#: Given the names that there are, the values to put there.
Change = Callable[[frozenset[Name]], Mapping[Name, SecretStr]]

_FORMAT = 1
_PREFIX = "PICLUSTEROPS_SECRET_"


class SecretsError(PyinfraError):
    """Secrets can't be read or written; the text says why and what to do, and holds no value.

    A subclass of pyinfra's error, so that its command line prints the message without a traceback.
    """


@dataclass(frozen=True)
class Dates:
    """When a value was made, and when it was last replaced; None where the provider does not know."""

    created: datetime | None = None
    rotated: datetime | None = None

    @property
    def since(self) -> datetime | None:
        """Since when the value is what it is."""
        return self.rotated or self.created


class Provider(Protocol):
    """What a store of secrets can do. Names are checked by the caller."""

    #: What it is, for messages.
    title: str
    #: Whether values can be put there.
    writable: bool

    def prepare(self) -> list[str]:
        """Make what it needs to be used, only what is missing; returns what was done, for people.

        Raises:
            SecretsError: it can't be made.
        """

    def known(self, wanted: Collection[Name]) -> dict[Name, Dates]:
        """Which values there are: all of `wanted` that exist, and others if they can be listed. Reads no value.

        Raises:
            SecretsError: that can't be told.
        """

    def read(self, wanted: Collection[Name]) -> dict[Name, SecretStr]:
        """The values of those of `wanted` that exist.

        Raises:
            SecretsError: they can't be read.
        """

    def update(self, wanted: Collection[Name], change: Change) -> list[Name]:
        """Put values there, with no other writer in between; returns the names of those that are new or differ.

        `change` is told which of `wanted` there are.

        Raises:
            SecretsError: they can't be written; nothing has changed, or the text says what.
        """


# -- age ---------------------------------------------------------------------------------------------------


class _Model(BaseModel):
    # A fault must not quote what it found.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Entry(_Model):
    value: SecretStr
    created: AwareDatetime
    rotated: AwareDatetime | None = None


class _Document(_Model):
    """The content of the file, once decrypted."""

    format: int = _FORMAT
    recipients: tuple[str, ...] = ()
    secrets: dict[str, dict[str, _Entry]] = Field(default_factory=dict)

    def entries(self) -> dict[Name, _Entry]:
        return {(secret, key): entry for secret, keys in self.secrets.items() for key, entry in keys.items()}


def make_key(key: Path) -> str:
    """Make a private key that only its owner can read; returns what was done, for people.

    Raises:
        SecretsError: there is a file already, or the place is not fit for it.
    """
    where = _work_tree(key)
    if where:
        raise SecretsError(
            f"{key} is in the Git work tree {where}: a private key does not belong there.\n"
            "Next: set secrets_key to a path outside of it, such as ~/.config/piclusterops/age.key"
        )
    identity = pyrage.x25519.Identity.generate()
    made = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"# created: {made}\n# public key: {identity.to_public()}\n{identity}\n"
    try:
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as sink:
            sink.write(text)
            sink.flush()
            os.fsync(sink.fileno())
    except OSError as error:
        raise SecretsError(f"The key {key} can't be written: {error.strerror}.") from None
    return (
        f"A new key is in {key}: keep a copy where this machine's loss does not matter, "
        "for without it nothing can be read."
    )


def read_key(key: Path, command: str) -> pyrage.x25519.Identity:
    """The private key in a file; `command` makes one where there is none.

    Raises:
        SecretsError: there is none, or others can read it.
    """
    try:
        with key.open(encoding="utf-8") as source:
            mode = stat.S_IMODE(os.fstat(source.fileno()).st_mode)
            text = "" if mode & 0o077 else source.read()
    except FileNotFoundError:
        raise SecretsError(
            f"The key {key} that reads the secrets is not there.\n"
            f"Next: copy it from the machine that made it, or make one of your own: {command}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SecretsError(f"The key {key} can't be read: {cause}.") from None
    if mode & 0o077:
        raise SecretsError(f"The key {key} can be read by others (mode {mode:04o}).\nNext: chmod 600 {key}")
    for line in text.splitlines():
        if line.startswith("AGE-SECRET-KEY-"):
            try:
                return pyrage.x25519.Identity.from_str(line.strip())
            except pyrage.IdentityError:
                break
    raise SecretsError(
        f"{key} holds no age identity, which is a line that begins with AGE-SECRET-KEY-1.\n"
        "Next: restore it from its copy, or name another one with secrets_key"
    )


class AgeFile:
    """Secrets in one file, encrypted to everyone whose public key is in the file of recipients beside it.

    The decrypted content is JSON and never on disk; `age -d -i <key> <file>` shows it too.
    """

    title, writable = "an age-encrypted file", True

    def __init__(self, file: Path, key: Path, command: str) -> None:
        """`key` is the identity that reads `file`; `command` how to make what is missing."""
        self.file, self.key, self.command = file, key, command
        self.recipients_file = file.with_suffix(".recipients")

    def prepare(self) -> list[str]:
        done = []
        new_key = not _exists(self.key)
        if new_key:
            done.append(make_key(self.key))
        identity = read_key(self.key, self.command)
        own = str(identity.to_public())
        if new_key and _exists(self.file):
            raise SecretsError(
                f"{done[0]}\n{self.file} was encrypted for others and can't be read with it.\n"
                f"Next: whoever reads it adds this line to {self.recipients_file} and runs: {self.command}\n  {own}"
            )
        with self._writing():
            document = self._read(identity)
            if not _exists(self.recipients_file):
                self._write_recipients(document.recipients or (own,))
                done.append(f"The recipients are in {self.recipients_file}: commit it.")
            recipients = self._recipients(own)
            if _exists(self.file) and set(recipients) != set(document.recipients):
                self._write(document.model_copy(update={"recipients": recipients}))
                done.append(f"{self.file} is now encrypted for {_count(len(recipients), 'recipient')}.")
        return done

    def known(self, wanted: Collection[Name]) -> dict[Name, Dates]:
        if not _exists(self.file):
            return {}
        entries = self._read(read_key(self.key, self.command)).entries()
        return {name: Dates(entry.created, entry.rotated) for name, entry in entries.items()}

    def read(self, wanted: Collection[Name]) -> dict[Name, SecretStr]:
        if not _exists(self.file):
            return {}
        entries = self._read(read_key(self.key, self.command)).entries()
        return {name: entries[name].value for name in wanted if name in entries}

    def update(self, wanted: Collection[Name], change: Change) -> list[Name]:
        identity = read_key(self.key, self.command)
        with self._writing():
            document = self._read(identity)
            entries = document.entries()
            now = datetime.now(UTC).replace(microsecond=0)
            written: list[Name] = []
            for name, value in change(frozenset(entries)).items():
                old = entries.get(name)
                if old is None:
                    entries[name] = _Entry(value=value, created=now)
                elif old.value != value:
                    entries[name] = _Entry(value=value, created=old.created, rotated=now)
                else:
                    continue
                written.append(name)
            if written:
                secrets: dict[str, dict[str, _Entry]] = {}
                for secret, key in sorted(entries):
                    secrets.setdefault(secret, {})[key] = entries[secret, key]
                recipients = self._recipients(str(identity.to_public()))
                self._write(_Document(recipients=recipients, secrets=secrets))
            return written

    def _recipients(self, own: str) -> tuple[str, ...]:
        """Who may read the file.

        Raises:
            SecretsError: the list is missing or wrong, or we are not on it.
        """
        try:
            lines = self.recipients_file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise SecretsError(
                f"{self.recipients_file}, the list of who may read the secrets, is not there.\nNext: {self.command}"
            ) from None
        except (OSError, UnicodeDecodeError):
            raise SecretsError(f"{self.recipients_file} can't be read.") from None
        found: list[str] = []
        for number, line in enumerate(lines, start=1):
            word = line.strip()
            if not word or word.startswith("#"):
                continue
            if parse_recipient(word) is None:
                raise SecretsError(f"{self.recipients_file}, line {number}: no public key of age, which is age1...")
            found.append(word)
        if own not in found:
            raise SecretsError(
                f"Your key is not among the recipients: what you write you could not read again.\n"
                f"Next: add this line to {self.recipients_file}: {own}"
            )
        return tuple(dict.fromkeys(found))

    def _write_recipients(self, recipients: tuple[str, ...]) -> None:
        note = "# Who may read the secrets beside this file, public keys of age, one a line."
        lines = [note, f"# After a change: {self.command}", *recipients]
        write_whole(self.recipients_file, ("\n".join(lines) + "\n").encode(), 0o644)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(self.file.parent):
                yield
        except OSError as error:
            raise SecretsError(f"{self.file} can't be written: {error.strerror}. It is as it was.") from None

    def _write(self, document: _Document) -> None:
        recipients = [pyrage.x25519.Recipient.from_str(word) for word in document.recipients]
        write_whole(self.file, pyrage.encrypt(_plain(document), recipients, armored=True), 0o600)

    def _read(self, identity: pyrage.x25519.Identity) -> _Document:
        """The decrypted file; an empty document when there is none."""
        try:
            encrypted = self.file.read_bytes()
        except FileNotFoundError:
            return _Document()
        except OSError as error:
            raise SecretsError(f"{self.file} can't be read: {error.strerror}.") from None
        content = decrypt(encrypted, identity)
        if content is None:
            raise SecretsError(
                f"The key {self.key} does not open {self.file}.\n"
                f"Next: name the right one with secrets_key, or have whoever reads it add this line to "
                f"{self.recipients_file} and run {self.command}:\n  {identity.to_public()}"
            )
        document = _parse(content)
        if document is None:
            raise SecretsError(
                f"{self.file} is damaged, or no file of secrets.\n"
                f"Next: restore it from version control: git restore {self.file}"
            )
        if document.format != _FORMAT:
            raise SecretsError(f"{self.file} is of format {document.format}, which needs a newer PiClusterOps.")
        return document


def _plain(document: _Document) -> bytes:
    secrets = {
        secret: {
            key: {
                "value": entry.value.get_secret_value(),
                "created": entry.created.isoformat(),
                "rotated": entry.rotated.isoformat() if entry.rotated else None,
            }
            for key, entry in keys.items()
        }
        for secret, keys in document.secrets.items()
    }
    content = {"format": document.format, "recipients": list(document.recipients), "secrets": secrets}
    return json.dumps(content, indent=1).encode("ascii")


def decrypt(encrypted: bytes, identity: pyrage.x25519.Identity) -> bytes | None:
    """The content of an age file; None when the key does not open it, nothing when it is damaged."""
    try:
        return pyrage.decrypt(encrypted, [identity])
    except pyrage.DecryptError as error:
        return None if "No matching keys" in str(error) else b""


def _parse(content: bytes) -> _Document | None:
    try:
        return _Document.model_validate(json.loads(content))
    except (ValueError, ValidationError):
        return None


def parse_recipient(word: str) -> pyrage.x25519.Recipient | None:
    """The public key that a word is, if it is one."""
    try:
        return pyrage.x25519.Recipient.from_str(word)
    except pyrage.RecipientError:
        return None


def _work_tree(path: Path) -> Path | None:
    """The Git work tree that a path is in."""
    return next((parent for parent in path.absolute().parents if (parent / ".git").exists()), None)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise SecretsError(f"{path} can't be looked for: {error.strerror}.") from None


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# -- environment variables ---------------------------------------------------------------------------------


def variable(name: Name) -> str:
    """The environment variable of a key: ``PICLUSTEROPS_SECRET_<SECRET>__<KEY>``, capitals, others than A-Z0-9 as _."""
    secret, key = (re.sub("[^A-Z0-9]", "_", word.upper()) for word in name)
    return f"{_PREFIX}{secret}__{key}"


class Environment:
    """Secrets in variables of the process, put there by something else: a CI system, a password manager's command."""

    title, writable = "environment variables", False

    def prepare(self) -> list[str]:
        return []

    def known(self, wanted: Collection[Name]) -> dict[Name, Dates]:
        return {name: Dates() for word, name in _variables(wanted).items() if os.environ.get(word)}

    def read(self, wanted: Collection[Name]) -> dict[Name, SecretStr]:
        return {name: SecretStr(os.environ[variable(name)]) for name in self.known(wanted)}

    def update(self, wanted: Collection[Name], change: Change) -> list[Name]:
        names = sorted(change(frozenset(self.known(wanted))))
        if not names:
            return []
        lines = "\n  ".join(variable(name) for name in names)
        raise SecretsError(
            "The secrets come from environment variables, which can't be set from here.\n"
            f"Next: set these where this is started, or choose another secrets_provider:\n  {lines}"
        )


def _variables(names: Collection[Name]) -> dict[str, Name]:
    """Names by their variables.

    Raises:
        SecretsError: two names have the same variable.
    """
    found: dict[str, Name] = {}
    for name in sorted(names):
        other = found.setdefault(variable(name), name)
        if other != name:
            raise SecretsError(
                f"{'/'.join(name)} and {'/'.join(other)} would both be {variable(name)}.\n"
                "Next: choose another secrets_provider: age or pass"
            )
    return found


# -- pass --------------------------------------------------------------------------------------------------


class PasswordStore:
    """Secrets in the password store `pass`, at ``piclusterops/<cluster>/<secret>/<key>``."""

    title, writable = "the password store pass", True

    def __init__(self, cluster_name: str) -> None:
        self._root = f"piclusterops/{cluster_name}"
        self._store = Path(os.environ.get("PASSWORD_STORE_DIR") or "~/.password-store").expanduser()

    def prepare(self) -> list[str]:
        if not (self._store / ".gpg-id").exists():
            raise SecretsError(
                f"There is no password store in {self._store}.\nNext: pass init GPG-ID, with the id of your own GPG key"
            )
        return []

    def known(self, wanted: Collection[Name]) -> dict[Name, Dates]:
        folder = self._store / self._root
        return {
            (path.parent.name, path.stem): Dates(datetime.fromtimestamp(path.stat().st_mtime, UTC))
            for path in folder.glob("*/*.gpg")
        }

    def read(self, wanted: Collection[Name]) -> dict[Name, SecretStr]:
        there = self.known(wanted)
        return {name: SecretStr(self._pass("show", name).removesuffix("\n")) for name in wanted if name in there}

    def update(self, wanted: Collection[Name], change: Change) -> list[Name]:
        self.prepare()
        with exclusive(self._store):
            there = self.known(wanted)
            values = change(frozenset(there))
            old = self.read(values.keys())
            written = [name for name, value in values.items() if old.get(name) != value]
            for name in written:
                self._pass("insert", name, f"{values[name].get_secret_value()}\n")
        return written

    def _pass(self, verb: str, name: Name, value: str = "") -> str:
        """What `pass` prints; a value goes to its standard input, where `ps` does not see it."""
        options = ["--multiline", "--force"] if verb == "insert" else []
        path = f"{self._root}/{'/'.join(name)}"
        try:
            done = subprocess.run(
                ["pass", verb, *options, path], input=value, capture_output=True, encoding="utf-8", check=False
            )
        except FileNotFoundError:
            raise SecretsError("The program pass is not installed.\nNext: sudo apt-get install pass") from None
        except UnicodeDecodeError:
            done = None
        if done is None:
            raise SecretsError(f"{path} in the password store is no text.")
        if done.returncode != 0:
            cause = done.stderr.strip() or f"exit code {done.returncode}"
            raise SecretsError(f"pass can't {verb} {path}: {cause}\nNext: try it yourself: pass show {path}")
        return done.stdout
