"""The journal: claims, what is settled, what is worth finishing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from certkeeper.core.errors import Conflict, DocumentError
from certkeeper.core.journal import (
    Claim,
    Entry,
    Journal,
    PendingOrder,
    Read,
    decode,
    encode,
    settled,
    turned_to,
    worth_finishing,
)
from certkeeper.core.model import (
    Account,
    CertificateRequest,
    CertificateSpec,
    FallbackCa,
    GivenUp,
    Revocation,
    Sealed,
    TxtRecord,
)
from tests.fakes import CA, START, WWW, InMemoryRecords
from tests.fakes import FakeClock as Clock

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
URL = "https://ca.test/order/1"
ACCOUNT = Account(CA, Sealed("store", b"account"), "https://ca.test/account/1")
PENDING = PendingOrder(
    request=CertificateRequest("csr", "ab", Sealed("store", b"key")),
    identifiers=WWW.identifiers,
    ca=CA,
    account_url="https://ca.test/account/1",
    key_type=WWW.key_type,
    profile=None,
    placed=START,
    url=URL,
)
MINE = Claim("me", 15 * MINUTE)


@pytest.mark.parametrize(
    ("claim", "age", "holder", "held"),
    [
        pytest.param(None, 0 * MINUTE, "me", False, id="no claim"),
        pytest.param(MINE, 0 * MINUTE, "me", False, id="my own"),
        pytest.param(MINE, 0 * MINUTE, "you", True, id="another's, fresh"),
        pytest.param(MINE, 15 * MINUTE - SECOND, "you", True, id="another's, just before its end"),
        pytest.param(MINE, 15 * MINUTE, "you", False, id="another's, at its end"),
    ],
)
def test_a_claim_holds_others_off_for_its_term(claim: Claim | None, age: timedelta, holder: str, held: bool) -> None:
    assert Read(Entry(claim=claim), "v1", age).held_by_another(holder) is held


@pytest.mark.parametrize(
    ("entry", "closed"),
    [
        pytest.param(Entry(), True, id="empty"),
        pytest.param(Entry(claim=MINE), False, id="claimed"),
        pytest.param(Entry(pending=PENDING), False, id="an order under way"),
        pytest.param(Entry(records=(TxtRecord("Z", "n", "v"),)), True, id="leftovers only"),
    ],
)
def test_an_entry_is_closed_when_nobody_is_at_work_and_nothing_under_way(entry: Entry, closed: bool) -> None:
    assert entry.closed is closed


@pytest.mark.parametrize(
    ("order_url", "done"),
    [
        pytest.param(URL, True, id="its certificate is the stored one"),
        pytest.param("https://ca.test/order/2", False, id="another order's certificate is stored"),
        pytest.param(None, False, id="nothing is stored"),
    ],
)
def test_an_order_whose_certificate_is_stored_is_settled(order_url: str | None, done: bool) -> None:
    leftover = TxtRecord("Z", "n", "v")
    entry = Entry(claim=MINE, pending=PENDING, records=(leftover,))

    assert settled(entry, order_url, START) == (Entry(records=(leftover,)) if done else entry)


def test_what_was_set_aside_for_a_compromised_private_key_is_still_to_be_revoked_when_another_order_is_settled() -> (
    None
):
    revocation = Revocation("01", PENDING.request.spki_sha256, CA, "keyCompromise", "leaf")
    left = replace(PENDING, ca="https://two.test/", url="https://two.test/order", finalized=True)
    new = replace(PENDING, request=replace(PENDING.request, spki_sha256="cd"))

    entry = settled(Entry(pending=new, aside=(left,), revocation=revocation), URL, START)

    assert entry == Entry(revocation=replace(revocation, given_up=(GivenUp(left.ca, left.url),)))


def test_an_entry_without_an_order_is_left_as_it_is() -> None:
    assert settled(Entry(claim=MINE), None, START) == Entry(claim=MINE)


@pytest.mark.parametrize(
    ("spec", "account", "worth"),
    [
        pytest.param(WWW, ACCOUNT, True, id="the same"),
        pytest.param(replace(WWW, identifiers=WWW.identifiers[::-1]), ACCOUNT, True, id="in another order"),
        pytest.param(replace(WWW, hosted_zone_id="Z9"), ACCOUNT, True, id="another way to prove it"),
        pytest.param(replace(WWW, identifiers=("example.com",)), ACCOUNT, False, id="other identifiers"),
        pytest.param(replace(WWW, key_type="rsa-2048"), ACCOUNT, False, id="another key type"),
        pytest.param(replace(WWW, profile="tlsserver"), ACCOUNT, False, id="another profile"),
        pytest.param(replace(WWW, ca="https://other.test"), ACCOUNT, False, id="another CA"),
        pytest.param(WWW, replace(ACCOUNT, url="https://ca.test/account/2"), False, id="another account"),
        pytest.param(WWW, replace(ACCOUNT, url=None), False, id="an account without a URL"),
        pytest.param(WWW, replace(ACCOUNT, ca="https://other.test"), False, id="an account of another CA"),
    ],
)
def test_an_order_is_finished_if_it_gives_what_is_wanted_now(
    spec: CertificateSpec, account: Account, worth: bool
) -> None:
    assert worth_finishing(PENDING, spec, account) is worth


def test_an_entry_is_read_with_its_version_and_age() -> None:
    clock = Clock()
    journal = Journal(InMemoryRecords(clock))
    version = journal.write("www", Entry(claim=MINE), None)
    clock.later(3 * MINUTE)

    assert journal.read("www") == Read(Entry(claim=MINE), version, 3 * MINUTE)
    assert journal.versions() == {"www": version}


def test_no_entry_is_an_empty_one_without_a_version() -> None:
    assert Journal(InMemoryRecords()).read("www") == Read(Entry(), None, timedelta(0))


def test_an_entry_is_written_at_exactly_the_version_that_was_read() -> None:
    journal = Journal(InMemoryRecords())
    first = journal.write("www", Entry(), None)
    journal.write("www", Entry(claim=MINE), first)

    with pytest.raises(Conflict):
        journal.write("www", Entry(), first)


def test_two_writes_of_one_entry_are_told_apart() -> None:
    assert encode(Entry(), "www") != encode(Entry(), "www")


def test_an_entry_of_another_name_is_refused() -> None:
    with pytest.raises(DocumentError, match="another name"):
        decode(encode(Entry(), "www"), "api")


def test_a_clear_key_never_shows_in_what_an_entry_prints() -> None:
    assert "b'key'" not in repr(Entry(pending=PENDING))


def test_the_role_that_leads_to_a_records_account_is_remembered() -> None:
    records = (TxtRecord("Z1", "n", "v"), TxtRecord("Z2", "n", "v", "arn:aws:iam::210987654321:role/dns"))

    assert decode(encode(Entry(records=records), "www"), "www").records == records


def test_of_several_cas_each_keeps_its_own_order_that_may_be_paid_for() -> None:
    cas = ["https://one.test/", "https://two.test/", "https://three.test/"]
    spec = replace(WWW, ca=cas[0], fallbacks=(FallbackCa(cas[1]), FallbackCa(cas[2])))
    one, two, three = (replace(PENDING, ca=ca, url=f"{ca}order", finalized=True) for ca in cas)

    left = replace(turned_to(Entry(pending=one), spec, cas[1]), pending=two)
    all_three = replace(turned_to(left, spec, cas[2]), pending=three)
    back = turned_to(all_three, spec, cas[0])

    assert (all_three.pending, all_three.aside) == (three, (one, two))
    assert (back.pending, back.aside) == (one, (two, three))
    assert turned_to(back, spec, cas[0]) == back
    assert not Entry(aside=(one,)).closed


@pytest.mark.parametrize(
    "pending",
    [PENDING, replace(PENDING, finalized=True, key_type="rsa-2048")],
    ids=["never finalized", "not wanted any more"],
)
def test_what_is_not_paid_for_or_not_wanted_is_not_set_aside(pending: PendingOrder) -> None:
    spec = replace(WWW, fallbacks=(FallbackCa("https://two.test/"),))

    assert turned_to(Entry(pending=pending), spec, "https://two.test/").aside == ()
