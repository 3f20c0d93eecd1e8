"""A year of hourly ticks against a CA with Let's Encrypt's limits and windows, which is sometimes down for days."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from certkeeper.core.ari import Information, Window
from certkeeper.core.budget import Limit, tokens
from certkeeper.core.errors import AuthorityError
from certkeeper.core.model import Account, CertificateSpec
from certkeeper.core.order import Order
from certkeeper.jobs.tick import tick
from tests.fakes import CA, FakeAuthority, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SPEC = CertificateSpec("www", ("example.com",), CA)
LIMIT = Limit(5, 7 * DAY)


@dataclass
class LimitedAuthority(FakeAuthority):
    """Refuses as Let's Encrypt does: the exact-set limit, from which only an order that names its predecessor inside
    that one's window is exempt. `down` is when it answers nobody."""

    down: Sequence[tuple[datetime, datetime]] = ()
    renewals: list[tuple[datetime, datetime, bool]] = field(default_factory=list)
    instants: list[datetime] = field(default_factory=list)
    refusals: int = 0
    broken: bool = False

    def is_down(self) -> bool:
        return self.broken or any(begin <= self.clock.now() < end for begin, end in self.down)

    def window_of(self, certificate_id: str) -> tuple[datetime, datetime]:
        issued = self.instants[int(certificate_id.split(".")[1], 16) - 1]
        share = 1 / 2 if self.lifetime < 10 * DAY else 2 / 3
        centre, half = issued + self.lifetime * share, self.lifetime / 100
        return centre - half, centre + half

    def new_order(
        self, account: Account, identifiers: Sequence[str], profile: str | None, replaces: str | None = None
    ) -> Order:
        if self.is_down():
            raise AuthorityError("the CA cannot be reached")
        now = self.clock.now()
        exempt = False
        if replaces is not None:
            start, end = self.window_of(replaces)
            exempt = start <= now < end
            self.renewals.append((start, end, exempt))
        if not exempt and tokens(self.instants, now, LIMIT) < 1:
            self.refusals += 1
            raise AuthorityError("too many certificates", kind="rateLimited", status=429, retry_after=34 * 3600)
        return super().new_order(account, identifiers, profile, replaces)

    def finalize(self, account: Account, order: Order, csr_pem: str) -> Order:
        if self.is_down():
            raise AuthorityError("the CA cannot be reached")
        done = super().finalize(account, order, csr_pem)
        self.instants.append(self.clock.now())
        return done


@dataclass
class Windows:
    """Renewal information as Boulder gives it: 2 % of the lifetime around its two thirds."""

    authority: LimitedAuthority

    def ask(self, directory: str, certificate_id: str, now: datetime) -> Information | None:
        if self.authority.is_down():
            return None
        start, end = self.authority.window_of(certificate_id)
        return Window(start, end, now + 6 * HOUR)


@pytest.mark.parametrize(
    ("lifetime", "seed"),
    [(90 * DAY, 1), (64 * DAY, 2), (45 * DAY, 3), (160 * HOUR, 4)],
    ids=["90 d", "64 d", "45 d", "6 d"],
)
def test_a_year_of_ticks_never_lets_a_certificate_grow_old_nor_meets_a_limit(lifetime: timedelta, seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    begin = world.clock.now()
    outages = [
        (at, at + timedelta(hours=chance.uniform(1, 120)))
        for at in (begin + timedelta(days=chance.uniform(5, 360)) for _ in range(4))
    ]
    authority = LimitedAuthority(world.clock, world.dns, lifetime=lifetime, down=outages)
    world.authority = authority
    world.information = Windows(authority)  # type: ignore[assignment] # as the port
    proud = []

    for _ in range(365 * 24):
        authority.broken = chance.random() < 0.05
        tick(world.keeper(), [SPEC])
        held, _ = world.keeper().certificates.read("www")
        if held is not None:
            left = held.chain.validity.not_after - world.clock.now()
            lately = any(start <= world.clock.now() < end + 4 * HOUR for start, end in outages)
            proud.append(lately or left >= lifetime / 10)
        world.clock.later(HOUR + timedelta(seconds=chance.uniform(-120, 120)))

    undisturbed = [
        exempt
        for start, end, exempt in authority.renewals
        if not any(start < up and down < end for down, up in outages)
    ]
    assert all(proud)
    assert authority.refusals == 0
    assert len(undisturbed) >= 3
    assert sum(undisturbed) >= 0.999 * len(undisturbed)
