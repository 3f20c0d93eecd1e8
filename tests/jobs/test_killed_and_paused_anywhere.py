"""Law 2 and law 3: whatever happens to a keeper at any call, the CA issues exactly one certificate."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from certkeeper.core.decision import Ask
from certkeeper.core.errors import AuthorityError
from certkeeper.core.model import FallbackCa
from certkeeper.jobs.tick import tick
from tests.fakes import API, SECOND_CA, WWW, FakeClock, FakeSealer, Fate, Killed, World, every_moment, killed

MOMENTS = range(1, 45)
HOW = pytest.mark.parametrize(("by_name", "reuse_orders"), [(True, False), (False, False), (True, True), (False, True)])


def assert_one_good_certificate(world: World, name: str = "www", issued: int = 1) -> None:
    keeper = world.keeper()
    certificate, _ = keeper.certificates.read(name)
    entry = keeper.journal.read(name).entry

    assert len(world.authority.issued) == issued
    assert certificate is not None
    assert entry.closed
    assert entry.records == ()
    assert world.dns.records == set()
    assert len(world.authority.accounts) == 1
    assert certificate.chain.spki_sha256 == certificate.request.spki_sha256
    opened = FakeSealer().open(certificate.request.private_key, {"certkeeper-name": name})
    assert opened.startswith(b"private key")


def test_the_moments_cover_a_whole_first_issuance() -> None:
    world = World()
    fate = Fate(MOMENTS.stop, after=False, happening=killed)

    report = tick(world.keeper(fate), [WWW])

    assert report.outcomes[0].outcome == "renewed"
    assert 20 < fate.calls < MOMENTS.stop


@HOW
@pytest.mark.parametrize("certificate_first", [False, True])
@every_moment
def test_killed_anywhere_the_next_run_finishes_the_same_order(
    moment: int, after: bool, certificate_first: bool, by_name: bool, reuse_orders: bool
) -> None:
    world = World(reuse_orders=reuse_orders)
    with suppress(Killed):
        tick(world.keeper(Fate(moment, after, killed), certificate_first), [WWW])
    if not by_name:
        world.clock.later(timedelta(minutes=16))

    (outcome,) = tick(world.keeper(certificate_first=certificate_first), [WWW], Ask(by_name=by_name)).outcomes

    assert outcome.outcome in ("renewed", "kept")
    assert_one_good_certificate(world)


@every_moment
def test_killed_anywhere_in_a_renewal_costs_one_certificate_and_never_the_old_one(moment: int, after: bool) -> None:
    world = World()
    tick(world.keeper(), [WWW])
    world.clock.later(timedelta(days=61))
    with suppress(Killed):
        tick(world.keeper(Fate(moment, after, killed)), [WWW])
    held_in_between, _ = world.keeper().certificates.read("www")
    world.clock.later(timedelta(hours=1))

    tick(world.keeper(), [WWW])

    assert held_in_between is not None
    assert_one_good_certificate(world, issued=2)


@every_moment
def test_a_forced_renewal_that_was_killed_is_finished_by_the_schedule_or_was_never_paid_for(
    moment: int, after: bool
) -> None:
    world = World()
    tick(world.keeper(), [WWW])
    with suppress(Killed):
        tick(world.keeper(Fate(moment, after, killed)), [WWW], Ask(force=True))
    world.clock.later(timedelta(hours=1))

    tick(world.keeper(), [WWW])

    certificate, _ = world.keeper().certificates.read("www")
    assert certificate is not None
    assert certificate.chain.serial_number == f"{len(world.authority.issued):04x}"
    assert_one_good_certificate(world, issued=len(world.authority.issued))
    assert len(world.authority.issued) <= 2


@every_moment
def test_a_killed_run_is_taken_over_by_the_schedule_only_when_its_claim_has_expired(moment: int) -> None:
    world = World()
    with suppress(Killed):
        tick(world.keeper(Fate(moment, False, killed)), [WWW])
    claimed = world.keeper().journal.read("www").held_by_another("somebody else")
    before = len(world.authority.issued), world.authority.new_orders
    world.clock.patience = timedelta(minutes=2)
    world.clock.later(timedelta(minutes=1))

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    if claimed:
        assert outcome.outcome in ("waiting", "kept")
        assert (len(world.authority.issued), world.authority.new_orders) == before
    else:
        assert outcome.outcome in ("renewed", "kept")


@HOW
@every_moment
def test_paused_anywhere_while_another_runs_to_the_end(
    moment: int, after: bool, by_name: bool, reuse_orders: bool
) -> None:
    world = World(reuse_orders=reuse_orders)

    def another() -> None:
        if not by_name:
            world.clock.later(timedelta(minutes=16))
        tick(world.keeper(), [WWW], Ask(by_name=by_name))

    (outcome,) = tick(world.keeper(Fate(moment, after, another)), [WWW]).outcomes

    assert outcome.outcome in ("renewed", "kept")
    assert_one_good_certificate(world)


def test_reading_the_certificate_before_the_journal_issues_no_second_one_but_is_not_believed() -> None:
    issued, errors = set(), set()
    for moment in MOMENTS:
        world = World(FakeClock(patience=timedelta(minutes=2)))  # longer only takes longer

        def another(world: World = world) -> None:
            tick(world.keeper(), [WWW])
            world.clock.later(timedelta(0))  # the other one's waiting is not on our account

        (outcome,) = tick(world.keeper(Fate(moment, True, another), certificate_first=True), [WWW]).outcomes
        issued.add(len(world.authority.issued))
        errors.add(outcome.error)

    assert issued == {1}
    assert errors == {None, "the store still shows an older certificate than was written"}


@every_moment
def test_two_keepers_killed_one_after_the_other_still_cost_one_certificate(moment: int) -> None:
    world = World(reuse_orders=True)
    for later in (0, 3):
        with suppress(Killed):
            tick(world.keeper(Fate(moment + later, True, killed)), [WWW], Ask(by_name=True))

    tick(world.keeper(), [WWW], Ask(by_name=True))

    assert_one_good_certificate(world)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("moment", range(1, 80, 3))
def test_killed_with_two_names_under_way_both_are_finished(moment: int, seed: int) -> None:
    world = World()
    with suppress(Killed):
        tick(world.keeper(Fate(moment, True, killed), seed=seed), [WWW, API])

    outcomes = tick(world.keeper(seed=seed), [WWW, API], Ask(by_name=True)).outcomes

    assert {one.outcome for one in outcomes} <= {"renewed", "kept"}
    assert_one_good_certificate(world, issued=2)
    assert_one_good_certificate(world, name="api", issued=2)


FALLING_OVER = replace(WWW, fallbacks=(FallbackCa(SECOND_CA),))


def falling_over(reuse_orders: bool = False) -> World:
    """A world whose first CA has failed often enough, so that the next run asks the second."""
    world = World(reuse_orders=reuse_orders)
    world.authority.trouble = AuthorityError("the CA is down")
    tick(world.keeper(), [FALLING_OVER])
    world.clock.later(timedelta(hours=1))
    return world


def assert_one_good_certificate_of_either(world: World) -> None:
    keeper = world.keeper()
    certificate, _ = keeper.certificates.read("www")
    entry = keeper.journal.read("www").entry

    assert len(world.authority.issued) + len(world.second.issued) == 1
    assert certificate is not None
    assert (certificate.ca == SECOND_CA) == bool(world.second.issued)
    assert entry.tidy
    assert world.dns.records == set()
    assert max(len(world.authority.accounts), len(world.second.accounts)) == 1
    opened = FakeSealer().open(certificate.request.private_key, {"certkeeper-name": "www"})
    assert opened.startswith(b"private key")
    assert certificate.chain.spki_sha256 == certificate.request.spki_sha256


def test_the_moments_cover_a_whole_fall_over() -> None:
    world = falling_over()
    fate = Fate(MOMENTS.stop, after=False, happening=killed)

    (outcome,) = tick(world.keeper(fate), [FALLING_OVER]).outcomes

    assert (outcome.outcome, len(world.second.issued)) == ("renewed", 1)
    assert 20 < fate.calls < MOMENTS.stop


@pytest.mark.parametrize("recovered", [False, True], ids=["still down", "recovered"])
@every_moment
def test_killed_anywhere_while_falling_over_one_certificate_comes_of_one_ca(
    moment: int, after: bool, recovered: bool
) -> None:
    world = falling_over()
    with suppress(Killed):
        tick(world.keeper(Fate(moment, after, killed)), [FALLING_OVER])
    if recovered:
        world.authority.trouble = None
    world.clock.later(timedelta(hours=1))

    (outcome,) = tick(world.keeper(), [FALLING_OVER]).outcomes

    assert outcome.outcome in ("renewed", "kept")
    assert_one_good_certificate_of_either(world)


@pytest.mark.parametrize("reuse_orders", [False, True])
@every_moment
def test_the_first_ca_failing_anywhere_costs_no_second_certificate(
    moment: int, after: bool, reuse_orders: bool
) -> None:
    world = World(reuse_orders=reuse_orders)

    def goes_down() -> None:
        world.authority.trouble = AuthorityError("the CA is down")

    tick(world.keeper(Fate(moment, after, goes_down)), [FALLING_OVER])
    for _ in range(3):
        world.clock.later(timedelta(hours=1))
        tick(world.keeper(), [FALLING_OVER])
    world.authority.trouble = None
    world.clock.later(timedelta(hours=9))

    (outcome,) = tick(world.keeper(), [FALLING_OVER]).outcomes

    assert outcome.outcome in ("renewed", "kept")
    assert_one_good_certificate_of_either(world)


@every_moment
def test_paused_anywhere_while_falling_over_and_the_other_finds_the_first_ca_recovered(
    moment: int, after: bool
) -> None:
    world = falling_over()

    def another() -> None:
        world.authority.trouble = None
        world.clock.later(timedelta(minutes=16))
        tick(world.keeper(), [FALLING_OVER])

    (outcome,) = tick(world.keeper(Fate(moment, after, another)), [FALLING_OVER]).outcomes

    assert outcome.outcome in ("renewed", "kept")
    assert_one_good_certificate_of_either(world)


def left_by_the_first_ca() -> World:
    """A world whose first CA has gone down with an order that is paid for, more than a day ago."""
    world = World()
    world.authority.processing = 1000
    tick(world.keeper(), [FALLING_OVER])
    world.authority.trouble = AuthorityError("the CA is down")
    for _ in range(2):
        world.clock.later(timedelta(hours=9))
        tick(world.keeper(), [FALLING_OVER])
    world.clock.later(timedelta(hours=9))
    return world


def assert_at_most_one_certificate_of_each(world: World) -> None:
    keeper = world.keeper()
    certificate, _ = keeper.certificates.read("www")

    assert (len(world.authority.issued), world.authority.new_orders) == (1, 1)
    assert len(world.second.issued) <= 1
    assert certificate is not None
    assert certificate.ca == SECOND_CA or not world.second.issued
    assert keeper.journal.read("www").entry.tidy
    assert world.dns.records == set()


def recovered(world: World) -> None:
    world.authority.trouble, world.authority.processing = None, 0
    for order in world.authority.orders.values():
        order["left"] = 0


def test_the_moments_cover_a_whole_fall_over_from_an_order_that_is_paid_for() -> None:
    world = left_by_the_first_ca()
    fate = Fate(MOMENTS.stop, after=False, happening=killed)

    (outcome,) = tick(world.keeper(fate), [FALLING_OVER]).outcomes

    assert (outcome.outcome, len(world.second.issued)) == ("renewed", 1)
    assert 20 < fate.calls < MOMENTS.stop


@pytest.mark.parametrize("comes_back", [False, True], ids=["still down", "recovered"])
@every_moment
def test_killed_anywhere_while_leaving_a_paid_order_each_ca_issues_at_most_once(
    moment: int, after: bool, comes_back: bool
) -> None:
    world = left_by_the_first_ca()
    with suppress(Killed):
        tick(world.keeper(Fate(moment, after, killed)), [FALLING_OVER])
    if comes_back:
        recovered(world)
    world.clock.later(timedelta(hours=1))

    (outcome,) = tick(world.keeper(), [FALLING_OVER]).outcomes

    assert outcome.outcome in ("renewed", "kept")
    assert_at_most_one_certificate_of_each(world)


@every_moment
def test_paused_anywhere_while_leaving_a_paid_order_and_the_other_finds_its_ca_recovered(
    moment: int, after: bool
) -> None:
    world = left_by_the_first_ca()

    def another() -> None:
        recovered(world)
        world.clock.later(timedelta(minutes=16))
        tick(world.keeper(), [FALLING_OVER])

    (outcome,) = tick(world.keeper(Fate(moment, after, another)), [FALLING_OVER]).outcomes
    world.clock.later(timedelta(hours=1))
    tick(world.keeper(), [FALLING_OVER])

    assert outcome.outcome in ("renewed", "kept")
    assert_at_most_one_certificate_of_each(world)
