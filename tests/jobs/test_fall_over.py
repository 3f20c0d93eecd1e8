"""A fallback CA: asked when the first one will not do, kept, and left again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certkeeper.core import index as indexes
from certkeeper.core.budget import Limit, Limits
from certkeeper.core.caa import CaaRecord
from certkeeper.core.decision import Ask
from certkeeper.core.errors import AuthorityError, DnsError
from certkeeper.core.model import Certificate, FallbackCa, Outcome
from certkeeper.jobs import status as statuses
from certkeeper.jobs import survey
from certkeeper.jobs.revoke import is_done, wish
from certkeeper.jobs.tick import tick
from tests.fakes import CA, SECOND_CA, WWW, Altered, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SPEC = replace(WWW, fallbacks=(FallbackCa(SECOND_CA),))
DOWN = AuthorityError("the CA at ca.test cannot be reached", "check the way out")
LIMITED = AuthorityError("too many certificates", kind="rateLimited", status=429, retry_after=30 * 3600.0)


def held(world: World) -> Certificate:
    certificate, _ = world.keeper().certificates.read("www")
    assert certificate is not None
    return certificate


def ticked(world: World, ask: Ask | None = None) -> Outcome:
    (outcome,) = tick(world.keeper(), [SPEC], ask).outcomes
    return outcome


def test_with_nothing_held_the_second_failure_is_not_waited_for() -> None:
    world = World()
    world.authority.trouble = DOWN

    first = ticked(world)
    world.clock.later(HOUR)
    second = ticked(world)

    assert (first.outcome, first.error) == ("failed", "the CA at ca.test cannot be reached")
    assert (second.outcome, second.reason) == ("renewed", "not issued yet; from second.test instead of ca.test")
    assert (held(world).ca, held(world).account_url) == (SECOND_CA, "https://second.test/account/1")
    assert world.keeper().journal.read("www").entry.tidy
    assert world.dns.records == set()


def test_its_certificate_is_kept_until_its_own_renewal_time_and_then_the_first_ca_is_asked_again() -> None:
    world = World()
    world.authority.trouble = DOWN
    ticked(world)
    world.clock.later(HOUR)
    ticked(world)
    world.authority.trouble = None
    world.clock.later(59 * DAY)

    kept = ticked(world)
    world.clock.later(2 * DAY)
    renewed = ticked(world)

    assert (kept.outcome, renewed.outcome) == ("kept", "renewed")
    assert held(world).ca == CA
    assert (len(world.second.issued), len(world.authority.issued)) == (1, 1)


def test_no_predecessor_of_another_ca_is_named() -> None:
    world = World()
    ticked(world)
    world.clock.later(61 * DAY)
    world.authority.trouble = DOWN
    ticked(world)
    world.clock.later(4 * DAY)

    renewed = ticked(world)

    assert (renewed.outcome, held(world).ca) == ("renewed", SECOND_CA)
    assert world.second.replaced == set()


def test_a_healthy_certificate_gives_the_first_ca_three_days() -> None:
    world = World()
    ticked(world)
    world.clock.later(60 * DAY)
    world.authority.trouble = DOWN
    hours = 0
    while not world.second.issued:
        outcome = ticked(world)
        world.clock.later(HOUR)
        hours += 1

    assert outcome.outcome == "renewed"
    assert 71 <= hours <= 97  # three days, and our own pause of up to a day


def test_a_429_with_a_long_retry_after_is_an_empty_budget_and_the_next_tick_asks_the_next_ca() -> None:
    world = World()
    world.authority.refuse.append(LIMITED)

    refused = ticked(world)
    world.clock.later(HOUR)
    renewed = ticked(world)

    assert refused.next_attempt is not None and refused.next_attempt < world.clock.now()
    assert (refused.outcome, renewed.outcome, held(world).ca) == ("failed", "renewed", SECOND_CA)


def test_a_ca_that_wants_to_be_left_alone_with_a_name_for_longer_than_it_lives_is_not_waited_for() -> None:
    world = World()
    world.authority.lifetime = world.second.lifetime = 160 * HOUR
    ticked(world)
    least = 160 * HOUR
    for _ in range(24 * 21):
        world.authority.refuse = [AuthorityError("no", kind="unsupportedIdentifier", retry_after=7 * 86400.0)]
        world.clock.later(HOUR)
        ticked(world)
        least = min(least, held(world).chain.validity.not_after - world.clock.now())

    assert least > 70 * HOUR
    assert len(world.authority.issued) == 1
    assert len(world.second.issued) <= 6


@pytest.mark.parametrize("asked_to_wait", [MINUTE, HOUR + MINUTE, 6 * HOUR])
def test_what_a_ca_tells_one_name_for_all_counts_for_all(asked_to_wait: timedelta) -> None:
    world = World()
    specs = [replace(SPEC, name=f"n{n}", identifiers=(f"n{n}.example.com",)) for n in range(20)]
    tick(world.keeper(), specs)
    world.clock.later(60 * DAY + MINUTE)
    world.authority.trouble = AuthorityError("down", status=503, retry_after=asked_to_wait.total_seconds())
    hours = 0
    while len(world.second.issued) < len(specs) and hours < 24 * 29:
        tick(world.keeper(seed=hours), specs)
        world.clock.later(HOUR)
        hours += 1

    assert 71 <= hours <= 97  # as for a single name


def test_a_ca_that_stumbles_for_an_hour_is_not_passed_over_by_names_that_come_later() -> None:
    world = World()
    later = replace(SPEC, name="later", identifiers=("later.example.com",))
    tick(world.keeper(), [SPEC])
    world.clock.later(30 * DAY)
    tick(world.keeper(), [SPEC, later])
    world.clock.later(31 * DAY)
    world.authority.trouble = AuthorityError("busy", status=503, retry_after=60.0)
    tick(world.keeper(), [SPEC, later])
    world.authority.trouble = None
    world.authority.proven.clear()
    world.dns.refuse = {"_acme-challenge.example.com"}
    for _ in range(24 * 4):
        world.clock.later(HOUR)
        tick(world.keeper(), [SPEC, later])
    world.clock.later(26 * DAY)

    tick(world.keeper(), [SPEC, later])

    certificate, _ = world.keeper().certificates.read("later")
    assert certificate is not None and certificate.ca == CA
    assert len(world.authority.issued) == 3


def test_what_the_first_ca_has_issued_spends_nothing_of_the_next_ones_limits() -> None:
    world, limits = World(), {one: Limits(exact_set=Limit(5, 7 * DAY)) for one in (CA, SECOND_CA)}
    for _ in range(3):
        tick(replace(world.keeper(), limits=limits), [SPEC], Ask(by_name=True, force=True))
    world.clock.later(60 * DAY)
    for _ in range(3):
        tick(replace(world.keeper(), limits=limits), [SPEC], Ask(by_name=True, force=True))
    world.authority.trouble = DOWN
    changed = replace(SPEC, key_type="rsa-2048")
    for _ in range(24 * 4):
        world.clock.later(HOUR)
        tick(replace(world.keeper(), limits=limits), [changed])

    index = survey.refreshed(world.keeper())

    assert held(world).ca == SECOND_CA
    left = {ca: indexes.ledger_of(index, limits).budgets(changed.at(ca), world.clock.now())[0].left for ca in limits}
    assert 4 <= left[SECOND_CA] <= 5
    assert left[CA] < 5


def finalized_at_a_ca_that_goes_down(held_before: bool = False) -> World:
    """The first CA is at work on an order that it has got the CSR of, and nobody hears of it any more."""
    world = World()
    if held_before:
        ticked(world)
        world.clock.later(61 * DAY)
    world.authority.processing = 1000
    assert ticked(world).error == "the CA has not done its work on the order yet"
    world.authority.trouble = DOWN
    return world


def recovered(world: World) -> None:
    world.authority.trouble, world.authority.processing = None, 0
    for order in world.authority.orders.values():
        order["left"] = 0


@pytest.mark.parametrize(("held_before", "hours"), [(False, 23), (True, 70)], ids=["nothing held", "something held"])
def test_an_order_that_may_be_paid_for_is_waited_for_for_a_day_and_for_our_patience(
    held_before: bool, hours: int
) -> None:
    world = finalized_at_a_ca_that_goes_down(held_before)
    for _ in range(hours):
        world.clock.later(HOUR)
        ticked(world, Ask(by_name=True))
    asked_meanwhile = world.second.new_orders
    recovered(world)

    outcome = ticked(world, Ask(by_name=True))

    assert (outcome.outcome, held(world).ca, asked_meanwhile) == ("renewed", CA, 0)
    assert len(world.authority.issued) == (2 if held_before else 1)


@pytest.mark.parametrize(("held_before", "hours"), [(False, 25), (True, 73)], ids=["nothing held", "something held"])
def test_then_the_next_ca_is_asked_and_what_the_first_one_issued_is_left_behind(held_before: bool, hours: int) -> None:
    world = finalized_at_a_ca_that_goes_down(held_before)
    for _ in range(hours):
        world.clock.later(HOUR)
        outcome = ticked(world, Ask(by_name=True))
    certificate = held(world)
    recovered(world)
    kept = ticked(world, Ask(by_name=True))

    assert certificate.ca == SECOND_CA
    assert (outcome.outcome, kept.outcome) in (("renewed", "kept"), ("kept", "kept"))
    assert (len(world.authority.issued), len(world.second.issued)) == (2 if held_before else 1, 1)
    assert world.keeper().journal.read("www").entry.tidy


def test_an_order_that_was_set_aside_is_finished_if_its_ca_recovers_before_another_one_has_issued() -> None:
    world = finalized_at_a_ca_that_goes_down()
    world.second.trouble = AuthorityError("the CA at second.test cannot be reached")
    for _ in range(30):
        world.clock.later(HOUR)
        ticked(world, Ask(by_name=True))
    aside = world.keeper().journal.read("www").entry
    recovered(world)
    for _ in range(2):  # attempts go round
        world.clock.later(HOUR)
        ticked(world, Ask(by_name=True))

    assert {one.url for one in (*aside.aside, aside.pending) if one} == {"https://ca.test/order/1"}
    assert held(world).ca == CA
    assert (len(world.authority.issued), world.authority.new_orders, world.second.issued) == (1, 1, [])
    assert world.keeper().journal.read("www").entry.tidy


def test_with_orders_that_may_be_paid_for_at_both_cas_neither_is_asked_for_another_one() -> None:
    world = finalized_at_a_ca_that_goes_down()
    world.second.processing = 1000
    for hour in range(24 * 5):
        world.clock.later(HOUR)
        if hour > 26:
            world.second.trouble = DOWN
        ticked(world)
    both = world.keeper().journal.read("www").entry
    recovered(world)
    world.clock.later(DAY)
    ticked(world)
    world.clock.later(DAY)
    ticked(world)

    assert both.pending is not None and {both.pending.ca, *(one.ca for one in both.aside)} == {CA, SECOND_CA}
    assert held(world).ca == CA
    assert (world.authority.new_orders, world.second.new_orders) == (1, 1)
    assert world.keeper().journal.read("www").entry.tidy


def test_an_order_that_was_set_aside_for_a_compromised_private_key_is_given_up_and_revoked() -> None:
    world = World()
    spec = replace(SPEC, reuse_private_key=True)
    tick(world.keeper(), [spec])
    world.clock.later(61 * DAY)
    world.authority.processing = 1000
    tick(world.keeper(), [spec])
    world.authority.trouble = DOWN
    world.second.trouble = DOWN
    for _ in range(24 * 4):
        world.clock.later(HOUR)
        tick(world.keeper(), [spec])
    aside = world.keeper().journal.read("www").entry
    wish(world.keeper(), "www", "keyCompromise")
    recovered(world)
    world.second.trouble = None
    for _ in range(3):
        world.clock.later(DAY)
        tick(world.keeper(), [spec])

    (left,) = {one.request.spki_sha256 for one in (*aside.aside, aside.pending) if one and one.ca == CA}
    assert held(world).chain.spki_sha256 != left
    assert world.authority.revoked == {"0001": 1, "0002": 1}
    assert is_done(world.keeper(), "www")


def test_an_order_that_was_never_finalized_is_left_behind() -> None:
    world = World()

    def failing(*_: Any) -> Any:
        raise DOWN

    altered: Any = Altered(world.authority, authorization=failing)
    tick(replace(world.keeper(), authorities={CA: altered, SECOND_CA: world.second}), [SPEC])
    world.authority.trouble = DOWN
    pending = world.keeper().journal.read("www").entry.pending
    world.clock.later(HOUR)

    outcome = ticked(world)

    assert pending is not None and pending.ca == CA
    assert (outcome.outcome, held(world).ca) == ("renewed", SECOND_CA)
    assert world.keeper().journal.read("www").entry.tidy


def test_a_pending_order_at_the_fallback_ca_is_finished_though_the_first_has_recovered() -> None:
    world = World()
    world.authority.trouble = DOWN
    ticked(world)
    world.clock.later(HOUR)
    world.second.processing = 1000
    begun = ticked(world)
    world.authority.trouble = None
    world.second.orders["https://second.test/order/1"]["left"] = 0
    world.clock.later(HOUR)

    finished = ticked(world)

    assert (begun.outcome, finished.outcome, held(world).ca) == ("failed", "renewed", SECOND_CA)
    assert (len(world.second.issued), world.authority.new_orders) == (1, 0)


def test_a_caa_record_that_forbids_the_fallback_ca_is_told_with_the_record_to_add_and_nothing_is_ordered() -> None:
    world = World()
    world.authority.trouble = DOWN
    world.second.issuers = ("second.test",)
    world.lookup.caas["example.com"] = (CaaRecord(0, "issue", "ca.test"),)
    ticked(world)
    world.clock.later(HOUR)

    outcome = ticked(world)

    assert outcome.error == "example.com: the CAA records at example.com do not allow second.test"
    assert outcome.hint == 'add the record: example.com. CAA 0 issue "second.test"'
    assert (world.second.new_orders, world.keys.made) == (0, 0)


def test_a_caa_lookup_that_fails_counts_against_the_fallback_ca_so_that_the_first_is_asked_again() -> None:
    world = World()
    world.authority.trouble = DOWN
    world.second.issuers = ("second.test",)

    def failing(name: str) -> Any:
        raise DnsError(f"the CAA record of {name} could not be looked up")

    lookup: Any = Altered(world.lookup, caa=failing)
    ticked(world)
    world.clock.later(HOUR)
    (failed,) = tick(replace(world.keeper(), lookup=lookup), [SPEC]).outcomes
    world.authority.trouble = None
    world.clock.later(2 * HOUR)
    (renewed,) = tick(replace(world.keeper(), lookup=lookup), [SPEC]).outcomes

    assert "could not be looked up" in (failed.error or "")
    assert (renewed.outcome, held(world).ca) == ("renewed", CA)


def test_the_first_ca_is_not_asked_for_caa_records() -> None:
    world = World()
    world.authority.issuers = ("ca.test",)
    asked: list[str] = []
    lookup: Any = Altered(world.lookup, caa=asked.append)

    (outcome,) = tick(replace(world.keeper(), lookup=lookup), [SPEC]).outcomes

    assert (outcome.outcome, asked) == ("renewed", [])


def test_plan_says_which_ca_will_be_asked() -> None:
    world = World()
    world.authority.trouble = DOWN
    ticked(world)
    world.clock.later(HOUR)

    (planned,) = statuses.plan(world.keeper(), [SPEC])

    assert (planned.action, planned.reason) == ("renew", "not issued yet; from second.test instead of ca.test")
