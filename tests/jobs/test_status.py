"""What an operator is told, and that it never disagrees with what a tick does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certkeeper.core import index as indexes
from certkeeper.core.ari import Window
from certkeeper.core.errors import AuthorityError, DocumentError, StoreError
from certkeeper.core.index import Facts
from certkeeper.core.journal import Claim, Entry
from certkeeper.core.model import Account, CertificateSpec, TxtRecord
from certkeeper.core.order import Challenge
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.status import Served, Status, plan, status
from certkeeper.jobs.survey import refreshed
from certkeeper.jobs.tick import tick
from tests.fakes import API, CA, START, WWW, Altered, FaultyRecords, Untouchable, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DOWN = AuthorityError("the CA at ca.test cannot be reached", "check the way out")


def status_of(world: World, spec: CertificateSpec = WWW) -> Status:
    (one,) = status(world.records, [spec], world.clock.now(), [spec.name]).statuses
    return one


def looking(world: World) -> Keeper:
    """A keeper that may read the store and nothing else."""
    nobody: Any = Untouchable()

    def forbidden(path: str, *_: object) -> None:
        raise AssertionError(f"{path} was changed")

    records: Any = Altered(world.records, write=forbidden, delete=forbidden)
    return replace(
        world.keeper(),
        records=records,
        certificate_records=records,
        authorities={CA: nobody},
        keys=nobody,
        challenge_records=nobody,
        zones=nobody,
        lookup=nobody,
    )


# Status.


def test_before_the_first_run_everything_is_missing_as_of_never() -> None:
    world = World()

    survey = status(world.records, [WWW, API], START)

    assert survey.as_of is None
    assert [(one.name, one.state, one.identifiers) for one in survey.statuses] == [
        ("www", "missing", WWW.identifiers),
        ("api", "missing", API.identifiers),
    ]
    assert all(one.bad for one in survey.statuses)


def test_what_is_held_is_told_in_full_as_of_the_last_run() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    noted = world.clock.now()

    one = status_of(world)

    assert status(world.records, [WWW], world.clock.now()).as_of == noted
    assert (one.state, one.serial_number, one.issuer, one.failures) == ("ok", "0001", "Fake CA", 0)
    assert one.not_before and one.not_after and one.renewal_time == one.not_before + 60 * DAY
    assert one.not_after - one.not_before == 90 * DAY
    assert not one.bad


def test_an_index_that_cannot_be_decoded_is_no_news_rather_than_missing_certificates() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    _, version, at = world.records.objects["index"]
    world.records.objects["index"] = (b"{", version, at)

    with pytest.raises(DocumentError, match="nothing is known"):
        status(world.records, [WWW], world.clock.now())


def test_plan_asks_the_ca_for_its_suggestion_as_the_tick_does() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    now = world.clock.now()
    world.information.answers["fake.0001"] = Window(now - timedelta(hours=2), now - timedelta(hours=1), now)

    (planned,) = plan(world.keeper(), [WWW])

    assert (planned.action, planned.reason) == ("renew", "the CA wants it replaced")


def test_status_reads_the_index_and_nothing_else() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    records = FaultyRecords(world.records, unreadable={"certificates/www", "journal/www", "certificates/", "journal/"})

    (one,) = status(records, [WWW], world.clock.now()).statuses

    assert one.state == "ok"


def test_a_store_that_cannot_be_read_is_no_status() -> None:
    records = FaultyRecords(World().records, unreadable={"index"})

    with pytest.raises(StoreError):
        status(records, [WWW], START)


@pytest.mark.parametrize(
    ("later", "state", "bad"),
    [
        pytest.param(59 * DAY, "ok", False, id="a day before its renewal time"),
        pytest.param(60 * DAY, "due", False, id="at its renewal time"),
        pytest.param(74 * DAY, "due", False, id="a day before half of the rest is gone"),
        pytest.param(75 * DAY, "overdue", True, id="when half of the rest is gone"),
        pytest.param(90 * DAY, "expired", True, id="at its end"),
    ],
)
def test_the_state_follows_the_time(later: timedelta, state: str, bad: bool) -> None:
    world = World()
    tick(world.keeper(), [WWW])
    issued = status_of(world).not_before
    assert issued is not None
    world.clock.later(issued + later - world.clock.now())

    one = status_of(world)

    assert (one.state, one.bad) == (state, bad)


def test_a_failure_is_told_with_its_hint_and_next_attempt() -> None:
    world = World()
    world.authority.refuse = [DOWN]
    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    one = status_of(world)

    assert (one.state, one.last_error, one.hint, one.failures) == ("failing", DOWN.message, DOWN.hint, 1)
    assert outcome.next_attempt is not None and one.next_attempt is not None
    assert abs(one.next_attempt - outcome.next_attempt) < timedelta(seconds=1)


def test_a_name_that_left_the_settings_is_retired_and_then_expired() -> None:
    world = World()
    tick(world.keeper(), [WWW, API])

    retired = status(world.records, [WWW], world.clock.now()).statuses
    expired = status(world.records, [WWW], world.clock.now() + 91 * DAY).statuses

    assert [(one.name, one.state, one.bad) for one in retired] == [("www", "ok", False), ("api", "retired", False)]
    assert [(one.name, one.state, one.bad) for one in expired] == [("www", "expired", True), ("api", "expired", True)]


def test_a_name_that_left_the_settings_without_ever_having_a_certificate_is_gone() -> None:
    world = World()
    world.authority.refuse = [DOWN]
    tick(world.keeper(), [WWW])

    assert status(world.records, [API], world.clock.now(), []).statuses[0].name == "api"
    assert status(world.records, [], world.clock.now(), ["www"]).statuses == ()


def test_what_cannot_be_read_is_told_as_unreadable() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    records = FaultyRecords(world.records, instead={"certificates/www": b"garbage"})
    records.records.write("certificates/www", b"other", world.records.objects["certificates/www"][1])
    tick(replace(world.keeper(), records=records, certificate_records=records), [WWW])

    one = status_of(world)

    assert (one.state, one.bad) == ("unreadable", True)
    assert one.last_error == "the document is not JSON in UTF-8"


def test_names_may_be_chosen() -> None:
    world = World()
    tick(world.keeper(), [WWW, API])

    survey = status(world.records, [WWW, API], world.clock.now(), ["api"])

    assert [one.name for one in survey.statuses] == ["api"]


@pytest.mark.parametrize(
    ("served", "bad"),
    [
        pytest.param((), False, id="nobody was asked"),
        pytest.param((Served("example.com", "0001", same=True),), False, id="what is stored is served"),
        pytest.param((Served("example.com", "0002", same=False),), True, id="something else is served"),
        pytest.param((Served("example.com", None, same=False, error="refused"),), True, id="nothing is served"),
    ],
)
def test_serving_something_else_is_bad_news(served: tuple[Served, ...], bad: bool) -> None:
    assert Status("www", ("example.com",), "ok", served=served).bad is bad


# The index behind it.


def test_a_stale_index_is_read_again_where_versions_differ_and_only_there() -> None:
    world = World()
    tick(world.keeper(), [WWW, API])
    keeper = world.keeper()
    certificate, version = keeper.certificates.read("api")
    assert certificate is not None
    keeper.certificates.write(replace(certificate, revision=certificate.revision + 1), version)
    reads: list[str] = []

    def read(path: str) -> Any:
        reads.append(path)
        return world.records.read(path)

    records: Any = Altered(world.records, read=read)
    refreshed(replace(keeper, records=records, certificate_records=records))

    assert sorted(reads) == ["certificates/api", "index", "journal/api"]


def test_a_name_that_is_gone_from_the_store_is_gone_from_what_a_tick_knows() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    for path in ("certificates/www", "journal/www"):
        world.records.delete(path)

    assert dict(refreshed(world.keeper()).facts) == {}


def test_a_name_that_is_gone_from_the_store_is_gone_from_the_index_too() -> None:
    world = World()
    tick(world.keeper(), [WWW, API])
    world.records.delete("certificates/api")
    world.records.delete("journal/api")

    tick(world.keeper(), [WWW])

    assert set(indexes.read(world.records)[0].facts) == {"www"}


@pytest.mark.parametrize("object_key", ["certificates/", "journal/", "certificates/old/", "journal/.DS_Store"])
def test_what_cannot_be_a_name_is_none_of_ours_and_in_no_index(object_key: str) -> None:
    world = World()
    tick(world.keeper(), [WWW])
    world.records.write(object_key, b"", None)
    keeper = world.keeper()
    index, version = indexes.read(world.records)
    phantom = Facts(unreadable="of a version that took it for a name")
    indexes.write(world.records, replace(index, facts={**index.facts, object_key.partition("/")[2]: phantom}), version)

    tick(keeper, [WWW])

    assert set(indexes.read(world.records)[0].facts) == {"www"}


def test_two_runs_that_note_at_once_lose_nothing() -> None:
    world = World()
    happened: list[str] = []

    def write(path: str, data: bytes, version: str | None) -> str:
        if path == "index" and not happened:
            happened.append(path)
            tick(world.keeper(), [API])
        return world.records.write(path, data, version)

    records: Any = Altered(world.records, write=write)
    tick(replace(world.keeper(), records=records, certificate_records=records), [WWW])

    index, _ = indexes.read(world.records)
    assert set(index.facts) == {"www", "api"} and happened


def test_every_tick_says_that_it_was_there() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    world.clock.later(5 * HOUR)

    tick(world.keeper(), [WWW])

    assert status(world.records, [WWW], world.clock.now()).as_of == world.clock.now()


# Plan, and that status, plan and tick agree.


def before_anything(world: World) -> None:
    pass


def after_a_first_run(world: World) -> None:
    tick(world.keeper(), [WWW])


def when_due(world: World) -> None:
    tick(world.keeper(), [WWW])
    world.clock.later(61 * DAY)


def when_expired(world: World) -> None:
    tick(world.keeper(), [WWW])
    world.clock.later(91 * DAY)


def paused_by_a_failure(world: World) -> None:
    world.authority.refuse = [DOWN]
    tick(world.keeper(), [WWW])


def paused_by_the_ca(world: World) -> None:
    world.authority.refuse = [AuthorityError("too many", kind="rateLimited", status=429, retry_after=7200.0)]
    tick(world.keeper(), [WWW])
    world.clock.later(HOUR)


def after_the_pause(world: World) -> None:
    paused_by_a_failure(world)
    world.clock.later(HOUR)


def with_an_order_under_way(world: World) -> None:
    def answer(account: Account, challenge: Challenge) -> None:
        world.clock.time = world.clock.deadline

    altered: Any = Altered(world.authority, answer=answer)
    tick(replace(world.keeper(), authorities={CA: altered}), [WWW])
    world.clock.later(HOUR)


def with_leftovers(world: World) -> None:
    tick(world.keeper(), [WWW])
    keeper = world.keeper()
    leftover = TxtRecord("Z1", "_acme-challenge.example.com", "x")
    keeper.journal.write("www", Entry(records=(leftover,)), keeper.journal.read("www").version)


def with_a_claim_that_has_run_out(world: World) -> None:
    world.keeper().journal.write("www", Entry(claim=Claim("somebody", HOUR)), None)
    world.clock.later(2 * HOUR)


SCENES = [
    pytest.param(before_anything, "renew", "renewed", {"missing"}, id="before anything"),
    pytest.param(after_a_first_run, "keep", "kept", {"ok"}, id="after a first run"),
    pytest.param(when_due, "renew", "renewed", {"due"}, id="when due"),
    pytest.param(when_expired, "renew", "renewed", {"expired"}, id="when expired"),
    pytest.param(paused_by_a_failure, "wait", "waiting", {"failing"}, id="paused by a failure"),
    pytest.param(paused_by_the_ca, "wait", "waiting", {"failing"}, id="paused by the CA"),
    pytest.param(after_the_pause, "renew", "renewed", {"failing"}, id="after the pause"),
    pytest.param(with_an_order_under_way, "resume", "renewed", {"missing"}, id="with an order under way"),
    pytest.param(with_leftovers, "keep", "kept", {"ok"}, id="with leftovers"),
    pytest.param(with_a_claim_that_has_run_out, "resume", "renewed", {"missing"}, id="with a claim that has run out"),
]


@pytest.mark.parametrize(("arrange", "action", "outcome", "states"), SCENES)
def test_plan_says_what_the_tick_then_does_and_status_what_there_is(
    arrange: Any, action: str, outcome: str, states: set[str]
) -> None:
    world = World()
    arrange(world)
    before = dict(world.records.objects)

    (planned,) = plan(looking(world), [WWW])
    told = status_of(world)
    untouched = dict(world.records.objects)
    (done,) = tick(world.keeper(), [WWW]).outcomes

    assert (planned.action, done.outcome) == (action, outcome)
    assert told.state in states
    assert untouched == before
    if outcome == "waiting":
        assert planned.until == told.next_attempt == done.next_attempt
        assert planned.last_error == told.last_error == done.error
    if outcome == "kept":
        assert planned.until == told.renewal_time == done.next_attempt


def test_plan_says_what_would_fail() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    version = world.records.objects["journal/www"][1]
    world.records.write("journal/www", b"garbage", version)

    (planned,) = plan(looking(world), [WWW])

    assert planned.action == "look"
    assert "it would fail: the journal entry of www cannot be read" in planned.reason


def test_plan_reads_afresh_and_not_from_an_old_index() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    world.records.delete("certificates/www")

    (planned,) = plan(looking(world), [WWW])

    assert (planned.action, planned.reason) == ("renew", "not issued yet")


def test_the_index_keeps_everything_that_decides() -> None:
    world = World()
    world.authority.refuse = [AuthorityError("too many", kind="rateLimited", status=429, retry_after=7200.0)]
    tick(world.keeper(), [WWW, API])

    noted, _ = indexes.read(world.records)
    fresh = refreshed(replace(world.keeper(), records=world.records))

    again = indexes.decode(indexes.encode(replace(noted, facts=fresh.facts)))
    assert again == noted
