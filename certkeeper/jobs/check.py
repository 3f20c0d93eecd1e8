"""One line for a monitoring system, by the states that `status` shows. Pure.

The form is that of the Monitoring Plugins development guidelines: a word, what it is about, and performance data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certkeeper.core.document import written
from certkeeper.jobs.status import Status, Survey

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
LISTED = 5
STALE = timedelta(hours=6)
"""How old the index may be: six runs of the schedule have not come to their end."""


@dataclass(frozen=True)
class Checked:
    """An exit status and its line."""

    code: int
    line: str


def check(survey: Survey, now: datetime, warn: float, critical: float) -> Checked:
    """Judge every certificate by the share of its lifetime that is left: `warn` and `critical` lie between 0 and 1."""
    if survey.as_of is None:
        return unknown("no run has noted anything yet")
    judged = [(one, *_judged(one, now, warn, critical)) for one in survey.statuses]
    bad = sorted(((code, one.name, why) for one, code, why in judged if code), key=lambda it: -it[0])
    code = bad[0][0] if bad else OK
    said = [f"{name}: {why}" for _, name, why in bad[:LISTED]]
    if len(bad) > LISTED:
        said.append(f"and {len(bad) - LISTED} more")
    if now - survey.as_of > STALE:
        code = max(code, WARNING)
        said.append(f"no run has noted anything since {written(survey.as_of)}")
    least = min((_left(one, now) for one in survey.statuses if one.not_after), default=None)
    if not said:
        said = [f"{len(judged)} certificate{'' if len(judged) == 1 else 's'}"]
        said += [f"at least {least:.0%} of the lifetime left"] if least is not None else []
    # "30:" is an alarm below 30.
    measured = [
        f"'{one.name}'={_left(one, now):.0%};{warn * 100:g}:;{critical * 100:g}:;0;100" for one in survey.statuses
    ]
    return Checked(code, f"CERTKEEPER {WORDS[code]} - {'; '.join(said)} | {' '.join(measured)}".rstrip(" |"))


def unknown(why: str) -> Checked:
    """Nothing can be said, and why."""
    return Checked(UNKNOWN, f"CERTKEEPER UNKNOWN - {why.replace('|', '/')}")


def _judged(one: Status, now: datetime, warn: float, critical: float) -> tuple[int, str]:
    left = _left(one, now)
    if one.state in ("missing", "expired", "unreadable") or one.not_after is None:
        return CRITICAL, one.state
    share = f"{left:.0%} of the lifetime left, until {written(one.not_after)}"
    if left <= critical:
        return CRITICAL, share
    if left <= warn or one.state == "overdue":
        return WARNING, share
    if one.state == "failing":
        return WARNING, f"the last attempt failed; {share}"
    if one.state == "retired":
        return WARNING, f"no longer in the settings; {share}"
    return OK, share


def _left(one: Status, now: datetime) -> float:
    """The share of the lifetime that is left; 0 if nothing is held or it has expired."""
    if one.not_before is None or one.not_after is None:
        return 0.0
    return max(0.0, min(1.0, (one.not_after - now) / (one.not_after - one.not_before)))
