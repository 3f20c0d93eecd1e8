"""How much of a CA's rate limits is left, computed from what is stored; there is no ledger that could drift. Pure.

Let's Encrypt's limits are token buckets that refill continuously. The exact-set limit is the one that locks people
out: every issuance spends a token of it, and nobody can raise it. An order that names its predecessor inside the
suggested window is exempt from all limits, another one for a set that the CA knows from those of the account and the
registered domain. (https://letsencrypt.org/docs/rate-limits/)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from certkeeper.core.document import instant, written
from certkeeper.core.model import CertificateSpec

RESERVE = 1
"""Tokens of the exact-set limit that only an emergency, or a person, may spend."""

LATE = timedelta(minutes=5)
"""How much later than we write it down a CA may count: it spends a token when it issues, and by its own clock."""

KNOWN_SET = timedelta(days=120)
"""For how long a CA knows an exact set of identifiers again (Let's Encrypt's figure)."""

EXACT_SET, REGISTERED_DOMAIN = "exact_set", "registered_domain"
ORDERS, FAILED_AUTHORIZATIONS = "orders", "failed_authorizations"
WEEK, DAY, HOUR = timedelta(days=7), timedelta(days=1), timedelta(hours=1)
LATELY = DAY + 2 * HOUR
REMEMBERED = {EXACT_SET: WEEK, REGISTERED_DOMAIN: WEEK, ORDERS: DAY, FAILED_AUTHORIZATIONS: DAY}
"""How long a spent token is remembered, so the longest period that each limit can have."""


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
    """A CA's limits; None is no limit that we know of.

    Certificates for one exact set of identifiers, and below one registered domain; orders of one account; failed
    authorizations of one identifier.
    """

    exact_set: Limit | None = None
    registered_domain: Limit | None = None
    orders: Limit | None = None
    failed_authorizations: Limit | None = None

    def __getitem__(self, limit: str) -> Limit | None:
        found: Limit | None = getattr(self, limit)
        return found


LIMIT_NAMES = tuple(one.name for one in fields(Limits))
# https://letsencrypt.org/docs/rate-limits/ and .../staging-environment/, as of August 2026, by directory host.
# Staging's 30,000 a second for one registered domain are no limit.
LIMITS = {
    "acme-v02.api.letsencrypt.org": Limits(Limit(5, WEEK), Limit(50, WEEK), Limit(300, 3 * HOUR), Limit(5, HOUR)),
    "acme-staging-v02.api.letsencrypt.org": Limits(Limit(30_000, WEEK), None, Limit(1500, 3 * HOUR), Limit(200, HOUR)),
}


def limits_of(directory: str) -> Limits:
    """The limits of a CA by its directory URL; none for a CA that we know nothing of."""
    host = directory.split("/")[2] if directory.count("/") > 1 else ""
    return LIMITS.get(host, Limits())


@dataclass(frozen=True)
class Spent:
    """One token of one bucket: of which limit of which CA, and for which set, domain or identifier ("" : account).

    `order_url` is the order that spent it, so that one that is finalized twice counts once.
    """

    limit: str
    ca: str
    about: str
    at: datetime
    order_url: str | None = None

    def as_fields(self) -> dict[str, object]:
        """As the journal and the index keep it."""
        return {
            "limit": self.limit,
            "ca_directory": self.ca,
            "about": self.about,
            "at": written(self.at),
            "order_url": self.order_url,
        }

    @staticmethod
    def from_fields(said: dict[str, Any]) -> Spent:
        """Raises KeyError, TypeError or DocumentError for what `as_fields` did not make."""
        return Spent(
            limit=str(said["limit"]),
            ca=str(said["ca_directory"]),
            about=str(said["about"]),
            at=instant(said["at"]),
            order_url=said["order_url"],
        )


def identifier_set(identifiers: Iterable[str]) -> str:
    """A short name for an exact set of identifiers, whatever their order."""
    return hashlib.sha256("\n".join(sorted(set(identifiers))).encode()).hexdigest()[:32]


def proven_name(identifier: str) -> str:
    """What is authorized for an identifier: for a wildcard the name below it (RFC 8555 section 7.1.4)."""
    return identifier.removeprefix("*.")


def by_order(ca: str, order_url: str | None, at: datetime) -> tuple[Spent, ...]:
    """What a new order spends, unless it is exempt."""
    return (Spent(ORDERS, ca, "", at, order_url),)


def by_certificate(
    ca: str, identifiers: Iterable[str], domains: Iterable[str], order_url: str | None, at: datetime
) -> tuple[Spent, ...]:
    """What a certificate spends; `domains` are the registered domains unless it is exempt from their limit."""
    return (
        Spent(EXACT_SET, ca, identifier_set(identifiers), at, order_url),
        *(Spent(REGISTERED_DOMAIN, ca, one, at, order_url) for one in domains),
    )


def by_failures(ca: str, identifiers: Iterable[str], order_url: str, at: datetime) -> tuple[Spent, ...]:
    """What authorizations spend that fail."""
    names = sorted({proven_name(one) for one in identifiers})
    return tuple(Spent(FAILED_AUTHORIZATIONS, ca, one, at, order_url) for one in names)


def noted(spent: Iterable[Spent], more: Iterable[Spent], now: datetime) -> tuple[Spent, ...]:
    """`spent` and `more`, each token of an order once, and without those that no limit remembers any more."""
    latest: dict[object, Spent] = {}
    for place, one in enumerate([*spent, *more]):
        if one.at > now - REMEMBERED.get(one.limit, timedelta(0)):
            latest[(one.limit, one.ca, one.about, one.order_url) if one.order_url else place] = one
    return tuple(latest.values())


def with_issued(
    spent: Iterable[Spent], ca: str, identifiers: Iterable[str], issued: Iterable[datetime]
) -> tuple[Spent, ...]:
    """`spent`, with what the certificate itself remembers of its set, where that is more.

    Both tell of the same certificates, so neither is added to the other.
    """
    spent, ours = tuple(spent), identifier_set(identifiers)
    told = [one for one in spent if (one.limit, one.ca, one.about) == (EXACT_SET, ca, ours)]
    remembered = [Spent(EXACT_SET, ca, ours, at) for at in issued]
    if len(remembered) <= len(told):
        return spent
    return (*(one for one in spent if one not in told), *remembered)


@dataclass(frozen=True)
class Budget:
    """What is left of one bucket at `as_of`, in tokens; `about` as in `Spent`.

    It refills from `refilled_from` on, where that is later: a CA may not have counted the last token yet.
    """

    limit: str
    about: str
    left: float
    of: Limit
    as_of: datetime
    refilled_from: datetime | None = None

    @property
    def whole(self) -> int:
        """Tokens that can be spent now."""
        return max(0, int(self.left + 1e-9))

    @property
    def reserve(self) -> int:
        """How many of them are kept back."""
        return RESERVE if self.limit == EXACT_SET else 0

    def allows(self, *, reserve: bool = False) -> bool:
        """Whether one more token may be spent; with `reserve` the last one too."""
        return self.whole >= self._needed(reserve)

    def possible_from(self, *, reserve: bool = False) -> datetime:
        """When it allows it; `as_of` if it does now."""
        if self.allows(reserve=reserve):
            return self.as_of
        return (self.refilled_from or self.as_of) + (self._needed(reserve) - self.left) * self.of.refill

    def _needed(self, reserve: bool) -> int:
        return 1 if reserve else self.reserve + 1


@dataclass(frozen=True)
class Hold:
    """A CA has asked everybody to wait until then, from `since` on and at `last` once more; `refusing` if it is up, and
    takes no more orders.
    """

    until: datetime
    why: str
    since: datetime | None = field(default=None, compare=False)
    last: datetime | None = field(default=None, compare=False)
    refusing: bool = field(default=False, compare=False)


def is_recent(last: datetime, until: datetime | None, now: datetime) -> bool:
    """Whether a CA that asked to wait, at `last`, may still be in trouble: somebody asks it once a day at least."""
    return now < max(last + LATELY, until or last)


class Ledger:
    """What has been spent of every CA's limits, by name; put together anew by every run.

    `limits` are those of the settings, by directory; other CAs have those that are known of them.
    """

    def __init__(self, limits: Mapping[str, Limits] | None = None) -> None:
        self._limits = limits or {}
        self._of: dict[str, tuple[Spent, ...]] = {}
        self._buckets: dict[tuple[str, str, str], dict[str, list[datetime]]] = {}
        # Of many names below one registered domain each would count all tokens of all others.
        self._found: dict[tuple[str, str, str], Budget] = {}
        self._holds: dict[str, Hold] = {}
        self._waits: dict[str, dict[str, Hold]] = {}

    def put(self, name: str, spent: Iterable[Spent]) -> None:
        """What a name has spent, instead of what was put for it before."""
        for one in self._of.pop(name, ()):
            self._buckets[one.limit, one.ca, one.about].pop(name, None)
            self._found.pop((one.limit, one.ca, one.about), None)
        self._of[name] = tuple(spent)
        for one in self._of[name]:
            self._found.pop((one.limit, one.ca, one.about), None)
            self._buckets.setdefault((one.limit, one.ca, one.about), {}).setdefault(name, []).append(one.at)

    def add(self, name: str, spent: Iterable[Spent]) -> None:
        """What a name is about to spend besides."""
        self.put(name, (*self._of.get(name, ()), *spent))

    def hold(self, ca: str, hold: Hold) -> None:
        """A CA has asked everybody to wait; of several waits the longest counts, from the first one on."""
        known = self._holds.get(ca, hold)
        longest = hold if known.until < hold.until else known
        since = min((one.since for one in (known, hold) if one.since), default=None)
        last = max((one.last for one in (known, hold) if one.last), default=None)
        self._holds[ca] = replace(longest, since=since, last=last)

    def wait(self, name: str, waits: Iterable[tuple[str, Hold]]) -> None:
        """What CAs have asked for one name, be it that nothing fails any more; instead of what was told before."""
        self._waits[name] = dict(waits)

    def held_off(self, ca: str, now: datetime, name: str = "") -> Hold | None:
        """Until when nobody may ask this CA for anything, or not for this name."""
        known = (self._holds.get(ca), self._waits.get(name, {}).get(ca))
        return max((one for one in known if one and now < one.until), key=lambda one: one.until, default=None)

    def ailing(self, ca: str, now: datetime) -> Hold | None:
        """What this CA has told everybody lately, even if it may be asked again by now."""
        hold = self._holds.get(ca)
        return hold if hold and hold.last and is_recent(hold.last, hold.until, now) else None

    def issued_since(self, ca: str, identifiers: Iterable[str], since: datetime) -> list[datetime]:
        """When this CA has issued for exactly this set, no longer ago than a week; the latest last."""
        return sorted(at for at in self._spent(EXACT_SET, ca, identifier_set(identifiers)) if at > since)

    def knows(self, ca: str, identifiers: Iterable[str], now: datetime) -> bool:
        """Whether this CA has issued for exactly this set, so that the next one is a renewal to it."""
        return any(at > now - KNOWN_SET for at in self._spent(EXACT_SET, ca, identifier_set(identifiers)))

    def budgets(self, spec: CertificateSpec, now: datetime) -> tuple[Budget, ...]:
        """What is left for a certificate at `spec.ca`: one budget for each limit of the CA."""
        found = (self.budget(limit, spec, now) for limit in LIMIT_NAMES)
        return tuple(one for one in found if one is not None)

    def budget(self, limit: str, spec: CertificateSpec, now: datetime) -> Budget | None:
        """What is left of one limit, the scarcest where there are several registered domains or identifiers; None if
        the CA has no such limit.
        """
        of = (self._limits.get(spec.ca) or limits_of(spec.ca))[limit]
        if of is None:
            return None
        each = (self._left(limit, spec.ca, one, now, of) for one in _counted_by(limit, spec))
        return min(each, key=lambda one: one.left, default=None)

    def _left(self, limit: str, ca: str, about: str, now: datetime, of: Limit) -> Budget:
        found = self._found.get((limit, ca, about))
        if found is None or found.as_of != now:
            found = budget(limit, about, self._spent(limit, ca, about), now, of)
            self._found[limit, ca, about] = found
        return found

    def _spent(self, limit: str, ca: str, about: str) -> list[datetime]:
        return [at for instants in self._buckets.get((limit, ca, about), {}).values() for at in instants]


def _counted_by(limit: str, spec: CertificateSpec) -> Iterable[str]:
    if limit == EXACT_SET:
        return (identifier_set(spec.identifiers),)
    if limit == REGISTERED_DOMAIN:
        return spec.registered_domains
    return ("",) if limit == ORDERS else sorted({proven_name(one) for one in spec.identifiers})


def budget(name: str, about: str, spent: Sequence[datetime], now: datetime, limit: Limit) -> Budget:
    """The budget of a bucket from which one token was taken at each of these instants."""
    late = max(spent, default=now - LATE) + LATE
    return Budget(name, about, tokens(spent, now, limit), limit, now, late if late > now else None)


def tokens(spent: Iterable[datetime], now: datetime, limit: Limit) -> float:
    """What is left in a bucket from which one token was taken at each of these instants."""
    left, before = float(limit.count), None
    for at in sorted(spent):
        if before is not None:
            left = min(limit.count, left + (at - before) / limit.refill)
        left, before = left - 1, at
    if before is not None:
        left = min(limit.count, left + max(now - LATE - before, timedelta(0)) / limit.refill)
    return left
