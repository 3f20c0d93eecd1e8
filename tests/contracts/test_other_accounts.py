"""Hosted zones of other accounts: reached by a role that is assumed once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from certkeeper.adapters.aws_clients import Aws
from certkeeper.adapters.dns_lookup import Dns
from certkeeper.adapters.route53_zones import Route53ChallengeRecords, Route53Zones
from certkeeper.core.errors import DnsError
from certkeeper.core.model import TxtRecord
from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.dns_server import DnsServer
from certkeeper.sandbox.route53 import HostedZones
from tests.fakes import FakeClock, Seeded

THEIRS = "210987654321"
ROLE = f"arn:aws:iam::{THEIRS}:role/certkeeper-dns"
STRANGE = f"arn:aws:iam::{THEIRS}:role/other"

AwsOf = Callable[[], Aws]


@pytest.fixture
def aws_of(signed_in: AwsServer) -> AwsOf:
    signed_in.trust(ROLE)
    return Aws


@pytest.fixture(scope="module")
def zone_ids(hosted_zones: HostedZones) -> dict[str, str]:
    return {"ours": hosted_zones.add("ours.test"), "theirs": hosted_zones.add("theirs.test", account=THEIRS)}


def test_an_account_shows_its_own_zones_and_no_others(aws_of: AwsOf, zone_ids: dict[str, str]) -> None:
    zones = Route53Zones(aws_of().route53)

    ours, theirs = zones.hosted_zones(), zones.hosted_zones(ROLE)

    assert [(zone.zone, zone.role_arn) for zone in ours] == [(zone_ids["ours"], "")]
    assert [(zone.zone, zone.role_arn) for zone in theirs] == [(zone_ids["theirs"], ROLE)]


def test_records_in_two_accounts_stand_at_once_and_the_role_is_assumed_once(
    aws_of: AwsOf, zone_ids: dict[str, str], hosted_zones: HostedZones, name_server: DnsServer, clock: FakeClock,
    desk: Desk, server: AwsServer,
) -> None:  # fmt: skip
    lookup = Dns((name_server.address,))
    challenge_records = Route53ChallengeRecords(aws_of().route53, lookup, clock, Seeded(0), 60)
    records = [
        TxtRecord(zone_ids["ours"], "_acme-challenge.ours.test", "a"),
        TxtRecord(zone_ids["theirs"], "_acme-challenge.theirs.test", "b", ROLE),
    ]
    mark = desk.mark()

    with challenge_records.presenting(records, ()) as presented:
        meanwhile = [hosted_zones.visible(record.name, "TXT") for record in records]

    assert meanwhile == [('"a"',), ('"b"',)]
    assert [hosted_zones.visible(record.name, "TXT") for record in records] == [(), ()]
    assert (presented.refused, presented.left) == ({}, set())
    assert [call.resource for call in desk.calls("sts", "AssumeRole", since=mark)] == [ROLE]
    # One batch for each zone, and one to take it away, signed by whoever has the right.
    changes = desk.calls("route53", "ChangeResourceRecordSets", since=mark)
    assert len(changes) == 4
    ours = server.environment["AWS_ACCESS_KEY_ID"]
    assert {(call.resource, call.principal == ours) for call in changes} == {
        (zone_ids["ours"], True),
        (zone_ids["theirs"], False),
    }


def test_a_zone_of_another_account_is_not_ours_to_change(
    aws_of: AwsOf, zone_ids: dict[str, str], name_server: DnsServer, clock: FakeClock
) -> None:
    challenge_records = Route53ChallengeRecords(aws_of().route53, Dns((name_server.address,)), clock, Seeded(0), 60)
    record = TxtRecord(zone_ids["theirs"], "_acme-challenge.theirs.test", "a")

    with challenge_records.presenting([record], ()) as presented:
        pass

    assert "AccessDenied" in presented.refused[record].message


def test_a_role_that_does_not_trust_us_is_told_once_with_what_to_do(aws_of: AwsOf, desk: Desk) -> None:
    zones, mark = Route53Zones(aws_of().route53), desk.mark()

    for _ in range(2):
        with pytest.raises(DnsError, match=f"the role {STRANGE} cannot be assumed: AccessDenied") as caught:
            zones.hosted_zones(STRANGE)

    assert "sts:AssumeRole" in (caught.value.hint or "")
    assert "trust policy" in (caught.value.hint or "")
    assert len(desk.calls("sts", "AssumeRole", since=mark)) == 1


def test_zones_that_a_role_may_not_list_are_told_with_its_name(aws_of: AwsOf, desk: Desk) -> None:
    zones = Route53Zones(aws_of().route53)
    denied = Fault("refuse", "route53", "ListHostedZones", status=403, code="AccessDenied")

    with desk.fault(denied), pytest.raises(DnsError) as caught:
        zones.hosted_zones(ROLE)

    assert caught.value.hint == f"the role {ROLE} needs route53:ListHostedZones"
