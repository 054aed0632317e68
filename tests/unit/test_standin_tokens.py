"""Tokens and certificates of the stand-in k3s."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography import x509

from piclusterops.lab.k3s import commands, pki, tokens
from piclusterops.lab.k3s.layout import write_file
from piclusterops.lab.k3s.log import Fatal
from piclusterops.lab.k3s.server import critical_mismatches, decrypt, encrypt, refuse_mismatch

HASH = "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", tokens.Token("", "server", "short")),
        (f"K10{HASH}::server:pw:with:colons", tokens.Token(HASH, "server", "pw:with:colons")),
        (f"K10{HASH}::node:pw", tokens.Token(HASH, "node", "pw")),
        ("abcdef.0123456789abcdef", tokens.Token("", "", "abcdef.0123456789abcdef")),
        (f"K10{HASH}::abcdef.0123456789abcdef", tokens.Token(HASH, "", "abcdef.0123456789abcdef")),
    ],
)
def test_all_forms_of_a_token_are_understood(text: str, expected: tokens.Token) -> None:
    assert tokens.parse(text) == expected
    assert tokens.parse(text).is_bootstrap == ("." in text)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "must not be empty"), ("K10abc::server:pw", "CA hash length"), (f"K10{HASH}::pw", "invalid token format")],
)
def test_malformed_tokens_are_refused(text: str, words: str) -> None:
    with pytest.raises(Fatal, match=words):
        tokens.parse(text)


def test_the_full_form_names_the_ca_and_another_ca_is_noticed() -> None:
    token = tokens.parse(tokens.format_token(b"ca", "server:pw"))
    assert token.ca_hash == hashlib.sha256(b"ca").hexdigest()
    assert tokens.check_ca(token, b"ca") is None
    fault = tokens.check_ca(token, b"other")
    assert fault is not None
    assert fault.startswith("token CA hash does not match the Cluster CA certificate hash: ")
    assert tokens.check_ca(tokens.parse("short"), b"other") is None


def test_a_new_bootstrap_token_has_kubeadms_form() -> None:
    assert tokens.parse(tokens.new_bootstrap_token()).is_bootstrap


def test_bootstrap_data_opens_with_its_own_token_only() -> None:
    blob = encrypt("one", b"data")
    assert decrypt("one", blob) == b"data"
    assert b"data" not in blob
    with pytest.raises(Fatal, match="bootstrap data already found and encrypted with different token"):
        decrypt("two", blob)


def test_differing_critical_settings_are_named_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    mine, theirs = {"cluster-cidr": ["a"], "flannel-backend": "none", "same": 1}, {"cluster-cidr": ["b"], "same": 1}
    assert critical_mismatches(mine, theirs) == ["cluster-cidr", "flannel-backend"]
    with pytest.raises(Fatal, match="critical configuration value mismatch between servers"):
        refuse_mismatch(mine, theirs)
    assert 'level=warning msg="critical configuration mismatched: flannel-backend"' in capsys.readouterr().err
    refuse_mismatch(theirs, theirs)


def test_a_serving_certificate_is_renewed_when_its_names_change(tmp_path: Path) -> None:
    ca = pki.ensure_authority(tmp_path, "server-ca")
    base = tmp_path / "serving"

    def names() -> set[str]:
        cert = x509.load_pem_x509_certificate((tmp_path / "serving.crt").read_bytes())
        extension = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {str(name.value) for name in extension}

    assert pki.ensure_leaf(ca, base, "kube-apiserver", server=True, sans=["a", "10.0.0.1"], chain=True)
    assert not pki.ensure_leaf(ca, base, "kube-apiserver", server=True, sans=["10.0.0.1", "a"], chain=True)
    assert pki.ensure_leaf(ca, base, "kube-apiserver", server=True, sans=["a", "b"], chain=True)
    assert names() == {"a", "b"}
    assert (tmp_path / "serving.crt").read_bytes().endswith(ca.pem)
    other = pki.ensure_authority(tmp_path / "other", "server-ca")
    assert pki.ensure_leaf(other, base, "kube-apiserver", server=True, sans=["a", "b"])


def test_keys_are_private_and_a_request_is_signed_for_what_it_asks(tmp_path: Path) -> None:
    ca = pki.ensure_authority(tmp_path, "client-ca")
    assert (tmp_path / "client-ca.key").stat().st_mode & 0o777 == 0o600
    _, request = pki.new_request("system:node:n", "system:nodes")
    name, group, cert = pki.sign_request(ca, request)
    assert (name, group) == ("system:node:n", "system:nodes")
    assert commands.certificate_state(x509.load_pem_x509_certificate(cert)) == "ok"


def test_a_file_is_replaced_in_one_step_with_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "new" / "secret"
    write_file(file, "a", 0o600)
    before = file.stat().st_mtime_ns
    write_file(file, "a", 0o600)
    assert file.stat().st_mtime_ns == before
    write_file(file, "b", 0o640)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("b", 0o640)
    assert [p.name for p in file.parent.iterdir()] == ["secret"]
