"""Which of several CAs is asked for a certificate. Pure.

The first CA of the settings is asked first, always. The next one is asked besides as soon as one before it has been
failing for longer than our patience, be it that it has told only another name, since a CA that asks everybody to wait
is asked once for all; or will not take an order because the budget there is spent. Then attempts go round among them,
so that a CA that has recovered is found. An order that may be paid for binds its name to its CA for a while longer. A
certificate of a fallback CA is kept like any other, and at its own renewal time the first CA is asked first again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from certkeeper.core.budget import Hold
from certkeeper.core.failures import PAUSED, Failure
from certkeeper.core.model import CertificateSpec

PATIENCE_WITH_AN_ORDER = timedelta(days=1)
SHARE = 30
"""Patience is this part of the lifetime: a tenth of what is left at the usual renewal time."""


def patience(lifetime: timedelta | None, tick: timedelta) -> timedelta:
    """How long a CA may fail before the next one is asked. `lifetime` is None if servers are, or soon will be,
    without a good certificate: then to fail once is enough. Half a tick is taken off, for one that starts early.
    """
    return tick / 2 if lifetime is None else max(lifetime / SHARE, tick) - tick / 2


def binds(
    placed: datetime, ca: str, failure: Failure | None, hold: Hold | None, now: datetime, patience: timedelta
) -> bool:
    """Whether an order that may be paid for keeps every other CA from being asked: until its own has been failing for
    a day and for our patience. What is ordered elsewhere then has a limit of its own, and costs this CA nothing.
    """
    trouble = failure.trouble_at(ca) if failure else None
    since = min((one.since for one in (trouble, hold) if one and one.since), default=now)
    return now - max(since, placed) < max(patience, PATIENCE_WITH_AN_ORDER)


def to_be_asked(
    spec: CertificateSpec,
    failure: Failure | None,
    now: datetime,
    patience: timedelta,
    is_spent: Callable[[CertificateSpec], bool],
    ailing: Callable[[str], Hold | None] = lambda ca: None,
) -> list[CertificateSpec]:
    """`spec` at each CA that may be asked now, the one to be asked first coming first; never empty.

    `is_spent` says whether our own count forbids an order for a spec at its CA, `ailing` what a CA has told everybody
    lately.
    """
    asked = []
    for ca in spec.cas:
        one = spec.at(ca)
        asked.append(one)
        if not _passed_over(failure, ailing(ca), ca, now, patience) and not is_spent(one):
            break
    return sorted(asked, key=lambda one: _last_asked(failure, ailing(one.ca), one.ca))


def _passed_over(failure: Failure | None, hold: Hold | None, ca: str, now: datetime, patience: timedelta) -> bool:
    trouble = failure.trouble_at(ca) if failure else None
    if trouble is not None:
        refused = trouble.kind == "rateLimited" and trouble.not_before is not None and trouble.not_before > now
        if refused or trouble.kind == PAUSED or now - trouble.since >= patience:
            return True
    if hold is None or hold.since is None:
        return False
    return (hold.refusing and now < hold.until) or now - hold.since >= patience


def _last_asked(failure: Failure | None, hold: Hold | None, ca: str) -> float:
    trouble = failure.trouble_at(ca) if failure else None
    return max(trouble.last.timestamp() if trouble else 0.0, hold.last.timestamp() if hold and hold.last else 0.0)
