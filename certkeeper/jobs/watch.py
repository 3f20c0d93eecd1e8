"""After a tick: the gauges of the deployment, and a notice to people about what they have not been told yet.

A notice is sent once for the same trouble. What was told is remembered in the index, after it was sent: should the
write fail, the next tick tells it again. The alarms on the gauges need none of this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certkeeper.core import failures, gauges
from certkeeper.core import index as indexes
from certkeeper.core.budget import EXACT_SET, Limits
from certkeeper.core.decision import overdue
from certkeeper.core.errors import CertkeeperError
from certkeeper.core.gauges import Concern, Gauges, Notice
from certkeeper.core.index import NOTHING, Facts, Index
from certkeeper.core.model import CertificateSpec
from certkeeper.core.ports import Notices, Records


@dataclass(frozen=True)
class Watched:
    """`trouble` is what kept a notice from being sent or remembered; it stops nothing."""

    gauges: Gauges
    sent: Notice | None = None
    trouble: CertkeeperError | None = None


def watch(
    records: Records,
    index: Index,
    specs: Sequence[CertificateSpec],
    now: datetime,
    store: str,
    notices: Notices | None,
    limits: Mapping[str, Limits] | None = None,
    failed: Collection[str] = (),
) -> Watched:
    """Look at the index as the tick has left it. Raises nothing but programming errors.

    `failed` are the names that failed in this tick, of which the index knows nothing where a failure could not be
    written down.
    """
    concerns = [one for name, facts in index.facts.items() if (one := _concern(name, facts, now))]
    # Be it that nothing fails, and only a limit or a CA that wants to wait is in the way.
    missing = [spec.name for spec in specs if index.facts.get(spec.name, NOTHING).held is None]
    counted = Gauges(
        failing=len({*failed, *missing, *(one.name for one in concerns if one.failing)}),
        urgent=sum(one.urgent for one in concerns),
        budget_left=_budget_left(index, specs, now, limits or {}),
    )
    marks = {f"{one.name} {mark}": one for one in concerns if (mark := gauges.mark(one, now))}
    new = [one for mark, one in marks.items() if mark not in index.noticed]
    if notices is None or (not new and index.noticed == frozenset(marks)):
        return Watched(counted)
    sent = gauges.notice(new, store, now) if new else None
    try:
        if sent is not None:
            notices.send(sent)
        indexes.write(records, replace(index, noticed=frozenset(marks)), index.version)
    except CertkeeperError as error:
        return Watched(counted, trouble=error)
    return Watched(counted, sent)


def _concern(name: str, facts: Facts, now: datetime) -> Concern | None:
    """None if all is well. A name that has left the settings is watched all the same, as long as it is stored."""
    held, failure = facts.held, facts.failure
    urgent = held is not None and overdue(held, now)
    failing = failure is not None or facts.unreadable is not None
    if not urgent and not failing:
        return None
    return Concern(
        name=name,
        urgent=urgent,
        failing=failing,
        since=failure.since if failure else None,
        needs_a_person=failure is not None and failures.needs_a_person(failure),
        serial_number=held.serial_number if held else None,
        not_after=held.validity.not_after if held else None,
        error=facts.unreadable or (failure.error if failure else None),
        hint=failure.hint if failure else None,
        next_attempt=failure.next_attempt if failure else None,
    )


def _budget_left(
    index: Index, specs: Sequence[CertificateSpec], now: datetime, limits: Mapping[str, Limits]
) -> int | None:
    """The least that is left of the limit for one set of names. Whoever has spent nothing has what everybody has, so
    one of these will do."""
    ledger = indexes.ledger_of(index, limits)
    spenders = [spec for spec in specs if (facts := index.facts.get(spec.name)) and (facts.spent or facts.issued)]
    budgets = (ledger.budget(EXACT_SET, spec, now) for spec in (*spenders, *specs[:1]))
    return min((one.whole for one in budgets if one is not None), default=None)


def tried(notices: Notices, store: str, now: datetime) -> Notice:
    """Send a trial. Raises NoticeError."""
    trial = gauges.trial(store, now)
    notices.send(trial)
    return trial
