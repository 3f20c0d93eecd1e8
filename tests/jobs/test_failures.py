"""Law 8: what becomes of a name whose renewal fails, and when it is tried again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from certkeeper.core.decision import Ask
from certkeeper.core.errors import AuthorityError, ChainError, DnsError, SealingError
from certkeeper.core.failures import Failure
from certkeeper.core.journal import Entry
from certkeeper.core.model import Account, Chain, FallbackCa, Outcome, Sealed, Validity
from certkeeper.core.order import Authorization, Challenge, Order, Problem
from certkeeper.jobs.forget import forget
from certkeeper.jobs.history import release, rollback
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.proving import ANSWERS
from certkeeper.jobs.status import plan, status
from certkeeper.jobs.tick import tick
from tests.fakes import API, CA, SECOND_CA, START, WWW, Altered, FakeChains, FaultyRecords, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def with_authority(world: World, **methods: Callable[..., Any]) -> Keeper:
    altered: Any = Altered(world.authority, **methods)
    return replace(world.keeper(), authorities={CA: altered})


def with_chains(world: World, read: Callable[[str], Chain]) -> Keeper:
    altered: Any = Altered(FakeChains(), read=read)
    return replace(world.keeper(), chains=altered)


def blind(world: World) -> Keeper:
    """A keeper whose CA does not see its TXT records."""

    def answer(account: Account, challenge: Challenge) -> None:
        order_url, identifier, _ = challenge.url.split("#")
        world.authority.orders[order_url]["dead"] = identifier

    return with_authority(world, answer=answer)


def entry_of(world: World, name: str = "www") -> Entry:
    return world.keeper().journal.read(name).entry


def failure_of(world: World, name: str = "www") -> Failure:
    failure = entry_of(world, name).failure
    assert failure is not None
    return failure


def one_tick(keeper: Keeper, ask: Ask | None = None) -> Outcome:
    (outcome,) = tick(keeper, [WWW], ask).outcomes
    return outcome


LIMITED = AuthorityError("too many certificates", kind="rateLimited", status=429, retry_after=30 * 3600.0)
DOWN = AuthorityError("the CA at ca.test cannot be reached", "check the way out")


# A predecessor that the CA has trouble with.


def at_a_loss(world: World) -> tuple[Keeper, list[str | None]]:
    """A keeper whose CA answers 500 to an order that names a predecessor, and what was named to it."""
    named: list[str | None] = []

    def new_order(
        account: Account, identifiers: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        named.append(replaces)
        if replaces is not None:
            raise AuthorityError("could not find an order", kind="serverInternal", status=500)
        return world.authority.new_order(account, identifiers, profile)

    return with_authority(world, new_order=new_order), named


def test_a_predecessor_that_the_ca_stumbles_over_twice_is_not_named_any_more() -> None:
    world = World()
    first = one_tick(world.keeper())
    keeper, named = at_a_loss(world)

    stumbled = one_tick(keeper, Ask(force=True))
    world.clock.later(HOUR)
    renewed = one_tick(keeper, Ask(force=True))

    assert (first.outcome, stumbled.outcome, renewed.outcome) == ("renewed", "failed", "renewed")
    assert [one is not None for one in named] == [True, True, False]
    assert stumbled.hint == "the CA is in trouble; the next run tries again"


def test_a_ca_that_was_out_of_reach_before_is_not_said_to_stumble_over_the_predecessor() -> None:
    world = World()
    one_tick(world.keeper())
    world.authority.refuse = [DOWN]
    one_tick(world.keeper(), Ask(force=True))
    world.clock.later(HOUR)
    keeper, named = at_a_loss(world)

    stumbled = one_tick(keeper, Ask(force=True))

    assert stumbled.outcome == "failed"
    assert len(named) == 1


# What the CA has asked for outlives the failure.


OTHER = replace(WWW, key_type="rsa-2048")


def refused_and_rolled_back(world: World) -> None:
    tick(world.keeper(), [OTHER])
    rollback(world.keeper(), "www")


def refused_and_released(world: World) -> None:
    refused_and_rolled_back(world)
    release(world.keeper(), "www")


def refused_and_not_wanted_any_more(world: World) -> None:
    tick(world.keeper(), [OTHER])
    tick(world.keeper(), [WWW])


def refused_and_forgotten(world: World) -> None:
    tick(world.keeper(), [OTHER])
    forget(world.keeper(), "www")


OVER = pytest.mark.parametrize(
    "over", [refused_and_rolled_back, refused_and_released, refused_and_not_wanted_any_more, refused_and_forgotten]
)


def refused(over: Callable[[World], None]) -> World:
    """Two certificates were had, the third was refused for 30 hours, and the failure is over an hour later."""
    world = World()
    for _ in range(2):
        tick(world.keeper(), [WWW], Ask(force=True))
        world.clock.later(DAY)
    world.authority.refuse = [LIMITED]
    over(world)
    world.clock.later(HOUR)
    return world


@OVER
def test_what_is_over_is_no_failure_though_the_ca_is_not_asked_before_it_wants_to_be(
    over: Callable[[World], None],
) -> None:
    world = refused(over)
    orders, asked_until = world.authority.new_orders, world.clock.now() + 29 * HOUR
    seen = status(world.records, [WWW], world.clock.now()).statuses

    (waiting,) = tick(world.keeper(), [OTHER], Ask(by_name=True, force=True)).outcomes
    world.clock.time = asked_until - timedelta(minutes=1)
    world.clock.later(timedelta(0))
    (still,) = tick(world.keeper(), [OTHER], Ask(by_name=True, force=True)).outcomes
    placed = world.authority.new_orders
    world.clock.later(timedelta(minutes=2))
    (renewed,) = tick(world.keeper(), [OTHER], Ask(by_name=True, force=True)).outcomes

    assert [(one.last_error, one.failures) for one in seen] == [(None, 0)]
    assert (waiting.outcome, waiting.error) == ("waiting", "the CA asked to wait (rateLimited)")
    assert (waiting.next_attempt, still.next_attempt) == (asked_until, asked_until)
    assert (still.outcome, placed) == ("waiting", orders)
    assert renewed.outcome == "renewed"
    assert entry_of(world).asked_to_wait == ()


def test_plan_and_status_know_of_it_too() -> None:
    world = refused(refused_and_not_wanted_any_more)

    (planned,) = plan(world.keeper(), [OTHER])
    (seen,) = status(world.records, [OTHER], world.clock.now()).statuses

    assert (planned.action, planned.until) == ("wait", world.clock.now() + 29 * HOUR)
    assert planned.reason.endswith("; the CA asked to wait (rateLimited)")
    assert (seen.state, seen.waiting, seen.next_attempt) == ("due", "the CA asked to wait (rateLimited)", planned.until)


def test_a_name_that_is_left_alone_only_by_the_first_ca_is_had_from_the_next_one() -> None:
    world = refused(refused_and_not_wanted_any_more)

    (outcome,) = tick(world.keeper(), [replace(OTHER, fallbacks=(FallbackCa(SECOND_CA),))]).outcomes

    assert (outcome.outcome, len(world.second.issued)) == ("renewed", 1)
    assert [one.ca for one in entry_of(world).asked_to_wait] == [CA]


def test_a_name_that_is_at_rest_is_not_looked_at_for_what_the_ca_has_asked() -> None:
    world = refused(refused_and_not_wanted_any_more)
    version = world.keeper().journal.read("www").version

    tick(world.keeper(), [WWW])

    assert world.keeper().journal.read("www").version == version


def test_a_ca_that_asked_all_to_wait_is_left_alone_by_the_others_though_the_name_it_told_is_at_rest() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    world.authority.trouble = AuthorityError("busy", status=503, retry_after=6 * 3600.0)
    tick(world.keeper(), [OTHER])
    world.authority.trouble = None
    tick(world.keeper(), [WWW])
    world.clock.later(HOUR)

    outcomes = tick(world.keeper(), [WWW, API]).outcomes

    assert [one.outcome for one in outcomes] == ["kept", "waiting"]
    assert outcomes[1].next_attempt == world.clock.now() + 5 * HOUR
    assert world.authority.new_orders == 1


# What is written down.


def test_a_failed_proof_is_told_and_written_down_with_its_next_attempt() -> None:
    world = World()

    outcome = one_tick(blind(world))

    failure = failure_of(world)
    assert (outcome.outcome, outcome.reason) == ("failed", "not issued yet")
    assert outcome.error == failure.error and "no such TXT record" in failure.error and "example.com" in failure.error
    assert outcome.hint and "public" in outcome.hint
    assert outcome.next_attempt is not None and failure.next_attempt is not None
    assert abs(outcome.next_attempt - failure.next_attempt) < timedelta(seconds=1)
    assert (failure.count, failure.kind) == (1, "incorrectResponse")
    assert entry_of(world).closed and entry_of(world).records == ()
    assert world.dns.records == set()


def test_the_next_order_is_placed_after_the_pause_and_is_a_new_one() -> None:
    world = World()
    one_tick(blind(world))
    paused = one_tick(world.keeper())
    world.clock.later(HOUR)

    outcome = one_tick(world.keeper())

    assert paused.outcome == "waiting" and "no such TXT record" in (paused.error or "") and paused.next_attempt
    assert outcome.outcome == "renewed"
    assert world.authority.new_orders == 2


# A CA that leaves a challenge open when its record is not there yet, and waits to be told again.


def seen_after(looks: int, kind: str = "rejectedIdentifier") -> tuple[World, Keeper, list[str]]:
    """A CA that does not see the records before it has looked so often, and how often it was told to look."""
    world, told = World(), list[str]()
    world.authority.retries = True

    def answer(account: Account, challenge: Challenge) -> None:
        told.append(challenge.url)
        standing = set(world.dns.records)
        if told.count(challenge.url) <= looks:
            world.dns.records.clear()
        world.authority.answer(account, challenge)
        world.dns.records |= standing

    def authorization(account: Account, url: str) -> Authorization:
        one = world.authority.authorization(account, url)
        return replace(one, problem=replace(one.problem, kind=kind)) if one.problem else one

    return world, with_authority(world, answer=answer, authorization=authorization), told


@pytest.mark.parametrize("looks", [1, ANSWERS - 1])
def test_a_ca_that_leaves_a_challenge_open_is_told_again_until_it_sees_the_record(looks: int) -> None:
    world, keeper, told = seen_after(looks)

    outcome = one_tick(keeper)

    assert outcome.outcome == "renewed"
    assert len(told) == (looks + 1) * len(WWW.identifiers)
    assert world.authority.new_orders == 1
    assert world.dns.records == set()


@pytest.mark.parametrize(("said", "kept"), [("rejectedIdentifier", "incorrectResponse"), ("dns", "dns")])
def test_a_ca_that_never_sees_the_record_is_quoted_soon_and_its_order_goes_on_with_the_next_run(
    said: str, kept: str
) -> None:
    world, keeper, told = seen_after(1000, said)
    begun = world.clock.now()

    outcome = one_tick(keeper)

    assert outcome.outcome == "failed"
    assert "example.com: the CA does not take the TXT record yet: another TXT record" in (outcome.error or "")
    assert failure_of(world).kind == kept and outcome.hint
    assert world.clock.now() - begun < timedelta(seconds=30)
    assert len(told) == ANSWERS * len(WWW.identifiers)
    assert world.dns.records == set() and entry_of(world).records == ()
    world.clock.later(HOUR)
    assert one_tick(world.keeper()).outcome == "renewed"
    assert world.authority.new_orders == 1


def test_a_proof_that_the_ca_leaves_open_is_no_failed_authorization() -> None:
    _, keeper, _ = seen_after(1000)

    one_tick(keeper)

    assert not [one for one in keeper.journal.read("www").entry.spent if one.limit == "failed_authorizations"]


def test_attempts_are_spread_out_up_to_a_day() -> None:
    world, attempts = World(), []

    for _ in range(24 * 7):
        world.authority.refuse = [DOWN]
        if one_tick(world.keeper()).outcome == "failed":
            attempts.append(world.clock.now())
        world.clock.later(HOUR)

    pauses = [round((later - before) / HOUR) for before, later in pairwise(attempts)]
    assert pauses == [1, 2, 4, 8, 16, 24, 24, 24, 24, 24]


def test_a_success_wipes_the_failures_out() -> None:
    world = World()
    one_tick(blind(world))
    world.clock.later(HOUR)

    one_tick(world.keeper())

    assert entry_of(world).tidy


def test_a_failed_renewal_leaves_the_old_certificate_and_tells_its_facts() -> None:
    world = World()
    first = one_tick(world.keeper())
    stored = world.records.objects["certificates/www"]
    world.authority.proven.clear()  # else the CA remembers the old proof, and nothing has to be proven
    world.clock.later(61 * DAY)

    outcome = one_tick(blind(world))

    assert (outcome.outcome, outcome.serial_number) == ("failed", first.serial_number)
    assert outcome.not_after == first.not_after
    assert world.records.objects["certificates/www"] == stored


def test_one_names_failure_is_nobody_elses() -> None:
    world = World()
    world.authority.refuse = [DOWN]

    outcomes = tick(world.keeper(), [WWW, API]).outcomes

    assert sorted(one.outcome for one in outcomes) == ["failed", "renewed"]


# Pauses, and who may break them.


@pytest.mark.parametrize(
    ("ask", "outcome"),
    [
        pytest.param(Ask(), "waiting", id="the schedule waits"),
        pytest.param(Ask(by_name=True), "renewed", id="a person who names it does not"),
        pytest.param(Ask(force=True), "waiting", id="force renews what is not due and nothing else"),
        pytest.param(Ask(by_name=True, force=True), "renewed", id="named and forced"),
    ],
)
def test_who_waits_for_our_own_pause(ask: Ask, outcome: str) -> None:
    world = World()
    world.authority.refuse = [DOWN]
    one_tick(world.keeper())

    assert one_tick(world.keeper(), ask).outcome == outcome


@pytest.mark.parametrize("ask", [Ask(), Ask(by_name=True), Ask(force=True), Ask(by_name=True, force=True)])
def test_nobody_goes_before_the_ca_said(ask: Ask) -> None:
    world = World()
    world.authority.refuse = [LIMITED]
    first = one_tick(world.keeper())
    world.clock.later(timedelta(hours=29))

    again = one_tick(world.keeper(), ask)

    assert (first.outcome, again.outcome) == ("failed", "waiting")
    assert first.next_attempt is not None and first.next_attempt >= START + timedelta(hours=30)
    assert "rate limit" in (first.hint or "")
    assert world.authority.new_orders == 0


def test_it_is_tried_again_as_soon_as_the_ca_said() -> None:
    world = World()
    world.authority.refuse = [LIMITED]
    one_tick(world.keeper())
    world.clock.later(timedelta(hours=30))

    assert one_tick(world.keeper()).outcome == "renewed"


def test_a_paused_account_is_told_with_its_page() -> None:
    world = World()
    said = "Your account is temporarily prevented. Visit: https://portal.test/sfe/v1/unpause?jwt=abc"
    world.authority.refuse = [AuthorityError(said, kind="rateLimited", status=429)]

    outcome = one_tick(world.keeper())

    assert "https://portal.test/sfe/v1/unpause?jwt=abc" in (outcome.hint or "")


def test_what_has_expired_is_tried_at_every_tick() -> None:
    world, tried = World(), 0
    one_tick(world.keeper())
    world.clock.later(91 * DAY)

    for _ in range(10):
        world.authority.refuse = [DOWN]
        tried += one_tick(world.keeper()).outcome == "failed"
        world.clock.later(HOUR)

    assert tried == 10


def test_a_failure_of_what_was_not_due_is_forgotten_by_the_next_tick() -> None:
    world = World()
    one_tick(world.keeper())
    world.authority.refuse = [DOWN]
    failed = one_tick(world.keeper(), Ask(by_name=True, force=True))

    kept = one_tick(world.keeper())

    assert (failed.outcome, kept.outcome) == ("failed", "kept")
    assert entry_of(world).tidy


# The order itself knows.


def test_a_finalize_whose_answer_was_lost_costs_one_certificate() -> None:
    world = World()

    def finalize(account: Account, order: Order, csr_pem: str) -> Order:
        world.authority.finalize(account, order, csr_pem)
        raise DOWN

    outcome = one_tick(with_authority(world, finalize=finalize))

    assert outcome.outcome == "renewed"
    assert len(world.authority.issued) == 1


def test_a_finalize_that_never_arrived_is_tried_again_with_the_same_order() -> None:
    world = World()

    def finalize(account: Account, order: Order, csr_pem: str) -> Order:
        raise DOWN

    failed = one_tick(with_authority(world, finalize=finalize))
    world.clock.later(HOUR)

    outcome = one_tick(world.keeper())

    assert (failed.outcome, failed.error, failed.hint) == ("failed", DOWN.message, DOWN.hint)
    assert outcome.outcome == "renewed"
    assert (world.authority.new_orders, len(world.authority.issued)) == (1, 1)


def test_an_answer_that_was_refused_since_it_was_given_already_is_no_failure() -> None:
    world = World()

    def answer(account: Account, challenge: Challenge) -> None:
        world.authority.answer(account, challenge)
        raise AuthorityError("not pending", kind="malformed", status=400)

    assert one_tick(with_authority(world, answer=answer)).outcome == "renewed"


def test_an_answer_that_was_refused_while_it_is_wanted_is_a_failure() -> None:
    world = World()

    def answer(account: Account, challenge: Challenge) -> None:
        raise AuthorityError("go away", kind="serverInternal", status=500)

    outcome = one_tick(with_authority(world, answer=answer))

    assert (outcome.outcome, outcome.error) == ("failed", "go away")
    assert entry_of(world).pending is not None


def hours_until_ordered_anew(world: World) -> int:
    """How often, hour by hour, a CA says that it does not find an order that may be paid for."""
    placed = world.authority.new_orders
    for hour in range(48):
        outcome = one_tick(world.keeper())
        if world.authority.new_orders > placed:
            return hour
        assert (outcome.outcome, outcome.error) == ("failed", "the CA does not find the order: no such order")
        assert "certkeeper renew www --force" in (outcome.hint or "")
        world.clock.later(HOUR)
    raise AssertionError("it is never ordered anew")


@pytest.mark.parametrize(
    ("lifetime", "since_issued", "hours"),
    [
        (90 * DAY, None, 3),
        (90 * DAY, 61 * DAY, 24),
        (90 * DAY, 80 * DAY, 3),
        (160 * HOUR, 81 * HOUR, 4),
        (24 * HOUR, 13 * HOUR, 1),
    ],
    ids=["nothing held", "due", "overdue", "six days", "one day"],
)
def test_an_order_that_may_be_paid_for_is_placed_anew_when_the_ca_has_not_found_it_for_long(
    lifetime: timedelta, since_issued: timedelta | None, hours: int
) -> None:
    world = World()
    world.authority.lifetime = lifetime
    if since_issued is not None:
        one_tick(world.keeper())
        world.clock.later(since_issued)
    world.authority.processing = 1000
    one_tick(world.keeper())
    world.authority.orders.clear()
    world.authority.processing = 0
    world.clock.later(HOUR)

    assert hours_until_ordered_anew(world) == hours
    assert entry_of(world).tidy


def test_a_ca_that_finds_an_order_again_has_all_the_time_again_to_miss_it() -> None:
    world = World()
    world.authority.processing = 1000
    one_tick(world.keeper())
    for missed in (True, True, True, False, True, True, True):
        world.clock.later(HOUR)
        world.authority.forgotten = missed
        one_tick(world.keeper())

    assert world.authority.new_orders == 1


def test_a_person_who_knows_that_an_order_is_lost_need_not_wait() -> None:
    world = World()
    world.authority.processing = 1000
    one_tick(world.keeper())
    world.authority.orders.clear()
    world.authority.processing = 0
    one_tick(world.keeper(), Ask(by_name=True))

    named, forced = (one_tick(world.keeper(), Ask(by_name=True, force=force)) for force in (False, True))

    assert (named.outcome, forced.outcome) == ("failed", "renewed")


def test_an_order_that_was_never_finalized_and_is_forgotten_is_placed_anew_at_once() -> None:
    world = World()

    def answer(account: Account, challenge: Challenge) -> None:
        raise AuthorityError("go away", kind="serverInternal", status=500)

    one_tick(with_authority(world, answer=answer))
    world.authority.orders.clear()

    assert one_tick(world.keeper(), Ask(by_name=True)).outcome == "renewed"


def test_an_order_that_the_ca_cannot_tell_of_is_not_placed_anew() -> None:
    world = World()
    world.authority.processing = 1000
    one_tick(world.keeper())
    world.clock.later(HOUR)

    def fetch_order(account: Account, url: str) -> Order:
        raise AuthorityError("internal error", kind="serverInternal", status=500)

    outcome = one_tick(with_authority(world, fetch_order=fetch_order))

    assert outcome.outcome == "failed"
    assert entry_of(world).pending is not None
    assert world.authority.new_orders == 1


def test_an_order_for_what_is_no_longer_wanted_is_not_finished() -> None:
    world = World()
    world.authority.processing = 1000
    one_tick(world.keeper())
    world.authority.processing = 0

    (outcome,) = tick(world.keeper(), [replace(WWW, identifiers=("example.com",))]).outcomes

    assert outcome.outcome == "renewed"
    assert world.authority.issued[-1] == frozenset({"example.com"})


def test_an_order_that_died_after_finalizing_is_given_up_and_ordered_anew() -> None:
    world = World()

    def fetch_order(account: Account, url: str) -> Order:
        order = world.authority.fetch_order(account, url)
        dead = order.status == "processing"
        return replace(order, status="invalid", problem=Problem("caa", "CAA forbids")) if dead else order

    world.authority.processing = 3
    failed = one_tick(with_authority(world, fetch_order=fetch_order))
    entry = entry_of(world)
    world.clock.later(HOUR)

    outcome = one_tick(world.keeper())

    assert (failed.outcome, failed.error) == ("failed", "CAA forbids")
    assert "CAA record" in (failed.hint or "")
    assert entry.pending is None
    assert outcome.outcome == "renewed"


@pytest.mark.parametrize("status", ["invalid", "expired", "deactivated", "revoked"])
def test_a_dead_authorization_ends_its_order_and_names_the_identifier(status: str) -> None:
    world = World()

    def authorization(account: Account, url: str) -> Authorization:
        return replace(world.authority.authorization(account, url), status=status)

    outcome = one_tick(with_authority(world, authorization=authorization))

    assert outcome.outcome == "failed"
    assert f"its authorization is {status}" in (outcome.error or "") and "example.com: " in (outcome.error or "")
    assert entry_of(world).pending is None
    assert world.dns.batches == 0


def test_a_ca_without_dns_01_is_told() -> None:
    world = World()

    def authorization(account: Account, url: str) -> Authorization:
        return replace(world.authority.authorization(account, url), challenge=None)

    outcome = one_tick(with_authority(world, authorization=authorization))

    assert "does not offer dns-01" in (outcome.error or "")


# Chains that must not be kept.


def test_a_chain_for_another_private_key_is_not_kept() -> None:
    world = World()
    one_tick(world.keeper())
    before = world.records.objects["certificates/www"]
    world.clock.later(61 * DAY)

    outcome = one_tick(with_chains(world, lambda pem: replace(FakeChains().read(pem), spki_sha256="ab")))

    assert (outcome.outcome, outcome.error) == ("failed", "the CA's certificate is for another private key")
    assert world.records.objects["certificates/www"] == before


def test_a_chain_that_was_cut_off_is_fetched_again_without_another_certificate() -> None:
    world = World()
    cut: Any = with_authority(world, download=lambda account, order: "-----BEGIN CERTIFICATE-----\n")
    failed = one_tick(cut)
    world.clock.later(HOUR)

    outcome = one_tick(world.keeper())

    assert (failed.outcome, outcome.outcome) == ("failed", "renewed")
    assert len(world.authority.issued) == 1


def test_an_order_whose_certificate_has_expired_meanwhile_does_not_stand_in_the_way_for_ever() -> None:
    world = World()
    world.authority.processing = 1000
    one_tick(world.keeper())
    world.authority.processing = 0
    world.authority.orders["https://ca.test/order/1"]["left"] = 0
    world.clock.later(100 * DAY)

    outcomes = []
    for _ in range(5):
        outcomes.append(one_tick(world.keeper()).outcome)
        world.clock.later(DAY)

    assert outcomes[-1] == "kept"
    assert outcomes.count("renewed") == 1


# Keys and other trouble of our own.


def test_a_key_that_cannot_be_sealed_fails_before_anything_is_ordered() -> None:
    world = World()

    def new_request(spec: Any) -> Any:
        raise SealingError("a private key could not be sealed", "enable the KMS key again")

    keys: Any = Altered(world.keys, new_request=new_request)
    outcome = one_tick(replace(world.keeper(), keys=keys))

    assert (outcome.outcome, outcome.hint) == ("failed", "enable the KMS key again")
    assert world.authority.new_orders == 0


def test_subproblems_name_the_identifiers() -> None:
    world = World()
    blamed = (("bad.example.com", "rejectedIdentifier", "policy forbids"),)
    world.authority.refuse = [AuthorityError("refused", kind="rejectedIdentifier", status=400, subproblems=blamed)]

    outcome = one_tick(world.keeper())

    assert outcome.error == "refused (bad.example.com: policy forbids)"
    assert "will not issue" in (outcome.hint or "")


def test_a_name_without_a_zone_fails_with_a_hint_and_keeps_its_order_for_later() -> None:
    world = World()
    world.zones.zones = world.zones.zones[1:]

    outcome = one_tick(world.keeper())

    assert "no hosted zone for _acme-challenge.example.com" in (outcome.error or "")
    assert "Route 53" in (outcome.hint or "")
    assert entry_of(world).pending is not None


def test_the_key_is_written_down_before_the_ca_is_asked_to_finalize() -> None:
    world, seen = World(), []

    def finalize(account: Account, order: Order, csr_pem: str) -> Order:
        pending = entry_of(world).pending
        seen.append((pending is not None and pending.url == order.url, pending and pending.request.csr_pem == csr_pem))
        return world.authority.finalize(account, order, csr_pem)

    one_tick(with_authority(world, finalize=finalize))

    assert seen == [(True, True)]


def test_a_claim_of_the_same_run_that_cannot_be_closed_is_no_other_run() -> None:
    world = World()
    world.authority.refuse = [DOWN]

    one_tick(world.keeper())

    assert entry_of(world).claim is None


def test_a_validity_that_begins_a_little_ahead_of_our_clock_is_kept() -> None:
    world = World()

    def read(pem: str) -> Chain:
        chain = FakeChains().read(pem)
        begins = chain.validity.not_before + timedelta(minutes=50)
        return replace(chain, validity=Validity(begins, chain.validity.not_after))

    assert one_tick(with_chains(world, read)).outcome == "renewed"


def refusing(errors: Sequence[AuthorityError]) -> World:
    world = World()
    world.authority.refuse = list(errors)
    return world


def test_a_retry_after_that_is_shorter_than_our_own_pause_does_not_shorten_it() -> None:
    world = refusing([AuthorityError("busy", kind="serverInternal", status=503, retry_after=5.0)])

    outcome = one_tick(world.keeper())

    assert outcome.next_attempt is not None and outcome.next_attempt >= START + timedelta(minutes=29)


def test_an_account_key_is_sealed_for_the_account_only() -> None:
    world = World()
    one_tick(world.keeper())

    account, _ = world.keeper().accounts.read(CA)

    assert account is not None and isinstance(account.private_key, Sealed)
    assert b"certkeeper-account" in account.private_key.blob


# What may be paid for is finished, and paid for once.


def test_a_chain_that_is_never_acceptable_costs_one_certificate_until_a_person_forces_another() -> None:
    world = World()

    def read(pem: str) -> Any:
        raise ChainError("a chain nobody knows")

    refused = replace(world.keeper(), chains=cast("Any", SimpleNamespace(read=read)))
    for _ in range(7 * 24):
        tick(refused, [WWW])
        world.clock.later(HOUR)
    before = len(world.authority.issued)

    forced = one_tick(world.keeper(), Ask(by_name=True, force=True))

    assert before == 1
    assert forced.outcome == "renewed"
    assert len(world.authority.issued) == 2


def test_a_certificate_that_cannot_be_stored_is_paid_for_once_though_the_ca_forgets_its_order() -> None:
    world = World()
    faulty = FaultyRecords(world.records, unwritable={"certificates/www"})
    refused = replace(world.keeper(), certificate_records=cast("Any", faulty))
    for _ in range(7 * 24):
        tick(refused, [WWW])
        world.clock.later(HOUR)
        world.authority.forgotten = True

    outcome = one_tick(world.keeper(), Ask(by_name=True))

    assert outcome.outcome == "renewed"
    assert len(world.authority.issued) == 1


@pytest.mark.parametrize("kind", ["", "malformed"])
def test_that_an_order_that_may_be_paid_for_is_not_found_is_not_believed_soon(kind: str) -> None:
    world = World()
    world.authority.processing = 1000
    one_tick(world.keeper())

    def fetch_order(account: Account, url: str) -> Order:
        raise AuthorityError("not found", kind=kind, status=404)

    for _ in range(3 if kind else 30):  # what no CA has said is not believed however long it is said
        missed = one_tick(with_authority(world, fetch_order=fetch_order), Ask(by_name=True))
        world.clock.later(timedelta(minutes=59))
    world.authority.orders["https://ca.test/order/1"]["left"] = 0
    found = one_tick(world.keeper(), Ask(by_name=True))

    assert (missed.outcome, found.outcome) == ("failed", "renewed")
    assert len(world.authority.issued) == 1


def without_certificates(world: World, kind: str = "malformed") -> Keeper:
    def download(account: Account, order: Order) -> str:
        raise AuthorityError("not found", kind=kind, status=404)

    return with_authority(world, download=download)


@pytest.mark.parametrize(("kind", "orders"), [("malformed", [1] * 25 + [2] * 24), ("", [1] * 49)])
def test_a_certificate_that_the_ca_does_not_find_is_ordered_again_after_a_day_even_if_nothing_is_held(
    kind: str, orders: list[int]
) -> None:
    world, placed = World(), []
    for hour in range(49):
        outcome = one_tick(without_certificates(world, kind))
        placed.append(world.authority.new_orders)
        world.authority.forgotten = hour < 24
        world.clock.later(HOUR)
    world.authority.forgotten = False
    found = one_tick(world.keeper())

    assert (outcome.outcome, found.outcome) == ("failed", "renewed")
    assert placed == orders
    assert len(world.authority.issued) == world.authority.new_orders == orders[-1]


def test_a_person_who_knows_that_a_certificate_is_lost_need_not_wait() -> None:
    world = World()
    first = one_tick(without_certificates(world))

    forced = one_tick(world.keeper(), Ask(by_name=True, force=True))

    assert "certkeeper renew www --force" in (first.hint or "")
    assert (forced.outcome, world.authority.new_orders) == ("renewed", 2)


def test_an_order_that_stays_ready_is_finalized_once_a_run() -> None:
    world = World()
    handed_in = []

    def finalize(account: Account, order: Order, csr_pem: str) -> Order:
        handed_in.append(csr_pem)
        return replace(order, status="ready")

    outcome = one_tick(with_authority(world, finalize=finalize))

    assert (outcome.outcome, outcome.error) == ("failed", "the CA has not done its work on the order yet")
    assert len(handed_in) == 1


def test_a_stumble_of_the_ca_while_it_validates_takes_no_record_away() -> None:
    world, stumbles = World(), [503, 500]
    standing: list[int] = []

    def authorization(account: Account, url: str) -> Authorization:
        if world.dns.records and stumbles:
            standing.append(len(world.dns.records))
            raise AuthorityError("busy", status=stumbles.pop(), retry_after=3)
        return world.authority.authorization(account, url)

    outcome = one_tick(with_authority(world, authorization=authorization))

    assert outcome.outcome == "renewed"
    assert standing == [2, 2]


def test_a_ca_that_is_at_work_on_an_earlier_answer_is_waited_for() -> None:
    world = World()

    looks = iter(range(100))

    def answer(account: Account, challenge: Challenge) -> None:
        raise AuthorityError("at work on it", kind="conflict", status=409)

    def authorization(account: Account, url: str) -> Authorization:
        if next(looks) > 5:
            world.authority.proven.add(url.partition("#")[2])
        return world.authority.authorization(account, url)

    assert one_tick(with_authority(world, answer=answer, authorization=authorization)).outcome == "renewed"


# The deadline.


def test_past_the_deadline_nothing_is_begun() -> None:
    world = World()
    world.clock.deadline = world.clock.time

    outcomes = tick(world.keeper(), [WWW, API]).outcomes

    assert {one.outcome for one in outcomes} == {"waiting"}
    assert world.authority.new_orders == 0


def test_hosted_zones_that_cannot_be_listed_are_asked_for_once_a_run() -> None:
    world = World()
    asked = []

    def hosted_zones(role_arn: str) -> Any:
        asked.append(1)
        raise DnsError("no answer")

    keeper = replace(world.keeper(), zones=cast("Any", SimpleNamespace(hosted_zones=hosted_zones)))

    outcomes = tick(keeper, [WWW, API]).outcomes

    assert [one.error for one in outcomes] == ["no answer"] * 2
    assert len(asked) == 1


def test_a_surprise_while_records_are_presented_is_written_down_for_every_name() -> None:
    world = World()

    def presenting(records: Any, leftovers: Any) -> Any:
        raise EOFError("a secret")

    keeper = replace(world.keeper(), challenge_records=cast("Any", SimpleNamespace(presenting=presenting)))

    outcomes = tick(keeper, [WWW, API]).outcomes

    assert {one.outcome for one in outcomes} == {"failed"}
    assert all("EOFError" in (one.error or "") and "secret" not in (one.error or "") for one in outcomes)
    assert entry_of(world).claim is None


def test_sealing_that_changes_is_a_reason_to_renew_with_a_new_private_key() -> None:
    world = World()
    one_tick(world.keeper())
    spec = replace(WWW, sealing="store", reuse_private_key=True)

    (outcome,) = tick(world.keeper(), [spec]).outcomes

    assert (outcome.outcome, outcome.reason) == ("renewed", "sealing changed from kms to store")
    assert world.keys.made == 2


def test_who_wants_something_else_need_not_wait_out_our_own_pause() -> None:
    world = World()
    zones, world.zones.zones = world.zones.zones, ()
    for _ in range(5):
        world.clock.later(HOUR * 6)
        tick(world.keeper(), [WWW])
    world.zones.zones = zones
    waiting = tick(world.keeper(), [WWW]).outcomes[0]

    changed = tick(world.keeper(), [replace(WWW, identifiers=("example.com",))]).outcomes[0]

    assert waiting.outcome == "waiting"
    assert changed.outcome == "renewed"


def test_what_fails_again_under_other_settings_waits_again() -> None:
    world = World()
    world.zones.zones = ()
    tick(world.keeper(), [WWW])
    other = replace(WWW, identifiers=("example.com",))

    outcomes = [tick(world.keeper(), [other]).outcomes[0].outcome for _ in range(3)]

    assert outcomes == ["failed", "waiting", "waiting"]


def test_the_cas_own_word_is_kept_whatever_is_wanted_now() -> None:
    world = World()
    world.authority.refuse = [AuthorityError("wait", kind="rateLimited", status=429, retry_after=7200.0)]
    tick(world.keeper(), [WWW])

    changed = tick(world.keeper(), [replace(WWW, identifiers=("example.com",))]).outcomes[0]

    assert changed.outcome == "waiting"


def test_a_lost_answer_to_finalize_and_a_ca_that_stumbles_right_after_it_cost_nothing() -> None:
    world = World()
    real, stumbles = world.authority, [AuthorityError("no answer")]

    def finalize(account: Account, order: Order, csr_pem: str) -> Order:
        real.finalize(account, order, csr_pem)
        raise AuthorityError("the answer was lost")

    def fetch_order(account: Account, url: str) -> Order:
        if real.issued and stumbles:
            raise stumbles.pop()
        return real.fetch_order(account, url)

    world.authority = Altered(real, finalize=finalize, fetch_order=fetch_order)  # type: ignore[assignment] # a stand-in

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "renewed"
    assert stumbles == []
    assert len(real.issued) == 1
