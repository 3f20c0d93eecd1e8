"""Format 1, for ten years: fixed bytes decode to fixed values, and hostile ones to an error that quotes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from certkeeper.adapters.x509 import Chains
from certkeeper.core import accounts, certificates, journal
from certkeeper.core.document import LARGEST, decode, encode, instant, is_name, parse_object, written
from certkeeper.core.errors import DocumentError
from certkeeper.core.failures import Failure, Trouble
from certkeeper.core.journal import Claim, Entry, PendingOrder
from certkeeper.core.model import (
    Account,
    Certificate,
    CertificateRequest,
    Chain,
    GivenUp,
    Revocation,
    Sealed,
    TxtRecord,
    Validity,
)

GOLDEN = Path(__file__).parent / "golden"
CA = "https://acme-v02.api.letsencrypt.org/directory"
ARN = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ACCOUNT_URL = "https://acme-v02.api.letsencrypt.org/acme/acct/1234567"
ORDER_URL = "https://acme-v02.api.letsencrypt.org/acme/order/1234567/89"
SPKI = "157bfbd0659c1f9a6c21d38610a209543882f24fd7c5336aa31b187541433c1b"
IDENTIFIERS = ("example.com", "*.example.com")
VALIDITY = Validity(datetime(2026, 11, 23, 2, 20, tzinfo=UTC), datetime(2027, 2, 21, 2, 20, tzinfo=UTC))


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def fields_of(data: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(data)
    return fields


CERTIFICATE = fields_of(golden("certificate.json"))
REQUEST = CertificateRequest(CERTIFICATE["csr_pem"], SPKI, Sealed("kms", b"sealed by KMS: not a key", ARN))
HELD = Certificate(
    name="example.com",
    revision=1795400467,
    chain=Chain(
        pem=CERTIFICATE["fullchain_pem"],
        identifiers=IDENTIFIERS,
        serial_number="4a1b2c3d4e5f60718293a4b5c6d7e8f901",
        spki_sha256=SPKI,
        validity=VALIDITY,
        issuer="Golden E1",
        certificate_id="Z-Sbq1sWEmDn9mVatnHTP84wbeU.ShssPU5fYHGCk6S1xtfo-QE",
    ),
    request=REQUEST,
    ca=CA,
    account_url=ACCOUNT_URL,
    profile="tlsserver",
    key_type="ecdsa-p256",
    order_url=ORDER_URL,
    issued=(datetime(2026, 11, 20, 11, 0, tzinfo=UTC), datetime(2026, 11, 23, 2, 21, 7, tzinfo=UTC)),
)
OPEN = Entry(
    claim=Claim("0123456789abcdef", timedelta(minutes=16)),
    pending=PendingOrder(
        request=REQUEST,
        identifiers=IDENTIFIERS,
        ca=CA,
        account_url=ACCOUNT_URL,
        key_type="ecdsa-p256",
        profile="tlsserver",
        placed=datetime(2026, 11, 23, 2, 20, 31, tzinfo=UTC),
        url=ORDER_URL,
    ),
    records=(
        TxtRecord("Z0123456789ABC", "_acme-challenge.example.com", "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"),
    ),
    failure=Failure(
        count=3,
        since=datetime(2026, 11, 22, 22, 20, tzinfo=UTC),
        error="example.com: no TXT record",
        hint="does the zone answer?",
        kind="incorrectResponse",
        next_attempt=datetime(2026, 11, 23, 5, 50, tzinfo=UTC),
        not_before=datetime(2026, 11, 23, 3, 0, tzinfo=UTC),
    ),
)
PINNED = replace(HELD, pinned_since=datetime(2026, 11, 25, 8, 0, tzinfo=UTC))
LEAF = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
REVOKING = Entry(forgotten=True, revocation=Revocation("4a1b", "00", CA, "keyCompromise", LEAF))
TROUBLE = Trouble(
    CA,
    "rateLimited",
    since=datetime(2026, 11, 22, 22, 20, tzinfo=UTC),
    last=datetime(2026, 11, 23, 2, 20, tzinfo=UTC),
    not_before=datetime(2026, 11, 24, 8, 20, tzinfo=UTC),
)
assert OPEN.pending is not None
REMEMBERING = Entry(
    asked_to_wait=(TROUBLE,),
    rolled_back_to="4a1b",
    kept_in="secretsmanager:prod",
    aside=(replace(OPEN.pending, finalized=True),),
    revocation=Revocation(
        "4a1b", "00", CA, "keyCompromise", LEAF, asked=True, given_up=(GivenUp(CA, ORDER_URL), GivenUp(CA, "u", "c"))
    ),
)
MISSING = Entry(
    pending=replace(OPEN.pending, finalized=True, missed_since=TROUBLE.since),
    revocation=Revocation(
        "4a1b", "00", CA, "keyCompromise", LEAF, given_up=(GivenUp(CA, ORDER_URL, missed_since=TROUBLE.last),)
    ),
)
ACCOUNT = Account(CA, Sealed("kms", b"sealed account key", ARN), ACCOUNT_URL)


# Golden files. Never change one: add another.


def test_a_certificate_of_today_is_read_for_ten_years() -> None:
    assert certificates.decode(golden("certificate.json"), "example.com") == HELD


def test_a_certificate_with_nothing_but_what_is_required_is_read() -> None:
    least = certificates.decode(golden("certificate-least.json"), "example.com")

    assert (least.account_url, least.profile, least.key_type, least.order_url) == (None, None, None, None)
    assert (least.chain.issuer, least.chain.certificate_id) == ("", None)
    assert least.request.private_key == Sealed("store", b"sealed by KMS: not a key")
    assert least.chain.validity == VALIDITY


def test_what_the_document_says_of_the_chain_is_what_the_chain_says() -> None:
    read = Chains().read(CERTIFICATE["fullchain_pem"])

    assert replace(read, top_issuer="") == HELD.chain  # which is not stored


def test_an_open_journal_entry_of_today_is_read_for_ten_years() -> None:
    assert journal.decode(golden("journal-open.json"), "example.com") == OPEN


def test_a_closed_journal_entry_of_today_is_read_for_ten_years() -> None:
    assert journal.decode(golden("journal-closed.json"), "example.com") == Entry()


def test_a_pinned_certificate_of_today_is_read_for_ten_years() -> None:
    assert certificates.decode(golden("certificate-pinned.json"), "example.com") == PINNED


def test_a_journal_entry_of_today_with_something_to_revoke_is_read_for_ten_years() -> None:
    assert journal.decode(golden("journal-revoking.json"), "example.com") == REVOKING


def test_a_journal_entry_of_today_that_remembers_what_is_over_is_read_for_ten_years() -> None:
    assert journal.decode(golden("journal-remembering.json"), "example.com") == REMEMBERING


def test_a_journal_entry_of_today_that_tells_what_the_ca_does_not_find_is_read_for_ten_years() -> None:
    assert journal.decode(golden("journal-missing.json"), "example.com") == MISSING


def test_an_account_of_today_is_read_for_ten_years() -> None:
    assert accounts.decode(golden("account.json"), CA) == ACCOUNT


@pytest.mark.parametrize(
    ("name", "again"),
    [
        pytest.param("certificate.json", lambda: certificates.encode(HELD), id="certificate"),
        pytest.param("journal-open.json", lambda: journal.encode(OPEN, "example.com"), id="open journal"),
        pytest.param("journal-closed.json", lambda: journal.encode(Entry(), "example.com"), id="closed journal"),
        pytest.param("certificate-pinned.json", lambda: certificates.encode(PINNED), id="pinned certificate"),
        pytest.param("journal-revoking.json", lambda: journal.encode(REVOKING, "example.com"), id="revoking journal"),
        pytest.param(
            "journal-remembering.json", lambda: journal.encode(REMEMBERING, "example.com"), id="remembering journal"
        ),
        pytest.param("journal-missing.json", lambda: journal.encode(MISSING, "example.com"), id="missing journal"),
        pytest.param("account.json", lambda: accounts.encode(ACCOUNT), id="account"),
    ],
)
def test_what_is_written_today_has_every_golden_field_and_a_write_id_of_its_own(
    name: str, again: Callable[[], bytes]
) -> None:
    fields, expected = fields_of(again()), fields_of(golden(name))

    assert fields.pop("write_id") != expected.pop("write_id")
    assert {field: fields[field] for field in expected} == expected
    assert not any(fields[field] for field in set(fields) - set(expected))


def test_two_writes_of_one_value_are_told_apart() -> None:
    assert certificates.encode(HELD) != certificates.encode(HELD)


def test_the_same_fields_always_give_the_same_bytes() -> None:
    assert encode(dict(reversed(CERTIFICATE.items()))) == encode(CERTIFICATE) == golden("certificate.json")


def test_unknown_fields_are_left_out() -> None:
    assert "a_field_of_2031" not in decode(golden("certificate-least.json"))


# Hostile documents.

GONE = object()
HOSTILE = [
    pytest.param("format", 2, "a newer certkeeper", id="a format of the future"),
    pytest.param("format", True, "format is True", id="a format that equals 1"),
    pytest.param("format", "1", "format is '1'", id="a format as text"),
    pytest.param("format", GONE, "format is None", id="no format"),
    pytest.param("name", "api.example.com", "not of example.com", id="another name"),
    pytest.param("name", "../example.com", "not a certificate's name", id="a name that leads elsewhere"),
    pytest.param("name", "", "not a certificate's name", id="an empty name"),
    pytest.param("revision", 0, "revision", id="revision zero"),
    pytest.param("revision", -1, "revision", id="a negative revision"),
    pytest.param("revision", True, "revision", id="a revision that is true"),
    pytest.param("revision", 1.5, "revision", id="a broken revision"),
    pytest.param("write_id", None, "write_id", id="no write id"),
    pytest.param("identifiers", [], "identifiers", id="no identifiers"),
    pytest.param("identifiers", "example.com", "identifiers", id="identifiers as text"),
    pytest.param("identifiers", [1], "identifiers", id="an identifier that is a number"),
    pytest.param("identifiers", [""], "identifiers", id="an empty identifier"),
    pytest.param("identifiers", ["x" * 256], "identifiers", id="an endless identifier"),
    pytest.param("identifiers", ["exämple.com"], "identifiers", id="an identifier beyond ASCII"),
    pytest.param("serial_number", "XY", "serial_number", id="a serial number in other letters"),
    pytest.param("serial_number", "AB", "serial_number", id="a serial number in upper case"),
    pytest.param("serial_number", "a" * 65, "serial_number", id="an endless serial number"),
    pytest.param("serial_number", "", "serial_number", id="an empty serial number"),
    pytest.param("serial_number", "../../etc", "serial_number", id="a serial number that leads elsewhere"),
    pytest.param("spki_sha256", "g" * 64, "spki_sha256", id="a digest in other letters"),
    pytest.param("not_before", "2027-02-21T02:20:00Z", "not after", id="a validity of no length"),
    pytest.param("not_after", "2026-11-22T02:20:00Z", "not after", id="a validity that ends before it begins"),
    pytest.param("not_after", "tomorrow", "not an instant", id="an end that is no instant"),
    pytest.param("not_after", 1795400467, "not_after", id="an end as a number"),
    pytest.param("issued", ["yesterday"], "not an instant", id="an issuance that is no instant"),
    pytest.param("issued", [7], "not an instant", id="an issuance that is a number"),
    pytest.param("issued", GONE, "issued", id="no issuances"),
    pytest.param("sealing", "rot13", "neither kms nor store", id="a sealing of no kind"),
    pytest.param("kms_key_arn", None, "by which key", id="sealed by an unnamed key"),
    pytest.param("kms_key_arn", 7, "kms_key_arn", id="a key that is a number"),
    pytest.param("sealed_private_key", "", "sealed_private_key", id="no private key"),
    pytest.param("sealed_private_key", "-----BEGIN PRIVATE KEY-----", "sealed_private_key", id="a clear private key"),
    pytest.param("sealed_private_key", "a" * 16385, "sealed_private_key", id="an endless private key"),
    pytest.param("fullchain_pem", "", "chain", id="no chain"),
    pytest.param("fullchain_pem", "x", "chain", id="a chain without PEM"),
    pytest.param("fullchain_pem", "-----BEGIN PRIVATE KEY-----\nx\n", "chain", id="a private key as the chain"),
    pytest.param("fullchain_pem", "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----", "chain",
                 id="a private key in the chain"),
    pytest.param("fullchain_pem", "-----BEGIN CERTIFICATE----- -----BEGIN PRIVATE KEY-----", "chain",
                 id="a private key in a line of the chain"),
    pytest.param("fullchain_pem", "-----BEGIN CERTIFICATE-----\né", "chain", id="a chain beyond ASCII"),
    pytest.param("csr_pem", None, "csr_pem", id="no CSR"),
    pytest.param("profile", 7, "profile", id="a profile that is a number"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "told"), HOSTILE)
def test_a_hostile_field_is_refused(field: str, value: object, told: str) -> None:
    fields = {**CERTIFICATE, field: value}
    if value is GONE:
        del fields[field]

    with pytest.raises(DocumentError) as caught:
        decode(json.dumps(fields).encode(), "example.com")

    assert told in f"{caught.value.message} {caught.value.hint}"
    assert len(caught.value.message) < 200


def test_a_document_that_would_not_be_read_is_not_written() -> None:
    with pytest.raises(DocumentError):
        encode({**CERTIFICATE, "revision": 0})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"secret", id="no JSON"),
        pytest.param(b'{"secret": ', id="half JSON"),
        pytest.param(b"\xff\xfesecret", id="not UTF-8"),
        pytest.param('{"secret": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'["secret"]', id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"a":' * 40_000 + b'"secret"', id="a deep one"),
        pytest.param(b'{"secret": "' + b"x" * LARGEST + b'"}', id="a large one"),
        pytest.param(b'{"secret": ' + b"9" * 5000 + b"}", id="an endless number"),
    ],
)
def test_bytes_that_are_no_object_are_refused_and_not_quoted(data: bytes) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_object(data)

    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_private_key_that_is_no_base64_is_told() -> None:
    fields = {**CERTIFICATE, "sealed_private_key": "A=A="}

    with pytest.raises(DocumentError, match="base64"):
        certificates.decode(json.dumps(fields).encode(), "example.com")


# Instants and names.


@pytest.mark.parametrize("text", ["2026-11-23T02:20:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_an_instant_is_written_as_it_was_read(text: str) -> None:
    assert written(instant(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-11-23 02:20:00Z", id="a space"),
        pytest.param("2026-11-23T02:20:00", id="no zone"),
        pytest.param("2026-11-23T02:20:00z", id="a small z"),
        pytest.param("2026-11-23T02:20:00+00:00", id="an offset"),
        pytest.param("2026-11-23T02:20:00.5Z", id="a fraction"),
        pytest.param("2026-13-23T02:20:00Z", id="month thirteen"),
        pytest.param("2026-02-29T02:20:00Z", id="a day that was not"),
        pytest.param("2026-11-23T24:20:00Z", id="hour twenty-four"),
        pytest.param("0000-11-23T02:20:00Z", id="year zero"),
        pytest.param("+026-11-23T02:20:00Z", id="a sign"),
        pytest.param("2026-11- 3T02:20:00Z", id="a blank for a digit"),
        pytest.param("2_26-11-23T02:20:00Z", id="an underscore"),
        pytest.param("٢٠٢٦-11-23T02:20:00Z", id="digits of another script"),
        pytest.param("", id="nothing"),
        pytest.param(None, id="null"),
        pytest.param(20261123, id="a number"),
    ],
)
def test_what_is_no_instant_is_refused(text: object) -> None:
    with pytest.raises(DocumentError, match="not an instant"):
        instant(text)


def test_any_zone_is_written_in_utc() -> None:
    tokyo = datetime(2026, 11, 23, 11, 20, tzinfo=timezone(timedelta(hours=9)))

    assert written(tokyo) == "2026-11-23T02:20:00Z"


def test_a_naive_moment_is_not_written() -> None:
    with pytest.raises(ValueError, match="naive"):
        written(datetime(2026, 11, 23))  # noqa: DTZ001 - what must be refused


@pytest.mark.parametrize("name", ["a", "www", "example.com", "a_b-c.d", "0" * 64])
def test_what_can_be_a_name(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "0" * 65, ".a", "-a", "_a", "A", "a b", "a/b", "é", "*.a", "a\n", None, 7])
def test_what_cannot_be_a_name(name: object) -> None:
    assert not is_name(name)
