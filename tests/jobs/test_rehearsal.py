"""`renew --staging`: everything real but the store."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from certkeeper.core.errors import AuthorityError
from certkeeper.core.model import Outcome
from certkeeper.jobs.rehearsal import rehearse
from certkeeper.jobs.tick import tick
from tests.fakes import API, SECOND_CA, WWW, Fate, FaultyRecords, Killed, World, every_moment, killed

STAGED = replace(WWW, ca=SECOND_CA)


def rehearsed(world: World) -> Outcome:
    (outcome,) = rehearse(world.keeper(), [STAGED]).outcomes
    return outcome


def test_a_rehearsal_proves_everything_and_saves_nothing_but_the_account() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    before = dict(world.records.objects)

    outcome = rehearsed(world)

    assert (outcome.outcome, outcome.error) == ("rehearsed", None)
    assert outcome.reason == "the staging CA issued a certificate; nothing was saved"
    assert (outcome.serial_number, outcome.not_after, outcome.next_attempt) == (None, None, None)
    added = {path: stored for path, stored in world.records.objects.items() if before.get(path) != stored}
    assert [path.split("-")[0] for path in added] == ["accounts/second.test"]
    assert len(world.second.issued) == 1
    assert world.dns.records == set()


def test_every_rehearsal_proves_its_identifiers_anew_with_the_same_account() -> None:
    world = World()
    rehearsed(world)
    batches = world.dns.batches

    outcome = rehearsed(world)

    assert outcome.outcome == "rehearsed"
    assert world.dns.batches == batches + 1
    assert len(world.second.accounts) == 1


def test_a_failed_rehearsal_is_told_and_written_down_nowhere() -> None:
    world = World()
    world.dns.refuse.add("_acme-challenge.example.com")

    outcome = rehearsed(world)

    assert (outcome.outcome, outcome.error) == ("failed", "_acme-challenge.example.com is refused")
    assert outcome.next_attempt is None
    assert not [path for path in world.records.objects if not path.startswith("accounts/")]


def test_a_caa_refusal_comes_with_the_caveat_that_the_account_is_another() -> None:
    world = World()
    world.second.refuse.append(AuthorityError("CAA record for example.com prevents issuance", kind="caa", status=403))

    outcome = rehearsed(world)

    assert outcome.outcome == "failed"
    assert "accounturi" in (outcome.hint or "")


def test_two_names_are_rehearsed_together() -> None:
    world = World()

    report = rehearse(world.keeper(), [STAGED, replace(API, ca=SECOND_CA)])

    assert [one.outcome for one in report.outcomes] == ["rehearsed", "rehearsed"]


def test_a_store_that_cannot_be_read_has_no_account_to_rehearse_with() -> None:
    world = World()
    keeper = replace(world.keeper(), records=FaultyRecords(world.records, unreadable={""}))

    (outcome,) = rehearse(keeper, [STAGED]).outcomes

    assert outcome.outcome == "failed"
    assert world.second.new_orders == 0


@every_moment
def test_killed_anywhere_a_rehearsal_disturbs_no_name(moment: int, after: bool) -> None:
    world = World()
    tick(world.keeper(), [WWW])
    before = dict(world.records.objects)
    with suppress(Killed):
        rehearse(world.keeper(Fate(moment, after, killed)), [STAGED])
    world.clock.later(timedelta(hours=1))

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.outcome == "kept"
    names = [path for path in before if not path.startswith(("accounts/", "index"))]
    assert {path: world.records.objects[path] for path in names} == {path: before[path] for path in names}
