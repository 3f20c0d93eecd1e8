"""Earlier certificates in the store."""

from __future__ import annotations

from dataclasses import replace

from certkeeper.core.history import History
from certkeeper.core.model import Certificate
from certkeeper.jobs.tick import tick
from tests.fakes import WWW, InMemoryRecords, World


def certificate(revision: int = 1, name: str = "www") -> Certificate:
    world = World()
    tick(world.keeper(), [WWW])
    held, _ = world.keeper().certificates.read("www")
    assert held is not None
    return replace(held, revision=revision, name=name)


def test_what_is_kept_is_the_same_document_and_keeping_it_again_changes_nothing() -> None:
    records = InMemoryRecords()
    kept = certificate(1700000000)

    History(records).keep(kept)
    before = dict(records.objects)
    History(records).keep(kept)

    assert list(records.objects) == ["history/www/1700000000"]
    assert records.objects == before
    assert History(records).read("www", 1700000000) == kept
    assert History(records).read("www", 1) is None


def test_only_the_newest_three_by_number_stay_and_only_of_this_name() -> None:
    records = InMemoryRecords()
    for revision in (9, 10, 100, 8):
        History(records).keep(certificate(revision))
    History(records).keep(certificate(1, "www.example.com"))

    History(records).prune("www")

    assert History(records).revisions("www") == (100, 10, 9)
    assert History(records).revisions("www.example.com") == (1,)


def test_objects_of_others_are_no_revisions() -> None:
    records = InMemoryRecords()
    records.write("history/www/notes", b"mine", None)
    records.write("history/www/-1", b"mine", None)

    assert History(records).revisions("www") == ()
