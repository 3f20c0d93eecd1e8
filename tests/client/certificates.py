"""Test certificates: a root, an intermediate, leaves with any flaw, and the documents made of them."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certkeeper.core.document import encode, written
from tests.client.loopback_aws import KMS_KEY_ARN, sealed

DAY = datetime.timedelta(days=1)
PrivateKey = ec.EllipticCurvePrivateKey


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Authority:
    """A root and an intermediate that issues."""

    root_pem: str
    intermediate: x509.Certificate
    private_key: PrivateKey

    @property
    def intermediate_pem(self) -> str:
        return pem(self.intermediate)


@dataclass(frozen=True)
class Pair:
    """A leaf, its chain and its private key."""

    leaf: x509.Certificate
    fullchain_pem: str
    private_key_pem: str

    @property
    def serial_number(self) -> str:
        return f"{self.leaf.serial_number:x}"


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def private_key_pem(private_key: PrivateKey) -> str:
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _ca(subject: str, key: PrivateKey, issuer: str, signer: PrivateKey) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - 400 * DAY)
        .not_valid_after(now() + 400 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


@functools.cache
def authority(name: str = "Test") -> Authority:
    """The same for the same name within a test run."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _ca(f"{name} Root", root_key, f"{name} Root", root_key)
    return Authority(pem(root), _ca(f"{name} Intermediate", key, f"{name} Root", root_key), key)


def issue(
    *identifiers: str,
    by: Authority | None = None,
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    serial_number: int | None = None,
) -> Pair:
    """A leaf with its chain."""
    by = by or authority()
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(by.intermediate.subject)
        .public_key(key.public_key())
        .serial_number(serial_number or x509.random_serial_number())
        .not_valid_before(not_before or now() - DAY)
        .not_valid_after(not_after or now() + 60 * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in identifiers]), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .sign(by.private_key, hashes.SHA256())
    )
    return Pair(leaf, pem(leaf) + by.intermediate_pem, private_key_pem(key))


def document(pair: Pair, name: str = "example.com", **changes: object) -> bytes:
    """The document of a pair, format 1; `changes` overrule its fields."""
    sealing = changes.get("sealing", "kms")
    private_key = str(changes.pop("private_key_pem", pair.private_key_pem)).encode()
    kms_key_arn = str(changes.get("kms_key_arn", KMS_KEY_ARN))
    blob = sealed(private_key, str(changes.pop("sealed_for", name)), kms_key_arn) if sealing == "kms" else private_key
    sans = pair.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    fields: dict[str, object] = {
        "format": 1,
        "name": name,
        "revision": int(now().timestamp()),
        "write_id": "0123456789abcdef",
        "identifiers": sans.get_values_for_type(x509.DNSName),
        "serial_number": pair.serial_number,
        "not_before": written(pair.leaf.not_valid_before_utc),
        "not_after": written(pair.leaf.not_valid_after_utc),
        "spki_sha256": hashlib.sha256(pair.leaf.public_bytes(serialization.Encoding.DER)).hexdigest(),
        "fullchain_pem": pair.fullchain_pem,
        "csr_pem": "not of interest here",
        "ca_directory": "https://ca.test/directory",
        "sealing": sealing,
        "kms_key_arn": kms_key_arn if sealing == "kms" else None,
        "sealed_private_key": base64.b64encode(blob).decode(),
        "issued": [],
    }
    return encode({name: value for name, value in (fields | changes).items() if value is not None})
