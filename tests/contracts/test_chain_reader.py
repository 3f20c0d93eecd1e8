"""The contract of ChainReader, held by the fake and by the cryptography library."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certkeeper.adapters.x509 import Chains
from certkeeper.core.errors import ChainError
from certkeeper.core.ports import ChainReader
from tests.fakes import START, FakeChains, fake_pem

NAMES = ("example.com", "*.example.com")


@dataclass(frozen=True)
class Made:
    """A chain of real certificates: its blocks, leaf first without the root, and the root."""

    leaf: x509.Certificate
    blocks: tuple[str, ...]
    root: str
    private_key: str

    @property
    def pem(self) -> str:
        return "".join(self.blocks)


@pytest.fixture(scope="module")
def made() -> Made:
    root = trustme.CA(organization_name="Root")
    lower = root.create_child_ca().create_child_ca()
    issued = lower.issue_cert(*NAMES)
    blocks = tuple(block.bytes().decode() for block in issued.cert_chain_pems)
    return Made(
        x509.load_pem_x509_certificate(blocks[0].encode()),
        blocks,
        root.cert_pem.bytes().decode(),
        issued.private_key_pem.bytes().decode(),
    )


def fake_chain() -> str:
    later = START + timedelta(days=90)
    return fake_pem({"identifiers": list(NAMES), "serial_number": "01", "spki": "ab", "from": START.isoformat(),
                     "to": later.isoformat()})  # fmt: skip


@pytest.mark.parametrize("kind", ["fake", "cryptography"])
def test_a_chain_says_what_its_leaf_says_and_stays_as_it_is(kind: str, made: Made) -> None:
    reader: ChainReader = FakeChains() if kind == "fake" else Chains()
    pem = fake_chain() if kind == "fake" else made.pem

    chain = reader.read(pem)

    assert chain.pem == pem
    assert set(chain.identifiers) == set(NAMES)
    assert chain.validity.not_before.utcoffset() == timedelta(0)
    assert int(chain.serial_number, 16) > 0 and chain.serial_number == chain.serial_number.lower()


@pytest.mark.parametrize("reader", [FakeChains(), Chains()], ids=["fake", "cryptography"])
@pytest.mark.parametrize("pem", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_what_is_no_chain_is_refused(reader: ChainReader, pem: str) -> None:
    with pytest.raises(ChainError):
        reader.read(pem)


# What the cryptography library reads.


def test_a_real_leaf_is_read_in_full(made: Made) -> None:
    chain = Chains().read(made.pem)

    spki = made.leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert len(made.blocks) == 3
    assert chain.serial_number == f"{made.leaf.serial_number:x}"
    assert chain.spki_sha256 == hashlib.sha256(spki).hexdigest()
    assert chain.validity.not_after == made.leaf.not_valid_after_utc
    assert chain.issuer


def test_chains_of_one_to_four_certificates_are_read(made: Made) -> None:
    chains = [made.blocks[0], made.blocks[0] + made.blocks[1], made.pem, made.pem + made.root]

    serials = {Chains().read(chain).serial_number for chain in chains}

    assert serials == {f"{made.leaf.serial_number:x}"}


def test_text_between_the_blocks_is_no_harm(made: Made) -> None:
    commented = "subject=example.com\n" + made.blocks[0] + "\r\nissuer=Lowest\r\n\r\n" + made.blocks[1]

    assert Chains().read(commented).identifiers


def altered(block: str, old: str, new: str) -> str:
    """A certificate with bytes of its DER exchanged, in hexadecimal; its signature is not looked at before them."""
    der = ssl.PEM_cert_to_DER_cert(block)
    assert bytes.fromhex(old) in der
    return ssl.DER_cert_to_PEM_cert(der.replace(bytes.fromhex(old), bytes.fromhex(new)))


HOSTILE: dict[str, Callable[[Made], str]] = {
    "a private key among the certificates": lambda made: made.pem + made.private_key,
    "a private key before the certificates": lambda made: made.private_key + made.pem,
    "certificates in the wrong order": lambda made: made.blocks[1] + made.blocks[0],
    "a gap in the chain": lambda made: made.blocks[0] + made.blocks[2],
    "the leaf twice": lambda made: made.blocks[0] * 2,
    "a block that was cut off": lambda made: made.pem[:-30],
    "a block without its end": lambda made: made.pem.replace("-----END CERTIFICATE-----", "", 1),
    "a damaged block": lambda made: made.pem.replace(made.blocks[1][80:90], "AAAAAAAAAA", 1),
    "another label": lambda made: made.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
    "a CSR": lambda made: made.pem.replace("CERTIFICATE", "CERTIFICATE REQUEST"),
    "a CA's certificate only": lambda made: made.root,
    "a stranger's issuer": lambda made: made.blocks[0] + trustme.CA().cert_pem.bytes().decode(),
    "eleven certificates": lambda made: made.blocks[0] + made.root * 10,
    "letters beyond ASCII": lambda made: "\u00e9" + made.pem,
    "a version that there is not": lambda made: altered(made.blocks[0], "a003020102", "a003020106") + made.blocks[1],
    "a public key of no known kind": lambda made: altered(made.blocks[0], "06072a8648ce3d0201", "06072a8648ce3d0209"),
    "an extension twice": lambda made: altered(made.blocks[0], "0603551d0f", "0603551d11"),
    "HTML": lambda made: "<html>502 Bad Gateway</html>",
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_a_hostile_chain_is_refused_without_being_quoted(made: Made, what: str) -> None:
    pem = HOSTILE[what](made)

    with pytest.raises(ChainError) as caught:
        Chains().read(pem)

    assert "-----" not in caught.value.message
    assert len(caught.value.message) < 100


def test_an_issuer_without_a_common_name_is_told_all_the_same() -> None:
    private_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Nameless")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, private_key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.com")]), critical=False)
        .sign(private_key, hashes.SHA256())
    )

    chain = Chains().read(certificate.public_bytes(serialization.Encoding.PEM).decode())

    assert chain.issuer == "O=Nameless"
    assert chain.certificate_id is None  # without an authority key identifier the CA can suggest nothing for it
