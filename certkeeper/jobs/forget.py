"""Forget a name: its certificate, its history and what was under way are removed; its journal entry stays, closed.

The entry says so first. A tick that is under way with settings that still name it is overtaken, and then finds that it
has been forgotten. Killed anywhere, it is repeated.
"""

from __future__ import annotations

from dataclasses import replace

from certkeeper.core.journal import Claim, Entry, at_rest
from certkeeper.core.model import TxtRecord
from certkeeper.jobs import survey
from certkeeper.jobs.case import persistently
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.retired import taken_away


def is_stored(keeper: Keeper, name: str) -> bool:
    """Whether there is anything to forget. Raises StoreError, DocumentError."""
    read = keeper.journal.read(name)
    unfinished = not read.entry.forgotten and (read.entry.pending is not None or bool(read.entry.records))
    return unfinished or name in keeper.certificates.versions() or bool(keeper.history.revisions(name))


def forget(keeper: Keeper, name: str) -> bool:
    """Remove everything of a name but its closed journal entry; whether its TXT records are gone too. If not, they
    are noted there, and the next tick takes them away.

    The settings must not name it any more: the schedule would obtain it anew. Raises StoreError, DocumentError.
    """
    left = persistently(name, lambda: _forgotten(keeper, name))
    survey.catch_up(keeper)
    return not left


def _forgotten(keeper: Keeper, name: str) -> tuple[TxtRecord, ...]:
    read = keeper.journal.read(name)
    claim, known = Claim(keeper.holder, keeper.term), read.entry
    kept = at_rest(known, keeper.clock.now()).asked_to_wait
    entry = Entry(claim, records=known.records, spent=known.spent, forgotten=True, asked_to_wait=kept)
    version = keeper.journal.write(name, entry, read.version)
    left = taken_away(keeper, entry.records)
    keeper.certificates.remove(name)
    keeper.history.clear(name)
    entry = replace(entry, claim=None, records=tuple(one for one in entry.records if one in left))
    keeper.journal.write(name, entry, version)
    return entry.records
