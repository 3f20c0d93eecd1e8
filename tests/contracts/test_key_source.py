"""The contract of KeySource, held by the fake and by the cryptography library."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certkeeper.adapters.x509 import PrivateKeys
from certkeeper.core.model import KEY_TYPES, CertificateRequest
from certkeeper.core.ports import KeySource
from tests.fakes import CA, WWW, FakeKeys, FakeSealer

SEALER = FakeSealer()


@pytest.fixture(params=["fake", "cryptography"])
def keys(request: pytest.FixtureRequest) -> KeySource:
    return FakeKeys() if request.param == "fake" else PrivateKeys(SEALER)


def test_the_private_key_is_sealed_under_the_certificates_name(keys: KeySource) -> None:
    request = keys.new_request(WWW)

    assert SEALER.open(request.private_key, {"certkeeper-name": "www"})


def test_every_request_has_a_private_key_of_its_own(keys: KeySource) -> None:
    assert keys.new_request(WWW).spki_sha256 != keys.new_request(WWW).spki_sha256


def test_an_account_key_is_sealed_under_the_cas_directory(keys: KeySource) -> None:
    sealed = keys.new_account_key(CA)

    assert SEALER.open(sealed, {"certkeeper-account": CA})


# What the cryptography library makes.


def opened(request: CertificateRequest) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    clear = SEALER.open(request.private_key, {"certkeeper-name": "www"})
    private_key = serialization.load_pem_private_key(clear, None)
    assert isinstance(private_key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey))
    return private_key


def described(private_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    kind = "ecdsa" if isinstance(private_key, ec.EllipticCurvePrivateKey) else "rsa"
    return f"{kind}-{'p' if kind == 'ecdsa' else ''}{private_key.key_size}"


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_every_key_type_is_what_it_is_called_and_fits_into_kms(key_type: str) -> None:
    spec = dataclasses.replace(WWW, key_type=key_type)

    request = PrivateKeys(SEALER).new_request(spec)

    clear = SEALER.open(request.private_key, {"certkeeper-name": "www"})
    csr = x509.load_pem_x509_csr(request.csr_pem.encode())
    assert described(opened(request)) == key_type
    assert clear.startswith(b"-----BEGIN PRIVATE KEY-----") and len(clear) <= 4096
    assert csr.is_signature_valid


def test_the_csr_asks_for_the_identifiers_and_nothing_else() -> None:
    csr = x509.load_pem_x509_csr(PrivateKeys(SEALER).new_request(WWW).csr_pem.encode())

    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(names.get_values_for_type(x509.DNSName)) == WWW.identifiers
    assert len(csr.extensions) == 1
    assert not list(csr.subject)


def test_the_spki_is_that_of_the_private_key() -> None:
    request = PrivateKeys(SEALER).new_request(WWW)

    der = (
        opened(request)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    csr = x509.load_pem_x509_csr(request.csr_pem.encode())
    assert request.spki_sha256 == hashlib.sha256(der).hexdigest()
    assert csr.public_key() == opened(request).public_key()


def test_an_account_key_is_one_that_every_ca_takes() -> None:
    clear = SEALER.open(PrivateKeys(SEALER).new_account_key(CA), {"certkeeper-account": CA})

    private_key = serialization.load_pem_private_key(clear, None)
    assert isinstance(private_key, ec.EllipticCurvePrivateKey) and private_key.key_size == 256
