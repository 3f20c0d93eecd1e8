"""Look at everything that is stored, and change nothing: what `status`, `plan` and the tick start from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from functools import partial

from certkeeper.core import index as indexes
from certkeeper.core.certificates import held
from certkeeper.core.errors import CertkeeperError, Conflict, DocumentError, StoreError
from certkeeper.core.index import Facts, Index
from certkeeper.jobs.keeper import Keeper

TRIES = 3


def refreshed(keeper: Keeper) -> Index:
    """The index, with the facts of every name whose stored version has changed read again. Raises StoreError."""
    index, _ = indexes.read(keeper.records)
    certificates, journal = keeper.certificates.versions(), keeper.journal.versions()
    names = sorted({*certificates, *journal})
    known = {name: index.facts.get(name, Facts()) for name in names}
    changed = [name for name in names if known[name].versions != (certificates.get(name), journal.get(name))]
    return replace(index, facts={**known, **read_facts(keeper, changed)})


def read_facts(keeper: Keeper, names: Iterable[str]) -> dict[str, Facts]:
    """The facts of these names as they are stored now. What cannot be read is said in the facts."""
    names = list(names)
    return dict(zip(names, keeper.side_by_side([partial(_facts_of, keeper, name) for name in names]), strict=True))


def _facts_of(keeper: Keeper, name: str) -> Facts:
    try:
        read = keeper.journal.read(name)
        certificate, version = keeper.certificates.read(name)
    except (StoreError, DocumentError) as error:
        return Facts(unreadable=error.message)
    entry = read.entry
    return Facts(
        certificate_version=version,
        journal_version=read.version,
        held=held(certificate),
        failure=entry.failure,
        open=not entry.closed or bool(entry.records),
        account_url=certificate.account_url if certificate else None,
        issued=certificate.issued if certificate else (),
    )


def note(keeper: Keeper, index: Index, touched: Iterable[str]) -> Index:
    """Write the index down, with the touched names read again. It is a cache: what fails here is tried next time."""
    touched = list(touched)
    fresh = read_facts(keeper, touched)
    for _ in range(TRIES):
        try:
            stored, version = indexes.read(keeper.records)
            # Somebody else may have noted other names meanwhile; versions tell what is stale, so a union is safe.
            index = Index(keeper.clock.now(), {**stored.facts, **index.facts, **fresh})
            indexes.write(keeper.records, index, version)
            return index
        except Conflict:
            continue
        except CertkeeperError:
            break
    return replace(index, as_of=keeper.clock.now(), facts={**index.facts, **fresh})


FRESH = timedelta(hours=3)
"""How old an index may be before `status` calls it old: no tick has completed for that long."""
