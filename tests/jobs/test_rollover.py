"""A new account key: stored before the CA hears of it, and found out about whatever happens."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from certkeeper.core.decision import Ask
from certkeeper.core.errors import AuthorityError, SettingsError, StoreError
from certkeeper.core.model import Account, Sealed
from certkeeper.jobs.account import established
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.rollover import rolled_over, shown
from certkeeper.jobs.tick import tick
from tests.fakes import API, CA, WWW, Altered, Fate, Killed, World, every_moment, killed

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MOMENTS = range(1, 16)


def stored(world: World) -> Account:
    account, _ = world.keeper().accounts.read(CA)
    assert account is not None
    return account


def with_authority(world: World, **methods: Any) -> Keeper:
    altered: Any = Altered(world.authority, **methods)
    return replace(world.keeper(), authorities={CA: altered})


def in_use() -> World:
    world = World()
    tick(world.keeper(), [WWW])
    return world


def another_rollover(world: World) -> None:
    rolled_over(world.keeper(), CA)


def assert_one_account_with_one_good_key(world: World) -> None:
    account = stored(world)

    assert account.next_key is None
    assert world.authority.accounts == {account.private_key.blob: "https://ca.test/account/1"}
    assert account.url == "https://ca.test/account/1"


def test_the_account_has_the_new_key_and_the_old_one_opens_nothing() -> None:
    world = in_use()
    before = stored(world)

    after = rolled_over(world.keeper(), CA)

    assert after.private_key != before.private_key
    assert world.authority.find(before) is None
    assert_one_account_with_one_good_key(world)


def test_the_new_key_is_stored_beside_the_old_one_before_the_ca_hears_of_it() -> None:
    world = in_use()
    before, standing = stored(world), []

    def change_key(account: Account, new: Sealed) -> None:
        standing.append(stored(world))
        world.authority.change_key(account, new)

    after = rolled_over(with_authority(world, change_key=change_key), CA)

    assert standing == [replace(before, next_key=after.private_key)]


def test_a_lost_answer_is_found_out_about() -> None:
    world = in_use()

    def change_key(account: Account, new: Sealed) -> None:
        world.authority.change_key(account, new)
        raise AuthorityError("no answer")

    rolled_over(with_authority(world, change_key=change_key), CA)

    assert_one_account_with_one_good_key(world)


def test_a_refusal_is_told_and_both_keys_are_kept_until_it_succeeds() -> None:
    world = in_use()
    before = stored(world)

    def change_key(account: Account, new: Sealed) -> None:
        raise AuthorityError("the CA is in trouble", kind="serverInternal", status=500)

    with pytest.raises(AuthorityError, match="the CA is in trouble"):
        rolled_over(with_authority(world, change_key=change_key), CA)
    between = stored(world)
    renewed = tick(world.keeper(), [API]).outcomes[0]
    rolled_over(world.keeper(), CA)

    assert (between.private_key, between.next_key is None) == (before.private_key, False)
    assert renewed.outcome == "renewed"
    assert stored(world).private_key == between.next_key
    assert world.keys.account_keys == 2
    assert_one_account_with_one_good_key(world)


def test_a_ca_that_changes_no_keys_is_told_and_nothing_stays_unfinished() -> None:
    world = in_use()
    before = stored(world)

    def change_key(account: Account, new: Sealed) -> None:
        raise AuthorityError("not implemented", kind="rejectedIdentifier", status=501)

    with pytest.raises(AuthorityError, match="does not change account keys") as told:
        rolled_over(with_authority(world, change_key=change_key), CA)

    assert told.value.hint == "the account goes on with the key that it has"
    assert stored(world) == before
    assert_one_account_with_one_good_key(world)


@pytest.mark.parametrize("finish", ["another rollover", "a tick"])
@every_moment
def test_killed_anywhere_the_account_is_never_lost(moment: int, after: bool, finish: str) -> None:
    world = in_use()
    with suppress(Killed):
        rolled_over(world.keeper(Fate(moment, after, killed)), CA)

    if finish == "a tick":
        (outcome,) = tick(world.keeper(), [API]).outcomes
        assert outcome.outcome == "renewed"
        assert world.authority.find(established(world.keeper(), CA)) == "https://ca.test/account/1"
    rolled_over(world.keeper(), CA)

    assert_one_account_with_one_good_key(world)


def test_the_moments_cover_a_whole_rollover() -> None:
    world = in_use()
    fate = Fate(99, after=False, happening=killed)

    rolled_over(world.keeper(fate), CA)

    assert 8 < fate.calls < MOMENTS.stop


@pytest.mark.parametrize("force", [False, True])
@every_moment
def test_a_tick_that_is_overtaken_by_a_rollover_anywhere_goes_on_with_the_new_key(
    moment: int, after: bool, force: bool
) -> None:
    world = in_use()
    if not force:
        world.clock.later(61 * DAY)
    fate = Fate(moment, after, partial(another_rollover, world))

    (outcome,) = tick(world.keeper(fate), [WWW], Ask(force=force)).outcomes

    assert outcome.outcome == "renewed"
    assert len(world.authority.issued) == 2
    assert world.dns.records == set()
    assert world.keeper().journal.read("www").entry.tidy
    assert_one_account_with_one_good_key(world)


@every_moment
def test_a_tick_that_meets_a_rollover_killed_after_the_post_goes_on(moment: int, after: bool) -> None:
    world = in_use()
    world.clock.later(61 * DAY)

    def half() -> None:
        account, version = world.keeper().accounts.read(CA)
        assert account is not None
        account = replace(account, next_key=world.keys.new_account_key(CA))
        world.keeper().accounts.write(account, version)
        assert account.next_key is not None
        world.authority.change_key(account, account.next_key)

    (outcome,) = tick(world.keeper(Fate(moment, after, half)), [WWW]).outcomes

    assert outcome.outcome == "renewed"
    assert len(world.authority.issued) == 2
    rolled_over(world.keeper(), CA)
    assert_one_account_with_one_good_key(world)


def test_two_rollovers_at_once_end_with_one_key() -> None:
    world = in_use()
    moments = []
    for moment in MOMENTS:
        fate = Fate(moment, after=True, happening=partial(another_rollover, world))
        with suppress(StoreError, AuthorityError):
            rolled_over(world.keeper(fate), CA)
        rolled_over(world.keeper(), CA)
        assert_one_account_with_one_good_key(world)
        moments.append(fate.came)

    assert True in moments


def test_without_an_account_there_is_nothing_to_roll_over_and_none_is_made() -> None:
    world = World()

    with pytest.raises(SettingsError, match="there is no account at") as caught:
        rolled_over(world.keeper(), CA)

    assert "certkeeper renew" in (caught.value.hint or "")
    assert (shown(world.keeper(), CA), world.authority.accounts) == (None, {})


def test_a_ca_that_is_not_set_up_is_told() -> None:
    with pytest.raises(SettingsError, match="no CA is set up for https://other"):
        rolled_over(World().keeper(), "https://other.test/directory")


def test_a_ca_that_takes_both_keys_is_not_believed() -> None:
    world = in_use()

    def find(account: Account) -> str:
        return "https://ca.test/account/1"

    with pytest.raises(AuthorityError, match="still takes the old account key"):
        rolled_over(with_authority(world, find=find), CA)
    assert stored(world).next_key is not None
