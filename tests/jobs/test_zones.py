"""Which hosted zone a tick puts a record in, and how seldom it asks for zones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from certkeeper.core.errors import DnsError
from certkeeper.core.model import CertificateSpec, HostedZone, TxtRecord, ZonePlace
from certkeeper.core.permissions import ChallengeName
from certkeeper.core.ports import Presented
from certkeeper.jobs.challenges import challenges
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.tick import tick
from tests.fakes import CA, FakeChallengeRecords, FakeDns, FakeZones, World

ROLE, OTHER = "arn:aws:iam::210987654321:role/dns", "arn:aws:iam::321098765432:role/dns"
COM = CertificateSpec("com", ("example.com", "*.example.com"), CA)
NET = CertificateSpec("net", ("example.net",), CA)
ORG = CertificateSpec("org", ("example.org",), CA)


@dataclass
class Noted:
    """Challenge records that remember what was to be presented."""

    dns: FakeDns
    presented: list[TxtRecord] = field(default_factory=list)

    @contextmanager
    def presenting(self, records: Sequence[TxtRecord], leftovers: Sequence[TxtRecord]) -> Iterator[Presented]:
        self.presented += records
        with FakeChallengeRecords(self.dns).presenting(records, leftovers) as presented:
            yield presented


class AccountZones(FakeZones):
    """Zones that note whose account was asked, and cannot tell those behind one role."""

    def __init__(self, *zones: HostedZone, lost: str = "nobody") -> None:
        super().__init__(zones)
        self.lost = lost
        self.asked_for: list[str] = []

    def hosted_zones(self, role_arn: str = "") -> tuple[HostedZone, ...]:
        self.asked_for.append(role_arn)
        if role_arn == self.lost:
            raise DnsError(f"the role {role_arn} cannot be assumed")
        return super().hosted_zones(role_arn)


def keeper_of(world: World, zones: FakeZones, *places: ZonePlace) -> tuple[Keeper, Noted]:
    noted = Noted(world.dns)
    return replace(world.keeper(), zones=zones, zone_places=places, challenge_records=noted), noted


def test_names_of_three_accounts_are_presented_together_and_each_account_is_asked_once() -> None:
    world = World()
    zones = AccountZones(
        HostedZone("Z1", "example.com"), HostedZone("Z2", "example.net", role_arn=ROLE),
        HostedZone("Z3", "example.org", role_arn=OTHER),
    )  # fmt: skip
    keeper, noted = keeper_of(world, zones, ZonePlace("example.net", ROLE), ZonePlace("example.org", OTHER))

    outcomes = tick(keeper, [COM, NET, ORG]).outcomes

    assert [one.outcome for one in outcomes] == ["renewed"] * 3
    assert {(one.zone, one.role_arn) for one in noted.presented} == {("Z1", ""), ("Z2", ROLE), ("Z3", OTHER)}
    assert sorted(zones.asked_for) == ["", ROLE, OTHER]
    assert world.dns.batches == 1


def test_a_zone_that_is_named_need_not_be_looked_for() -> None:
    world, zones = World(), AccountZones()
    keeper, noted = keeper_of(world, zones, ZonePlace("example.com", ROLE, "Z9"))

    (outcome,) = tick(keeper, [COM]).outcomes

    assert outcome.outcome == "renewed"
    assert {(one.zone, one.role_arn) for one in noted.presented} == {("Z9", ROLE)}
    assert zones.asked_for == []


def test_a_certificates_own_zone_wins_in_the_account_of_its_domain() -> None:
    world = World()
    zones = AccountZones(HostedZone("Z8", "example.com", role_arn=ROLE), HostedZone("Z9", "example.com", role_arn=ROLE))
    keeper, noted = keeper_of(world, zones, ZonePlace("example.com", ROLE, "Z9"))

    tick(keeper, [replace(COM, hosted_zone_id="Z8")])

    assert {one.zone for one in noted.presented} == {"Z8"}


def test_an_account_that_cannot_be_reached_fails_its_own_names_only() -> None:
    world = World()
    zones = AccountZones(HostedZone("Z1", "example.com"), lost=ROLE)
    keeper, _ = keeper_of(world, zones, ZonePlace("example.net", ROLE))

    outcomes = tick(keeper, [COM, NET, replace(NET, name="more", identifiers=("www.example.net",))]).outcomes

    assert [one.outcome for one in outcomes] == ["renewed", "failed", "failed"]
    assert all(ROLE in (one.error or "") for one in outcomes[1:])
    assert zones.asked_for.count(ROLE) == 1


@pytest.mark.parametrize("delegated", ["Z1", "Z2"])
def test_of_twins_the_delegated_one_is_used_and_asked_for_once(delegated: str) -> None:
    world = World()
    twins = HostedZone("Z1", "example.com"), HostedZone("Z2", "example.com")
    zones = AccountZones(*twins)
    zones.servers = {zone: frozenset({f"ns.{zone.zone}"}) for zone in twins}
    world.lookup.delegations["example.com"] = frozenset({f"ns.{delegated}"})
    keeper, noted = keeper_of(world, zones)

    outcomes = tick(keeper, [COM, replace(COM, name="more", identifiers=("www.example.com",))]).outcomes

    assert [one.outcome for one in outcomes] == ["renewed"] * 2
    assert {one.zone for one in noted.presented} == {delegated}
    found, _ = challenges(keeper, [COM])
    assert found == (ChallengeName(delegated, "_acme-challenge.example.com", twins=("Z1", "Z2")),)


def test_twins_that_cannot_be_told_apart_fail_with_what_to_say() -> None:
    world = World()
    keeper, _ = keeper_of(world, AccountZones(HostedZone("Z1", "example.com"), HostedZone("Z2", "example.com")))

    (outcome,) = tick(keeper, [COM]).outcomes

    assert outcome.outcome == "failed"
    assert "hosted_zone_id" in (outcome.hint or "")


def test_a_challenge_name_that_is_a_zone_of_its_own_is_used() -> None:
    world = World()
    zones = AccountZones(HostedZone("Z1", "example.com"), HostedZone("Z2", "_acme-challenge.example.com"))
    keeper, noted = keeper_of(world, zones)

    tick(keeper, [COM])

    assert {one.zone for one in noted.presented} == {"Z2"}


def test_records_left_in_another_account_are_taken_away_there() -> None:
    world = World()
    zones = AccountZones(HostedZone("Z2", "example.net", role_arn=ROLE))
    keeper, noted = keeper_of(world, zones, ZonePlace("example.net", ROLE))
    world.dns.stuck = True
    tick(keeper, [NET])
    world.dns.stuck = False

    tick(keeper, [NET])

    left = keeper.journal.read("net").entry.records
    assert (left, world.dns.records) == ((), set())
    assert {one.role_arn for one in noted.presented} == {ROLE}
