"""The index: a cache that may be stale, old or garbage, and is never believed then."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certkeeper.core import ari, index
from certkeeper.core.budget import EXACT_SET, Hold, Limit, Limits, by_certificate
from certkeeper.core.decision import Ask, Held, Keep, due_at_the_earliest, due_time, overdue
from certkeeper.core.errors import DocumentError, StoreError
from certkeeper.core.failures import Failure, Trouble
from certkeeper.core.index import Facts, Index, is_idle, ledger_of, nothing_to_do
from certkeeper.core.model import CertificateSpec, FallbackCa, Validity
from tests.fakes import CA, START, WWW, FaultyRecords, InMemoryRecords

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LIMITS = {CA: Limits(exact_set=Limit(5, 7 * DAY))}
GOLDEN = Path(__file__).parent / "golden" / "index.json"
HELD = Held(
    identifiers=WWW.identifiers,
    key_type="ecdsa-p256",
    profile=None,
    ca=CA,
    validity=Validity(START, START + 90 * DAY),
    serial_number="4a1b",
    issuer="Golden E1",
    order_url="https://ca.test/order/1",
    certificate_id="Z-Sbq1sWEmDn9mVatnHTP84wbeU.Shss",
    information=ari.Window(START + 58 * DAY, START + 60 * DAY, START + 6 * HOUR, "https://ca.test/why"),
)
FAILURE = Failure(2, START, "it failed", "mend it", "dns", START + 2 * HOUR, START + HOUR)
FULL = Index(
    START,
    {
        "api": Facts(journal_version='"v7"', failure=FAILURE, open=True),
        "old": Facts(unreadable="the document is not JSON in UTF-8"),
        "www": Facts('"v1"', '"v2"', HELD, None, account_url="https://ca.test/account/1", issued=(START, START + HOUR)),
    },
)


def test_an_index_of_today_is_read_tomorrow() -> None:
    assert index.decode(GOLDEN.read_bytes()) == FULL


def test_an_index_is_read_as_it_was_written() -> None:
    assert index.decode(index.encode(FULL)) == FULL
    assert index.decode(index.encode(Index())) == Index()


def test_a_ca_that_was_silent_is_remembered() -> None:
    facts = Facts(held=replace(HELD, information=ari.Silence(START + HOUR)))

    assert index.decode(index.encode(Index(START, {"www": facts}))).facts["www"] == facts


def test_two_thousand_names_are_not_too_large() -> None:
    large = Index(START, {f"n{number}": FULL.facts["www"] for number in range(2_000)})

    assert len(index.decode(index.encode(large)).facts) == 2_000


FIELDS = json.loads(index.encode(FULL))


def changed(**fields: Any) -> bytes:
    return json.dumps({**FIELDS, **fields}).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"[" * 100_000, id="a deep one"),
        pytest.param(changed(format=2), id="a format of the future"),
        pytest.param(changed(as_of="yesterday"), id="no instant"),
        pytest.param(changed(names=None), id="no names"),
        pytest.param(changed(names=["www"]), id="names in a list"),
        pytest.param(changed(names={"www": {}}), id="facts without fields"),
        pytest.param(changed(names={"www": {**FIELDS["names"]["www"], "held": {"identifiers": []}}}), id="half held"),
        pytest.param(changed(names={"www": {**FIELDS["names"]["www"], "issued": ["x"]}}), id="issued, but when"),
        pytest.param(
            changed(names={"www": {**FIELDS["names"]["api"], "failure": {**FIELDS["names"]["api"]["failure"],
                                                                         "count": float("inf")}}}),
            id="endless failures",
        ),
        pytest.param(
            changed(names={"www": {**FIELDS["names"]["www"], "held": {**FIELDS["names"]["www"]["held"],
                                                                     "not_after": "2020-01-01T00:00:00Z"}}}),
            id="a validity that ends before it begins",
        ),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_decoded_is_an_empty_one(data: bytes) -> None:
    records = InMemoryRecords()
    version = records.write(index.PATH, data, None)

    with pytest.raises(DocumentError):
        index.decode(data)
    assert index.read(records) == (Index(), version)


def test_an_index_that_is_not_there_is_an_empty_one() -> None:
    assert index.read(InMemoryRecords()) == (Index(), None)


def test_an_index_that_the_store_cannot_give_is_not_an_empty_one() -> None:
    with pytest.raises(StoreError):
        index.read(FaultyRecords(InMemoryRecords(), unreadable={index.PATH}))


WAITING = Facts("v1", "v2", HELD, replace(FAILURE, next_attempt=START + 70 * DAY, not_before=None))


@pytest.mark.parametrize(
    ("facts", "now", "ask", "worth"),
    [
        pytest.param(None, START, Ask(), True, id="never seen"),
        pytest.param(FULL.facts["www"], START, Ask(), False, id="not due"),
        pytest.param(FULL.facts["www"], START + 61 * DAY, Ask(), True, id="due"),
        pytest.param(FULL.facts["www"], START, Ask(by_name=True), False, id="not due, by name"),
        pytest.param(FULL.facts["www"], START, Ask(force=True), True, id="not due, by force"),
        pytest.param(replace(FULL.facts["www"], open=True), START, Ask(), True, id="not due, but open"),
        pytest.param(Facts(unreadable="?"), START, Ask(), True, id="unreadable"),
        pytest.param(WAITING, START + 61 * DAY, Ask(), False, id="due, but paused"),
        pytest.param(WAITING, START + 61 * DAY, Ask(by_name=True), True, id="due and paused, by name"),
        pytest.param(WAITING, START, Ask(), True, id="not due, but with a failure to be forgotten"),
    ],
)
def test_what_is_worth_a_look(facts: Facts | None, now: Any, ask: Ask, worth: bool) -> None:
    assert (nothing_to_do(WWW, facts, now, ask) is None) is worth


def test_issuances_are_counted_by_identifiers_under_whatever_name() -> None:
    twin = replace(FULL.facts["www"], held=replace(HELD, identifiers=HELD.identifiers[::-1]), issued=(START + HOUR,))
    gone = Facts(journal_version="v1", spent=by_certificate(CA, WWW.identifiers, (), "order 1", START + HOUR))

    ledger = ledger_of(replace(FULL, facts={**FULL.facts, "twin": twin, "gone": gone}), LIMITS)

    assert [(one.limit, one.whole) for one in ledger.budgets(WWW, START + HOUR)] == [(EXACT_SET, 1)]


def test_a_ca_that_has_asked_one_name_to_leave_it_alone_is_left_alone_by_all() -> None:
    told = Trouble(CA, "", START, START, START + HOUR, for_all_since=START)
    asked = replace(FULL, facts={"api": Facts(failure=replace(FAILURE, troubles=(told,)))})

    assert ledger_of(asked, {}).held_off(CA, START) == Hold(START + HOUR, "the CA wants all orders to wait: it failed")
    assert ledger_of(FULL, {}).held_off(CA, START) is None


def test_facts_that_have_not_changed_are_written_as_they_were_read() -> None:
    awkward = Facts("c2", "j2", unreadable='", "names": {')
    text = index.encode(Index(START, {"www": Facts("c1", "j1"), "api": awkward}))
    read = index.decode(text)

    again = index.encode(replace(read, as_of=START + HOUR))
    changed = index.encode(replace(read, facts={**read.facts, "www": Facts("c3", "j1")}))

    assert again.partition(index.NAMES)[2] == text.partition(index.NAMES)[2]
    assert (index.decode(again).facts, index.decode(again).as_of) == (read.facts, START + HOUR)
    assert index.decode(changed).facts == {"www": Facts("c3", "j1"), "api": awkward}


def any_name(rng: random.Random) -> tuple[CertificateSpec, Facts]:
    """Wanted and held as they mostly are, with one or the other thing out of the usual."""

    spec = replace(
        WWW,
        identifiers=rng.choice([WWW.identifiers, WWW.identifiers[::-1], ("api.test",)]),
        profile=rng.choice([None, None, None, "tlsserver"]),
        fallbacks=rng.choice([(), (FallbackCa("https://other.test/directory", "tlsserver"),)]),
        sealing=rng.choice(["kms", "kms", "store"]),
    )
    begin = START + rng.uniform(-3, 3) * DAY
    validity = Validity(begin, begin + rng.choice([timedelta(hours=160), 45 * DAY, 90 * DAY]))
    start = begin + validity.lifetime * rng.uniform(-0.1, 1.1)
    window = ari.Window(start, start + rng.choice([timedelta(0), HOUR, 2 * DAY]), START + HOUR)
    held = Held(
        identifiers=WWW.identifiers,
        key_type=rng.choice(["ecdsa-p256", "ecdsa-p256", None, "rsa-2048"]),
        profile=rng.choice([None, None, "tlsserver"]),
        ca=rng.choice([CA, CA, CA, "https://other.test/directory", "https://acme-staging.test/directory"]),
        validity=validity,
        serial_number=f"{rng.randrange(2**64):x}",
        issuer="E1",
        order_url=None,
        certificate_id="x.y",
        information=rng.choice([window, window, None, ari.Silence(START)]),
        sealing=rng.choice([None, "kms"]),
        pinned_since=rng.choice([None, None, None, START]),
        revoking=rng.choice([None, None, None, "superseded"]),
    )
    facts = Facts(
        "v1",
        "v2",
        rng.choice([held, held, held, held, None]),
        rng.choice([None, None, None, FAILURE]),
        open=rng.random() < 0.1,
        unreadable=rng.choice([None, None, None, None, "?"]),
    )
    return spec, facts


def test_what_is_told_to_be_idle_at_a_glance_is_kept_by_the_whole_decision() -> None:
    rng = random.Random(5)
    idle, kept = 0, 0

    for _ in range(20_000):
        spec, facts = any_name(rng)
        now = START + rng.uniform(0, 100) * DAY
        ask = Ask(by_name=rng.random() < 0.2, force=rng.random() < 0.1)
        decision = nothing_to_do(spec, facts, now, ask)
        kept += isinstance(decision, Keep)
        if is_idle(spec, facts, now, ask):
            idle += 1
            assert facts.held is not None
            assert decision == Keep(due_time(facts.held))
        if facts.held is not None:
            due, end = due_time(facts.held), facts.held.validity.not_after
            assert due_at_the_earliest(facts.held) <= due
            assert overdue(facts.held, now) is (now >= due + (end - due) / 2)

    assert 100 < idle < kept
