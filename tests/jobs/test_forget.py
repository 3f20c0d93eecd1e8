"""Forgetting a name, and tidying up what was under way for one that has left the settings."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from certkeeper.core.decision import Ask
from certkeeper.core.journal import Entry
from certkeeper.jobs.forget import forget, is_stored
from certkeeper.jobs.status import status
from certkeeper.jobs.tick import tick
from tests.fakes import API, WWW, Fate, FaultyRecords, Killed, World, every_moment, killed

ISSUING = range(1, 45)
HOUR = timedelta(hours=1)


def presenting() -> World:
    """A keeper was killed while its TXT records stood."""
    world = World()
    for moment in ISSUING:
        with suppress(Killed):
            tick(world.keeper(Fate(moment, True, killed)), [WWW])
        if world.dns.records:
            return world
        world = World()
    raise AssertionError("no TXT record ever stood")


def of_www(world: World) -> list[str]:
    return sorted(path for path in world.records.objects if path.split("/")[1:2] == ["www"])


# Names that have left the settings.


def test_the_records_of_a_name_that_has_left_the_settings_are_taken_away_and_its_order_stays() -> None:
    world = presenting()
    order = world.keeper().journal.read("www").entry.pending
    world.clock.later(HOUR)

    (outcome,) = tick(world.keeper(), [API]).outcomes

    entry = world.keeper().journal.read("www").entry
    assert outcome.outcome == "renewed"
    assert world.dns.records == set()
    assert (entry.claim, entry.records, entry.pending) == (None, (), order)


def test_a_name_that_comes_back_is_finished_with_the_same_order() -> None:
    world = presenting()
    world.clock.later(HOUR)
    tick(world.keeper(), [API])

    outcomes = tick(world.keeper(), [API, WWW]).outcomes

    assert outcomes[1].outcome == "renewed"
    assert world.authority.new_orders == 2


def test_what_another_run_holds_is_left_alone() -> None:
    world = presenting()

    tick(world.keeper(), [API])

    assert len(world.dns.records) > 0


def test_naming_one_certificate_does_not_make_the_others_retired() -> None:
    world = presenting()
    world.clock.later(HOUR)

    tick(world.keeper(), [API], Ask(by_name=True))

    assert len(world.dns.records) > 0


def test_a_record_that_cannot_be_taken_away_is_tried_again_and_disturbs_nobody() -> None:
    world = presenting()
    tick(world.keeper(), [API], Ask(by_name=True))
    world.clock.later(HOUR)
    world.dns.stuck = True
    (kept,) = tick(world.keeper(), [API]).outcomes
    left = world.keeper().journal.read("www").entry
    world.dns.stuck = False

    tick(world.keeper(), [API])

    assert (kept.outcome, len(left.records), left.claim) == ("kept", 2, None)
    assert world.dns.records == set()


def test_a_journal_that_cannot_be_read_disturbs_nobody() -> None:
    world = presenting()
    world.clock.later(HOUR)
    told: list[str] = []
    records = FaultyRecords(world.records, instead={"journal/www": b"{}"})
    keeper = replace(world.keeper(), records=records, tell=lambda name, doing: told.append(f"{name}: {doing}"))

    (outcome,) = tick(keeper, [API]).outcomes

    assert outcome.outcome == "renewed"


@every_moment
def test_killed_anywhere_while_tidying_up_it_is_done_by_a_later_run(moment: int, after: bool) -> None:
    world = presenting()
    world.clock.later(HOUR)
    with suppress(Killed):
        tick(world.keeper(Fate(moment, after, killed)), [API])
    world.clock.later(HOUR)

    tick(world.keeper(), [API])

    entry = world.keeper().journal.read("www").entry
    assert world.dns.records == set()
    assert (entry.claim, entry.records) == (None, ())


# Forgetting.


def test_certificate_and_history_are_gone_and_the_journal_is_closed() -> None:
    world = World()
    tick(world.keeper(), [WWW, API])
    tick(world.keeper(), [WWW, API], Ask(force=True))
    assert is_stored(world.keeper(), "www")

    clean = forget(world.keeper(), "www")

    assert clean
    assert of_www(world) == ["journal/www"]
    assert replace(world.keeper().journal.read("www").entry, spent=()) == Entry(forgotten=True)
    assert not is_stored(world.keeper(), "www")
    assert [one.name for one in status(world.records, [API], world.clock.now()).statuses] == ["api"]
    assert world.keeper().certificates.read("api")[0] is not None


def test_the_records_of_a_pending_order_are_taken_away() -> None:
    world = presenting()

    clean = forget(world.keeper(), "www")

    assert clean
    assert world.dns.records == set()
    assert world.keeper().journal.read("www").entry.pending is None


def test_records_that_cannot_be_taken_away_are_left_to_the_next_tick_and_that_is_said() -> None:
    world = presenting()
    world.dns.stuck = True
    clean = forget(world.keeper(), "www")
    world.dns.stuck = False

    tick(world.keeper(), [API])

    assert not clean
    assert world.dns.records == set()
    assert replace(world.keeper().journal.read("www").entry, spent=()) == Entry(forgotten=True)


def test_a_certificate_that_cannot_be_read_can_be_forgotten() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    version = world.records.objects["certificates/www"][1]
    world.records.write("certificates/www", b"nonsense", version)

    forget(world.keeper(), "www")

    assert of_www(world) == ["journal/www"]


def test_settings_that_still_name_it_do_not_bring_it_back_at_once() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    forget(world.keeper(), "www")

    (at_once,) = tick(world.keeper(), [WWW]).outcomes
    world.clock.later(HOUR)
    (later,) = tick(world.keeper(), [WWW]).outcomes

    assert (at_once.outcome, at_once.not_after) == ("waiting", None)
    assert "forgotten a moment ago" in at_once.reason
    assert later.outcome == "renewed"
    assert not world.keeper().journal.read("www").entry.forgotten


def test_a_person_who_names_it_obtains_it_at_once() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    forget(world.keeper(), "www")

    (outcome,) = tick(world.keeper(), [WWW], Ask(by_name=True)).outcomes

    assert outcome.outcome == "renewed"


@every_moment
def test_killed_anywhere_it_can_be_repeated(moment: int, after: bool) -> None:
    world = World()
    tick(world.keeper(), [WWW])
    for fatal in ISSUING:  # records stand beside a held certificate
        world.authority.proven.clear()
        with suppress(Killed):
            tick(world.keeper(Fate(fatal, True, killed)), [WWW], Ask(by_name=True, force=True))
        if world.dns.records:
            break
    with suppress(Killed):
        forget(world.keeper(Fate(moment, after, killed)), "www")

    forget(world.keeper(), "www")

    assert of_www(world) == ["journal/www"]
    assert replace(world.keeper().journal.read("www").entry, spent=()) == Entry(forgotten=True)
    assert world.dns.records == set()


@pytest.mark.parametrize("held", [False, True], ids=["first", "renewal"])
@every_moment
def test_a_tick_that_is_paused_anywhere_while_a_name_is_forgotten_does_not_bring_it_back(
    moment: int, after: bool, held: bool
) -> None:
    world = World()
    if held:
        tick(world.keeper(), [WWW])
        world.clock.later(timedelta(days=61))

    def happening() -> None:
        forget(world.keeper(), "www")

    fate = Fate(moment, after, happening)

    tick(world.keeper(fate), [WWW])

    if not fate.came:
        return
    world.clock.later(HOUR)
    tick(world.keeper(), [API])
    entry = world.keeper().journal.read("www").entry
    assert world.dns.records == set()
    assert entry.closed and entry.records == ()
    if of_www(world) != ["journal/www"]:
        # A first certificate that was written in the very moment: it is not hidden.
        assert not held
        assert [one.state for one in status(world.records, [API], world.clock.now()).statuses] == ["ok", "retired"]
        forget(world.keeper(), "www")
        assert of_www(world) == ["journal/www"]


@every_moment
def test_forgetting_that_is_paused_anywhere_while_a_tick_with_the_new_settings_runs_comes_to_its_end(
    moment: int, after: bool
) -> None:
    world = World()
    tick(world.keeper(), [WWW])

    def another() -> None:
        world.clock.later(timedelta(minutes=16))
        tick(world.keeper(), [API])

    forget(world.keeper(Fate(moment, after, another)), "www")

    assert of_www(world) == ["journal/www"]
    assert world.keeper().journal.read("www").entry.closed
