"""The certificate that follows, and what must be proven before it is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from certkeeper.core.certificates import Certificates, held, prove, successor
from certkeeper.core.errors import ChainError, Conflict, DocumentError
from certkeeper.core.model import Certificate, CertificateRequest, Chain, Sealed, Validity
from tests.fakes import START, WWW, InMemoryRecords

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
REQUEST = CertificateRequest("csr", "ab", Sealed("store", b"key"))
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
CHAIN = Chain(PEM, WWW.identifiers, "01", "ab", Validity(START, START + 90 * DAY), "CA")


def following(before: Certificate | None, now: datetime, chain: Chain = CHAIN) -> Certificate:
    return successor(before, WWW, chain, REQUEST, "https://ca.test/account/1", "https://ca.test/order/1", now)


FIRST = following(None, START)


# What follows.


def test_the_first_revision_is_the_time_in_seconds() -> None:
    assert FIRST.revision == int(START.timestamp())


@pytest.mark.parametrize(
    ("held_revision", "revision"),
    [
        pytest.param(5, int(START.timestamp()), id="a lower one held: the time"),
        pytest.param(int(START.timestamp()), int(START.timestamp()) + 1, id="two in one second: one more"),
        pytest.param(9_999_999_999, 10_000_000_000, id="a clock that went back: one more"),
    ],
)
def test_a_revision_is_always_higher(held_revision: int, revision: int) -> None:
    assert following(replace(FIRST, revision=held_revision), START).revision == revision


def test_issuances_of_the_last_week_are_remembered() -> None:
    times = [START, START + 2 * DAY, START + 6 * DAY, START + 7 * DAY]
    certificate = None
    for time in times:
        certificate = following(certificate, time)

    assert certificate is not None
    assert certificate.issued == tuple(times[1:])


def test_issuances_for_other_identifiers_are_not_counted() -> None:
    before = replace(FIRST, chain=replace(CHAIN, identifiers=("example.com",)))

    assert following(before, START + DAY).issued == (START + DAY,)


def test_issuances_for_the_same_identifiers_in_another_order_are() -> None:
    before = replace(FIRST, chain=replace(CHAIN, identifiers=WWW.identifiers[::-1]))

    assert following(before, START + DAY).issued == (START, START + DAY)


def test_what_follows_keeps_how_it_came_about() -> None:
    assert (FIRST.ca, FIRST.profile, FIRST.key_type) == (WWW.ca, WWW.profile, WWW.key_type)
    assert (FIRST.account_url, FIRST.order_url) == ("https://ca.test/account/1", "https://ca.test/order/1")
    assert FIRST.request == REQUEST


# The proof.


@pytest.mark.parametrize(
    ("chain", "now"),
    [
        pytest.param(CHAIN, START, id="just issued"),
        pytest.param(replace(CHAIN, identifiers=WWW.identifiers[::-1]), START, id="identifiers in another order"),
        pytest.param(CHAIN, START + 90 * DAY - SECOND, id="a second before its end"),
        pytest.param(CHAIN, START - HOUR, id="our clock is an hour slow"),
    ],
)
def test_a_good_chain_is_kept(chain: Chain, now: datetime) -> None:
    prove(chain, REQUEST, WWW, now)


@pytest.mark.parametrize(
    ("chain", "now", "told"),
    [
        pytest.param(replace(CHAIN, spki_sha256="cd"), START, "another private key", id="another private key"),
        pytest.param(
            replace(CHAIN, identifiers=("example.com",)),
            START,
            "is for example.com, not for *.example.com, example.com",
            id="one identifier less",
        ),
        pytest.param(
            replace(CHAIN, identifiers=(*WWW.identifiers, "evil.test")), START, "evil.test", id="one identifier more"
        ),
        pytest.param(CHAIN, START + 90 * DAY, "not in date", id="at its end"),
        pytest.param(CHAIN, START - HOUR - SECOND, "not in date", id="more than an hour ahead of our clock"),
    ],
)
def test_a_chain_that_must_not_be_kept(chain: Chain, now: datetime, told: str) -> None:
    with pytest.raises(ChainError) as caught:
        prove(chain, REQUEST, WWW, now)

    assert told in caught.value.message
    assert caught.value.hint


# In the store.


def test_a_certificate_is_read_as_it_was_written() -> None:
    certificates = Certificates(InMemoryRecords())

    version = certificates.write(FIRST, None)

    assert certificates.read("www") == (FIRST, version)
    assert certificates.versions() == {"www": version}


def test_a_certificate_is_replaced_at_exactly_the_version_that_was_read() -> None:
    certificates = Certificates(InMemoryRecords())
    first = certificates.write(FIRST, None)
    certificates.write(following(FIRST, START + DAY), first)

    with pytest.raises(Conflict):
        certificates.write(following(FIRST, START + DAY), first)


def test_what_is_not_there_is_none() -> None:
    assert Certificates(InMemoryRecords()).read("www") == (None, None)


def test_what_cannot_be_read_has_a_hint() -> None:
    records = InMemoryRecords()
    records.write("certificates/www", b"garbage", None)

    with pytest.raises(DocumentError) as caught:
        Certificates(records).read("www")

    assert caught.value.hint == "restore an earlier version of the object certificates/www; nothing was ordered"


def test_the_facts_that_decide_hold_nothing_secret() -> None:
    facts = held(FIRST)

    assert facts is not None and facts.validity == CHAIN.validity and facts.order_url == FIRST.order_url
    assert "key" not in [str(value) for value in vars(facts).values()]
    assert held(None) is None
