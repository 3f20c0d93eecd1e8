"""A year of hourly ticks against a CA with Let's Encrypt's limits and windows, which is sometimes down for days."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from certkeeper.core.model import CertificateSpec, Outcome
from certkeeper.jobs.tick import tick
from tests.fakes import CA, World
from tests.limited_authority import DAY, HOUR, LIMITS, LimitedAuthority, Windows, spec_of

NAMES = tuple(f"n{number}" for number in range(60))
MANY = tuple(spec_of(name, f"{name}.example.com") for name in NAMES)


@dataclass
class Year:
    """What became of the certificates. `low` are those that had less than a tenth of their life left, and when."""

    authority: LimitedAuthority
    low: list[tuple[str, datetime]] = field(default_factory=list)
    waited: set[str] = field(default_factory=set)
    ticks: int = 0


def lived(
    specs: tuple[CertificateSpec, ...],
    lifetime: timedelta,
    seed: int,
    days: int,
    *,
    leaping: bool,
    waited_for: bool = True,
) -> Year:
    """Tick every hour, one in twenty of them failing.

    `leaping` leaves those ticks out before which every name has said that there is nothing to do.
    """
    world = World()
    begin, chance = world.clock.now(), random.Random(seed)
    outages = [
        (at, at + timedelta(hours=chance.uniform(1, 120)))
        for at in (begin + timedelta(days=chance.uniform(5, 360)) for _ in range(4))
    ]
    authority = LimitedAuthority(world.clock, world.dns, lifetime=lifetime, down=outages)
    world.authority = authority
    world.information = Windows(authority)  # type: ignore[assignment] # as the port
    year, hour = Year(authority), 0
    while hour < days * 24:
        of_this_hour = random.Random(f"{seed} {hour}")  # the same, whichever others are left out
        at = begin + hour * HOUR + timedelta(seconds=of_this_hour.uniform(-120, 120))
        world.clock.later(at - world.clock.now())
        authority.broken = of_this_hour.random() < 0.05
        outcomes = tick(replace(world.keeper(), limits={CA: LIMITS}), specs, waited_for=waited_for).outcomes
        year.ticks += 1
        year.waited |= {one.name for one in outcomes if one.not_after is None}
        if not any(start <= world.clock.now() < end + 4 * HOUR for start, end in outages):
            short = world.clock.now() + lifetime / 10
            year.low += [(one.name, at) for one in outcomes if one.not_after is not None and one.not_after < short]
        hour += _quiet(outcomes, at + lifetime / 50) if leaping else 1
    return year


def _quiet(outcomes: tuple[Outcome, ...], now: datetime) -> int:
    """How many hours until the tick before the first at which anything may be due. A name that has not heard of its
    window yet thinks of the middle of it, so `now` is to be later by as much as a window is wide.
    """
    if any(one.outcome != "kept" or one.next_attempt is None for one in outcomes):
        return 1
    return max(1, (min(one.next_attempt for one in outcomes if one.next_attempt) - now) // HOUR - 1)


def undisturbed(year: Year) -> list[bool]:
    """Of the renewals that no outage has touched: whether they were inside the window."""
    return [
        exempt
        for start, end, exempt in year.authority.renewals
        if not any(start < up and down < end for down, up in year.authority.down)
    ]


def test_leaving_quiet_ticks_out_changes_nothing() -> None:
    years = [lived(MANY[:2], 20 * DAY, 7, 45, leaping=leaping) for leaping in (False, True)]

    assert years[0].authority.instants == years[1].authority.instants
    assert len(years[0].authority.instants) >= 6
    assert years[1].ticks < years[0].ticks / 4


def test_ticks_that_nobody_waits_for_renew_at_the_same_instants() -> None:
    asked, unasked = (lived(MANY[:2], 20 * DAY, 7, 45, leaping=False, waited_for=one) for one in (True, False))

    assert unasked.authority.instants == asked.authority.instants
    assert len(asked.authority.instants) >= 6


@pytest.mark.parametrize(
    ("lifetime", "names", "renewals", "seed"),
    [
        pytest.param(90 * DAY, 12, 50, 1, id="90 d"),
        pytest.param(64 * DAY, 12, 70, 2, id="64 d"),
        pytest.param(45 * DAY, 12, 110, 3, id="45 d"),
        pytest.param(160 * HOUR, 5, 450, 4, id="6 d"),
    ],
)
def test_a_year_of_ticks_never_lets_a_certificate_grow_old_nor_meets_a_limit(
    lifetime: timedelta, names: int, renewals: int, seed: int
) -> None:
    year = lived(MANY[:names], lifetime, seed, 365, leaping=True)

    inside = undisturbed(year)
    assert year.low == []
    assert year.authority.refused == []
    assert len(inside) >= renewals
    assert sum(inside) >= 0.999 * len(inside)


def test_more_names_below_one_domain_than_the_ca_allows_in_a_week_get_their_turns_and_are_renewed() -> None:
    year = lived(MANY, 45 * DAY, 1, 70, leaping=True)

    inside = undisturbed(year)
    assert len(year.waited) == len(MANY) - 50
    assert set(year.authority.known) == {frozenset(spec.identifiers) for spec in MANY}
    assert year.low == []
    assert year.authority.refused == []
    assert len(inside) >= len(MANY)
    assert sum(inside) >= 0.999 * len(inside)
