"""Join tokens: ``K10<hash of the cluster CA>::<user>:<password>``, the short password, and kubeadm's ``id.secret``.

Source: k3s ``pkg/clientaccess/token.go``; texts of errors are K3s' own.
"""

import hashlib
import re
import secrets
import string
from dataclasses import dataclass

from .log import Fatal

PREFIX = "K10"
_BOOTSTRAP = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
NO_CA_HASH = (
    "Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a CA hash. "
    "Use the full token from the server's node-token file to enable Cluster CA validation."
)
_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class Token:
    """A parsed token; ``ca_hash`` is empty for the short form, ``user`` is empty for a bootstrap token."""

    ca_hash: str
    user: str
    password: str

    @property
    def is_bootstrap(self) -> bool:
        return not self.user and _BOOTSTRAP.fullmatch(self.password) is not None


def parse(token: str) -> Token:
    """Raises Fatal when the token has none of the three forms."""
    if not token:
        raise Fatal("token must not be empty")
    ca_hash = ""
    rest = token
    if token.startswith(PREFIX):
        head, separator, tail = token[len(PREFIX) :].partition("::")
        if separator:
            if head and len(head) != 64:
                raise Fatal("invalid token CA hash length")
            ca_hash, rest = head, tail
        else:
            rest = head
        if _BOOTSTRAP.fullmatch(rest):
            return Token(ca_hash, "", rest)
        user, colon, password = rest.partition(":")
        if not colon or not password:
            raise Fatal("invalid token format")
        return Token(ca_hash, user, password)
    return Token("", "", token) if _BOOTSTRAP.fullmatch(token) else Token("", "server", token)


def ca_hash(ca_pem: bytes) -> str:
    return hashlib.sha256(ca_pem).hexdigest()


def format_token(ca_pem: bytes, credentials: str) -> str:
    """The full form; ``credentials`` is ``user:password`` or ``id.secret``."""
    return f"{PREFIX}{ca_hash(ca_pem)}::{credentials}"


def check_ca(token: Token, ca_pem: bytes) -> str | None:
    """The fault in K3s' words when the token names another CA, else None."""
    seen = ca_hash(ca_pem)
    if token.ca_hash and token.ca_hash != seen:
        return f"token CA hash does not match the Cluster CA certificate hash: {token.ca_hash} != {seen}"
    return None


def new_secret() -> str:
    return secrets.token_hex(16)


def new_bootstrap_token() -> str:
    """A kubeadm token, ``[a-z0-9]{6}.[a-z0-9]{16}``."""
    return (
        f"{''.join(secrets.choice(_LETTERS) for _ in range(6))}.{''.join(secrets.choice(_LETTERS) for _ in range(16))}"
    )
