"""A CA with Let's Encrypt's limits, windows and bad days, in the fakes' world.

It counts for itself, as a server does that knows nothing of certkeeper: by the instant at which each bucket will be
full again (GCRA), exempting renewals inside their window from everything and known sets from two of the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from certkeeper.core.ari import Information, Window
from certkeeper.core.budget import Limit, Limits
from certkeeper.core.errors import AuthorityError
from certkeeper.core.model import Account, CertificateSpec
from certkeeper.core.order import Challenge, Order
from tests.fakes import CA, FakeAuthority

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LIMITS = Limits(Limit(5, 7 * DAY), Limit(50, 7 * DAY), Limit(300, 3 * HOUR), Limit(5, HOUR))
KNOWN = 120 * DAY


def registered_domain(identifier: str) -> str:
    return ".".join(identifier.split(".")[-2:])


def spec_of(name: str, *identifiers: str) -> CertificateSpec:
    """A certificate of this CA, with the registered domains that the settings would find."""
    return CertificateSpec(name, identifiers, CA, registered_domain=registered_domain)


@dataclass
class Bucket:
    """Tokens of one limit, for each thing that it is counted by."""

    limit: Limit
    full_at: dict[object, datetime] = field(default_factory=dict)

    def next_allowed(self, about: object, now: datetime) -> datetime:
        return self.full_at.get(about, now) + self.limit.refill - self.limit.period

    def spend(self, about: object, now: datetime) -> None:
        self.full_at[about] = max(self.full_at.get(about, now), now) + self.limit.refill


@dataclass
class LimitedAuthority(FakeAuthority):
    """`down` is when it answers nobody, `broken` whether it does so just now.

    `renewals` has the window of each predecessor that an order named, and whether that was exempt; `refused` what was
    asked for and which limit forbade it.
    """

    limits: Limits = LIMITS
    down: Sequence[tuple[datetime, datetime]] = ()
    broken: bool = False
    renewals: list[tuple[datetime, datetime, bool]] = field(default_factory=list)
    instants: list[datetime] = field(default_factory=list)
    refused: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    failures: list[tuple[str, datetime]] = field(default_factory=list)

    def __post_init__(self) -> None:
        found = (self.limits.exact_set, self.limits.registered_domain, self.limits.orders)
        assert all(found) and self.limits.failed_authorizations is not None
        self.sets, self.domains, self.accounts_orders = (Bucket(one) for one in found if one)
        self.failed = Bucket(self.limits.failed_authorizations)
        self.known: dict[frozenset[str], datetime] = {}
        self.charged: dict[str, bool] = {}

    def is_down(self) -> bool:
        return self.broken or any(begin <= self.clock.now() < end for begin, end in self.down)

    def window_of(self, certificate_id: str) -> tuple[datetime, datetime]:
        """As Boulder has it: 2 % of the lifetime around two thirds of it, or around the half if it is short."""
        issued = self.instants[int(certificate_id.split(".")[1], 16) - 1]
        share = 1 / 2 if self.lifetime < 10 * DAY else 2 / 3
        centre, half = issued + self.lifetime * share, self.lifetime / 100
        return centre - half, centre + half

    def new_order(
        self, account: Account, identifiers: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        if self.is_down():
            raise AuthorityError("the CA cannot be reached")
        now, names = self.clock.now(), tuple(sorted(identifiers))
        exempt = False
        if replaces is not None:
            start, end = self.window_of(replaces)
            exempt = start <= now < end
            self.renewals.append((start, end, exempt))
        known = self.known.get(frozenset(names), now - KNOWN) > now - KNOWN
        if not exempt:
            self._check(names, known, now)
        order = super().new_order(account, identifiers, profile, replaces)
        self.charged[order.url] = not exempt and not known
        if self.charged[order.url]:
            self.accounts_orders.spend("", now)
        return order

    def _check(self, names: tuple[str, ...], known: bool, now: datetime) -> None:
        asked: list[tuple[str, Any, object]] = [("exact set of identifiers", self.sets, frozenset(names))]
        asked += [("failed authorizations", self.failed, one.removeprefix("*.")) for one in names]
        if not known:
            asked += [("registered domain", self.domains, registered_domain(one)) for one in names]
            asked.append(("new orders", self.accounts_orders, ""))
        until, what = max((bucket.next_allowed(about, now), what) for what, bucket, about in asked)
        if until > now:
            self.refused.append((names, what))
            wait = (until - now).total_seconds()
            raise AuthorityError(f"too many {what}", kind="rateLimited", status=429, retry_after=wait)

    def answer(self, account: Account, challenge: Challenge) -> None:
        super().answer(account, challenge)
        order_url, identifier, _ = challenge.url.split("#")
        if self.orders[order_url]["dead"] == identifier:
            self.failed.spend(identifier.removeprefix("*."), self.clock.now())
            self.failures.append((identifier, self.clock.now()))

    def finalize(self, account: Account, order: Order, csr_pem: str) -> Order:
        if self.is_down():
            raise AuthorityError("the CA cannot be reached")
        done = super().finalize(account, order, csr_pem)
        now = self.clock.now()
        self.instants.append(now)
        self.sets.spend(frozenset(order.identifiers), now)
        self.known[frozenset(order.identifiers)] = now
        for domain in {registered_domain(one) for one in order.identifiers} if self.charged[order.url] else ():
            self.domains.spend(domain, now)
        return done


@dataclass
class Windows:
    """Renewal information of such a CA."""

    authority: LimitedAuthority

    def ask(self, directory: str, certificate_id: str, now: datetime) -> Information | None:
        if self.authority.is_down():
            return None
        start, end = self.authority.window_of(certificate_id)
        return Window(start, end, now + 6 * HOUR)
