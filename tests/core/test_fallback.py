"""Which CA is asked: the first one first, the next one after our patience or where the budget is spent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certkeeper.core.budget import EXACT_SET, Ledger, Spent, identifier_set
from certkeeper.core.decision import Ask, Decision, Held, Keep, Pause, Renew, decide
from certkeeper.core.errors import AuthorityError, CertkeeperError, DnsError
from certkeeper.core.failures import Failure, failed
from certkeeper.core.model import CertificateSpec, FallbackCa, Validity

START = datetime(2026, 11, 23, 2, 20, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST, SECOND, THIRD = (f"https://{one}.test/directory" for one in ("first", "second", "third"))
PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
SPEC = CertificateSpec(
    "www", ("example.com",), FIRST, profile="long", fallbacks=(FallbackCa(SECOND, "short"), FallbackCa(THIRD))
)
DOWN = AuthorityError("out of reach")
LIMITED = AuthorityError("too many certificates", kind="rateLimited", status=429, retry_after=30 * 3600.0)
DUE = START + 60 * DAY


def held(ca: str = FIRST, profile: str | None = "long") -> Held:
    return Held(SPEC.identifiers, "ecdsa-p256", profile, ca, Validity(START, START + 90 * DAY), "01", "CA", None)


def after(*failures: tuple[str, CertkeeperError, datetime]) -> Failure:
    failure = None
    for ca, error, at in failures:
        failure = failed(failure, error, at, tick=HOUR, lifetime=90 * DAY, urgent=False, ca=ca)
    assert failure is not None
    return failure


def spent(at: datetime) -> Ledger:
    ledger = Ledger()
    ledger.put("www", [Spent(EXACT_SET, PRODUCTION, identifier_set(SPEC.identifiers), at)] * 4)
    return ledger


def asked(decision: Decision) -> str:
    assert isinstance(decision, Renew), decision
    return decision.ca or FIRST


def test_the_first_ca_is_asked_first() -> None:
    assert decide(SPEC, held(), None, DUE) == Renew("due since 2027-01-22 02:20Z")


def test_a_ca_that_fails_is_asked_again_until_a_thirtieth_of_the_lifetime_has_passed() -> None:
    failure = after((FIRST, DOWN, DUE))

    assert asked(decide(SPEC, held(), failure, DUE + 3 * DAY - HOUR)) == FIRST
    assert decide(SPEC, held(), failure, DUE + 3 * DAY) == Renew(
        "due since 2027-01-22 02:20Z; from second.test instead of first.test", SECOND
    )


@pytest.mark.parametrize("now_held", [None, held()], ids=["nothing held", "overdue"])
def test_where_it_is_urgent_one_failure_is_enough(now_held: Held | None) -> None:
    at = START + 80 * DAY
    failure = after((FIRST, DOWN, at))

    assert asked(decide(SPEC, now_held, failure, at + HOUR)) == SECOND
    assert asked(decide(SPEC, now_held, failure, at + timedelta(minutes=31))) == SECOND


def test_a_ca_whose_budget_is_spent_is_passed_over_at_once() -> None:
    failure = after((FIRST, LIMITED, DUE))

    assert asked(decide(SPEC, held(), failure, DUE + HOUR)) == SECOND
    assert asked(decide(SPEC, held(), failure, DUE + 31 * HOUR)) == FIRST


def test_a_ca_whose_budget_is_spent_by_our_own_count_is_passed_over_before_it_is_asked() -> None:
    spec = replace(SPEC, ca=PRODUCTION)
    issued = spent(DUE - HOUR)

    assert asked(decide(spec, held(PRODUCTION), None, DUE, ledger=issued)) == SECOND
    assert asked(decide(spec, held(PRODUCTION), None, DUE, ledger=Ledger())) == FIRST
    assert isinstance(decide(replace(spec, fallbacks=()), held(PRODUCTION), None, DUE, ledger=issued), Pause)


def test_what_is_only_forced_is_asked_for_at_the_first_ca_alone() -> None:
    spec = replace(SPEC, ca=PRODUCTION)

    decision = decide(spec, held(PRODUCTION), None, START + DAY, Ask(force=True), spent(START + DAY))

    assert isinstance(decision, Pause)


def test_if_the_next_one_fails_too_they_take_turns_and_the_third_comes_in_after_its_patience() -> None:
    start = START + 85 * DAY
    failure, turns = after((FIRST, DOWN, start)), []
    for hour in range(1, 7):
        now = start + hour * HOUR
        ca = asked(decide(SPEC, held(), failure, now))
        turns.append(ca)
        failure = failed(failure, DOWN, now, tick=HOUR, lifetime=90 * DAY, urgent=True, ca=ca)

    assert turns == [SECOND, THIRD, FIRST, SECOND, THIRD, FIRST]


def test_every_ca_keeps_its_own_retry_after_whoever_asks() -> None:
    at = START + 85 * DAY
    failure = after((FIRST, LIMITED, at), (SECOND, LIMITED, at + HOUR), (THIRD, LIMITED, at + 2 * HOUR))

    paused = decide(SPEC, held(), failure, at + 3 * HOUR, Ask(by_name=True))

    assert paused == Pause("due since 2027-01-22 02:20Z", at + 30 * HOUR)
    assert asked(decide(SPEC, held(), failure, at + 30 * HOUR, Ask(by_name=True))) == FIRST


def test_our_own_pause_is_for_all_and_a_person_ignores_it() -> None:
    failure = after((FIRST, DOWN, DUE))

    assert isinstance(decide(SPEC, held(), failure, DUE + timedelta(minutes=10)), Pause)
    assert asked(decide(SPEC, held(), failure, DUE + timedelta(minutes=10), Ask(by_name=True))) == FIRST


def test_failures_that_are_no_cas_pass_nobody_over() -> None:
    failure = after((FIRST, DnsError("no zone"), DUE))

    assert asked(decide(SPEC, held(), failure, DUE + 20 * DAY)) == FIRST


def test_an_order_that_may_be_paid_for_binds_to_its_ca() -> None:
    failure = after((FIRST, DOWN, DUE))

    assert asked(decide(SPEC, held(), failure, DUE + 4 * DAY, bound=FIRST)) == FIRST
    assert asked(decide(SPEC, held(), None, DUE + 4 * DAY, bound=SECOND)) == SECOND


def test_a_certificate_of_a_fallback_ca_is_kept_until_its_own_renewal_time_and_then_the_first_is_asked() -> None:
    from_second = held(SECOND, "short")

    assert decide(SPEC, from_second, None, DUE - HOUR) == Keep(DUE)
    assert asked(decide(SPEC, from_second, None, DUE)) == FIRST


def test_a_certificate_of_a_ca_that_is_none_of_these_is_due() -> None:
    elsewhere = held("https://elsewhere.test/directory")

    assert decide(SPEC, elsewhere, None, START + DAY) == Renew("the CA changed")


def test_the_profile_wanted_is_that_of_the_ca_it_came_from() -> None:
    assert decide(SPEC, held(SECOND, "long"), None, START + DAY) == Renew("profile changed from long to short")


def test_a_failure_of_an_earlier_version_keeps_its_retry_after() -> None:
    failure = Failure(1, DUE, "too many", None, "rateLimited", DUE + 30 * HOUR, DUE + 30 * HOUR)

    assert decide(SPEC, held(), failure, DUE + HOUR, Ask(by_name=True)) == Pause(
        "due since 2027-01-22 02:20Z", DUE + 30 * HOUR
    )
