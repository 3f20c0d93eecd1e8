"""Earlier certificates are kept, listed, and can be made current again; a pin holds the tick off until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from certkeeper.core.ari import Window
from certkeeper.core.budget import Limit, Limits
from certkeeper.core.decision import Ask
from certkeeper.core.errors import AuthorityError, ChainError, SettingsError
from certkeeper.core.model import Certificate, Outcome, Validity
from certkeeper.core.order import Order
from certkeeper.jobs.history import history, release, rollback
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.status import plan, status
from certkeeper.jobs.tick import tick
from tests.fakes import CA, START, WWW, Altered, FakeSealer, Fate, FaultyRecords, Killed, World, every_moment, killed

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def held(world: World) -> Certificate:
    certificate, _ = world.keeper().certificates.read("www")
    assert certificate is not None
    return certificate


def renewed(times: int = 1, every: timedelta = 2 * DAY) -> World:
    """A first certificate and so many renewals by force."""
    world = World()
    tick(world.keeper(), [WWW])
    for _ in range(times):
        world.clock.later(every)
        (outcome,) = tick(world.keeper(), [WWW], Ask(force=True)).outcomes
        assert outcome.outcome == "renewed"
    return world


def ticking(world: World, until: timedelta) -> Iterator[datetime]:
    """Tick every six hours for so long, and yield each time at which something was renewed."""
    end = world.clock.now() + until
    while world.clock.now() < end:
        world.clock.later(timedelta(hours=6))
        if tick(world.keeper(), [WWW]).outcomes[0].outcome == "renewed":
            yield world.clock.now()


# What is kept.


def test_the_last_three_earlier_certificates_are_kept() -> None:
    world = renewed(times=5)

    kept = history(world.keeper(), "www")

    assert [one.certificate and one.certificate.chain.serial_number for one in kept] == ["0006", "0005", "0004", "0003"]
    assert [one.current for one in kept] == [True, False, False, False]
    assert [one.revision for one in kept] == sorted((one.revision for one in kept), reverse=True)
    assert all(one.problem is None and not one.pinned for one in kept)


def test_a_certificate_is_stored_though_the_one_before_cannot_be_kept_and_that_is_said() -> None:
    world = renewed()
    path = f"history/www/{held(world).revision}"
    world.clock.later(DAY)
    keeper = replace(world.keeper(), records=FaultyRecords(world.records, unwritable={path}))

    (outcome,) = tick(keeper, [WWW], Ask(force=True)).outcomes

    assert outcome.outcome == "renewed"
    assert "the one before could not be kept" in outcome.reason
    assert held(world).chain.serial_number == "0003"


@every_moment
def test_killed_anywhere_in_a_renewal_no_earlier_certificate_is_lost_and_at_most_one_is_too_many(
    moment: int, after: bool
) -> None:
    world = renewed(times=4)
    world.clock.later(DAY)
    with suppress(Killed):
        tick(world.keeper(Fate(moment, after, killed)), [WWW], Ask(force=True))
    in_between = {path for path in world.records.objects if path.startswith("history/")}
    serials = {one.certificate.chain.serial_number for one in history(world.keeper(), "www") if one.certificate}
    world.clock.later(DAY)

    tick(world.keeper(), [WWW])

    assert 3 <= len(in_between) <= 4
    assert serials >= {"0003", "0004", "0005"}
    assert len(history(world.keeper(), "www")) in (4, 5)


# Rollback.


def test_an_earlier_certificate_becomes_current_as_a_new_revision_and_the_other_one_is_kept() -> None:
    world = renewed()
    newer = held(world)
    keeper = world.keeper()

    new = rollback(keeper, "www")

    assert new == held(world)
    assert (new.chain.serial_number, new.revision > newer.revision) == ("0001", True)
    assert FakeSealer().open(new.request.private_key, {"certkeeper-name": "www"}).startswith(b"private key 1")
    assert keeper.journal.read("www").entry.tidy
    assert keeper.journal.read("www").entry.revision == new.revision
    kept = history(keeper, "www")
    assert [(one.certificate and one.certificate.chain.serial_number, one.pinned) for one in kept] == [
        ("0001", True),
        ("0002", False),
    ]
    assert new.issued == newer.issued  # what the budget is computed from
    assert len(world.authority.issued) == 2


def test_a_pin_is_kept_by_ticks_and_by_name_and_shown_by_status_and_plan() -> None:
    world = renewed()
    rollback(world.keeper(), "www")
    due = held(world).chain.validity.not_before + 81 * DAY
    (seen,) = status(world.records, [WWW], world.clock.now()).statuses

    (outcome,) = tick(world.keeper(), [WWW], Ask(by_name=True)).outcomes
    (planned,) = plan(world.keeper(), [WWW])

    assert (outcome.outcome, outcome.next_attempt) == ("kept", due)
    assert "certkeeper rollback www --release" in outcome.reason
    assert (planned.action, planned.until) == ("keep", due)
    assert (seen.state, seen.renewal_time, seen.pinned_since) == ("ok", due, world.clock.now())
    assert list(ticking(world, 10 * DAY)) == []


def test_a_pin_ends_when_a_tenth_of_the_lifetime_is_left() -> None:
    world = renewed()
    new = rollback(world.keeper(), "www")

    at, *others = ticking(world, 85 * DAY)

    assert not others
    assert timedelta(0) <= at - (new.chain.validity.not_before + 81 * DAY) < timedelta(hours=7)
    assert held(world).pinned_since is None


def test_a_pin_holds_though_the_settings_want_something_else() -> None:
    world = renewed()
    rollback(world.keeper(), "www")

    (outcome,) = tick(world.keeper(), [replace(WWW, key_type="rsa-2048")]).outcomes

    assert outcome.outcome == "kept"
    assert held(world).chain.serial_number == "0001"


def test_force_renews_what_is_pinned_and_the_pin_is_gone() -> None:
    world = renewed()
    rollback(world.keeper(), "www")

    (outcome,) = tick(world.keeper(), [WWW], Ask(by_name=True, force=True)).outcomes

    assert outcome.outcome == "renewed"
    assert held(world).pinned_since is None


def test_a_released_name_is_renewed_at_its_time_again() -> None:
    world = renewed()
    rollback(world.keeper(), "www")
    world.clock.later(70 * DAY)
    tick(world.keeper(), [WWW])

    released = release(world.keeper(), "www")
    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert released.pinned_since is None
    assert outcome.outcome == "renewed"


def test_the_window_that_every_certificate_has_does_not_end_a_pin() -> None:
    world = renewed()
    issued = world.clock.now() - 2 * DAY
    world.information.answers["fake.0001"] = Window(
        issued + 59.1 * DAY, issued + 60.9 * DAY, world.clock.now() + timedelta(hours=6)
    )
    rollback(world.keeper(), "www")

    assert list(ticking(world, 75 * DAY)) == []


def released(age: int, renewals: int) -> tuple[World, Keeper]:
    """A first certificate of that age, let go after it was rolled back to from the last of so many renewals, of whose
    names only the reserve is left; the window that every certificate has passed long ago.
    """
    world = World()
    tick(world.keeper(), [WWW])
    begun = world.clock.now()
    world.clock.later(59 * DAY)
    keeper = replace(world.keeper(), limits={CA: Limits(exact_set=Limit(renewals + 1, 100 * DAY))})
    world.information.answers["fake.0001"] = Window(begun + 58.5 * DAY, begun + 60.5 * DAY, begun + 90 * DAY)
    world.clock.later((age - 59) * DAY)
    for _ in range(renewals):
        tick(keeper, [WWW], Ask(force=True))
    (*_, first) = history(keeper, "www")
    rollback(keeper, "www", first.revision)
    release(keeper, "www")
    return world, keeper


def test_a_window_that_has_passed_before_a_rollback_is_no_emergency_and_spends_no_reserve() -> None:
    world, keeper = released(age=65, renewals=2)
    world.information.answers["fake.0001"] = Window(START + 58.5 * DAY, START + 60.5 * DAY, START + 90 * DAY)

    (planned,) = plan(keeper, [WWW])
    (outcome,) = tick(keeper, [WWW]).outcomes
    (spending,) = tick(keeper, [WWW], Ask(by_name=True, spend_reserve=True)).outcomes

    assert (outcome.outcome, planned.action) == ("waiting", "wait")
    assert outcome.reason.startswith("due since ")
    assert "for exactly these names is left" in (outcome.error or "")
    assert spending.outcome == "renewed"


def test_what_is_released_is_replaced_at_once_where_the_ca_wants_it_back_or_little_time_is_left() -> None:
    world, keeper = released(age=65, renewals=2)
    now = world.clock.now()
    world.information.answers["fake.0001"] = Window(now - 2 * MINUTE, now - MINUTE, now + DAY)
    world.records.delete("index")
    _, late = released(age=80, renewals=2)

    (revoked,) = tick(keeper, [WWW]).outcomes
    (overdue,) = tick(late, [WWW]).outcomes

    assert (revoked.outcome, revoked.reason) == ("renewed", "the CA wants it replaced")
    assert overdue.outcome == "renewed"


@pytest.mark.parametrize("age", [5, 59, 60, 75])
def test_a_revocation_ends_a_pin_at_once(age: int) -> None:
    world = renewed()
    rollback(world.keeper(), "www")
    world.clock.later(timedelta(days=age - 2))
    tick(world.keeper(), [WWW])
    now = world.clock.now()
    world.information.answers["fake.0001"] = Window(
        now - timedelta(hours=1), now - timedelta(minutes=30), now + timedelta(hours=6)
    )
    world.records.delete("index")

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert (outcome.outcome, outcome.reason) == ("renewed", "the CA wants it replaced")


def test_the_order_after_a_rollback_survives_that_the_predecessor_has_a_successor_already() -> None:
    world = renewed()
    world.authority.replaced.add("fake.0001")
    rollback(world.keeper(), "www")
    release(world.keeper(), "www")
    world.clock.later(65 * DAY)

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "renewed"


def test_a_revision_can_be_named_and_so_one_can_go_forward_again() -> None:
    world = renewed(times=3)
    first, second = history(world.keeper(), "www")[-1].revision, history(world.keeper(), "www")[-2].revision
    newest = held(world)

    serials = [rollback(world.keeper(), "www", revision).chain.serial_number for revision in (first, second)]
    back = rollback(world.keeper(), "www", newest.revision)

    assert serials == ["0001", "0002"]
    assert back.chain.serial_number == newest.chain.serial_number
    assert {one.certificate and one.certificate.chain.serial_number for one in history(world.keeper(), "www")} == {
        "0001",
        "0002",
        "0003",
        "0004",
    }


def test_a_certificate_that_was_lost_comes_back_from_the_history() -> None:
    world = renewed()
    world.records.delete("certificates/www")
    world.clock.later(timedelta(hours=1))

    rollback(world.keeper(), "www")

    assert held(world).chain.serial_number == "0001"


@pytest.mark.parametrize(
    ("days", "revision", "what"),
    [
        pytest.param(0, 7, "there is no revision 7 of www", id="no such revision"),
        pytest.param(87, None, "there is no earlier certificate", id="nothing in date for long enough"),
    ],
)
def test_what_cannot_be_made_current_is_refused_and_nothing_has_changed(
    days: int, revision: int | None, what: str
) -> None:
    world = renewed()
    world.clock.later(timedelta(days=days))
    before = dict(world.records.objects)

    with pytest.raises(SettingsError, match=what) as caught:
        rollback(world.keeper(), "www", revision)

    assert caught.value.hint == "see what there is: certkeeper history www"
    assert world.records.objects == before


def test_an_expired_revision_is_refused_with_its_reason() -> None:
    world = renewed(every=60 * DAY)
    world.clock.later(40 * DAY)
    (_, earlier) = history(world.keeper(), "www")

    with pytest.raises(SettingsError, match=f"revision {earlier.revision} of www cannot .* it is not in date"):
        rollback(world.keeper(), "www", earlier.revision)


def test_what_the_ca_has_said_of_an_earlier_one_is_kept_so_that_it_is_not_asked_twice() -> None:
    world = renewed()
    now = world.clock.now()
    world.information.answers["fake.0001"] = Window(now + 40 * DAY, now + 42 * DAY, now + timedelta(hours=6))
    rollback(world.keeper(), "www")
    asked = world.information.asked

    tick(world.keeper(), [WWW])
    release(world.keeper(), "www")
    tick(world.keeper(), [WWW])
    asked_before_it_is_time = world.information.asked - asked
    world.clock.later(timedelta(hours=6))
    tick(world.keeper(), [WWW])

    assert (asked_before_it_is_time, world.information.asked - asked) == (0, 1)


def test_what_the_ca_wants_replaced_is_refused() -> None:
    world = renewed()
    now = world.clock.now()
    world.information.answers["fake.0001"] = Window(now - timedelta(hours=1), now - timedelta(minutes=30), now)

    with pytest.raises(ChainError, match="may have been revoked"):
        rollback(world.keeper(), "www")

    assert held(world).chain.serial_number == "0002"


def test_a_document_whose_chain_is_another_one_is_refused() -> None:
    world = renewed()
    keeper = world.keeper()
    (_, earlier) = history(keeper, "www")
    assert earlier.certificate is not None
    keeper.history.remove("www", earlier.revision)
    keeper.history.keep(replace(earlier.certificate, chain=replace(earlier.certificate.chain, serial_number="beef")))

    with pytest.raises(ChainError, match="is not what its document says"):
        rollback(keeper, "www")


def test_a_second_rollback_without_a_revision_does_not_go_further_back_by_accident() -> None:
    world = renewed(times=3)
    rollback(world.keeper(), "www")

    with pytest.raises(SettingsError, match="pinned to an earlier certificate already"):
        rollback(world.keeper(), "www")


def test_what_is_not_pinned_cannot_be_released() -> None:
    with pytest.raises(SettingsError, match="www is not pinned"):
        release(renewed().keeper(), "www")


def test_an_order_that_was_begun_is_held_up_by_the_pin_and_finished_after_its_release() -> None:
    world = renewed()
    world.clock.later(DAY)

    def finalized(*args: Any) -> Order:
        world.authority.finalize(*args)
        raise Killed

    authority: Any = Altered(world.authority, finalize=finalized)
    with suppress(Killed):
        tick(replace(world.keeper(), authorities={CA: authority}), [WWW], Ask(force=True))
    begun = world.keeper().journal.read("www").entry.pending
    assert begun is not None

    rollback(world.keeper(), "www")
    pinned = [tick(world.keeper(), [WWW]).outcomes[0].outcome for _ in range(2)]
    still_there = world.keeper().journal.read("www").entry
    release(world.keeper(), "www")
    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert pinned == ["kept", "kept"]
    assert (still_there.pending, still_there.records, still_there.claim) == (begun, (), None)
    assert (outcome.outcome, outcome.reason) == ("renewed", "an earlier run began it")
    assert len(world.authority.issued) == 3
    assert world.dns.records == set()


def test_the_records_of_an_order_that_a_pin_holds_up_are_taken_away_and_the_order_is_not_finished() -> None:
    world = renewed()
    world.authority.proven.clear()
    for moment in range(1, 45):
        with suppress(Killed):
            tick(world.keeper(Fate(moment, True, killed)), [WWW], Ask(by_name=True, force=True))
        if world.dns.records:
            break
    begun = world.keeper().journal.read("www").entry
    assert begun.pending is not None and begun.records

    rollback(world.keeper(), "www")
    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    entry = world.keeper().journal.read("www").entry
    assert (outcome.outcome, held(world).chain.serial_number) == ("kept", "0001")
    assert (entry.pending, entry.records, entry.claim) == (begun.pending, (), None)
    assert world.dns.records == set()
    assert len(world.authority.issued) == 2


def test_a_tick_that_comes_while_a_rollback_is_at_work_leaves_the_name_alone() -> None:
    world = renewed(times=1, every=10 * DAY)
    world.clock.later(61 * DAY)
    world.clock.patience = timedelta(seconds=1)
    world.clock.later(timedelta(0))
    orders = world.authority.new_orders
    seen: list[Outcome] = []

    def write(path: str, data: bytes, version: str | None) -> str:
        if path == "certificates/www":
            seen.extend(tick(world.keeper(), [WWW]).outcomes)
        return world.records.write(path, data, version)

    records: Any = Altered(world.records, write=write)
    rollback(replace(world.keeper(), records=records, certificate_records=records), "www")

    assert [one.outcome for one in seen] == ["waiting"]
    assert world.authority.new_orders == orders


# Killed and paused anywhere.


@every_moment
def test_killed_anywhere_a_rollback_has_happened_or_not_and_can_be_repeated(moment: int, after: bool) -> None:
    world = renewed(times=3)
    target = history(world.keeper(), "www")[1].revision
    with suppress(Killed):
        rollback(world.keeper(Fate(moment, after, killed)), "www", target)
    serials = {one.certificate.chain.serial_number for one in history(world.keeper(), "www") if one.certificate}
    assert serials == {"0001", "0002", "0003", "0004"}
    in_between = held(world).chain.serial_number

    new = rollback(world.keeper(), "www", target) if in_between == "0004" else held(world)
    world.clock.later(timedelta(hours=1))
    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert in_between in ("0004", "0003")
    assert new.chain.serial_number == held(world).chain.serial_number == "0003"
    assert outcome.outcome == "kept"
    assert world.keeper().journal.read("www").entry.tidy
    assert len(world.authority.issued) == 4


@pytest.mark.parametrize("ask", [Ask(), Ask(by_name=True), Ask(by_name=True, force=True)], ids=["due", "name", "force"])
@every_moment
def test_a_rollback_that_is_paused_anywhere_while_a_tick_runs_ends_pinned_or_says_why(
    moment: int, after: bool, ask: Ask
) -> None:
    world = renewed(times=1)
    world.clock.later(59 * DAY)
    issued_before = len(world.authority.issued)

    def another() -> None:
        world.clock.later(timedelta(minutes=16))
        tick(world.keeper(), [WWW], ask)

    with suppress(SettingsError):
        rollback(world.keeper(Fate(moment, after, another)), "www")
    world.clock.later(timedelta(hours=1))
    tick(world.keeper(), [WWW])

    entry = world.keeper().journal.read("www").entry
    assert entry.claim is None and entry.records == () and entry.failure is None
    assert len(world.authority.issued) - issued_before <= 1
    serials = {one.certificate.chain.serial_number for one in history(world.keeper(), "www") if one.certificate}
    assert {"0001", "0002"} <= serials
    if held(world).pinned_since is None:
        assert ask.force and held(world).chain.serial_number == "0003"


@every_moment
def test_a_renewal_that_is_paused_anywhere_while_a_person_rolls_back_does_not_undo_it(moment: int, after: bool) -> None:
    world = renewed(times=1, every=10 * DAY)
    world.clock.later(61 * DAY)
    rolled: list[Certificate] = []
    fate = Fate(moment, after, lambda: rolled.append(rollback(world.keeper(), "www")))

    tick(world.keeper(fate), [WWW])

    entry = world.keeper().journal.read("www").entry
    assert entry.claim is None and entry.records == () and entry.failure is None
    assert world.dns.records == set()
    if fate.came:
        assert held(world).revision >= rolled[0].revision
        assert held(world).pinned_since is not None
    assert len(world.authority.issued) <= 3


def test_a_ca_that_fails_while_a_name_is_pinned_is_not_even_asked() -> None:
    world = renewed()
    rollback(world.keeper(), "www")
    world.authority.refuse = [AuthorityError("down", status=503)]
    world.clock.later(70 * DAY)

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.error is None


def test_a_certificate_that_comes_in_between_does_not_make_the_one_current_that_was_rolled_back_from() -> None:
    world = World()
    for _ in range(2):
        world.clock.later(timedelta(days=1))
        tick(world.keeper(), [WWW], Ask(by_name=True, force=True))
    writes: list[str] = []

    class Renewed:
        """A tick that is at its very last step when the rollback reads."""

        def __getattr__(self, method: str) -> Any:
            return getattr(world.records, method)

        def write(self, path: str, data: bytes, version: str | None) -> str:
            writes.append(path)
            if path == "certificates/www" and writes.count(path) == 1:
                between, at = world.keeper().certificates.read("www")
                assert between is not None
                days = Validity(between.chain.validity.not_before + DAY, between.chain.validity.not_after + DAY)
                chain = replace(between.chain, serial_number="00ff", validity=days)
                later = replace(between, chain=chain, revision=between.revision + 1)
                world.keeper().certificates.write(later, at)
            return world.records.write(path, data, version)

    keeper = world.keeper()
    records: Any = Renewed()

    new = rollback(replace(keeper, records=records, certificate_records=records), "www")

    assert new.chain.serial_number == "0001"


@every_moment
def test_what_the_ca_has_said_of_an_earlier_one_is_not_taken_for_said_of_what_replaces_it_meanwhile(
    moment: int, after: bool
) -> None:
    world = World()
    tick(world.keeper(), [WWW])
    world.clock.later(65 * DAY)
    tick(world.keeper(), [WWW])
    # The window that every certificate has, and that has passed for the earlier one.
    world.information.answers["fake.0001"] = Window(START + 58.5 * DAY, START + 60.5 * DAY, START + 90 * DAY)

    def another() -> None:
        tick(world.keeper(), [WWW], Ask(by_name=True, force=True))

    with suppress(SettingsError):
        rollback(world.keeper(Fate(moment, after, another)), "www", history(world.keeper(), "www")[1].revision)
    world.clock.later(timedelta(hours=1))
    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "kept"
