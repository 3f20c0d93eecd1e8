"""After a tick: the gauges of the deployment, and a notice to people about what they have not been told yet.

A notice is sent once for the same trouble. What was told is remembered in the index, after it was sent: should the
write fail, the next tick tells it again. The alarms on the gauges need none of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certkeeper.core import failures, gauges
from certkeeper.core import index as indexes
from certkeeper.core.budget import EXACT_SET, Limits
from certkeeper.core.errors import CertkeeperError
from certkeeper.core.failures import Failure
from certkeeper.core.gauges import Concern, Gauges, Notice
from certkeeper.core.index import Facts, Index
from certkeeper.core.model import CertificateSpec
from certkeeper.core.ports import Notices, Records
from certkeeper.jobs import status as statuses
from certkeeper.jobs.status import Status

URGENT = ("overdue", "expired")


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
) -> Watched:
    """Look at the index as the tick has left it. Raises nothing but programming errors."""
    survey = statuses.overview(index, specs, now, limits)
    concerns = [_concern(one, index.facts.get(one.name, Facts()).failure, now) for one in survey.statuses]
    counted = Gauges(
        failing=sum(one.failing for one in concerns),
        urgent=sum(one.urgent for one in concerns),
        budget_left=min(
            (each.whole for one in survey.statuses for each in one.budget if each.limit == EXACT_SET), default=None
        ),
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


def _concern(one: Status, failure: Failure | None, now: datetime) -> Concern:
    unreadable = one.state == "unreadable"
    return Concern(
        name=one.name,
        urgent=one.state in URGENT or _runs_out(one, now),
        failing=failure is not None or unreadable,
        since=failure.since if failure else None,
        needs_a_person=failure is not None and failures.needs_a_person(failure),
        serial_number=one.serial_number,
        not_after=one.not_after,
        error=one.last_error,
        hint=one.hint,
        next_attempt=one.next_attempt,
    )


def _runs_out(one: Status, now: datetime) -> bool:
    """A name that has left the settings is watched all the same, as long as it is stored."""
    if one.renewal_time is None or one.not_after is None:
        return False
    return now >= one.renewal_time + (one.not_after - one.renewal_time) / 2


def tried(notices: Notices, store: str, now: datetime) -> Notice:
    """Send a trial. Raises NoticeError."""
    trial = gauges.trial(store, now)
    notices.send(trial)
    return trial
