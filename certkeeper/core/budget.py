"""How much of a CA's rate limits is left, computed from what is stored; there is no ledger that could drift. Pure.

Let's Encrypt's limits are token buckets that refill continuously. The exact-set limit is the one that locks people
out: every issuance spends a token of it, and nobody can raise it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

RESERVE = 1
"""Tokens of the exact-set limit that only an emergency, or a person, may spend."""


@dataclass(frozen=True)
class Limit:
    """`count` in `period`, refilled one by one."""

    count: int
    period: timedelta

    @property
    def refill(self) -> timedelta:
        return self.period / self.count


@dataclass(frozen=True)
class Limits:
    """A CA's limits on issuance; None is no limit that we know of."""

    exact_set: Limit | None = None


WEEK = timedelta(days=7)
# https://letsencrypt.org/docs/rate-limits/ and .../staging-environment/, as of August 2026, by directory host.
LIMITS = {
    "acme-v02.api.letsencrypt.org": Limits(exact_set=Limit(5, WEEK)),
    "acme-staging-v02.api.letsencrypt.org": Limits(exact_set=Limit(30_000, WEEK)),
}


@dataclass(frozen=True)
class Budget:
    """Tokens of the exact-set limit left now, and from when there will be `RESERVE` + 1 of them."""

    left: float
    count: int
    possible_from: datetime

    @property
    def whole(self) -> int:
        return int(self.left + 1e-9)

    def allows(self, *, reserve: bool) -> bool:
        """Whether one more certificate may be ordered; with `reserve` the last token too."""
        return self.whole >= (1 if reserve else RESERVE + 1)


def limits_of(directory: str) -> Limits:
    """The limits of a CA by its directory URL; none for a CA that we know nothing of."""
    host = directory.split("/")[2] if directory.count("/") > 1 else ""
    return LIMITS.get(host, Limits())


def exact_set(issued: Iterable[datetime], now: datetime, limit: Limit) -> Budget:
    """The budget of an identifier set, from the instants at which certificates for exactly it were issued."""
    left, at = float(limit.count), None
    for one in sorted(issued):
        if at is not None:
            left = min(limit.count, left + (one - at) / limit.refill)
        left, at = left - 1, one
    if at is not None:
        left = min(limit.count, left + max(now - at, timedelta(0)) / limit.refill)
    missing = max(0.0, RESERVE + 1 - left)
    return Budget(left, limit.count, now + missing * limit.refill)
