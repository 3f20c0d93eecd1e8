"""What the whole deployment looks like in a few numbers, and which certificates a person should be told of. Pure.

The gauges go to CloudWatch as one line of the function's log (embedded metric format), one set for the deployment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from certkeeper.core.document import written

NAMESPACE = "certkeeper"
DIMENSION = "Deployment"
LASTING = timedelta(days=1)
LISTED = 20
LONGEST_SUBJECT = 100  # SNS, Publish: fewer than 100 printable ASCII letters


@dataclass(frozen=True)
class Concern:
    """A certificate that is not well: `urgent` if less than half of the time between renewal time and expiry is left,
    `failing` if the last attempt failed, `since` that instant.

    `needs_a_person`: no later attempt will mend it by itself.
    """

    name: str
    urgent: bool = False
    failing: bool = False
    since: datetime | None = None
    needs_a_person: bool = False
    serial_number: str | None = None
    not_after: datetime | None = None
    error: str | None = None
    hint: str | None = None
    next_attempt: datetime | None = None


@dataclass(frozen=True)
class Gauges:
    """`urgent` is None where nobody knows; `budget_left` is the least that any name has left of the CA's limit for its
    identifiers, None where unlimited. What is None is not said, so that no alarm takes it for good news."""

    failing: int
    urgent: int | None
    budget_left: int | None = None


@dataclass(frozen=True)
class Notice:
    """A message to people. `subject` is one line of printable ASCII, less than 100 letters."""

    subject: str
    text: str


def metrics_line(gauges: Gauges, deployment: str, now: datetime) -> dict[str, object]:
    """The line of the log that becomes metrics (CloudWatch Logs, embedded metric format specification)."""
    known = {
        "TickCompleted": 1,
        "CertificatesFailing": gauges.failing,
        "CertificatesUrgent": gauges.urgent,
        "BudgetLeft": gauges.budget_left,
    }
    values = {name: value for name, value in known.items() if value is not None}
    return {
        "_aws": {
            "Timestamp": int(now.timestamp() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [[DIMENSION]],
                    "Metrics": [{"Name": name, "Unit": "Count"} for name in values],
                }
            ],
        },
        DIMENSION: deployment,
        **values,
    }


def mark(concern: Concern, now: datetime) -> str | None:
    """What a person is told of once: the same as long as it is the same trouble; None while it may pass by itself."""
    if concern.urgent:
        return f"urgent {concern.serial_number}"
    if concern.since is None or not concern.failing:
        return None
    if concern.needs_a_person or now - concern.since >= LASTING:
        return f"failing {written(concern.since)}"
    return None


def notice(concerns: Sequence[Concern], store: str, now: datetime) -> Notice:
    """One message about all of them: what, why, what to do, until when, and the command to paste."""
    urgent = sorted(one.name for one in concerns if one.urgent)
    first = urgent[0] if urgent else min(one.name for one in concerns)
    others = f" and {len(concerns) - 1} more" if len(concerns) > 1 else ""
    what = "runs out and is not renewed" if urgent else "cannot be renewed"
    # The most pressing first.
    told = sorted(concerns, key=lambda one: (not one.urgent, one.not_after is not None, one.not_after or now, one.name))
    lines = [line for one in told[:LISTED] for line in (*_told(one, now), "")]
    if len(told) > LISTED:
        lines += [f"and {len(told) - LISTED} more", ""]
    retry = f" {first}" if len(concerns) == 1 else ""
    lines += [
        "To see everything, and to try at once:",
        "",
        f"certkeeper --from {store} status",
        f"certkeeper --from {store} renew{retry}",
        "",
    ]
    return Notice(f"certkeeper: {first}{others} {what}"[: LONGEST_SUBJECT - 1], "\n".join(lines))


def trial(store: str, now: datetime) -> Notice:
    """The message of `alert --test`."""
    text = f"This is a trial, asked for at {written(now)}. Nothing is wrong.\n\ncertkeeper --from {store} status\n"
    return Notice("certkeeper: a trial, nothing is wrong", text)


def _told(one: Concern, now: datetime) -> list[str]:
    if one.not_after is None:
        what = "there is no certificate yet"
    elif one.not_after <= now:
        what = f"expired since {written(one.not_after)}"
    else:
        left = one.not_after - now
        what = f"expires {written(one.not_after)}, in {_span(left)}"
    lines = [f"{one.name}: {what}"]
    if one.error:
        lines.append(f"  why: {one.error}")
    if one.hint:
        lines.append(f"  what to do: {one.hint}")
    if one.next_attempt is not None:
        lines.append(f"  tried again by itself: from {written(one.next_attempt)} on")
    return lines


def _span(left: timedelta) -> str:
    hours = int(left.total_seconds() // 3600)
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"
