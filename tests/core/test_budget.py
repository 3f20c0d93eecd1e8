"""A CA's limits as its token buckets see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certkeeper.core.budget import (
    EXACT_SET,
    FAILED_AUTHORIZATIONS,
    LATE,
    ORDERS,
    REGISTERED_DOMAIN,
    Budget,
    Hold,
    Ledger,
    Limit,
    Limits,
    Spent,
    budget,
    by_certificate,
    by_failures,
    by_order,
    identifier_set,
    limits_of,
    noted,
    tokens,
    with_issued,
)
from certkeeper.core.model import CertificateSpec
from tests.limited_authority import registered_domain

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
OTHER = "https://ca.test/directory"
LIMIT = Limit(5, 7 * DAY)
NAMES = ("example.com", "*.example.com")
SPEC = CertificateSpec("www", NAMES, PRODUCTION, registered_domain=registered_domain)


def exact(left: float, limit: Limit = LIMIT) -> Budget:
    return Budget(EXACT_SET, "", left, limit, NOW)


@pytest.mark.parametrize(
    ("hours_ago", "left", "usual", "emergency"),
    [
        pytest.param([], 5, True, True, id="nothing issued"),
        pytest.param([0], 4, True, True, id="one just now"),
        pytest.param([0, 0, 0], 2, True, True, id="three just now, in one second"),
        pytest.param([0, 0, 0, 0], 1, False, True, id="four just now: the last one is the reserve"),
        pytest.param([0, 0, 0, 0, 0], 0, False, False, id="all spent"),
        pytest.param([34, 34, 34, 34, 34], 1, False, True, id="all spent 34 hours ago: one is back"),
        pytest.param([33.6] * 5, 0, False, False, id="not to the minute: the CA counts a little later"),
        pytest.param([169] * 5, 5, True, True, id="all spent a week ago"),
        pytest.param([100, 100, 66, 66, 0], 2, True, True, id="one every 34 hours keeps pace"),
    ],
)
def test_tokens_are_spent_by_issuance_and_come_back_one_by_one(
    hours_ago: list[float], left: int, usual: bool, emergency: bool
) -> None:
    left_over = exact(tokens([NOW - timedelta(hours=one) for one in hours_ago], NOW, LIMIT))

    assert left_over.whole == left
    assert left_over.allows() == usual
    assert left_over.allows(reserve=True) == emergency


@pytest.mark.parametrize(
    ("spent", "reserve", "hours"),
    [
        pytest.param(3, False, 0, id="two are left"),
        pytest.param(4, False, 33.6, id="the reserve is left"),
        pytest.param(4, True, 0, id="the reserve is left, and may be spent"),
        pytest.param(5, False, 67.2, id="nothing is left: two have to come back"),
        pytest.param(5, True, 33.6, id="nothing is left: one has to come back"),
    ],
)
def test_the_instant_at_which_it_becomes_possible_is_told_and_right(spent: int, reserve: bool, hours: float) -> None:
    instants = [NOW] * spent

    possible = [
        budget(EXACT_SET, "", instants, then, LIMIT).possible_from(reserve=reserve)
        for then in (NOW, NOW + LATE / 2, NOW + LATE)
    ]

    if not hours:
        assert possible == [NOW, NOW + LATE / 2, NOW + LATE]
    else:
        (then,) = set(possible)
        assert then == NOW + LATE + timedelta(hours=hours)
        assert exact(tokens(instants, then, LIMIT)).allows(reserve=reserve)
        assert not exact(tokens(instants, then - timedelta(minutes=1), LIMIT)).allows(reserve=reserve)


def test_only_the_exact_set_has_a_reserve() -> None:
    assert Budget(REGISTERED_DOMAIN, "example.com", 1.0, LIMIT, NOW).allows()
    assert not Budget(REGISTERED_DOMAIN, "example.com", 0.9, LIMIT, NOW).allows(reserve=True)


def test_the_limits_of_lets_encrypt_are_known_and_of_nobody_else() -> None:
    assert limits_of(PRODUCTION) == Limits(
        exact_set=Limit(5, 7 * DAY),
        registered_domain=Limit(50, 7 * DAY),
        orders=Limit(300, 3 * HOUR),
        failed_authorizations=Limit(5, HOUR),
    )
    assert limits_of(STAGING).failed_authorizations == Limit(200, HOUR)
    assert limits_of("https://127.0.0.1:14000/dir") == Limits()


# The ledger.


def left(ledger: Ledger, spec: CertificateSpec = SPEC, now: datetime = NOW) -> dict[str, tuple[int, str]]:
    return {one.limit: (one.whole, one.about) for one in ledger.budgets(spec, now)}


def test_every_limit_of_the_ca_has_its_bucket() -> None:
    ledger = Ledger()
    ledger.put(
        "www",
        [*by_certificate(PRODUCTION, NAMES, ["example.com"], "order 1", NOW), *by_order(PRODUCTION, "order 1", NOW)],
    )
    ledger.put("api", by_failures(PRODUCTION, ["*.example.com", "api.example.com"], "order 2", NOW))

    assert left(ledger) == {
        EXACT_SET: (4, identifier_set(NAMES)),
        REGISTERED_DOMAIN: (49, "example.com"),
        ORDERS: (299, ""),
        FAILED_AUTHORIZATIONS: (4, "example.com"),
    }


def test_another_ca_counts_for_itself() -> None:
    ledger = Ledger()
    ledger.put("www", by_certificate(STAGING, NAMES, ["example.com"], "order 1", NOW))

    assert left(ledger)[EXACT_SET][0] == 5


def test_names_with_one_set_are_counted_together_in_whatever_order_it_stands() -> None:
    ledger = Ledger()
    for number, name in enumerate(("www", "twin", "third")):
        ledger.put(name, by_certificate(PRODUCTION, NAMES[:: 1 if number % 2 else -1], [], f"order {number}", NOW))

    assert left(ledger)[EXACT_SET][0] == 2


def test_certificates_of_one_second_are_counted_each() -> None:
    ledger = Ledger()
    ledger.put("www", [Spent(EXACT_SET, PRODUCTION, identifier_set(NAMES), NOW) for _ in range(3)])

    assert left(ledger)[EXACT_SET][0] == 2


def test_the_scarcest_of_several_domains_and_identifiers_is_told() -> None:
    ledger = Ledger()
    spec = CertificateSpec("all", ("a.test", "b.test"), PRODUCTION, registered_domain=lambda name: name)
    ledger.put("other", by_certificate(PRODUCTION, ["x.b.test"], ["b.test"], "order 1", NOW))
    ledger.put("more", by_failures(PRODUCTION, ["b.test"], "order 2", NOW))

    assert left(ledger, spec)[REGISTERED_DOMAIN] == (49, "b.test")
    assert left(ledger, spec)[FAILED_AUTHORIZATIONS] == (4, "b.test")


def test_what_a_name_has_spent_is_replaced_and_not_added_up() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.put("www", by_certificate(PRODUCTION, NAMES, [], "order 1", NOW))
    ledger.add("www", by_certificate(PRODUCTION, NAMES, [], None, NOW))

    assert left(ledger)[EXACT_SET][0] == 3


def test_what_was_told_once_is_not_told_again_after_more_was_spent_or_time_has_passed() -> None:
    ledger = Ledger()

    def domain(now: datetime = NOW) -> int:
        return left(ledger, now=now)[REGISTERED_DOMAIN][0]

    assert domain() == 50
    ledger.put("api", by_certificate(PRODUCTION, ["api.example.com"], ["example.com"], "order 1", NOW))
    assert domain() == 49
    ledger.add("api", by_certificate(PRODUCTION, ["api.example.com"], ["example.com"], "order 2", NOW))
    assert domain() == 48
    assert domain(NOW + timedelta(days=7)) == 50
    assert domain() == 48
    ledger.put("api", ())
    assert domain() == 50


def test_the_settings_limits_win() -> None:
    ledger = Ledger({OTHER: Limits(orders=Limit(2, HOUR))})
    spec = CertificateSpec("www", NAMES, OTHER)
    ledger.put("www", by_order(OTHER, "order 1", NOW))

    assert left(ledger, spec) == {ORDERS: (1, "")}


def test_of_several_waits_that_a_ca_asked_for_the_longest_counts_until_it_is_over() -> None:
    ledger = Ledger()
    for hours in (1, 3, 2):
        ledger.hold(PRODUCTION, Hold(NOW + hours * HOUR, "busy"))

    assert ledger.held_off(PRODUCTION, NOW) == Hold(NOW + 3 * HOUR, "busy")
    assert ledger.held_off(PRODUCTION, NOW + 3 * HOUR) is None
    assert ledger.held_off(STAGING, NOW) is None


# What is remembered.


def test_a_token_of_an_order_is_noted_once_and_forgotten_when_no_limit_asks_for_it_any_more() -> None:
    once = noted((), by_certificate(PRODUCTION, NAMES, ["example.com"], "order 1", NOW), NOW)
    twice = noted(once, by_certificate(PRODUCTION, NAMES, ["example.com"], "order 1", NOW + HOUR), NOW + HOUR)
    failed = noted(twice, by_failures(PRODUCTION, ["example.com"], "order 2", NOW + HOUR), NOW + HOUR)

    assert [one.at for one in twice] == [NOW + HOUR] * 2
    assert len(failed) == 3
    assert {one.limit for one in noted(failed, (), NOW + 26 * HOUR)} == {EXACT_SET, REGISTERED_DOMAIN}
    assert noted(failed, (), NOW + 8 * DAY) == ()


@pytest.mark.parametrize(
    ("journaled", "in_document", "counted"),
    [
        pytest.param(0, 3, 3, id="a journal that was lost"),
        pytest.param(3, 1, 3, id="a certificate that was forgotten meanwhile"),
        pytest.param(2, 2, 2, id="both tell of the same"),
    ],
)
def test_journal_and_certificate_tell_of_the_same_certificates(journaled: int, in_document: int, counted: int) -> None:
    other = by_certificate(PRODUCTION, ["other.example.com"], [], "order 0", NOW)
    spent = [one for place in range(journaled) for one in by_certificate(PRODUCTION, NAMES, [], f"o{place}", NOW)]

    both = with_issued([*other, *spent], PRODUCTION, NAMES, [NOW] * in_document)

    assert len([one for one in both if one.about == identifier_set(NAMES)]) == counted
    assert set(other) <= set(both)


def test_what_was_spent_is_read_as_it_was_written() -> None:
    for one in (*by_certificate(PRODUCTION, NAMES, ["example.com"], "order 1", NOW), *by_order(OTHER, None, NOW)):
        assert Spent.from_fields(one.as_fields()) == one
