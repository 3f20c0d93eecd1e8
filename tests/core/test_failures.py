"""The table of failures, and when each is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certkeeper.core import failures
from certkeeper.core.errors import (
    AuthorityError,
    CertkeeperError,
    ChainError,
    Conflict,
    DnsError,
    DocumentError,
    OutOfTime,
    SealingError,
    SettingsError,
    StoreError,
)
from certkeeper.core.failures import FATAL, OPERATOR, PAUSED, RETRY, TABLE, WAIT, Failure, classify, failed, hint_of

START = datetime(2026, 11, 23, 2, 20, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAGE = "https://portal.test/unpause?jwt=a.b.c"


def from_ca(kind: str = "", retry_after: float | None = None, message: str = "no") -> AuthorityError:
    return AuthorityError(message, kind=kind, status=400, retry_after=retry_after)


OF_THE_CA = {
    "accountDoesNotExist": RETRY,
    "alreadyReplaced": RETRY,
    "alreadyRevoked": RETRY,
    "badCSR": OPERATOR,
    "badNonce": RETRY,
    "badPublicKey": OPERATOR,
    "badRevocationReason": OPERATOR,
    "badSignatureAlgorithm": OPERATOR,
    "caa": OPERATOR,
    "compound": RETRY,
    "conflict": RETRY,
    "connection": RETRY,
    "dns": RETRY,
    "externalAccountRequired": OPERATOR,
    "incorrectResponse": RETRY,
    "invalidContact": OPERATOR,
    "invalidProfile": OPERATOR,
    "malformed": OPERATOR,
    "orderNotReady": RETRY,
    "rateLimited": WAIT,
    "rejectedIdentifier": OPERATOR,
    "serverInternal": RETRY,
    "unauthorized": OPERATOR,
    "unsupportedContact": OPERATOR,
    "unsupportedIdentifier": OPERATOR,
    "userActionRequired": OPERATOR,
}


def test_every_row_of_the_table_is_known_here() -> None:
    assert set(TABLE) == set(OF_THE_CA)


@pytest.mark.parametrize(("kind", "expected"), list(OF_THE_CA.items()))
def test_every_problem_type_has_its_class_and_a_hint(kind: str, expected: str) -> None:
    assert classify(from_ca(kind)) == expected
    assert hint_of(from_ca(kind))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(from_ca("tooNew"), RETRY, id="a problem type that nobody knows"),
        pytest.param(from_ca(), RETRY, id="a CA that sent no problem document"),
        pytest.param(from_ca("serverInternal", 60.0), WAIT, id="anything with a Retry-After"),
        pytest.param(from_ca("rateLimited", None, f"paused, visit {PAGE}"), PAUSED, id="paused with its page"),
        pytest.param(from_ca("rateLimited", 60.0, f"see {PAGE}"), WAIT, id="a limit that names a page and a time"),
        pytest.param(StoreError("no"), RETRY, id="the store"),
        pytest.param(Conflict("no"), RETRY, id="a conflict"),
        pytest.param(OutOfTime("no"), RETRY, id="out of time"),
        pytest.param(DocumentError("no"), OPERATOR, id="a document"),
        pytest.param(SealingError("no"), OPERATOR, id="sealing"),
        pytest.param(DnsError("no"), OPERATOR, id="DNS"),
        pytest.param(ChainError("no"), FATAL, id="a chain"),
        pytest.param(SettingsError("no"), RETRY, id="anything else"),
    ],
)
def test_every_error_has_its_class(error: CertkeeperError, expected: str) -> None:
    assert classify(error) == expected


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        pytest.param(StoreError("no", "wait"), "wait", id="its own"),
        pytest.param(AuthorityError("no", "its own", kind="caa"), "its own", id="its own before the table's"),
        pytest.param(from_ca("rateLimited", None, f"visit {PAGE} now"),
                     f"the CA has paused these names; visit {PAGE}, then: certkeeper renew NAME",
                     id="the page of a pause"),
        pytest.param(from_ca("tooNew"), None, id="none for what nobody knows"),
        pytest.param(StoreError("no"), None, id="none where there is none"),
    ],
)  # fmt: skip
def test_hints(error: CertkeeperError, hint: str | None) -> None:
    assert hint_of(error) == hint


def test_subproblems_name_their_identifiers() -> None:
    blamed = (("a.test", "caa", "CAA forbids"), ("b.test", "dns", "SERVFAIL"))

    assert failures.sentence(AuthorityError("two failed", subproblems=blamed)) == (
        "two failed (a.test: CAA forbids; b.test: SERVFAIL)"
    )


@pytest.mark.parametrize(
    ("kind", "kinds", "expected"),
    [
        pytest.param("compound", ("caa", "caa"), OPERATOR, id="all of one kind"),
        pytest.param("compound", ("caa", "dns"), RETRY, id="of several kinds"),
        pytest.param("serverInternal", ("caa",), RETRY, id="a kind of its own"),
    ],
)
def test_a_compound_problem_is_what_its_parts_are(kind: str, kinds: tuple[str, ...], expected: str) -> None:
    error = AuthorityError("no", kind=kind, subproblems=tuple(("a.test", one, "no") for one in kinds))

    assert classify(error) == expected


@pytest.mark.parametrize(
    ("error", "concerns_all"),
    [
        pytest.param(AuthorityError("busy", status=503, retry_after=60.0), True, id="a CA that is down"),
        pytest.param(AuthorityError("busy", status=503), False, id="down, and it does not say until when"),
        pytest.param(from_ca("rateLimited", 60.0, "too many new orders (300) from this account"), True, id="orders"),
        pytest.param(from_ca("rateLimited", 60.0, "too many certificates (5) for this exact set"), False, id="a set"),
        pytest.param(from_ca("rateLimited", 60.0, "too many failed authorizations (5)"), False, id="failures"),
        pytest.param(StoreError("no"), False, id="the store"),
    ],
)
def test_what_concerns_all_orders(error: CertkeeperError, concerns_all: bool) -> None:
    assert failures.concerns_all(error) is concerns_all


# When.


def after(count: int, error: CertkeeperError, lifetime: timedelta | None = 90 * DAY, urgent: bool = False) -> Failure:
    """The failure at `count` in a row, all at one moment."""
    failure = None
    for _ in range(count):
        failure = failed(failure, error, START, tick=HOUR, lifetime=lifetime, urgent=urgent)
    assert failure is not None
    return failure


@pytest.mark.parametrize(
    ("count", "lifetime", "hours"),
    [
        pytest.param(1, 90 * DAY, 1, id="at the next tick"),
        pytest.param(2, 90 * DAY, 2, id="then doubling"),
        pytest.param(5, 90 * DAY, 16, id="and doubling"),
        pytest.param(6, 90 * DAY, 24, id="up to a day"),
        pytest.param(1000, 90 * DAY, 24, id="and never beyond"),
        pytest.param(6, 45 * DAY, 24, id="45 days: a day"),
        pytest.param(9, 20 * DAY, 12, id="20 days: a fortieth"),
        pytest.param(9, timedelta(hours=160), 4, id="160 hours: a fortieth"),
        pytest.param(9, timedelta(hours=8), 1, id="8 hours: never less than a tick"),
        pytest.param(9, None, 24, id="nothing held: a day"),
    ],
)
def test_pauses_double_up_to_a_cap(count: int, lifetime: timedelta | None, hours: float) -> None:
    failure = after(count, StoreError("no"), lifetime)

    assert failure.next_attempt == START + hours * HOUR - HOUR / 2
    assert (failure.count, failure.not_before) == (count, None)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_what_is_urgent_is_tried_at_every_tick(count: int) -> None:
    assert after(count, StoreError("no"), urgent=True).next_attempt == START + HOUR / 2


@pytest.mark.parametrize(
    ("retry_after", "urgent", "hours"),
    [
        pytest.param(30 * 3600.0, False, 30, id="longer than our own pause"),
        pytest.param(30 * 3600.0, True, 30, id="urgent or not"),
        pytest.param(60.0, False, 0.5, id="shorter than our own pause: ours"),
    ],
)
def test_the_cas_word_always_wins(retry_after: float, urgent: bool, hours: float) -> None:
    failure = after(1, from_ca("rateLimited", retry_after), urgent=urgent)

    assert failure.next_attempt == START + hours * HOUR
    assert failure.not_before == START + timedelta(seconds=retry_after)


def test_a_wait_that_the_ca_asked_for_outlives_the_next_failure_and_no_longer_than_it_lasts() -> None:
    def next_one(before: Failure | None, error: CertkeeperError, at: datetime) -> Failure:
        return failed(before, error, at, tick=HOUR, lifetime=None, urgent=False, ca="https://ca.test")

    first = next_one(None, from_ca("rateLimited", 30 * 3600.0), START)

    assert next_one(first, StoreError("no"), START + HOUR).not_before == START + 30 * HOUR
    assert next_one(first, StoreError("no"), START + 31 * HOUR).not_before is None


def test_what_a_ca_has_paused_has_no_next_attempt_but_a_persons() -> None:
    paused = failed(
        None, from_ca("rateLimited", None, f"visit {PAGE}"), START, tick=HOUR, lifetime=None, urgent=True, ca="a"
    )

    assert paused.next_attempt is None
    assert failures.needs_a_person(paused)
    assert paused.wait_until("a", by_name=False) is None
    assert paused.wait_until("a", by_name=True) == START
    assert failures.from_fields(failures.fields(paused)) == paused


def test_a_row_of_failures_remembers_since_when_and_tells_the_last() -> None:
    first = failed(None, StoreError("one", "a"), START, tick=HOUR, lifetime=None, urgent=False)

    second = failed(first, from_ca("caa"), START + DAY, tick=HOUR, lifetime=None, urgent=False)

    assert (second.count, second.since, second.error, second.kind) == (2, START, "no", "caa")


def test_a_failure_is_read_as_it_was_written() -> None:
    at_a_ca = failed(
        None, from_ca("rateLimited", 60.0), START, tick=HOUR, lifetime=None, urgent=False, ca="https://a/d"
    )
    at_two = failed(at_a_ca, from_ca("caa"), START + HOUR, tick=HOUR, lifetime=None, urgent=False, ca="https://b/d")
    assert [one.ca for one in at_two.troubles] == ["https://a/d", "https://b/d"]
    for failure in (after(3, StoreError("no")), after(1, from_ca("rateLimited", 7200.0)), at_a_ca, at_two):
        assert failures.from_fields(failures.fields(failure)) == failure


DATE = "Mon, 23 Nov 2026 02:20:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"Retry-After": "120"}, 120.0, id="seconds"),
        pytest.param({"Retry-After": " 0 "}, 0.0, id="at once"),
        pytest.param({"Retry-After": "Mon, 23 Nov 2026 03:20:00 GMT", "Date": DATE}, 3600.0, id="a date"),
        pytest.param({"Retry-After": "Mon, 23 Nov 2026 01:20:00 GMT", "Date": DATE}, 0.0, id="a date that has passed"),
        pytest.param({"Retry-After": "Mon, 23 Nov 2026 03:20:00 GMT"}, 3600.0, id="a date, by our own clock"),
        pytest.param({"Retry-After": "Mon, 23 Nov 2028 02:20:00 GMT", "Date": DATE}, 7 * 86400.0, id="years from now"),
        pytest.param({"Retry-After": "9" * 400}, 7 * 86400.0, id="absurd"),
        pytest.param({"Retry-After": "soon"}, None, id="neither"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_both_forms_of_retry_after_are_read(headers: dict[str, str], seconds: float | None) -> None:
    assert failures.retry_after(headers, datetime(2026, 11, 23, 2, 20, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("said", ["604800", "Mon, 30 Nov 2026 02:20:00 GMT"])
def test_an_outage_is_believed_for_a_day_and_a_limit_for_a_week(said: str) -> None:
    headers, now = {"Retry-After": said}, datetime(2026, 11, 23, 2, 20, tzinfo=UTC)

    assert failures.retry_after(headers, now, 503) == failures.retry_after(headers, now, 500) == 86400
    assert failures.retry_after(headers, now, 429) == failures.retry_after(headers, now) == 7 * 86400


@pytest.mark.parametrize("skew", [-7200, 7200])
def test_a_date_is_measured_by_the_answers_own_clock_however_wrong_ours_is(skew: int) -> None:
    ours = datetime(2026, 11, 23, 2, 20, tzinfo=UTC) + timedelta(seconds=skew)

    assert failures.retry_after({"Retry-After": "Mon, 23 Nov 2026 03:20:00 GMT", "Date": DATE}, ours) == 3600
