"""Law 6: the CA's limits are known before anything is ordered, and kept; and the CA's word wins."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Event
from typing import Any

import pytest

from certkeeper.adapters.threads import Threads
from certkeeper.core.budget import (
    EXACT_SET,
    FAILED_AUTHORIZATIONS,
    LATE,
    ORDERS,
    REGISTERED_DOMAIN,
    Limit,
    Limits,
    by_failures,
)
from certkeeper.core.decision import Ask
from certkeeper.core.errors import AuthorityError, StoreError
from certkeeper.core.model import Account, CertificateSpec, Outcome
from certkeeper.core.order import Challenge, Order
from certkeeper.jobs import status as statuses
from certkeeper.jobs import survey
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.tick import tick
from tests.fakes import CA, START, Altered, FaultyRecords, World
from tests.limited_authority import DAY, HOUR, LIMITS, LimitedAuthority, Windows, spec_of

FORCE = Ask(by_name=True, force=True)
RESERVE = replace(FORCE, spend_reserve=True)
WWW = spec_of("www", "www.example.com")
MINUTE = timedelta(minutes=1)


@dataclass
class Scene:
    """A world whose CA has limits that the settings know."""

    world: World
    authority: LimitedAuthority

    def keeper(self, **methods: Any) -> Keeper:
        authority: Any = Altered(self.authority, **methods) if methods else self.authority
        limits = {CA: self.authority.limits}
        return replace(self.world.keeper(), authorities={CA: authority}, limits=limits)

    def tick(self, *specs: CertificateSpec, ask: Ask | None = None, **methods: Any) -> tuple[Outcome, ...]:
        return tick(self.keeper(**methods), specs, ask).outcomes

    def one(self, ask: Ask | None = None, spec: CertificateSpec = WWW, **methods: Any) -> Outcome:
        (outcome,) = self.tick(spec, ask=ask, **methods)
        return outcome

    def left(self, spec: CertificateSpec = WWW) -> dict[str, int]:
        (planned,) = statuses.plan(self.keeper(), [spec])
        return {one.limit: one.whole for one in planned.budget}

    @property
    def now(self) -> datetime:
        return self.world.clock.now()


def scene(limits: Limits = LIMITS) -> Scene:
    world = World()
    world.authority = authority = LimitedAuthority(world.clock, world.dns, limits=limits)
    world.information = Windows(authority)  # type: ignore[assignment] # as the port
    return Scene(world, authority)


# Certificates for exactly the same identifiers.


def test_a_week_of_forced_renewals_is_refused_here_before_the_reserve_and_told_when_it_becomes_possible() -> None:
    at = scene()
    spent = [at.one(FORCE).outcome for _ in range(4)]

    refused = at.one(FORCE)

    assert spent == ["renewed"] * 4
    assert refused.outcome == "waiting"
    assert refused.error == "only 1 of the CA's 5 certificates in 7 days for exactly these names is left"
    assert refused.hint == "if it cannot wait: certkeeper renew www --force --spend-reserve"
    assert refused.next_attempt is not None
    assert timedelta(hours=33.6) - MINUTE < refused.next_attempt - at.now <= timedelta(hours=33.6) + LATE
    assert at.authority.refused == []


def test_the_reserve_is_spent_when_a_person_says_so_and_then_nobody_is_let_through() -> None:
    at = scene()
    for _ in range(4):
        at.one(FORCE)

    spent, refused = at.one(RESERVE), at.one(RESERVE)

    assert (spent.outcome, refused.outcome) == ("renewed", "waiting")
    assert refused.error == "only 0 of the CA's 5 certificates in 7 days for exactly these names is left"
    assert refused.hint is None
    assert at.authority.refused == []


def test_it_is_possible_at_the_instant_that_was_told() -> None:
    at = scene()
    for _ in range(4):
        at.one(FORCE)
    told = at.one(FORCE).next_attempt
    assert told is not None

    at.world.clock.later(told - at.now - 2 * MINUTE)
    before = at.one(FORCE)
    at.world.clock.later(2 * MINUTE)
    then = at.one(FORCE)

    assert (before.outcome, then.outcome) == ("waiting", "renewed")
    assert at.authority.refused == []


def test_two_names_with_one_identifier_set_are_counted_together_even_in_one_run() -> None:
    at = scene()
    twins = [spec_of(f"twin-{number}", "*.example.com", "example.com") for number in range(7)]

    outcomes = at.tick(*twins)

    assert [one.outcome for one in outcomes].count("renewed") == 5
    assert at.authority.refused == []
    assert at.left(twins[0])[EXACT_SET] == 0


def test_identifiers_that_come_back_within_the_week_are_still_counted() -> None:
    at = scene()
    other = spec_of("www", "www.example.com", "other.example.com")
    for _ in range(2):
        at.one(FORCE)
        at.one(spec=other)

    assert at.left()[EXACT_SET] == 3
    assert at.left(other)[EXACT_SET] == 3


def test_a_certificate_that_was_forgotten_has_been_spent_all_the_same() -> None:
    at = scene()
    at.one(FORCE)
    del at.world.records.objects["certificates/www"]

    assert at.left()[EXACT_SET] == 4


def test_a_journal_that_was_lost_leaves_what_the_certificate_knows() -> None:
    at = scene()
    for _ in range(3):
        at.one(FORCE)
    del at.world.records.objects["journal/www"]

    assert at.left()[EXACT_SET] == 2


def test_an_order_that_is_finalized_again_and_again_is_counted_once() -> None:
    at = scene()

    def finalize(account: Account, order: Order, csr_pem: str) -> Order:
        raise AuthorityError("no answer")

    for _ in range(3):
        at.one(Ask(by_name=True), finalize=finalize)
    at.one(Ask(by_name=True))

    assert at.left()[EXACT_SET] == 4


def test_what_is_paid_for_is_finished_though_the_budget_is_spent() -> None:
    at = scene()
    for _ in range(4):
        at.one(FORCE)
    at.authority.processing = 1000
    at.one(RESERVE)
    at.authority.processing = 0
    for order in at.authority.orders.values():
        order["left"] = 0
    left = at.left()[EXACT_SET]

    outcome = at.one(FORCE)

    assert left == 0
    assert (outcome.outcome, outcome.reason) == ("renewed", "an earlier run began it")
    assert len(at.authority.issued) == 5
    assert at.left()[EXACT_SET] == 0


def test_what_is_overdue_asks_the_ca_though_all_seems_to_be_spent() -> None:
    at = scene()
    at.authority.limits = replace(LIMITS, exact_set=Limit(1, 7 * DAY))  # what we believe; the CA allows five
    at.world.information = World().information
    at.one()
    at.one(spec=spec_of("twin", *WWW.identifiers))
    at.world.clock.later(80 * DAY)
    at.one(RESERVE, spec_of("twin", *WWW.identifiers))
    left = at.left()[EXACT_SET]

    outcome = at.one()

    assert left == 0
    assert (outcome.outcome, outcome.reason[:9]) == ("renewed", "due since")


@pytest.mark.parametrize("hours", [-1, 1, 43])
def test_inside_the_window_nothing_is_held_back_and_before_it_the_reserve_is(hours: int) -> None:
    at = scene()
    at.one()
    start, end = at.authority.window_of("fake.0001")
    at.world.clock.later(start - at.now - 10 * HOUR)
    twins = [spec_of(f"twin-{number}", *WWW.identifiers) for number in range(5)]
    at.tick(*twins)
    at.world.clock.later(start - at.now + hours * HOUR)

    outcome = at.one(FORCE)

    assert outcome.outcome == ("renewed" if start <= at.now < end else "waiting")
    assert at.authority.refused == []


# Below one registered domain.


def test_more_new_names_than_the_domain_allows_wait_their_turn_and_none_is_refused() -> None:
    at = scene()
    specs = [spec_of(f"n{number}", f"n{number}.example.com") for number in range(53)]

    outcomes = at.tick(*specs)
    waiting = [one for one in outcomes if one.outcome == "waiting"]

    assert [one.outcome for one in outcomes].count("renewed") == 50
    assert len(waiting) == 3
    assert {one.error for one in waiting} == {
        "only 0 of the CA's 50 certificates in 7 days for new sets of names below example.com is left"
    }
    assert all(one.next_attempt is not None and one.next_attempt - at.now < 4 * HOUR for one in waiting)
    assert at.authority.refused == []
    assert at.left()[REGISTERED_DOMAIN] == 0


def test_renewals_of_the_same_set_do_not_count_against_the_domain_nor_the_orders() -> None:
    at = scene(replace(LIMITS, registered_domain=Limit(1, 7 * DAY), orders=Limit(1, 3 * HOUR)))

    outcomes = [at.one(FORCE).outcome for _ in range(3)]

    assert outcomes == ["renewed"] * 3
    assert at.authority.refused == []


def test_a_set_that_the_ca_has_known_for_weeks_is_renewed_though_the_domain_is_spent() -> None:
    at = scene(replace(LIMITS, registered_domain=Limit(1, 7 * DAY)))
    at.one()
    at.world.clock.later(30 * DAY)
    spent = at.one(spec=spec_of("new", "new.example.com"))

    outcome, refused = at.one(FORCE), at.one(spec=spec_of("newer", "newer.example.com"))

    assert [one.outcome for one in (spent, outcome, refused)] == ["renewed", "renewed", "waiting"]
    assert at.authority.refused == []


def test_other_domains_have_their_own_budget() -> None:
    at = scene(replace(LIMITS, registered_domain=Limit(1, 7 * DAY)))
    specs = [spec_of("a", "a.example.com"), spec_of("b", "b.example.com"), spec_of("c", "c.example.net")]

    outcomes = {one.name: one.outcome for one in at.tick(*specs)}

    assert sorted(outcomes.values()) == ["renewed", "renewed", "waiting"]
    assert outcomes["c"] == "renewed"


# Orders of the account.


def test_more_new_orders_than_the_account_has_wait_and_none_is_refused() -> None:
    at = scene(replace(LIMITS, orders=Limit(3, 3 * HOUR)))
    specs = [spec_of(f"n{number}", f"n{number}.example.com") for number in range(5)]

    first = [one.outcome for one in at.tick(*specs)]
    at.world.clock.later(HOUR + LATE)
    second = [one.outcome for one in at.tick(*specs)]

    assert sorted(first) == ["renewed"] * 3 + ["waiting"] * 2
    assert sorted(second) == ["kept"] * 3 + ["renewed", "waiting"]
    assert at.authority.refused == []
    assert at.left()[ORDERS] == 0


# Failed authorizations.


def test_a_person_who_retries_and_retries_never_fails_more_often_than_the_ca_allows() -> None:
    at = scene()

    def answer(account: Account, challenge: Challenge) -> None:
        at.world.dns.records.clear()  # nobody sees them
        at.authority.answer(account, challenge)

    outcomes = []
    for _ in range(120):
        outcomes.append(at.one(Ask(by_name=True), answer=answer))
        at.world.clock.later(MINUTE)

    moments = [when for _, when in at.authority.failures]
    assert at.authority.refused == []
    assert all(sum(when <= one < when + HOUR for one in moments) <= 5 + 60 / 12 for when in moments)
    assert len(moments) <= 5 + 120 / 12
    refused = next(one for one in outcomes if one.outcome == "waiting")
    assert refused.error == (
        "the CA could not prove www.example.com so often that only 0 of its 5 failures in 1 hours is left"
    )
    assert refused.next_attempt is not None


def test_a_failure_of_one_name_is_counted_for_every_name_with_the_identifier() -> None:
    at = scene(replace(LIMITS, failed_authorizations=Limit(1, HOUR)))

    def answer(account: Account, challenge: Challenge) -> None:
        at.world.dns.records.clear()
        at.authority.answer(account, challenge)

    at.one(answer=answer)
    outcome = at.one(spec=spec_of("other", "www.example.com", "api.example.com"))

    assert outcome.outcome == "waiting" and "could not prove www.example.com" in (outcome.error or "")
    assert at.authority.refused == []


def test_identifiers_that_were_still_being_proven_when_one_failed_count_as_failed() -> None:
    at = scene()
    names = ("a.example.com", "b.example.com")

    def answer(account: Account, challenge: Challenge) -> None:
        if "#a.example.com#" in challenge.url:
            at.world.dns.records.clear()
            at.authority.answer(account, challenge)

    at.one(spec=spec_of("both", *names), answer=answer)

    spent = at.keeper().journal.read("both").entry.spent
    failed = {one.about for one in spent if one.limit == FAILED_AUTHORIZATIONS}
    assert failed == {one.about for one in by_failures(CA, names, "", START)}


# The CA's word.


def orders_refused(*, kind: str, message: str, status: int, retry_after: float) -> tuple[Any, list[Sequence[str]]]:
    asked: list[Sequence[str]] = []

    def new_order(
        account: Account, identifiers: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        asked.append(identifiers)
        raise AuthorityError(message, kind=kind, status=status, retry_after=retry_after)

    return new_order, asked


@pytest.mark.parametrize(
    ("kind", "message", "status"),
    [
        pytest.param("rateLimited", "too many new orders (300) from this account", 429, id="the account's orders"),
        pytest.param("serverInternal", "the service is down for maintenance", 503, id="a CA that is down"),
    ],
)
def test_a_wait_that_concerns_all_orders_is_met_once_and_kept_by_all_names_until_it_is_over(
    kind: str, message: str, status: int
) -> None:
    at = scene()
    specs = [spec_of(f"n{number}", f"n{number}.example.com") for number in range(6)]
    new_order, asked = orders_refused(kind=kind, message=message, status=status, retry_after=5 * 3600.0)

    first = at.tick(*specs, new_order=new_order)
    at.world.clock.later(2 * HOUR)
    second = at.tick(*specs, new_order=new_order)
    named = at.one(Ask(by_name=True), specs[0])
    at.world.clock.later(3 * HOUR)
    third = at.tick(*specs)

    assert len(asked) == 1
    assert sorted(one.outcome for one in first) == ["failed"] + ["waiting"] * 5
    assert {one.next_attempt for one in first} == {START + 5 * HOUR}
    waiting = {one.error for one in first if one.outcome == "waiting"}
    assert waiting == {f"the CA wants all orders to wait: {message}"}
    assert {one.outcome for one in second} == {"waiting"}
    assert {one.next_attempt for one in second} == {START + 5 * HOUR}
    assert named.outcome == "waiting"
    assert {one.outcome for one in third} == {"renewed"}


def test_names_that_are_under_way_at_once_ask_a_ca_that_refuses_everybody_once() -> None:
    at = scene()
    specs = [spec_of(f"n{number}", f"n{number}.example.com") for number in range(6)]
    asked: list[Sequence[str]] = []
    more = Event()

    def new_order(
        account: Account, identifiers: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        asked.append(identifiers)
        if len(asked) > 1:
            more.set()
        more.wait(0.3)  # for any that does not wait for the answer
        raise AuthorityError("busy", status=503, retry_after=3600.0)

    with closing(Threads(6)) as threads:
        keeper = replace(at.keeper(new_order=new_order), side_by_side=threads)
        outcomes = tick(keeper, specs).outcomes

    assert len(asked) == 1
    assert sorted(one.outcome for one in outcomes) == ["failed"] + ["waiting"] * 5
    assert {one.reason for one in outcomes} == {"not issued yet"}


def test_a_wait_that_concerns_one_set_holds_up_nobody_else() -> None:
    at = scene()
    specs = [spec_of(f"n{number}", f"n{number}.example.com") for number in range(3)]
    refused = [AuthorityError("too many certificates", kind="rateLimited", status=429, retry_after=36 * 3600.0)]
    at.authority.refuse = list(refused)

    outcomes = at.tick(*specs)

    assert sorted(one.outcome for one in outcomes) == ["failed", "renewed", "renewed"]


@pytest.mark.parametrize("call", ["register", "authorization", "answer", "fetch_order", "finalize", "download"])
def test_a_ca_that_is_down_is_believed_at_every_call(call: str) -> None:
    at = scene()

    def down(*arguments: object) -> Any:
        raise AuthorityError("down for maintenance", status=503, retry_after=3 * 3600.0)

    methods: dict[str, Any] = {call: down}
    failed = at.one(**methods)
    at.world.clock.later(2 * HOUR)
    other, waiting = at.tick(spec_of("other", "other.example.com"), WWW)
    at.world.clock.later(HOUR)
    outcome = at.one()

    assert (failed.outcome, failed.error) == ("failed", "down for maintenance")
    assert failed.next_attempt is not None and failed.next_attempt - START < 3 * HOUR + 10 * MINUTE
    assert failed.next_attempt >= START + 3 * HOUR
    assert (other.outcome, waiting.outcome) == ("waiting", "waiting")
    assert outcome.outcome in ("renewed", "waiting") and at.one().outcome in ("renewed", "kept", "waiting")


PAGE = "https://portal.test/sfe/v1/unpause?jwt=abc"


def test_names_that_the_ca_has_paused_are_not_tried_again_before_a_person_says_so() -> None:
    at = scene()
    said = AuthorityError(f"Your account is prevented from this. Visit: {PAGE}", kind="rateLimited", status=429)
    at.authority.refuse = [said]

    failed = at.one()
    waited = []
    for _ in range(60):
        at.world.clock.later(DAY)
        waited.append(at.one())
    person = at.one(Ask(by_name=True))

    assert PAGE in (failed.hint or "") and failed.next_attempt is None
    assert {(one.outcome, one.next_attempt, PAGE in (one.hint or "")) for one in waited} == {("waiting", None, True)}
    assert person.outcome == "renewed"


def test_a_certificate_that_expires_while_its_names_are_paused_is_not_tried_either() -> None:
    at = scene()
    at.one()
    at.authority.refuse = [AuthorityError(f"Visit: {PAGE}", kind="rateLimited", status=429)]
    at.world.clock.later(61 * DAY)
    at.one()
    at.world.clock.later(40 * DAY)

    assert at.one().outcome == "waiting"


def test_a_wait_that_the_ca_asked_for_survives_other_failures() -> None:
    at = scene()
    at.authority.refuse = [AuthorityError("too many", kind="rateLimited", status=429, retry_after=36 * 3600.0)]
    at.one()

    for _ in range(35):
        at.world.clock.later(HOUR)
        assert at.one(Ask(by_name=True)).outcome == "waiting"
    at.world.clock.later(HOUR)

    assert at.one().outcome == "renewed"


# What is shown.


def test_plan_and_status_show_every_limit_and_why_a_name_waits() -> None:
    at = scene()
    for _ in range(4):
        at.one(FORCE)
    changed = replace(WWW, key_type="rsa-2048")

    (planned,) = statuses.plan(at.keeper(), [changed])
    (shown,) = statuses.status(at.world.records, [changed], at.now, limits={CA: LIMITS}).statuses

    assert planned.action == "wait"
    assert planned.reason.endswith("only 1 of the CA's 5 certificates in 7 days for exactly these names is left")
    assert planned.hint == "if it cannot wait: certkeeper renew www --spend-reserve"
    assert [(one.limit, one.whole) for one in planned.budget] == [
        (EXACT_SET, 1),
        (REGISTERED_DOMAIN, 49),
        (ORDERS, 299),
        (FAILED_AUTHORIZATIONS, 5),
    ]
    assert (shown.state, shown.waiting, shown.hint) == ("due", planned.reason.split("; ")[1], planned.hint)
    assert shown.next_attempt == planned.until
    assert [(one.limit, one.whole) for one in shown.budget] == [(one.limit, one.whole) for one in planned.budget]


# Without the index.


@pytest.mark.parametrize(
    ("unreadable", "first", "issued"),
    [
        pytest.param({"index"}, 0, 1, id="all names"),
        pytest.param({"index"}, 3, 1, id="some, when the others are listed"),
        pytest.param({"index", "certificates/"}, 0, 1, id="all, when nothing is listed"),
        pytest.param({""}, 0, 0, id="nothing can be read"),
    ],
)
def test_limits_that_names_share_are_kept_without_the_index(unreadable: set[str], first: int, issued: int) -> None:
    its = scene(replace(LIMITS, registered_domain=Limit(3, 7 * DAY)))
    names = [spec_of(f"n{number}", f"n{number}.example.com") for number in range(20)]
    its.tick(*names[:2])
    records = FaultyRecords(its.world.records, unreadable=unreadable)
    keeper = replace(its.keeper(), records=records, certificate_records=records)

    report = tick(keeper, names[first:], Ask(by_name=first > 0))

    assert report.trouble is not None
    assert [one.outcome for one in report.outcomes].count("renewed") == issued
    assert its.authority.refused == []


def test_a_store_that_hangs_takes_half_of_the_time_before_the_first_name_is_worked_on() -> None:
    world = World()

    def hang(path: str) -> None:
        world.clock.time += MINUTE
        raise StoreError("it hangs")

    records: Any = Altered(world.records, read=hang, list=hang)
    keeper = replace(world.keeper(), records=records, certificate_records=records)
    half = world.clock.remaining() / 2

    found = survey.without_index(keeper, [f"n{number}" for number in range(100)])

    assert half - 2 * MINUTE <= world.clock.remaining() <= half
    assert [facts.unreadable for facts in found.facts.values()].count("there was no time to read it") > 90
