"""How the values of secrets come to be: random ones, and templates over others."""

from __future__ import annotations

import base64
import hmac
import secrets
import string
from collections.abc import Callable, Iterator
from functools import cache

import bcrypt as bcrypt_library
from jinja2 import Environment, StrictUndefined, TemplateError, TemplateSyntaxError, nodes

from piclusterops.catalogue import SecretKey

#: A Secret's name and one of its keys.
Name = tuple[str, str]

GENERATED = frozenset({"password", "hex", "base64"})
#: Work factor of bcrypt, as two to its power: at least 8 for Trino; verifying one takes a Raspberry Pi 5 about 0.1 s.
BCRYPT_COST = 10

_LETTERS_AND_DIGITS = string.ascii_letters + string.digits
_BCRYPT_ALPHABET = "./" + string.ascii_uppercase + string.ascii_lowercase + string.digits
_BASE64_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
_TO_BCRYPT = str.maketrans(_BASE64_ALPHABET, _BCRYPT_ALPHABET)


class TemplateFault(Exception):
    """The template of a secret can't be used; the text says why and holds no value."""


def generate(key: SecretKey) -> str:
    """A new random value.

    Raises:
        ValueError: values of its kind are not random.
    """
    makers: dict[str, Callable[[int], str]] = {"password": _password, "hex": secrets.token_hex, "base64": _base64}
    if key.kind not in makers:
        raise ValueError(f"a value of kind {key.kind} can't be generated")
    return makers[key.kind](key.length)


def _password(length: int) -> str:
    """Letters and digits, at least one of each kind: every server's rules, and no character that needs quoting."""
    while True:
        text = "".join(secrets.choice(_LETTERS_AND_DIGITS) for _ in range(length))
        if any(c.islower() for c in text) and any(c.isupper() for c in text) and any(c.isdigit() for c in text):
            return text


def _base64(length: int) -> str:
    """Random bytes in base64 that is the same in its two alphabets.

    MinIO's keys are read by the usual one, oauth2-proxy's by that for URLs. For 32 bytes this costs 2 of 256 bits.
    """
    while True:
        text = base64.b64encode(secrets.token_bytes(length)).decode("ascii")
        if "+" not in text and "/" not in text:
            return text


@cache
def _environment() -> Environment:
    return Environment(undefined=StrictUndefined, keep_trailing_newline=True)


def _calls(template: str, function: str) -> Iterator[nodes.Call]:
    try:
        parsed = _environment().parse(template)
    except TemplateSyntaxError as error:
        raise TemplateFault(f"its template is wrong: {error.message}") from error
    for call in parsed.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == function:
            yield call


def references(template: str) -> tuple[Name, ...]:
    """The keys that a template uses.

    Raises:
        TemplateFault: it is no template, or says what it uses other than by `secret('<secret>', '<key>')`.
    """
    found: list[Name] = []
    for call in _calls(template, "secret"):
        words = [argument.value for argument in call.args if isinstance(argument, nodes.Const)]
        if len(words) != 2 or len(call.args) != 2 or call.kwargs or not all(isinstance(word, str) for word in words):
            raise TemplateFault("its template must name what it uses in plain text: secret('<secret>', '<key>')")
        found.append((words[0], words[1]))
    return tuple(dict.fromkeys(found))


def uses_bcrypt(template: str) -> bool:
    """Whether a template hashes passwords, for which it needs salt.

    Raises:
        TemplateFault: it is no template.
    """
    return any(True for _ in _calls(template, "bcrypt"))


def render(template: str, secret: Callable[[str, str], str], bcrypt: Callable[[str], str]) -> str:
    """The value that a template makes of others.

    Raises:
        TemplateFault: it can't.
    """
    kind = ""
    try:
        return _environment().from_string(template).render(secret=secret, bcrypt=bcrypt)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        kind = type(error).__name__
    # Neither the text of the error, which may quote a value, nor the error itself as a cause.
    raise TemplateFault(f"its template fails ({kind})")


def bcrypt(text: str, salt_key: str, purpose: str) -> str:
    """A password hashed as `htpasswd -B` does, always the same for the same password, key and purpose.

    The salt is no random one, else each run would change what is deployed. It is a keyed hash (HMAC-SHA-256), so that
    without the key it can't be told from random.

    Raises:
        TemplateFault: bcrypt can't hash the text; it takes at most 72 bytes.
    """
    digest = hmac.digest(salt_key.encode(), f"{purpose}\0{text}".encode(), "sha256")
    salt = base64.b64encode(digest[:16]).decode("ascii").rstrip("=").translate(_TO_BCRYPT)
    try:
        return bcrypt_library.hashpw(text.encode(), f"$2y${BCRYPT_COST:02}${salt}".encode()).decode("ascii")
    except ValueError:
        pass
    raise TemplateFault("bcrypt takes passwords of at most 72 bytes, without NUL")
