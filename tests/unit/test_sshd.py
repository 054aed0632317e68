"""The SSH server's configuration: what is written, who can still connect, and what counts as in force."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko import Transport

from piclusterops import sshd
from piclusterops.settings import ClusterSettings

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "sshd"
BASE = {
    "lan_cidr": "192.168.0.0/24",
    "vpn_cidr": "10.8.0.0/24",
    "admin_users": [{"name": "operator", "ssh_keys": ["ssh-ed25519 AAAA operator"]}],
}
DEBIAN_12, DEBIAN_13 = (9, 2), (10, 0)

versions = st.tuples(st.integers(9, 12), st.integers(0, 9)).filter(lambda version: version >= sshd.OLDEST)
settings = st.builds(
    lambda **given: ClusterSettings.model_validate({**BASE, **given}),
    sshd_tcp_forwarding=st.sampled_from(["no", "local", "yes"]),
    sshd_banner=st.none() | st.text(min_size=1),
    sshd_users=st.lists(st.from_regex(r"[a-z_][a-z0-9_-]{0,31}", fullmatch=True), max_size=3),
    sshd_options=st.dictionaries(st.sampled_from(["LogLevel", "loginGraceTime", "Compression"]), st.just("no")),
)


@pytest.fixture(scope="module")
def paramiko_client() -> Iterator[dict[str, tuple[str, ...]]]:
    """What pyinfra's SSH library offers a server, by keyword of sshd_config."""
    import socket

    ours, theirs = socket.socketpair()
    transport = Transport(ours)
    offered = transport.get_security_options()
    yield {keyword: tuple(getattr(offered, name)) for keyword, name in sshd.NEGOTIATED.items()}
    transport.close()
    theirs.close()


def test_the_file_is_the_golden_one_and_ends_in_what_the_user_gave() -> None:
    plain = ClusterSettings.model_validate(BASE)
    everything = ClusterSettings.model_validate(
        {
            **BASE,
            "sshd_users": ["backup-pull", "operator"],
            "controllers": ["192.168.0.5/32"],
            "sshd_tcp_forwarding": "no",
            "sshd_banner": "Authorised users only.",
            "sshd_options": {"loglevel": "INFO", "Compression": "no"},
        }
    )
    made = {
        "9.2.conf": sshd.config(plain, "pi", DEBIAN_12).text,
        "10.0.conf": sshd.config(plain, "pi", DEBIAN_13).text,
        "10.0-everything.conf": sshd.config(everything, "pi", DEBIAN_13).text,
    }
    assert made == {path.name: path.read_text() for path in GOLDEN.iterdir()}


@given(settings, versions)
def test_pyinfra_can_always_connect(
    paramiko_client: dict[str, tuple[str, ...]], settings: ClusterSettings, version: sshd.Version
) -> None:
    options = sshd.config(settings, "pi", version).options
    assert sshd.without_common(options, paramiko_client) == []
    assert options["KexAlgorithms"].endswith(",curve25519-sha256,curve25519-sha256@libssh.org")
    assert "pi" in options["AllowUsers"].split()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("KexAlgorithms", "mlkem768x25519-sha256,sntrup761x25519-sha512"),
        ("Ciphers", "chacha20-poly1305@openssh.com"),
        ("MACs", "umac-128-etm@openssh.com"),
        ("HostKeyAlgorithms", "sk-ssh-ed25519@openssh.com"),
    ],
)
def test_an_algorithm_list_that_would_shut_pyinfra_out_is_noticed(
    paramiko_client: dict[str, tuple[str, ...]], keyword: str, value: str
) -> None:
    given = ClusterSettings.model_validate({**BASE, "sshd_options": {keyword.lower(): value}})
    options = sshd.config(given, "pi", DEBIAN_13).options
    assert sshd.without_common(options, paramiko_client) == [keyword]


@given(settings, versions)
def test_the_limits_are_those_of_the_version(settings: ClusterSettings, version: sshd.Version) -> None:
    options = sshd.config(settings, "pi", version).options
    assert ("PerSourcePenaltyExemptList" in options) == (version >= (9, 8))
    assert ("mlkem768x25519-sha256" in options["KexAlgorithms"]) == (version >= (9, 9))
    assert "\n" not in "".join(options.values())


def test_what_sshd_prints_is_in_force_only_line_by_line() -> None:
    config = sshd.config(ClusterSettings.model_validate(BASE), "pi", DEBIAN_12)
    printed = ["port 22", *config.effective, "subsystem sftp /usr/lib/openssh/sftp-server"]
    assert sshd.not_in_force(printed, config.effective) == []
    weaker = ["passwordauthentication yes" if line.startswith("passwordauth") else line for line in printed]
    assert sshd.not_in_force(weaker, config.effective) == ["passwordauthentication no"]
    assert sshd.not_in_force([*printed, "allowusers mallory"], config.effective) == [
        "allowusers mallory (from another file)"
    ]
    assert sshd.not_in_force([], config.effective) == config.effective


def test_values_of_the_users_own_are_not_compared() -> None:
    """sshd prints 2m as 120, and prohibit-password as without-password."""
    given = ClusterSettings.model_validate({**BASE, "sshd_options": {"LOGINGRACETIME": "2m"}})
    config = sshd.config(given, "pi", DEBIAN_12)
    assert "LoginGraceTime 2m\n" in config.text
    assert not any(line.startswith("logingracetime") for line in config.effective)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.22 25 Aug 2026", (9, 2)),
        ("OpenSSH_10.0p2 Debian-7+deb13u4, OpenSSL 3.5.9 29 Sep 2026", (10, 0)),
        ("Dropbear v2022.83", None),
        ("", None),
    ],
)
def test_the_version_is_read(text: str, version: sshd.Version | None) -> None:
    assert sshd.parse_version(text) == version


@pytest.mark.parametrize(("file", "version"), [("debian-12.txt", DEBIAN_12), ("debian-13.txt", DEBIAN_13)])
def test_the_policy_for_ssh_audit_asks_for_what_is_configured(file: str, version: sshd.Version) -> None:
    text = (ROOT / "files" / "ssh-audit" / file).read_text()
    policy = dict(re.findall(r"^([a-z ]+) = (.+)$", text, re.MULTILINE))
    options = sshd.config(ClusterSettings.model_validate(BASE), "pi", version).options
    asked = [
        name
        for name in policy["key exchanges"].split(", ")
        if name not in ("ext-info-s", "kex-strict-s-v00@openssh.com")
    ]
    assert ",".join(asked) == options["KexAlgorithms"]
    assert policy["ciphers"].replace(" ", "") == options["Ciphers"]
    assert policy["macs"].replace(" ", "") == options["MACs"]
    assert policy["host keys"] == options["HostKeyAlgorithms"]
