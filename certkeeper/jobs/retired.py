"""Names that have left the settings: what was under way for them is tidied up, what is held stays until forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from certkeeper.core.errors import CertkeeperError
from certkeeper.core.journal import Claim, Entry
from certkeeper.core.model import TxtRecord
from certkeeper.jobs.case import surprise
from certkeeper.jobs.keeper import Keeper


@dataclass(frozen=True)
class _Claimed:
    name: str
    entry: Entry
    version: str


def tidy(keeper: Keeper, names: Iterable[str]) -> None:
    """Take away the TXT records of these names, and claims that nobody holds any more. Raises nothing: what could not
    be done is told, stays in the journal, and is tried again by the next tick. A pending order stays, should the name
    come back.
    """
    claimed: list[_Claimed] = []
    for name in names:
        with _telling(keeper, name):
            claimed += _claimed(keeper, name)
    records = [record for one in claimed for record in one.entry.records]
    left = set(records)
    with _telling(keeper, ""):
        left = taken_away(keeper, records)
    for one in claimed:
        with _telling(keeper, one.name):
            remaining = tuple(record for record in one.entry.records if record in left)
            keeper.journal.write(one.name, replace(one.entry, claim=None, records=remaining), one.version)


@contextmanager
def _telling(keeper: Keeper, name: str) -> Iterator[None]:
    try:
        yield
    except CertkeeperError as error:
        keeper.tell(name, f"no longer in the settings, and could not be tidied up: {error.message}")
    except Exception as error:  # noqa: BLE001 - names that are still wanted must not suffer for it
        keeper.tell(name, f"no longer in the settings, and could not be tidied up: {surprise(error).message}")


def taken_away(keeper: Keeper, records: Sequence[TxtRecord]) -> set[TxtRecord]:
    """Take TXT records away; those that could not be. Raises nothing of DNS."""
    if not records:
        return set()
    with keeper.challenge_records.presenting([], records) as presented:
        pass
    return presented.left


def _claimed(keeper: Keeper, name: str) -> list[_Claimed]:
    read = keeper.journal.read(name)
    if read.held_by_another(keeper.holder) or not (read.entry.records or read.entry.claim):
        return []
    entry = replace(read.entry, claim=Claim(keeper.holder, keeper.term))
    return [_Claimed(name, entry, keeper.journal.write(name, entry, read.version))]
