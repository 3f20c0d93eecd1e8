"""Law 1: a store that cannot answer is never an empty one, and one object's trouble is one name's."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certkeeper.core import accounts
from certkeeper.core.decision import Ask
from certkeeper.core.document import parse_object
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.tick import tick
from tests.fakes import API, CA, START, WWW, Altered, FaultyRecords, World

ACCOUNT = accounts.path(CA)


def over(world: World, records: FaultyRecords) -> Keeper:
    return replace(world.keeper(), records=records, certificate_records=records)


def due(world: World) -> World:
    """Both names issued, both due again."""
    tick(world.keeper(), [WWW, API])
    world.clock.later(timedelta(days=61))
    return world


GARBAGE = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xff\xfe", id="no text"),
    pytest.param(b"[]", id="a list"),
    pytest.param(b'{"format": 1}', id="an empty document"),
    pytest.param(b'{"format": 2}', id="a format of the future"),
    pytest.param(b"[" * 100_000, id="a deep one"),
    pytest.param(b" " * 300_000, id="a large one"),
]


@pytest.mark.parametrize("path", ["journal/www", "certificates/www"])
def test_an_object_that_cannot_be_read_fails_its_name_and_no_other(path: str) -> None:
    world = due(World())
    records = FaultyRecords(world.records, unreadable={path})

    report = tick(over(world, records), [WWW, API])

    www, api = report.outcomes
    assert (www.outcome, www.error, www.hint) == ("failed", f"the store could not read {path}", "wait for the store")
    assert www.next_attempt is not None and www.next_attempt > world.clock.now()
    assert api.outcome == "renewed"
    assert report.trouble is None
    assert world.authority.new_orders == 3


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("path", ["journal/www", "certificates/www"])
def test_an_object_that_cannot_be_decoded_fails_its_name_and_no_other(path: str, garbage: bytes) -> None:
    world = due(World())
    records = FaultyRecords(world.records, instead={path: garbage})

    www, api = tick(over(world, records), [WWW, API]).outcomes

    assert (www.outcome, api.outcome) == ("failed", "renewed")
    assert www.error and www.hint
    assert world.authority.new_orders == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param('"claim": null', '"claim": {"holder": "x", "term_seconds": 1e300}', id="an endless claim"),
        pytest.param('"claim": null', '"claim": {"holder": "x", "term_seconds": NaN}', id="a claim of no number"),
        pytest.param('"claim": null', '"claim": {"holder": "x"}', id="a claim without a term"),
        pytest.param('"claim": null', '"claim": "mine"', id="a claim that is text"),
        pytest.param('"failure": null', '"failure": {"count": 1e999}', id="endless failures"),
        pytest.param('"pending": null', '"pending": {"url": "x"}', id="half an order"),
        pytest.param('"records": []', '"records": [["Z1", "name"]]', id="half a record"),
        pytest.param('"records": []', '"records": null', id="no records"),
    ],
)
def test_a_journal_with_a_hostile_field_fails_its_name_and_no_other(field: str, value: str) -> None:
    world = due(World())
    text = world.records.objects["journal/www"][0].decode()
    records = FaultyRecords(world.records, instead={"journal/www": text.replace(field, value).encode()})

    www, api = tick(over(world, records), [WWW, API]).outcomes

    assert value in text.replace(field, value)
    assert (www.outcome, www.error) == ("failed", "the journal entry of www cannot be read")
    assert "restore journal/www" in (www.hint or "")
    assert api.outcome == "renewed"


@pytest.mark.parametrize("garbage", [*GARBAGE, pytest.param(b'{"format": 1, "names": {"www": {}}}', id="half facts")])
def test_an_index_that_cannot_be_decoded_is_made_anew(garbage: bytes) -> None:
    world = due(World())
    records = FaultyRecords(world.records, instead={"index": garbage})

    report = tick(over(world, records), [WWW, API])

    assert [one.outcome for one in report.outcomes] == ["renewed", "renewed"]
    assert report.trouble is None
    assert world.records.objects["index"][0].startswith(b'{"format": 1')


def test_without_the_index_every_name_is_looked_at_itself() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    records = FaultyRecords(world.records, unreadable={"index"})

    report = tick(over(world, records), [WWW, API])

    assert [one.outcome for one in report.outcomes] == ["kept", "renewed"]
    assert report.trouble is not None and report.trouble.hint == "wait for the store"


def test_a_store_that_is_down_fails_every_name_and_orders_nothing() -> None:
    world = due(World())
    records = FaultyRecords(world.records, unreadable={""}, unwritable={""})
    before = dict(world.records.objects)

    report = tick(over(world, records), [WWW, API])

    assert report.trouble is not None
    assert [one.outcome for one in report.outcomes] == ["failed", "failed"]
    assert all(one.error and one.hint and one.next_attempt for one in report.outcomes)
    assert world.authority.new_orders == 2
    assert world.records.objects == before


def test_a_store_that_is_down_does_not_look_like_a_new_one() -> None:
    world = World()
    records = FaultyRecords(world.records, unreadable={""})

    tick(over(world, records), [WWW])

    assert (world.keys.account_keys, world.authority.new_orders) == (0, 0)


@pytest.mark.parametrize("held", [False, True])
def test_a_journal_that_cannot_be_written_fails_its_name_before_anything_is_ordered(held: bool) -> None:
    world = due(World()) if held else World()
    orders = world.authority.new_orders
    records = FaultyRecords(world.records, unwritable={"journal/www"})

    www, api = tick(over(world, records), [WWW, API]).outcomes

    assert (www.outcome, www.error) == ("failed", "the store could not write journal/www")
    assert www.hint == "wait for the store"
    assert api.outcome == "renewed"
    assert world.authority.new_orders == orders + 1
    assert world.clock.now() < START + timedelta(days=61, minutes=2)


def test_a_certificate_that_cannot_be_written_is_written_by_the_next_run_without_another_one() -> None:
    world = World()
    records = FaultyRecords(world.records, unwritable={"certificates/www"})
    (first,) = tick(over(world, records), [WWW]).outcomes
    world.clock.later(timedelta(hours=1))

    (second,) = tick(world.keeper(), [WWW]).outcomes

    assert (first.outcome, second.outcome) == ("failed", "renewed")
    assert len(world.authority.issued) == 1


def test_a_journal_that_cannot_be_closed_is_told_and_closed_by_the_next_run() -> None:
    world = World()

    def write(path: str, data: bytes, version: str | None) -> str:
        if path.startswith("certificates/"):
            records.unwritable.add("journal/www")
        return world.records.write(path, data, version)

    altered: Any = Altered(world.records, write=write)
    records = FaultyRecords(altered)
    (first,) = tick(over(world, records), [WWW]).outcomes

    (second,) = tick(world.keeper(), [WWW]).outcomes

    assert first.outcome == "renewed"
    assert "its journal could not be closed yet: the store could not write journal/www" in first.reason
    assert second.outcome == "kept"
    assert world.keeper().journal.read("www").entry.closed
    assert len(world.authority.issued) == 1


@pytest.mark.parametrize("garbage", GARBAGE)
def test_an_account_that_cannot_be_decoded_is_never_replaced(garbage: bytes) -> None:
    world = due(World())
    records = FaultyRecords(world.records, instead={ACCOUNT: garbage})

    outcomes = tick(over(world, records), [WWW, API]).outcomes

    assert [one.outcome for one in outcomes] == ["failed", "failed"]
    assert all(one.error and one.hint for one in outcomes)
    assert (world.keys.account_keys, world.authority.new_orders) == (1, 2)


def test_an_account_key_that_cannot_be_stored_is_never_shown_to_the_ca() -> None:
    world = World()
    records = FaultyRecords(world.records, unwritable={ACCOUNT})

    (outcome,) = tick(over(world, records), [WWW]).outcomes

    assert (outcome.outcome, outcome.error) == ("failed", f"the store could not write {ACCOUNT}")
    assert world.authority.accounts == {}


def test_an_index_that_cannot_be_written_spoils_nothing() -> None:
    world = World()
    records = FaultyRecords(world.records, unwritable={"index"})

    report = tick(over(world, records), [WWW])

    assert report.outcomes[0].outcome == "renewed"
    assert "index" not in world.records.objects


def test_a_certificate_that_was_removed_by_hand_is_issued_again() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    world.records.delete("certificates/www")
    (at_once,) = tick(world.keeper(), [WWW], Ask()).outcomes
    world.clock.later(timedelta(minutes=11))

    (outcome,) = tick(world.keeper(), [WWW], Ask()).outcomes

    assert at_once.error == "the store still shows an older certificate than was written"
    assert (outcome.outcome, outcome.reason) == ("renewed", "not issued yet")


def test_a_store_that_shows_an_older_certificate_than_was_written_is_not_believed() -> None:
    world = World()
    tick(world.keeper(), [WWW])
    old = world.records.objects["certificates/www"]
    world.clock.later(timedelta(days=61))
    tick(world.keeper(), [WWW])
    world.records.objects["certificates/www"] = old

    (outcome,) = tick(world.keeper(), [WWW]).outcomes

    assert outcome.error == "the store still shows an older certificate than was written"
    assert len(world.authority.issued) == 2


def test_nothing_that_is_stored_holds_a_clear_private_key() -> None:
    world = due(World())
    world.authority.processing = 1000
    tick(world.keeper(), [WWW])

    for path, (data, _, _) in world.records.objects.items():
        assert b"private key" not in data, path
    assert parse_object(world.records.objects["journal/www"][0])["pending"]
