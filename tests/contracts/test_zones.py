"""The contract of Zones, held by the fake and by Route 53."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from certkeeper.adapters.route53_zones import Route53Zones
from certkeeper.core.errors import DnsError
from certkeeper.core.model import HostedZone
from certkeeper.core.ports import Zones
from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.route53 import HostedZones
from tests.contracts.conftest import ClientOf
from tests.fakes import FakeZones

With = Callable[[Iterable[tuple[str, bool]]], Zones]


@pytest.fixture(scope="module")
def route53(client_of: ClientOf) -> Any:
    return client_of("route53")


@pytest.fixture
def hosted_zones_only(server: AwsServer, hosted_zones: HostedZones) -> HostedZones:
    for zone in hosted_zones.zones():
        hosted_zones.delete(zone.zone_id)
    return hosted_zones


@pytest.fixture(params=["fake", "Route 53"])
def zones_with(request: pytest.FixtureRequest) -> With:
    if request.param == "fake":
        return lambda named: FakeZones(
            tuple(HostedZone(f"Z{place}", name, private) for place, (name, private) in enumerate(named))
        )
    hosted_zones: HostedZones = request.getfixturevalue("hosted_zones_only")
    client = request.getfixturevalue("route53")

    def filled(named: Iterable[tuple[str, bool]]) -> Zones:
        for name, private in named:
            hosted_zones.add(name, private=private)
        return Route53Zones(lambda _: client)

    return filled


def test_an_account_without_zones_has_none(zones_with: With) -> None:
    assert zones_with([]).hosted_zones() == ()


def test_names_come_without_the_final_dot_and_private_zones_are_marked(zones_with: With) -> None:
    zones = zones_with([("example.com", False), ("example.net", True)])

    found = {(zone.name, zone.private) for zone in zones.hosted_zones()}

    assert found == {("example.com", False), ("example.net", True)}


def test_twins_have_one_name_and_two_ids(zones_with: With) -> None:
    first, second = zones_with([("example.com", False), ("example.com", False)]).hosted_zones()

    assert first.name == second.name and first.zone != second.zone


def test_two_hundred_and_fifty_zones_are_all_told(zones_with: With, desk: Desk) -> None:
    names = {f"z{number}.test" for number in range(250)}
    zones = zones_with((name, False) for name in names)

    assert {zone.name for zone in zones.hosted_zones()} == names


def test_two_hundred_and_fifty_zones_are_three_pages(hosted_zones_only: HostedZones, route53: Any, desk: Desk) -> None:
    for number in range(250):
        hosted_zones_only.add(f"z{number}.test")
    mark = desk.mark()

    Route53Zones(lambda _: route53).hosted_zones()

    assert len(desk.calls("route53", "ListHostedZones", since=mark)) == 3


def test_ids_are_those_that_changes_take(hosted_zones_only: HostedZones, route53: Any) -> None:
    zone_id = hosted_zones_only.add("example.com")

    (zone,) = Route53Zones(lambda _: route53).hosted_zones()

    assert zone.zone == zone_id


def test_each_twin_is_served_by_name_servers_of_its_own(hosted_zones_only: HostedZones, route53: Any) -> None:
    for _ in range(2):
        hosted_zones_only.add("example.com")
    zones = Route53Zones(lambda _: route53)

    first, second = (zones.name_servers(zone) for zone in zones.hosted_zones())

    assert len(first) == len(second) == 4
    assert not first & second
    assert first | second == {
        server for zone in hosted_zones_only.zones() for server in zone.name_servers
    }  # none with a final dot


def test_name_servers_that_cannot_be_read_are_told_with_the_right_to_give(
    hosted_zones_only: HostedZones, route53: Any, desk: Desk
) -> None:
    hosted_zones_only.add("example.com")
    zones = Route53Zones(lambda _: route53)
    (zone,) = zones.hosted_zones()
    denied = Fault("refuse", "route53", "GetHostedZone", status=403, code="AccessDenied")

    with desk.fault(denied), pytest.raises(DnsError, match=f"{zone.zone}.*AccessDenied") as caught:
        zones.name_servers(zone)

    assert "hosted_zone_id" in (caught.value.hint or "") and "route53:GetHostedZone" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(Fault("refuse", "route53", status=403, code="AccessDenied"), "AccessDenied", id="no right"),
        pytest.param(Fault("refuse", "route53", status=400, code="Throttling"), "Throttling", id="throttled"),
        pytest.param(Fault("drop", "route53"), "ConnectionClosedError", id="no answer"),
    ],
)
def test_zones_that_cannot_be_listed_are_not_no_zones(
    hosted_zones_only: HostedZones, route53: Any, desk: Desk, fault: Fault, code: str
) -> None:
    with desk.fault(fault), pytest.raises(DnsError, match=code) as caught:
        Route53Zones(lambda _: route53).hosted_zones()

    assert "route53:ListHostedZones" in (caught.value.hint or "")
