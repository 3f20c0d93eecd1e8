"""Giving a certificate another name, where that needs no new certificate."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from certkeeper.adapters.store_keys import StoreSealer
from certkeeper.core.decision import Ask
from certkeeper.core.errors import SettingsError
from certkeeper.core.model import Certificate
from certkeeper.jobs.rename import copied, refuse, refuse_what_is_to_be_revoked
from certkeeper.jobs.revoke import wish
from certkeeper.jobs.tick import tick
from tests.fakes import WWW, Fate, Killed, World, every_moment, killed

OLD = replace(WWW, sealing="store")
NEW = replace(OLD, name="new")


def issued() -> World:
    world = World()
    world.keys.sealer = cast("Any", StoreSealer())
    tick(world.keeper(), [OLD])
    return world


def held(world: World, name: str) -> Certificate:
    certificate, _ = world.keeper().certificates.read(name)
    assert certificate is not None
    return certificate


def assert_held_under_both_names(world: World) -> None:
    old, new = held(world, "www"), held(world, "new")
    world.clock.later(timedelta(minutes=16))  # the claim of one that was killed has ended
    (outcome,) = tick(world.keeper(), [NEW]).outcomes
    assert (new.name, new.chain, new.request) == ("new", old.chain, old.request)
    assert new.revision > old.revision
    assert outcome.outcome == "kept"
    assert len(world.authority.issued) == 1
    assert world.keeper().journal.read("new").entry.tidy


def test_the_certificate_is_held_under_both_names_and_nothing_is_ordered() -> None:
    world = issued()

    taken = copied(world.keeper(), "www", "new")

    assert taken == held(world, "new")
    assert_held_under_both_names(world)


def test_what_has_an_order_that_may_be_paid_for_is_not_renamed_before_that_is_finished() -> None:
    world = issued()
    world.clock.later(timedelta(days=61))
    world.authority.processing = 1000
    tick(world.keeper(), [OLD])

    with pytest.raises(SettingsError, match="may be paid for") as refused:
        refuse(world.keeper(), OLD, "new")
    world.authority.orders["https://ca.test/order/2"]["left"] = 0
    tick(world.keeper(), [OLD], Ask(by_name=True))
    refuse(world.keeper(), OLD, "new")

    assert refused.value.hint == "finish that first: certkeeper renew www"
    assert len(world.authority.issued) == 2


def test_a_private_key_that_is_sealed_to_its_name_stays_where_it_is() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    before = dict(world.records.objects)

    taken = copied(world.keeper(), "www", "new")

    assert taken is None
    assert {path for path in world.records.objects if "new" in path} == set()
    assert world.records.objects["certificates/www"] == before["certificates/www"]


def test_what_the_new_name_holds_already_is_left_alone() -> None:
    world = issued()
    tick(world.keeper(), [NEW], Ask(by_name=True))
    before = held(world, "new")

    taken = copied(world.keeper(), "www", "new")

    assert taken == before == held(world, "new")


def test_what_is_to_be_revoked_gets_no_other_name_under_which_it_would_be_kept() -> None:
    world = issued()
    wish(world.keeper(), "www", "keyCompromise")

    with pytest.raises(SettingsError, match="www: 0001 is to be revoked first") as refused:
        refuse_what_is_to_be_revoked(world.keeper(), "www")
    with pytest.raises(SettingsError):
        copied(world.keeper(), "www", "new")

    assert refused.value.hint == "finish that: certkeeper revoke www --reason keyCompromise"
    assert world.keeper().certificates.read("new") == (None, None)
    assert world.keeper().journal.read("new").version is None


@every_moment
def test_killed_anywhere_it_can_be_repeated(moment: int, after: bool) -> None:
    world = issued()
    with suppress(Killed):
        copied(world.keeper(Fate(moment, after, killed)), "www", "new")

    copied(world.keeper(), "www", "new")

    assert_held_under_both_names(world)


@every_moment
def test_paused_anywhere_while_the_schedule_runs_a_good_certificate_is_held(moment: int, after: bool) -> None:
    world = issued()

    def another() -> None:
        world.clock.later(timedelta(minutes=16))
        tick(world.keeper(), [NEW])

    copied(world.keeper(Fate(moment, after, another)), "www", "new")

    world.clock.later(timedelta(hours=1))
    (outcome,) = tick(world.keeper(), [NEW]).outcomes
    assert outcome.outcome == "kept"
    assert len(world.authority.issued) <= 2
    assert world.keeper().journal.read("new").entry.tidy
    assert world.dns.records == set()
