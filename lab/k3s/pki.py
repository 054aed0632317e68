"""Certificate authorities and certificates, with the names, subjects and lifetimes of K3s.

K3s: CAs for 10 years, leaf certificates for 365 days, renewed at a start when fewer than 120 days are left
(docs.k3s.io/cli/certificate). ECDSA P-256 throughout, RSA for the ServiceAccount key.
"""

import datetime
import ipaddress
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .layout import write_file

LEAF_DAYS = 365
CA_DAYS = 3650
RENEW_DAYS = 120


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def not_after(cert: x509.Certificate) -> datetime.datetime:
    """Expiry in UTC, on old and new releases of cryptography."""
    value = getattr(cert, "not_valid_after_utc", None)
    if isinstance(value, datetime.datetime):
        return value
    return cert.not_valid_after.replace(tzinfo=datetime.UTC)


def pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _name(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True)
class Authority:
    """A CA: certificate and key in memory."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return pem(self.cert)


def load_authority(cert: Path, key: Path) -> Authority:
    return parse_authority(cert.read_bytes(), key.read_bytes())


def parse_authority(cert: bytes, key: bytes) -> Authority:
    """A CA from PEM. Raises ValueError when its key is no elliptic curve's."""
    loaded = serialization.load_pem_private_key(key, None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError("the key of this CA is not of an elliptic curve")
    return Authority(x509.load_pem_x509_certificate(cert), loaded)


def new_authority(common_name: str, issuer: Authority | None = None) -> Authority:
    """A CA, signed by `issuer` or else by itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = _name(common_name)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.cert.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - datetime.timedelta(minutes=5))
        .not_valid_after(_now() + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(True, False, True, False, False, True, False, False, False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(issuer.key if issuer else private, hashes.SHA256())
    )
    return Authority(built, private)


def ensure_authority(folder: Path, name: str) -> Authority:
    """``<folder>/<name>.{crt,key}``, made when missing; the subject carries the time of making, as K3s' does."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    if cert.is_file() and key.is_file():
        return load_authority(cert, key)
    made = new_authority(f"{'etcd-' if folder.name == 'etcd' else 'k3s-'}{name}@{int(time.time())}")
    write_file(key, key_pem(made.key))
    write_file(cert, made.pem, 0o644)
    return made


def _alternative_names(sans: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for san in sorted(set(sans)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(san)))
        except ValueError:
            names.append(x509.DNSName(san))
    return names


def sign(
    ca: Authority,
    public: ec.EllipticCurvePublicKey,
    common_name: str,
    organization: str,
    server: bool,
    sans: Iterable[str],
) -> x509.Certificate:
    """A leaf certificate; ``server`` adds serverAuth to clientAuth."""
    usages = (
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        if server
        else [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name, organization))
        .issuer_name(ca.cert.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - datetime.timedelta(minutes=5))
        .not_valid_after(_now() + datetime.timedelta(days=LEAF_DAYS))
        .add_extension(x509.KeyUsage(True, False, True, False, False, False, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()),
            critical=False,
        )
    )
    names = _alternative_names(sans)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca.key, hashes.SHA256())


def _sans_of(cert: x509.Certificate) -> set[str]:
    try:
        extension = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in extension}


def still_good(cert_file: Path, key_file: Path, ca: Authority, sans: Iterable[str]) -> bool:
    """Whether the certificate can stay: same CA, same names, 120 days or more left."""
    if not (cert_file.is_file() and key_file.is_file()):
        return False
    cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
    try:
        issuer = cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return False
    own = x509.SubjectKeyIdentifier.from_public_key(ca.key.public_key()).digest
    left = not_after(cert) - _now()
    return issuer == own and left > datetime.timedelta(days=RENEW_DAYS) and _sans_of(cert) == set(sans)


def ensure_leaf(
    ca: Authority,
    base: Path,
    common_name: str,
    organization: str = "",
    server: bool = False,
    sans: Iterable[str] = (),
    chain: bool = False,
) -> bool:
    """``<base>.crt`` and ``<base>.key``; True when made or renewed. ``chain`` appends the CA's certificate."""
    names = set(sans)
    cert_file, key_file = base.with_name(base.name + ".crt"), base.with_name(base.name + ".key")
    if still_good(cert_file, key_file, ca, names):
        return False
    private = ec.generate_private_key(ec.SECP256R1())
    cert = sign(ca, private.public_key(), common_name, organization, server, names)
    write_file(key_file, key_pem(private))
    write_file(cert_file, pem(cert) + (ca.pem if chain else b""), 0o644)
    return True


def new_leaf(ca: Authority, common_name: str, sans: Iterable[str]) -> tuple[bytes, bytes]:
    """Certificate and key of a server, both PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    return pem(sign(ca, private.public_key(), common_name, "", True, sans)), key_pem(private)


def new_rsa_key() -> bytes:
    return key_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def sign_request(ca: Authority, request_pem: bytes) -> tuple[str, str, bytes]:
    """Common name, organisation and signed client certificate (PEM) for a request. Raises ValueError."""
    request = x509.load_pem_x509_csr(request_pem)
    public = request.public_key()
    if not request.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("bad certificate request")
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    common_name = str(names[0].value) if names else ""
    organization = str(groups[0].value) if groups else ""
    return common_name, organization, pem(sign(ca, public, common_name, organization, False, ()))


def new_request(common_name: str, organization: str) -> tuple[bytes, bytes]:
    """Key and certificate request, both PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(common_name, organization))
        .sign(private, hashes.SHA256())
    )
    return key_pem(private), request.public_bytes(serialization.Encoding.PEM)
