"""Look at everything that is stored, and change nothing: what `status`, `plan` and the tick start from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import MappingProxyType

from certkeeper import __version__
from certkeeper.core import index as indexes
from certkeeper.core.ari import Information, Silence, Window
from certkeeper.core.decision import Held
from certkeeper.core.document import is_name
from certkeeper.core.errors import Conflict, DocumentError, StoreError
from certkeeper.core.index import NOTHING, Facts, Index
from certkeeper.core.journal import Entry
from certkeeper.core.model import Certificate
from certkeeper.jobs.case import kept_elsewhere, told_of
from certkeeper.jobs.keeper import Keeper

TRIES = 3


def refreshed(keeper: Keeper) -> Index:
    """The index, with the facts of every name whose stored version has changed read again. Raises StoreError."""
    index, version = indexes.read(keeper.records)
    certificates, journal = keeper.certificates.versions(), keeper.journal.versions()
    names = sorted({*certificates, *journal})
    known = {name: index.facts.get(name, NOTHING) for name in names}
    changed = [name for name in names if known[name].versions != (certificates.get(name), journal.get(name))]
    # What cannot be a name is not ours: S3's console, for one, makes an object of each "folder".
    ours = [name for name in changed if is_name(name)]
    facts = {**known, **_still_informed(known, read_facts(keeper, ours))}
    for stranger in {*changed} - {*ours}:
        del facts[stranger]
    return replace(index, facts=facts, version=version, vanished=frozenset(index.facts) - frozenset(facts))


def without_index(keeper: Keeper, names: Iterable[str]) -> Index:
    """The facts of `names`, and of all others as far as the store lists them: what has been spent of the CAs' limits is
    to be known though the index is out of reach. Takes half of the time at most, lest a store that hangs takes it all.
    """
    half_time = keeper.clock.remaining() / 2
    try:
        names = {*names, *keeper.certificates.versions(), *keeper.journal.versions()}
    except StoreError:
        names = {*names}

    def read(name: str) -> Facts:
        if keeper.clock.remaining() < half_time:
            return Facts(unreadable="there was no time to read it")
        return _read_facts(keeper, name)

    ours = [name for name in sorted(names) if is_name(name)]
    found = keeper.side_by_side([partial(read, name) for name in ours])
    return Index(facts=dict(zip(ours, found, strict=True)))


def _still_informed(before: Mapping[str, Facts], now: Mapping[str, Facts]) -> dict[str, Facts]:
    """Facts that were read again, with what the CA has said of certificates that are the same as before."""
    return {name: _carried(before.get(name, NOTHING).held, facts) for name, facts in now.items()}


def _carried(before: Held | None, facts: Facts) -> Facts:
    if before is None or facts.held is None or before.certificate_id != facts.held.certificate_id:
        return facts
    return replace(facts, held=replace(facts.held, information=before.information))


def read_facts(keeper: Keeper, names: Iterable[str]) -> dict[str, Facts]:
    """The facts of these names as they are stored now. What cannot be read is said in the facts."""
    names = list(names)
    return dict(zip(names, keeper.side_by_side([partial(_read_facts, keeper, name) for name in names]), strict=True))


def _read_facts(keeper: Keeper, name: str) -> Facts:
    try:
        read = keeper.journal.read(name)
        certificate, version = keeper.certificates.read(name)
    except (StoreError, DocumentError) as error:
        return Facts(unreadable=error.message)
    return facts_of(keeper, name, (read.entry, read.version), (certificate, version))


def facts_of(
    keeper: Keeper, name: str, journal: tuple[Entry, str | None], kept: tuple[Certificate | None, str | None]
) -> Facts:
    """The facts of a name with this entry and this certificate, which are stored at these versions."""
    (entry, journal_version), (certificate, certificate_version) = journal, kept
    moved = kept_elsewhere(keeper, name, certificate, entry)
    return Facts(
        certificate_version=certificate_version,
        journal_version=journal_version,
        held=told_of(certificate, entry),
        failure=entry.failure,
        open=not entry.closed or bool(entry.records),
        unreadable=f"{moved.message}; {moved.hint}" if moved else None,
        account_url=certificate.account_url if certificate else None,
        issued=certificate.issued if certificate else (),
        spent=entry.spent,
        asked_to_wait=entry.asked_to_wait,
    )


def informed(keeper: Keeper, index: Index, names: Iterable[str]) -> Index:
    """The index, with renewal information asked for where it is time to (RFC 9773 section 4.3).

    Never after expiry, and no more often than the CA said.
    """
    now = keeper.clock.now()
    asking = [name for name in names if name in index.facts and _is_time(index.facts[name].held, now)]
    facts = dict(index.facts)
    answered = keeper.side_by_side([partial(_asked, keeper, facts[name], now) for name in asking])
    return replace(index, facts={**facts, **dict(zip(asking, answered, strict=True))})


def _asked(keeper: Keeper, facts: Facts, now: datetime) -> Facts:
    if facts.held is None or facts.held.certificate_id is None:
        return facts
    answer = keeper.renewal_information.ask(facts.held.ca, facts.held.certificate_id, now)
    if answer is None:
        return facts
    return replace(facts, held=replace(facts.held, information=_latest(facts.held.information, answer)))


def _is_time(held: Held | None, now: datetime) -> bool:
    if held is None or held.certificate_id is None or now >= held.validity.not_after:
        return False
    return held.information is None or now >= held.information.ask_again


def _latest(before: Information | None, answer: Information) -> Information:
    # A CA that falls silent has not taken its last word back.
    if isinstance(answer, Silence) and isinstance(before, Window):
        return replace(before, ask_again=answer.ask_again)
    return answer


def catch_up(keeper: Keeper, said: Mapping[str, Information] | None = None) -> None:
    """Have the index show what was just changed, and what the CA has `said` of certificates, by their certificate_id,
    so that it is not asked again before it wants to be. Raises nothing: the next run does it otherwise.
    """
    said = said or {}
    try:
        index = refreshed(keeper)
        # By now a name may have another certificate than the one that was asked about.
        informed = {
            name: replace(facts, held=replace(facts.held, information=one))
            for name, facts in index.facts.items()
            if facts.held is not None and (one := said.get(facts.held.certificate_id or ""))
        }
        _, trouble = note(keeper, replace(index, facts={**index.facts, **informed}), ())
    except StoreError as error:
        trouble = error
    if trouble is not None:
        keeper.tell("", f"status shows it only after the next run: {trouble.message}")


def note(
    keeper: Keeper, index: Index, touched: Iterable[str], closed: Mapping[str, Facts] = MappingProxyType({})
) -> tuple[Index, StoreError | None]:
    """Write the index down, with the touched names read again but for those whose facts are known; what was written.
    Not to be able to costs nothing but what `status` shows, so the error is returned.
    """
    again = read_facts(keeper, [name for name in touched if name not in closed])
    fresh = _still_informed(index.facts, {**again, **closed})
    stored, version = replace(index, facts={}), index.version
    for _ in range(TRIES):
        others = {name: facts for name, facts in stored.facts.items() if name not in index.vanished}
        noted = replace(
            stored,
            as_of=keeper.clock.now(),
            facts={**others, **index.facts, **fresh},
            versions={**stored.versions, keeper.door: __version__},
        )
        try:
            return replace(noted, version=indexes.write(keeper.records, noted, version)), None
        except Conflict:
            # Somebody else has noted other names meanwhile; versions tell what is stale, so a union is safe.
            try:
                stored, version = indexes.read(keeper.records)
            except StoreError as error:
                return noted, error
        except StoreError as error:
            return noted, error
    return noted, None
