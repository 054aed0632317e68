"""The SSH server's configuration: what it should say, and whether it is in force.

Algorithms and limits follow what ssh-audit 3.9 asks of Debian 12 and 13, and CIS Debian 12, with two differences:
there is no finite-field Diffie-Hellman, which costs a small computer more than its attacker (DHEat, CVE-2002-20001),
and curve25519 stays as the last key exchange, because paramiko 4, which pyinfra uses, has no post-quantum one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from piclusterops.settings import ClusterSettings
from piclusterops.templates import render

#: Sorts before cloud-init's 50-cloud-init.conf, and sshd takes the first value it reads.
CONFIG_FILE = "/etc/ssh/sshd_config.d/00-piclusterops.conf"
BANNER_FILE = "/etc/ssh/piclusterops-banner"
FILES = (CONFIG_FILE, BANNER_FILE)
#: A connection as ``sshd -C`` describes it, from an address that no network has (RFC 5737).
STRANGER = "host=unknown.invalid,addr=203.0.113.1"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
MODULI = "/etc/ssh/moduli"
#: Bits that a group in `MODULI` must have (ssh-audit, NIST SP 800-57: 128 bits of security).
MODULI_BITS = 3071
#: Bits that an RSA key must have to be taken.
RSA_BITS = 3072

Version = tuple[int, int]

_KEX: tuple[tuple[str, Version], ...] = (
    ("mlkem768x25519-sha256", (9, 9)),
    ("sntrup761x25519-sha512", (9, 9)),
    ("sntrup761x25519-sha512@openssh.com", (8, 5)),
    ("curve25519-sha256", (7, 4)),
    ("curve25519-sha256@libssh.org", (6, 5)),
)
_CIPHERS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-gcm@openssh.com",
    "aes128-ctr",
)
_MACS = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "umac-128-etm@openssh.com")
_HOST_KEY_ALGORITHMS = ("ssh-ed25519",)
#: Oldest version with RequiredRSASize, and so the oldest that the configuration is made for; Debian 12 has 9.2.
OLDEST: Version = (9, 1)
#: First version with PerSourcePenalties.
_PENALTIES: Version = (9, 8)
#: Keywords whose values add up over all files, so that what another file adds counts.
_ADDING_UP = ("allowusers",)
_VERSION = re.compile(r"OpenSSH_(\d+)\.(\d+)")

#: Keyword of a list of algorithms to the name that paramiko's security options have for it.
NEGOTIATED: Mapping[str, str] = {
    "KexAlgorithms": "kex",
    "Ciphers": "ciphers",
    "MACs": "digests",
    "HostKeyAlgorithms": "key_types",
}


@dataclass(frozen=True)
class SshdConfig:
    """A configuration: keywords of sshd_config(5) and their values; `own` are those that this module decided."""

    options: Mapping[str, str]
    own: frozenset[str]

    @property
    def text(self) -> str:
        """The drop-in."""
        return render("sshd.conf.j2", options=self.options)

    @property
    def effective(self) -> list[str]:
        """The lines that ``sshd -T`` must print when it is in force; it prints values of the user's own in its way."""
        lines = []
        for keyword, value in self.options.items():
            if keyword not in self.own:
                continue
            values = value.split() if keyword.lower() in _ADDING_UP else [value]
            lines += [f"{keyword.lower()} {part}" for part in values]
        return lines


def parse_version(text: str) -> Version | None:
    """The version of OpenSSH in what ``ssh -V`` prints; None when there is none."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2])) if found else None


def config(settings: ClusterSettings, deploy_user: str, version: Version) -> SshdConfig:
    """What the SSH server of a node should be told.

    Args:
        settings: the cluster's settings.
        deploy_user: the user that pyinfra logs in as; it may always log in.
        version: the host's version of OpenSSH.
    """
    users = dict.fromkeys([deploy_user, *(user.name for user in settings.admin_users), *settings.sshd_users])
    options = {
        "KexAlgorithms": ",".join(name for name, since in _KEX if version >= since),
        "Ciphers": ",".join(_CIPHERS),
        "MACs": ",".join(_MACS),
        "HostKey": HOST_KEY,
        "HostKeyAlgorithms": ",".join(_HOST_KEY_ALGORITHMS),
        "RequiredRSASize": str(RSA_BITS),
        "AllowUsers": " ".join(users),
        "PermitRootLogin": "no",
        "PubkeyAuthentication": "yes",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitEmptyPasswords": "no",
        "HostbasedAuthentication": "no",
        "IgnoreRhosts": "yes",
        "PermitUserEnvironment": "no",
        "UsePAM": "yes",
        "StrictModes": "yes",
        "LoginGraceTime": "30",
        "MaxAuthTries": "4",
        "MaxSessions": "10",
        "MaxStartups": "10:30:60",
        "ClientAliveInterval": "60",
        "ClientAliveCountMax": "3",
        "X11Forwarding": "no",
        "AllowAgentForwarding": "no",
        "AllowTcpForwarding": settings.sshd_tcp_forwarding,
        "GatewayPorts": "no",
        "PermitTunnel": "no",
        "LogLevel": "VERBOSE",
    }
    if version >= _PENALTIES:
        options["PerSourcePenaltyExemptList"] = ",".join(controllers(settings))
    if settings.sshd_banner:
        options["Banner"] = BANNER_FILE
    ours = {keyword.lower(): keyword for keyword in options}
    more = {ours.get(keyword.lower(), keyword): value for keyword, value in settings.sshd_options.items()}
    return SshdConfig({**options, **more}, frozenset(options.keys() - more.keys()))


def controllers(settings: ClusterSettings) -> list[str]:
    """The networks that runs come from."""
    networks = settings.controllers
    if networks is None:
        networks = tuple(network for network in (settings.lan_cidr, settings.vpn_cidr) if network is not None)
    return [str(network) for network in networks]


def not_in_force(effective: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """What ``sshd -T`` printed against what it must print: the wanted lines that are missing, and what others added."""
    present = {line.strip() for line in effective}
    missing = [line for line in wanted if line not in present]
    keywords = tuple(f"{keyword} " for keyword in _ADDING_UP)
    added = sorted(line for line in present if line.startswith(keywords) and line not in wanted)
    return missing + [f"{line} (from another file)" for line in added]


def without_common(options: Mapping[str, str], client: Mapping[str, Iterable[str]]) -> list[str]:
    """The keywords whose algorithms a client has none of, so that it could not connect any more.

    Args:
        options: keywords and values of a configuration.
        client: the client's algorithms, by the same keywords.
    """
    return [
        keyword
        for keyword in NEGOTIATED
        if keyword in options and not set(options[keyword].split(",")) & set(client.get(keyword, ()))
    ]
