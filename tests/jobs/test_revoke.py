"""Revoking: replaced first and then revoked, each exactly once, whatever happens in between."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certkeeper.core.budget import Limit, Limits
from certkeeper.core.decision import Ask
from certkeeper.core.errors import AuthorityError, SettingsError
from certkeeper.core.model import Account, Certificate, CertificateSpec, FallbackCa, GivenUp, TxtRecord
from certkeeper.jobs.history import history, rollback
from certkeeper.jobs.revoke import is_done, wish, withdraw, without_replacement
from certkeeper.jobs.rollover import rolled_over
from certkeeper.jobs.status import plan, status
from certkeeper.jobs.tick import tick
from tests.fakes import CA, SECOND_CA, WWW, Altered, FakeClock, FakeSealer, Fate, Killed, World, every_moment, killed

MOMENTS = range(1, 50)
REUSING = replace(WWW, reuse_private_key=True)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def held(world: World) -> Certificate:
    certificate, _ = world.keeper().certificates.read("www")
    assert certificate is not None
    return certificate


def issued(spec: Any = WWW, times: int = 1) -> World:
    world = World()
    for _ in range(times):
        world.clock.later(DAY)
        tick(world.keeper(), [spec], Ask(force=True))
    return world


def serials(world: World) -> list[str]:
    kept = history(world.keeper(), "www")
    return [one.certificate.chain.serial_number for one in kept if one.certificate]


def test_a_tick_replaces_what_is_to_be_revoked_and_then_revokes_it() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    (planned,) = plan(world.keeper(), [WWW])
    (seen,) = status(world.records, [WWW], world.clock.now()).statuses

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert (planned.action, planned.reason) == ("resume", "to be revoked: superseded")
    assert seen.state == "due"
    assert (outcome.outcome, outcome.reason) == ("renewed", "to be revoked: superseded; 0001 is revoked")
    assert world.authority.revoked == {"0001": 4}
    assert serials(world) == ["0002"]
    assert world.keeper().journal.read("www").entry.tidy
    assert is_done(world.keeper(), "www")
    assert tick(world.keeper(), [WWW]).outcomes[0].outcome == "kept"


def test_it_is_not_revoked_before_it_is_replaced() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    world.authority.refuse = [AuthorityError("down", status=503)]

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "failed"
    assert world.authority.revoked == {}
    world.clock.later(HOUR)
    tick(world.keeper(), [WWW])
    assert world.authority.revoked == {"0001": 4}


def test_a_name_that_waits_for_its_next_attempt_is_not_revoked_meanwhile_though_there_is_something_to_tidy_up() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    world.authority.refuse = [AuthorityError("slow down", kind="rateLimited", status=429, retry_after=7200)]
    tick(world.keeper(), [WWW])
    read = world.keeper().journal.read("www")
    left = TxtRecord("Z1", "_acme-challenge.example.com", "left")
    world.keeper().journal.write("www", replace(read.entry, records=(left,)), read.version)

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "waiting"
    assert world.keeper().journal.read("www").entry.records == ()
    assert world.authority.revoked == {}


def test_a_ca_that_cannot_revoke_now_is_asked_again_by_every_tick_and_nothing_else_is_done_twice() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")

    def down(*args: Any) -> None:
        raise AuthorityError("the CA cannot be reached")

    authority: Any = Altered(world.authority, revoke=down)
    (first,) = tick(replace(world.keeper(), authorities={CA: authority}), [WWW]).outcomes
    world.clock.later(HOUR)
    (seen,) = status(world.records, [WWW], world.clock.now()).statuses

    (second,) = tick(world.keeper(), [WWW]).outcomes

    assert (first.outcome, first.error, first.serial_number) == ("failed", "the CA cannot be reached", "0002")
    assert seen.bad
    assert (second.outcome, second.reason) == ("kept", "not due yet; 0001 is revoked")
    assert len(world.authority.issued) == 2


def test_a_ca_that_does_not_revoke_is_not_passed_over_when_the_next_renewal_comes() -> None:
    world = issued()
    spec = replace(WWW, fallbacks=(FallbackCa(SECOND_CA),))
    wish(world.keeper(), "www", "superseded")

    def refused(*args: Any) -> None:
        raise AuthorityError("not for that reason", kind="badRevocationReason", status=400)

    authority: Any = Altered(world.authority, revoke=refused)
    keeper = replace(world.keeper(), authorities={CA: authority, SECOND_CA: world.second})
    begin = world.clock.now()
    while len(world.authority.issued) < 3 and not world.second.issued and world.clock.now() < begin + 70 * DAY:
        tick(keeper, [spec])
        world.clock.later(4 * HOUR)

    assert (len(world.authority.issued), world.second.issued) == (3, [])
    assert world.clock.now() <= begin + 60 * DAY + 8 * HOUR


def test_what_somebody_else_has_revoked_is_done() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    world.authority.revoked["0001"] = 0

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "renewed"
    assert is_done(world.keeper(), "www")


@pytest.mark.parametrize(("reason", "same"), [("keyCompromise", False), ("superseded", True)])
def test_a_compromised_private_key_is_not_used_again_though_the_settings_say_so(reason: str, same: bool) -> None:
    world = issued(REUSING, times=3)
    before = held(world)
    assert {one.certificate and one.certificate.request.spki_sha256 for one in history(world.keeper(), "www")} == {
        before.request.spki_sha256
    }

    wish(world.keeper(), "www", reason)
    tick(world.keeper(), [REUSING])

    assert (held(world).request.spki_sha256 == before.request.spki_sha256) == same
    assert world.authority.revoked == ({"0003": 4} if same else {"0001": 1, "0002": 1, "0003": 1})
    assert serials(world) == (["0004", "0002", "0001"] if same else ["0004"])


def test_an_order_that_was_begun_with_a_compromised_private_key_is_given_up() -> None:
    world = issued(REUSING)
    for moment in MOMENTS:
        with suppress(Killed):
            tick(world.keeper(Fate(moment, True, killed)), [REUSING], Ask(by_name=True, force=True))
        pending = world.keeper().journal.read("www").entry.pending
        if pending is not None:
            break
    assert pending is not None and pending.request == held(world).request

    wish(world.keeper(), "www", "keyCompromise")
    tick(world.keeper(), [REUSING], Ask(by_name=True))

    assert held(world).request.spki_sha256 != pending.request.spki_sha256
    assert is_done(world.keeper(), "www")


def test_an_earlier_one_can_be_revoked_and_what_is_current_stays() -> None:
    world = issued(times=2)
    (_, earlier) = history(world.keeper(), "www")

    wish(world.keeper(), "www", "cessationOfOperation", earlier.revision)
    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert (outcome.outcome, outcome.reason) == ("kept", "not due yet; 0001 is revoked")
    assert world.authority.revoked == {"0001": 5}
    assert serials(world) == ["0002"]
    assert len(world.authority.issued) == 2


def test_a_compromised_private_key_revokes_what_is_current_too_though_an_earlier_one_was_named() -> None:
    world = issued(REUSING, times=2)
    (_, earlier) = history(world.keeper(), "www")

    wish(world.keeper(), "www", "keyCompromise", earlier.revision)
    tick(world.keeper(), [REUSING])

    assert world.authority.revoked == {"0001": 1, "0002": 1}
    assert serials(world) == ["0003"]
    assert is_done(world.keeper(), "www")


@pytest.mark.parametrize("seconds", [None, 30 * 3600.0], ids=["failing", "told to wait"])
def test_what_is_replaced_already_is_revoked_though_what_is_current_cannot_be_renewed(seconds: float | None) -> None:
    world = issued(times=2)
    (_, earlier) = history(world.keeper(), "www")
    world.clock.later(61 * DAY)
    world.authority.refuse = [AuthorityError("no more", kind="rateLimited", status=429, retry_after=seconds)]
    tick(world.keeper(), [WWW])
    wish(world.keeper(), "www", "keyCompromise", earlier.revision)
    world.authority.refuse = [AuthorityError("no more", kind="rateLimited", status=429, retry_after=seconds)]

    (outcome,) = tick(world.keeper(), [WWW], Ask(by_name=True)).outcomes

    assert outcome.error == "no more"
    assert world.authority.revoked == {"0001": 1}
    failure = world.keeper().journal.read("www").entry.failure
    assert failure is not None and failure.error == "no more"


def test_what_was_renewed_is_told_as_renewed_though_no_time_was_left_to_revoke() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    stopped = FakeClock(world.clock.now())

    def stop(*args: Any) -> Any:
        chain = world.authority.download(*args)
        stopped.deadline = stopped.time
        return chain

    authority: Any = Altered(world.authority, download=stop)
    keeper = replace(world.keeper(), authorities={CA: authority}, clock=stopped)
    (outcome,) = tick(keeper, [WWW], Ask(by_name=True, force=True)).outcomes

    assert (outcome.outcome, outcome.unfinished, outcome.serial_number) == ("renewed", False, "0002")
    assert world.authority.revoked == {}
    tick(world.keeper(), [WWW])
    assert (world.authority.revoked, len(world.authority.issued)) == ({"0001": 4}, 2)


def test_revoking_a_pinned_certificate_ends_the_pin() -> None:
    world = issued(times=2)
    rollback(world.keeper(), "www")
    wish(world.keeper(), "www", "superseded")

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "renewed"
    assert world.authority.revoked == {"0001": 4}


def test_what_is_to_be_revoked_cannot_be_rolled_back_to() -> None:
    world = issued(times=2)
    (_, earlier) = history(world.keeper(), "www")
    wish(world.keeper(), "www", "superseded", earlier.revision)

    with pytest.raises(SettingsError, match="is to be revoked"):
        rollback(world.keeper(), "www")


def test_a_wish_may_be_repeated_and_another_one_must_wait() -> None:
    world = issued(times=2)
    (_, earlier) = history(world.keeper(), "www")
    first = wish(world.keeper(), "www", "superseded")

    assert wish(world.keeper(), "www", "superseded") == first
    assert wish(world.keeper(), "www", "unspecified") == replace(first, reason="unspecified")
    with pytest.raises(SettingsError, match="0002 is to be revoked first") as caught:
        wish(world.keeper(), "www", "superseded", earlier.revision)
    assert caught.value.hint == "finish that: certkeeper renew www"


def test_an_account_key_that_changes_while_it_is_revoked_has_nothing_forced_twice() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    keys_changed = 0

    def changed_meanwhile(*args: Any) -> None:
        nonlocal keys_changed
        keys_changed += 1
        if keys_changed == 1:
            rolled_over(world.keeper(), CA)
        world.authority.revoke(*args)

    authority: Any = Altered(world.authority, revoke=changed_meanwhile)
    keeper = replace(world.keeper(), authorities={CA: authority})
    tick(keeper, [WWW], Ask(by_name=True, force=True))
    tick(keeper, [WWW])

    assert len(world.authority.issued) == 2
    assert world.authority.revoked == {"0001": 4}


def test_who_means_what_is_current_is_not_given_an_earlier_one_that_is_still_to_be_revoked() -> None:
    world = issued(times=2)
    (_, earlier) = history(world.keeper(), "www")
    first = wish(world.keeper(), "www", "superseded", earlier.revision)

    with pytest.raises(SettingsError, match="0001 is to be revoked first"):
        wish(world.keeper(), "www", "keyCompromise")

    assert wish(world.keeper(), "www", "unspecified", earlier.revision) == replace(first, reason="unspecified")


def test_a_wish_may_be_repeated_when_it_is_replaced_and_not_revoked_yet() -> None:
    world = issued()
    first = wish(world.keeper(), "www", "superseded")

    def down(*args: Any) -> None:
        raise AuthorityError("the CA cannot be reached")

    authority: Any = Altered(world.authority, revoke=down)
    tick(replace(world.keeper(), authorities={CA: authority}), [WWW])
    assert held(world).chain.serial_number == "0002"

    assert wish(world.keeper(), "www", "unspecified") == replace(first, reason="unspecified", asked=True)


@pytest.mark.parametrize(
    ("days", "revision", "what"),
    [(0, 7, "nothing of www can be revoked"), (100, None, "has expired")],
    ids=["no such revision", "expired"],
)
def test_what_cannot_be_revoked_is_refused(days: int, revision: int | None, what: str) -> None:
    world = issued()
    world.clock.later(timedelta(days=days))
    before = dict(world.records.objects)

    with pytest.raises(SettingsError, match=what):
        wish(world.keeper(), "www", "superseded", revision)

    assert world.records.objects == before


def test_a_name_that_has_left_the_settings_is_revoked_without_a_replacement_when_a_person_says_so() -> None:
    world = issued()
    wish(world.keeper(), "www", "cessationOfOperation")
    tick(world.keeper(), [])
    untouched = dict(world.authority.revoked)

    without_replacement(world.keeper(), "www")

    assert untouched == {}
    assert world.authority.revoked == {"0001": 5}
    assert held(world).chain.serial_number == "0001"
    assert world.keeper().journal.read("www").entry.tidy


def test_the_reserve_may_be_spent_to_replace_what_is_to_be_revoked() -> None:
    limits = {CA: Limits(exact_set=Limit(2, 7 * DAY))}
    world = World()
    tick(replace(world.keeper(), limits=limits), [WWW])
    (refused,) = tick(replace(world.keeper(), limits=limits), [WWW], Ask(force=True)).outcomes
    wish(world.keeper(), "www", "keyCompromise")

    (outcome,) = tick(replace(world.keeper(), limits=limits), [WWW]).outcomes

    assert refused.outcome == "waiting"
    assert outcome.outcome == "renewed"


# Withdrawn.


@pytest.mark.parametrize("spec", [WWW, None], ids=["wanted", "retired"])
def test_a_wish_that_was_withdrawn_is_as_if_it_had_never_been(spec: CertificateSpec | None) -> None:
    world = issued()
    before = world.keeper().journal.read("www").entry
    wished = wish(world.keeper(), "www", "keyCompromise")

    assert withdraw(world.keeper(), "www") == wished

    (outcome,) = tick(world.keeper(), [WWW]).outcomes if spec else (None,)
    assert world.keeper().journal.read("www").entry == before
    assert outcome is None or outcome.outcome == "kept"
    assert (world.authority.revoked, len(world.authority.issued)) == ({}, 1)


def test_what_was_not_begun_for_anything_else_is_not_issued_when_the_wish_is_withdrawn() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    world.authority.proven.clear()
    world.dns.refuse = {"_acme-challenge.example.com"}
    tick(world.keeper(), [WWW])
    begun = world.keeper().journal.read("www").entry.pending
    world.dns.refuse = set()
    withdraw(world.keeper(), "www")
    world.clock.later(HOUR)

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert begun is not None and not begun.finalized
    assert (outcome.outcome, len(world.authority.issued)) == ("kept", 1)
    assert world.keeper().journal.read("www").entry.tidy


def test_what_is_not_to_be_revoked_cannot_be_withdrawn() -> None:
    with pytest.raises(SettingsError, match="nothing of www is to be revoked"):
        withdraw(issued().keeper(), "www")


def revoking_fails(world: World, error: AuthorityError) -> None:
    def failing(*args: Any) -> None:
        raise error

    authority: Any = Altered(world.authority, revoke=failing)
    tick(replace(world.keeper(), authorities={CA: authority}), [WWW])
    world.clock.later(HOUR)


def test_what_may_be_revoked_already_is_not_withdrawn_and_the_next_run_finishes_it() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    revoking_fails(world, AuthorityError("no answer"))
    revoking_fails(
        world, AuthorityError("not yours", kind="unauthorized", status=403)
    )  # it may be revoked all the same

    with pytest.raises(SettingsError, match="the CA has been asked to revoke 0001, and may have done so") as caught:
        withdraw(world.keeper(), "www")

    assert caught.value.hint == "finish that: certkeeper revoke www --reason superseded"
    tick(world.keeper(), [WWW], Ask(by_name=True))
    assert world.authority.revoked == {"0001": 4}


def test_what_the_ca_has_refused_to_revoke_can_be_withdrawn() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    revoking_fails(world, AuthorityError("not yours", kind="unauthorized", status=403))

    withdraw(world.keeper(), "www")
    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert (outcome.outcome, world.authority.revoked) == ("kept", {})
    assert world.keeper().journal.read("www").entry.tidy


def test_a_wish_ends_when_the_certificate_has_expired_whatever_its_ca_does() -> None:
    world = issued()
    wish(world.keeper(), "www", "superseded")
    revoking_fails(world, AuthorityError("no answer"))
    world.clock.later(90 * DAY)

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert (outcome.outcome, world.authority.revoked) == ("renewed", {})
    assert is_done(world.keeper(), "www")


@every_moment
def test_killed_anywhere_a_wish_is_withdrawn_or_not_and_it_can_be_said_again(moment: int, after: bool) -> None:
    world = issued()
    wish(world.keeper(), "www", "keyCompromise")
    with suppress(Killed):
        withdraw(world.keeper(Fate(moment, after, killed)), "www")

    with suppress(SettingsError):
        withdraw(world.keeper(), "www")
    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert (outcome.outcome, world.authority.revoked, len(world.authority.issued)) == ("kept", {}, 1)


@every_moment
def test_withdrawn_while_a_tick_is_paused_anywhere_nothing_is_revoked_or_it_is_told(moment: int, after: bool) -> None:
    world = issued()
    world.authority.proven.clear()
    wish(world.keeper(), "www", "keyCompromise")
    withdrawn: list[bool] = []

    def another() -> None:
        try:
            withdraw(world.keeper(), "www")
            withdrawn.append(True)
        except SettingsError:
            withdrawn.append(False)

    tick(world.keeper(Fate(moment, after, another)), [WWW])
    world.clock.later(HOUR)
    tick(world.keeper(), [WWW])

    entry = world.keeper().journal.read("www").entry
    assert world.authority.revoked == ({} if withdrawn == [True] else {"0001": 1})
    assert held(world).chain.serial_number not in world.authority.revoked
    assert len(world.authority.issued) <= 2
    assert entry.closed and entry.records == () and entry.failure is None
    assert world.dns.records == set()


# Orders for a compromised private key.


def finalized_and_killed(world: World) -> None:
    """A renewal was killed right after the CA had issued, before anybody knew of the certificate."""

    def finalized(*args: Any) -> None:
        world.authority.finalize(*args)
        raise Killed

    authority: Any = Altered(world.authority, finalize=finalized)
    with suppress(Killed):
        tick(replace(world.keeper(), authorities={CA: authority}), [REUSING], Ask(by_name=True, force=True))


def test_what_came_of_an_order_that_is_given_up_for_its_compromised_private_key_is_revoked_too() -> None:
    world = issued(REUSING)
    finalized_and_killed(world)
    wish(world.keeper(), "www", "keyCompromise")

    tick(world.keeper(), [REUSING], Ask(by_name=True))

    assert held(world).chain.serial_number == "0003"
    assert world.authority.revoked == {"0001": 1, "0002": 1}
    assert is_done(world.keeper(), "www")


def test_an_order_that_is_given_up_and_still_worked_on_keeps_the_wish_open() -> None:
    world = issued(REUSING)
    finalized_and_killed(world)
    (lost,) = (one for one in world.authority.orders.values() if one["chain"] and one["left"])
    lost["left"] = 1000
    wish(world.keeper(), "www", "keyCompromise")

    (first,) = tick(world.keeper(), [REUSING], Ask(by_name=True)).outcomes
    lost["left"] = 0
    tick(world.keeper(), [REUSING], Ask(by_name=True))

    assert (first.outcome, first.serial_number) == ("failed", "0003")
    assert "still at work on an order for the compromised private key" in (first.error or "")
    assert world.authority.revoked == {"0001": 1, "0002": 1}
    assert is_done(world.keeper(), "www")


def test_an_order_that_the_ca_hands_out_again_for_the_new_private_key_is_not_revoked() -> None:
    world = World(reuse_orders=True)
    tick(world.keeper(), [REUSING])

    def lost_on_its_way(*args: Any) -> None:
        raise Killed

    authority: Any = Altered(world.authority, finalize=lost_on_its_way)
    with suppress(Killed):
        tick(replace(world.keeper(), authorities={CA: authority}), [REUSING], Ask(by_name=True, force=True))
    wish(world.keeper(), "www", "keyCompromise")

    tick(world.keeper(), [REUSING], Ask(by_name=True))

    assert (held(world).chain.serial_number, held(world).order_url) == ("0002", "https://ca.test/order/2")
    assert world.authority.revoked == {"0001": 1}
    assert is_done(world.keeper(), "www")


def test_what_came_of_one_order_is_revoked_though_another_one_is_not_found() -> None:
    world = issued(REUSING)
    finalized_and_killed(world)
    wish(world.keeper(), "www", "keyCompromise")
    read = world.keeper().journal.read("www")
    assert read.entry.revocation is not None
    revocation = replace(read.entry.revocation, given_up=(GivenUp(CA, "https://ca.test/order/77"),))
    world.keeper().journal.write("www", replace(read.entry, revocation=revocation), read.version)

    tick(world.keeper(), [REUSING], Ask(by_name=True))

    left = world.keeper().journal.read("www").entry.revocation
    assert world.authority.revoked == {"0001": 1, "0002": 1}
    assert left is not None
    assert [one.url for one in left.given_up] == ["https://ca.test/order/77"]


def test_an_order_that_was_given_up_is_done_with_when_the_ca_has_not_found_it_for_a_week() -> None:
    world = issued(REUSING)
    finalized_and_killed(world)
    wish(world.keeper(), "www", "keyCompromise")
    lost = world.authority.orders.pop(list(world.authority.orders)[-1])
    world.authority.orders["somebody else's"] = {"names": (), "chain": None, "left": None, "dead": None}

    days = 0
    while not is_done(world.keeper(), "www"):
        (outcome,) = tick(world.keeper(), [REUSING], Ask(by_name=True)).outcomes
        world.clock.later(DAY)
        days += 1

    assert lost["chain"] is not None
    assert (days, outcome.outcome, outcome.serial_number) == (8, "kept", "0003")
    assert world.authority.revoked == {"0001": 1}


@pytest.mark.parametrize("named", [False, True], ids=["order", "certificate"])
def test_what_came_of_an_order_that_the_ca_finds_again_is_revoked(named: bool) -> None:
    world = issued(REUSING)
    finalized_and_killed(world)
    wish(world.keeper(), "www", "keyCompromise")
    if named:
        journal = world.keeper().journal
        read = journal.read("www")
        assert read.entry.pending is not None
        pending = replace(read.entry.pending, certificate_url=f"{read.entry.pending.url}/certificate")
        journal.write("www", replace(read.entry, pending=pending), read.version)

    def missing(account: Account, wanted: Any) -> Any:
        if getattr(wanted, "url", wanted) == "https://ca.test/order/2":
            raise AuthorityError("not found", kind="malformed", status=404)
        return (world.authority.download if hasattr(wanted, "url") else world.authority.fetch_order)(account, wanted)

    authority: Any = Altered(world.authority, fetch_order=missing, download=missing)
    for _ in range(6):
        (missed,) = tick(replace(world.keeper(), authorities={CA: authority}), [REUSING], Ask(by_name=True)).outcomes
        world.clock.later(DAY)
    revoked = dict(world.authority.revoked)
    tick(world.keeper(), [REUSING], Ask(by_name=True))

    assert "does not find what came of an order for the compromised private key" in (missed.error or "")
    assert (revoked, world.authority.revoked) == ({"0001": 1}, {"0001": 1, "0002": 1})
    assert is_done(world.keeper(), "www")


def test_what_came_of_an_order_of_a_name_that_nobody_wants_any_more_is_revoked_too() -> None:
    world = issued(REUSING)
    finalized_and_killed(world)
    wish(world.keeper(), "www", "keyCompromise")

    without_replacement(world.keeper(), "www")

    assert world.authority.revoked == {"0001": 1, "0002": 1}
    assert world.keeper().journal.read("www").entry.tidy


# Killed and paused anywhere.


def assert_replaced_and_revoked_once(world: World) -> None:
    entry = world.keeper().journal.read("www").entry
    assert len(world.authority.issued) == 2
    assert held(world).chain.serial_number == "0002"
    assert world.authority.revoked == {"0001": 1}
    assert entry.closed and entry.records == () and entry.failure is None
    assert world.dns.records == set()
    assert serials(world) == ["0002"]
    opened = FakeSealer().open(held(world).request.private_key, {"certkeeper-name": "www"})
    assert opened.startswith(b"private key")


def test_the_moments_cover_a_whole_revocation() -> None:
    world = issued()
    world.authority.proven.clear()
    wish(world.keeper(), "www", "keyCompromise")
    fate = Fate(MOMENTS.stop, after=False, happening=killed)

    tick(world.keeper(fate), [WWW])

    assert 25 < fate.calls < MOMENTS.stop
    assert_replaced_and_revoked_once(world)


@pytest.mark.parametrize("by_name", [False, True], ids=["schedule", "by name"])
@every_moment
def test_killed_anywhere_a_later_run_replaces_and_revokes_exactly_once(moment: int, after: bool, by_name: bool) -> None:
    world = issued(REUSING)
    world.authority.proven.clear()
    wish(world.keeper(), "www", "keyCompromise")
    with suppress(Killed):
        tick(world.keeper(Fate(moment, after, killed)), [REUSING], Ask(by_name=True))
    assert held(world).chain.serial_number == "0002" or world.authority.revoked == {}
    if not by_name:
        world.clock.later(HOUR)

    tick(world.keeper(), [REUSING], Ask(by_name=by_name))

    assert_replaced_and_revoked_once(world)


@every_moment
def test_paused_anywhere_while_another_runs_it_is_replaced_and_revoked_exactly_once(moment: int, after: bool) -> None:
    world = issued()
    world.authority.proven.clear()
    wish(world.keeper(), "www", "keyCompromise")

    def another() -> None:
        world.clock.later(timedelta(minutes=16))
        tick(world.keeper(), [WWW])

    tick(world.keeper(Fate(moment, after, another)), [WWW])

    assert_replaced_and_revoked_once(world)


@every_moment
def test_a_wish_that_was_killed_was_made_or_not_and_can_be_repeated(moment: int, after: bool) -> None:
    world = issued()
    with suppress(Killed):
        wish(world.keeper(Fate(moment, after, killed)), "www", "keyCompromise")

    wish(world.keeper(), "www", "keyCompromise")
    tick(world.keeper(), [WWW])

    assert_replaced_and_revoked_once(world)


@every_moment
def test_a_wish_that_comes_while_a_tick_is_paused_is_carried_out(moment: int, after: bool) -> None:
    world = issued()
    world.clock.later(65 * DAY)

    def wished() -> None:
        wish(world.keeper(), "www", "keyCompromise")

    fate = Fate(moment, after, wished)
    tick(world.keeper(fate), [WWW])
    if not fate.came:
        return
    world.clock.later(HOUR)
    tick(world.keeper(), [WWW])

    entry = world.keeper().journal.read("www").entry
    assert len(world.authority.revoked) == 1
    assert held(world).chain.serial_number not in world.authority.revoked
    assert entry.closed and entry.failure is None
    assert len(world.authority.issued) <= 3


@every_moment
def test_killed_anywhere_without_a_replacement_it_can_be_repeated(moment: int, after: bool) -> None:
    world = issued()
    wish(world.keeper(), "www", "keyCompromise")
    with suppress(Killed):
        without_replacement(world.keeper(Fate(moment, after, killed)), "www")

    without_replacement(world.keeper(), "www")

    assert world.authority.revoked == {"0001": 1}
    assert is_done(world.keeper(), "www")
