"""X.509: makes private keys and CSRs, reads chains. A clear private key never leaves the function that makes it."""

from __future__ import annotations

import hashlib
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from certkeeper.core.ari import certificate_id
from certkeeper.core.errors import ChainError
from certkeeper.core.model import CertificateRequest, CertificateSpec, Chain, Sealed, Validity
from certkeeper.core.ports import Sealer

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
LONGEST_CHAIN = 10
UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises, at once or when a part is looked at, of what is no certificate as RFC 5280 has it."""


class PrivateKeys:
    """KeySource: keys by the cryptography library, sealed as the sealer does."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def new_request(self, spec: CertificateSpec) -> CertificateRequest:
        private_key = _new(spec.key_type)
        names = [x509.DNSName(one) for one in spec.identifiers]
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(private_key, hashes.SHA256())
        )
        return CertificateRequest(
            csr_pem=csr.public_bytes(serialization.Encoding.PEM).decode(),
            spki_sha256=_spki_sha256(private_key.public_key()),
            private_key=self._sealer.seal(_pem(private_key), {"certkeeper-name": spec.name}),
        )

    def new_account_key(self, directory: str) -> Sealed:
        return self._sealer.seal(_pem(_new("ecdsa-p256")), {"certkeeper-account": directory})


class Chains:
    """ChainReader."""

    def read(self, pem: str) -> Chain:
        try:
            return self._read(pem)
        except UNREADABLE:
            raise ChainError("a certificate of the CA's chain cannot be read") from None

    def _read(self, pem: str) -> Chain:
        certificates = [x509.load_pem_x509_certificate(block.encode()) for block in _blocks(pem)]
        for lower, upper in pairwise(certificates):
            try:
                lower.verify_directly_issued_by(upper)
            except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                raise ChainError("a certificate of the CA's chain is not issued by the next one") from None
        leaf = certificates[0]
        try:
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (x509.ExtensionNotFound, ValueError):
            raise ChainError("the leaf of the CA's chain names no identifiers") from None
        return Chain(
            pem=pem,
            identifiers=tuple(names.get_values_for_type(x509.DNSName)),
            serial_number=f"{leaf.serial_number:x}",
            spki_sha256=_spki_sha256(leaf.public_key()),
            validity=Validity(leaf.not_valid_before_utc, leaf.not_valid_after_utc),
            issuer=_common_name(leaf.issuer),
            certificate_id=_certificate_id(leaf),
            top_issuer=_common_name(certificates[-1].issuer),
        )


def _blocks(pem: str) -> list[str]:
    """The PEM blocks, which must all be certificates: RFC 8555 section 11.4 makes anything else a reason to refuse."""
    if not pem.isascii() or "-----BEGIN" not in pem:
        raise ChainError("the CA's chain is not PEM")
    blocks = [BEGIN + rest for rest in pem.split(BEGIN)[1:]]
    if pem.count("-----BEGIN") != len(blocks) or any(END not in block for block in blocks):
        raise ChainError("the CA's chain holds something else than certificates")
    if len(blocks) > LONGEST_CHAIN:
        raise ChainError(f"the CA's chain has {len(blocks)} certificates")
    return blocks


def _new(key_type: str) -> PrivateKey:
    if key_type == "ecdsa-p256":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "ecdsa-p384":
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(65537, int(key_type.removeprefix("rsa-")))


def _pem(private_key: PrivateKey) -> bytes:
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _spki_sha256(public_key: CertificatePublicKeyTypes) -> str:
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _certificate_id(leaf: x509.Certificate) -> str | None:
    try:
        identifier = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, ValueError):
        return None
    return certificate_id(identifier, leaf.serial_number) if identifier else None


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
