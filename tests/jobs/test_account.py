"""The ACME account: one for all names, sealed and stored before the CA hears of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from certkeeper.core.decision import Ask
from certkeeper.core.errors import AuthorityError
from certkeeper.core.model import Account, CertificateSpec, Outcome
from certkeeper.jobs.account import AccountDesk, established
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.tick import tick
from tests.fakes import API, CA, WWW, Altered, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def with_register(world: World, register: Any) -> Keeper:
    altered: Any = Altered(world.authority, register=register)
    return replace(world.keeper(), authorities={CA: altered})


def test_the_sealed_key_is_stored_before_the_ca_hears_of_it() -> None:
    world, stored = World(), []

    def register(account: Account) -> str:
        standing, _ = world.keeper().accounts.read(CA)
        stored.append(standing)
        return world.authority.register(account)

    account = established(with_register(world, register), CA)

    assert stored == [replace(account, url=None)]
    assert account.url == "https://ca.test/account/1"


def test_an_account_that_is_registered_is_used_without_a_word() -> None:
    world = World()
    first = established(world.keeper(), CA)

    def register(account: Account) -> str:
        raise AssertionError

    assert established(with_register(world, register), CA) == first


def test_a_run_killed_before_the_ca_answered_registers_the_same_key_next_time() -> None:
    world = World()

    def register(account: Account) -> str:
        raise AuthorityError("no answer")

    (outcome,) = tick(with_register(world, register), [WWW]).outcomes
    world.clock.later(HOUR)
    (again,) = tick(world.keeper(), [WWW]).outcomes

    assert (outcome.outcome, outcome.error, again.outcome) == ("failed", "no answer", "renewed")
    assert world.keys.account_keys == 1


def test_who_loses_the_race_to_create_it_uses_the_winners_key() -> None:
    world = World()
    winners: list[Account] = []

    def new_account_key(directory: str) -> Any:
        if not winners:
            winners.append(established(world.keeper(), directory))
        return world.keys.new_account_key(directory)

    keys: Any = Altered(world.keys, new_account_key=new_account_key)
    account = established(replace(world.keeper(), keys=keys), CA)

    assert [account] == winners
    assert len(world.authority.accounts) == 1


def test_two_who_register_the_same_key_at_once_have_one_account() -> None:
    world = World()
    other: list[Account] = []

    def register(account: Account) -> str:
        if not other:
            other.append(established(world.keeper(), CA))
        return world.authority.register(account)

    account = established(with_register(world, register), CA)

    assert [account] == other
    assert len(world.authority.accounts) == 1


def test_an_account_that_the_ca_has_forgotten_is_registered_again_with_the_same_key() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    before, _ = world.keeper().accounts.read(CA)
    world.authority.accounts.clear()
    world.clock.later(timedelta(days=61))

    failed = tick(world.keeper(), [WWW, API]).outcomes
    forgotten, _ = world.keeper().accounts.read(CA)
    world.clock.later(HOUR)
    again = tick(world.keeper(), [WWW, API]).outcomes

    assert {one.outcome for one in failed} == {"failed"}
    assert all("registers its key again" in (one.hint or "") for one in failed)
    assert before is not None and forgotten == replace(before, url=None)
    assert {one.outcome for one in again} == {"renewed"}
    assert world.keys.account_keys == 1


def test_an_order_of_the_forgotten_account_is_not_resumed_under_another_one() -> None:
    world = World()
    world.authority.processing = 1000
    tick(world.keeper(), [WWW])
    world.authority.accounts.clear()
    world.clock.later(HOUR)
    tick(world.keeper(), [WWW])
    world.authority.processing = 0
    world.authority.accounts[b"a stranger"] = "https://ca.test/account/1"
    world.clock.later(HOUR)

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "renewed"
    assert world.authority.new_orders == 2


def test_all_names_of_one_run_ask_for_the_account_once() -> None:
    world, asked = World(), []

    def register(account: Account) -> str:
        asked.append(account)
        raise AuthorityError("terms of service", kind="userActionRequired", status=403)

    outcomes = tick(with_register(world, register), [WWW, API]).outcomes

    assert [one.error for one in outcomes] == ["terms of service"] * 2
    assert len(asked) == 1


def test_a_ca_that_nobody_set_up_is_told() -> None:
    world = World()
    elsewhere = CertificateSpec("x", ("x.example.com",), "https://other.test/directory")

    (outcome,) = tick(world.keeper(), [elsewhere]).outcomes

    assert (outcome.outcome, outcome.error) == ("failed", "no CA is set up for https://other.test/directory")


def test_forgetting_an_account_that_is_not_there_does_nothing() -> None:
    world = World()

    AccountDesk(world.keeper()).forget_url(CA)

    assert world.records.objects == {}


def test_an_account_whose_url_was_lost_is_found_by_its_key_and_nothing_is_registered() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    account, version = world.keeper().accounts.read(CA)
    assert account is not None
    world.keeper().accounts.write(replace(account, url=None), version)

    def register(account: Account) -> str:
        raise AssertionError

    assert established(with_register(world, register), CA) == account


def test_a_deactivated_account_is_told_and_no_other_is_ever_made() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    world.authority.deactivated.add("https://ca.test/account/1")
    outcomes: list[Outcome] = []
    for _ in range(5):
        world.clock.later(DAY)
        outcomes += tick(world.keeper(), [WWW, API], Ask(by_name=True)).outcomes

    failed = [one for one in outcomes if one.name == "api"]
    assert {one.outcome for one in failed} == {"failed"}
    assert {one.error for one in failed} == {"the account has been deactivated"}
    assert all("remove accounts/ca.test-" in (one.hint or "") for one in failed)
    assert len(world.authority.accounts) == world.keys.account_keys == 1


def test_a_deactivated_account_whose_url_was_lost_is_not_replaced_either() -> None:
    world = World()
    account = established(world.keeper(), CA)
    world.authority.deactivated.add("https://ca.test/account/1")
    AccountDesk(world.keeper()).forget_url(CA)

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    stored, _ = world.keeper().accounts.read(CA)
    assert outcome.error == "the account has been deactivated"
    assert "remove accounts/ca.test-" in (outcome.hint or "")
    assert stored == replace(account, url=None)
    assert len(world.authority.accounts) == world.keys.account_keys == 1
