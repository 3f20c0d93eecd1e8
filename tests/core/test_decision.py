"""Whether to renew: edges, for lifetimes of 90 days, 45 days and 160 hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certkeeper.core.budget import Ledger, by_certificate
from certkeeper.core.decision import Ask, Held, Keep, Pause, Renew, decide, is_charged, is_staging, renewal_time, state
from certkeeper.core.failures import Failure
from certkeeper.core.model import CertificateSpec, Validity

START = datetime(2026, 11, 23, 2, 20, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECOND = timedelta(seconds=1)
REAL, STAGING = "https://ca.test/directory", "https://acme-staging-v02.ca.test/directory"
SPEC = CertificateSpec("www", ("example.com", "*.example.com"), REAL)


def held(lifetime: timedelta = 90 * DAY) -> Held:
    return Held(SPEC.identifiers, "ecdsa-p256", None, REAL, Validity(START, START + lifetime), "01", "CA", None)


def failure(next_attempt: datetime, not_before: datetime | None = None) -> Failure:
    return Failure(1, START, "it failed", "mend it", "", next_attempt, not_before)


# By time.

LIFETIMES = [
    pytest.param(90 * DAY, 60 * DAY, id="90 days: two thirds"),
    pytest.param(45 * DAY, 30 * DAY, id="45 days: two thirds"),
    pytest.param(10 * DAY, 20 * DAY / 3, id="ten days: two thirds"),
    pytest.param(10 * DAY - SECOND, (10 * DAY - SECOND) / 2, id="a second less than ten days: half"),
    pytest.param(160 * HOUR, 80 * HOUR, id="160 hours: half"),
    pytest.param(HOUR, HOUR / 2, id="an hour: half"),
]


@pytest.mark.parametrize(("lifetime", "after"), LIFETIMES)
def test_a_certificate_is_due_at_its_renewal_time_and_not_before(lifetime: timedelta, after: timedelta) -> None:
    due = START + after

    assert renewal_time(held(lifetime).validity) == due
    assert decide(SPEC, held(lifetime), None, due - SECOND) == Keep(until=due)
    assert decide(SPEC, held(lifetime), None, due) == Renew(f"due since {due:%Y-%m-%d %H:%M}Z")
    assert isinstance(decide(SPEC, held(lifetime), None, due + SECOND), Renew)


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        pytest.param(90 * DAY - SECOND, "due since 2027-01-22 02:20Z", id="a second before its end"),
        pytest.param(90 * DAY, "expired since 2027-02-21 02:20Z", id="at its end"),
        pytest.param(900 * DAY, "expired since 2027-02-21 02:20Z", id="long after its end"),
    ],
)
def test_what_has_expired_says_so(later: timedelta, reason: str) -> None:
    assert decide(SPEC, held(), None, START + later) == Renew(reason)


def test_what_is_not_held_is_due() -> None:
    assert decide(SPEC, None, None, START) == Renew("not issued yet")


# By what is wanted.


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        pytest.param(replace(SPEC, identifiers=("example.com",)), "identifiers changed", id="one less"),
        pytest.param(replace(SPEC, identifiers=(*SPEC.identifiers, "a.b")), "identifiers changed", id="one more"),
        pytest.param(replace(SPEC, identifiers=SPEC.identifiers[::-1]), None, id="another order is no change"),
        pytest.param(
            replace(SPEC, key_type="rsa-2048"), "key type changed from ecdsa-p256 to rsa-2048", id="another key type"
        ),
        pytest.param(replace(SPEC, profile="shortlived"), "profile changed from none to shortlived", id="a profile"),
        pytest.param(replace(SPEC, ca="https://other.test/directory"), "the CA changed", id="another CA"),
        pytest.param(replace(SPEC, hosted_zone_id="Z1", readers=("x",)), None, id="what does not show in it"),
        pytest.param(replace(SPEC, reuse_private_key=True), None, id="how it is renewed"),
    ],
)
def test_what_is_wanted_otherwise_is_due(spec: CertificateSpec, reason: str | None) -> None:
    expected = Renew(reason) if reason else Keep(until=START + 60 * DAY)

    assert decide(spec, held(), None, START) == expected


def test_a_key_type_that_nobody_wrote_down_is_no_change() -> None:
    assert isinstance(decide(replace(SPEC, key_type="rsa-2048"), replace(held(), key_type=None), None, START), Keep)


def test_a_profile_that_is_no_longer_wanted_is_a_change() -> None:
    assert decide(SPEC, replace(held(), profile="tlsserver"), None, START) == Renew(
        "profile changed from tlsserver to none"
    )


# Staging.

REHEARSAL = replace(SPEC, ca=STAGING)


@pytest.mark.parametrize(
    ("spec", "holding", "later", "force", "renews"),
    [
        pytest.param(REHEARSAL, REAL, 0 * DAY, False, False, id="a rehearsal does not replace a real one"),
        pytest.param(REHEARSAL, REAL, 89 * DAY, False, False, id="not even one that is due"),
        pytest.param(REHEARSAL, REAL, 90 * DAY, False, True, id="one that has expired is no loss"),
        pytest.param(REHEARSAL, REAL, 0 * DAY, True, True, id="with force it does"),
        pytest.param(REHEARSAL, STAGING, 61 * DAY, False, True, id="a rehearsal replaces a rehearsal"),
        pytest.param(SPEC, STAGING, 0 * DAY, False, True, id="a real one replaces a rehearsal"),
    ],
)
def test_staging_and_real(spec: CertificateSpec, holding: str, later: timedelta, force: bool, renews: bool) -> None:
    decision = decide(spec, replace(held(), ca=holding), None, START + later, Ask(force=force))

    assert isinstance(decision, Renew) is renews


@pytest.mark.parametrize(
    ("directory", "staging"),
    [
        ("https://acme-staging-v02.api.letsencrypt.org/directory", True),
        ("https://acme-v02.api.letsencrypt.org/directory", False),
        ("https://api.test4.buypass.no/acme/directory", False),
        ("https://staging.example.com:14000/directory", True),
        ("https://staging:14000/directory", True),
        ("https://ca-stg.example.com", True),
        ("https://upstaging.example.com/directory", False),
        ("https://ca.example.com/staging/directory", False),
    ],
)
def test_a_staging_ca_is_known_by_a_word_of_its_host(directory: str, staging: bool) -> None:
    assert is_staging(directory) is staging


# Failures.


@pytest.mark.parametrize(
    ("ask", "now", "decision"),
    [
        pytest.param(Ask(), 2 * HOUR - SECOND, Pause("not issued yet", START + 2 * HOUR), id="before the next attempt"),
        pytest.param(Ask(), 2 * HOUR, Renew("not issued yet"), id="at the next attempt"),
        pytest.param(Ask(by_name=True), 0 * HOUR, Renew("not issued yet"), id="by name at once"),
        pytest.param(Ask(force=True), 0 * HOUR, Pause("not issued yet", START + 2 * HOUR), id="force alone waits"),
    ],
)
def test_our_own_pause(ask: Ask, now: timedelta, decision: object) -> None:
    assert decide(SPEC, None, failure(START + 2 * HOUR), START + now, ask) == decision


@pytest.mark.parametrize("ask", [Ask(), Ask(by_name=True), Ask(force=True), Ask(by_name=True, force=True)])
def test_the_cas_word_is_kept_whoever_asks(ask: Ask) -> None:
    limited = failure(START + 3 * HOUR, not_before=START + 3 * HOUR)

    assert decide(SPEC, None, limited, START + 3 * HOUR - SECOND, ask) == Pause("not issued yet", START + 3 * HOUR)
    assert decide(SPEC, None, limited, START + 3 * HOUR, ask) == Renew("not issued yet")


def test_a_failure_does_not_make_anything_due() -> None:
    assert isinstance(decide(SPEC, held(), failure(START), START + DAY), Keep)


# Limits.


@pytest.mark.parametrize(
    ("holding", "later", "charged"),
    [
        pytest.param(None, 0 * DAY, True, id="a set that the CA does not know"),
        pytest.param(held(), 119 * DAY, False, id="the same set again"),
        pytest.param(held(), 121 * DAY, True, id="after so long that the CA has forgotten it"),
        pytest.param(replace(held(), identifiers=("example.com",)), 0 * DAY, True, id="another set"),
        pytest.param(replace(held(), ca=STAGING), 0 * DAY, True, id="another CA"),
    ],
)
def test_whether_an_order_counts_against_account_and_domain(
    holding: Held | None, later: timedelta, charged: bool
) -> None:
    assert is_charged(SPEC, holding, START + later, Ledger()) is charged


def test_a_set_that_another_name_has_had_issued_does_not_count_either() -> None:
    ledger = Ledger()
    ledger.put("twin", by_certificate(REAL, SPEC.identifiers, (), None, START))

    assert not is_charged(SPEC, None, START + 119 * DAY, ledger)
    assert is_charged(SPEC, None, START + 121 * DAY, ledger)


# Asking.


@pytest.mark.parametrize(
    ("ask", "decision"),
    [
        pytest.param(Ask(), Keep(until=START + 60 * DAY), id="the schedule"),
        pytest.param(Ask(by_name=True), Keep(until=START + 60 * DAY), id="by name"),
        pytest.param(Ask(force=True), Renew("asked for by --force"), id="by force"),
    ],
)
def test_what_is_not_due(ask: Ask, decision: object) -> None:
    assert decide(SPEC, held(), None, START, ask) == decision


# States.


@pytest.mark.parametrize(
    ("spec", "holding", "failing", "later", "told"),
    [
        pytest.param(SPEC, None, False, 0 * DAY, "missing", id="nothing is held"),
        pytest.param(SPEC, None, True, 0 * DAY, "failing", id="nothing is held and it failed"),
        pytest.param(SPEC, held(), False, 0 * DAY, "ok", id="fresh"),
        pytest.param(SPEC, held(), True, 0 * DAY, "failing", id="fresh, but a renewal failed"),
        pytest.param(SPEC, held(), False, 60 * DAY - SECOND, "ok", id="just before it is due"),
        pytest.param(SPEC, held(), False, 60 * DAY, "due", id="due"),
        pytest.param(SPEC, held(), True, 60 * DAY, "failing", id="due and failing"),
        pytest.param(SPEC, held(), False, 75 * DAY - SECOND, "due", id="just before half of the rest is gone"),
        pytest.param(SPEC, held(), False, 75 * DAY, "overdue", id="half of the rest is gone"),
        pytest.param(SPEC, held(), True, 75 * DAY, "overdue", id="overdue weighs more than failing"),
        pytest.param(SPEC, held(160 * HOUR), False, 119 * HOUR, "due", id="160 hours, due"),
        pytest.param(SPEC, held(160 * HOUR), False, 120 * HOUR, "overdue", id="160 hours, overdue"),
        pytest.param(SPEC, held(), False, 90 * DAY, "expired", id="expired"),
        pytest.param(SPEC, held(), True, 90 * DAY, "expired", id="expired weighs more than failing"),
        pytest.param(None, held(), False, 0 * DAY, "retired", id="no longer in the settings"),
        pytest.param(None, held(), False, 89 * DAY, "retired", id="no longer in the settings, overdue"),
        pytest.param(None, held(), False, 90 * DAY, "expired", id="no longer in the settings, expired"),
        pytest.param(None, None, False, 0 * DAY, "missing", id="neither in the settings nor held"),
        pytest.param(replace(SPEC, key_type="rsa-2048"), held(), False, 0 * DAY, "due", id="wanted otherwise"),
        pytest.param(REHEARSAL, held(), False, 0 * DAY, "ok", id="a rehearsal that replaces nothing"),
    ],
)
def test_states(spec: CertificateSpec | None, holding: Held | None, failing: bool, later: timedelta, told: str) -> None:
    assert state(spec, holding, failure(START) if failing else None, START + later) == told
