from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from certkeeper.sandbox.aws import AwsServer
from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.record_sets import Change, RecordSet, Route53Error, canonical
from certkeeper.sandbox.route53 import HostedZones

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client

CHALLENGE = "_acme-challenge.z0.test"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


def create(name: str, *values: str) -> Change:
    return Change("CREATE", RecordSet(canonical(name), "TXT", 60, tuple(f'"{value}"' for value in values)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def zones(clock: Clock) -> HostedZones:
    return HostedZones(now=clock, propagation=5.0)


# The model


def test_a_change_is_shown_at_once_and_served_when_it_is_in_sync(zones: HostedZones, clock: Clock) -> None:
    zone_id = zones.add("z0.test")

    info = zones.change(zone_id, [create(CHALLENGE, "a")])

    assert CHALLENGE + "." in {record_set.name for record_set in zones.records(zone_id)}
    assert (zones.in_sync(info), zones.visible(CHALLENGE, "TXT")) == (False, ())
    clock.seconds += 4.9
    assert (zones.in_sync(info), zones.visible(CHALLENGE, "TXT")) == (False, ())
    clock.seconds += 0.2
    assert (zones.in_sync(info), zones.visible(CHALLENGE, "TXT")) == (True, ('"a"',))


def test_a_later_and_faster_change_waits_for_an_earlier_one(zones: HostedZones, clock: Clock) -> None:
    zone_id, other_id = zones.add("z0.test"), zones.add("z1.test")
    zones.change(zone_id, [create("a.z0.test", "slow")])

    zones.propagation = 0.0
    fast = zones.change(zone_id, [create("b.z0.test", "fast")])
    elsewhere = zones.change(other_id, [create("a.z1.test", "fast")])

    assert (zones.in_sync(elsewhere), zones.visible("a.z1.test", "TXT")) == (True, ('"fast"',))
    assert (zones.in_sync(fast), zones.visible("b.z0.test", "TXT")) == (False, ())
    clock.seconds += 5
    assert (zones.in_sync(fast), zones.visible("b.z0.test", "TXT")) == (True, ('"fast"',))


def test_a_batch_with_one_fault_changes_nothing(zones: HostedZones, clock: Clock) -> None:
    zone_id = zones.add("z0.test")
    before = zones.records(zone_id)

    with pytest.raises(Route53Error, match=r"InvalidChangeBatch.*evilz0"):
        zones.change(zone_id, [create("good.z0.test", "a"), create("evilz0.test", "b")])

    clock.seconds += 10
    assert zones.records(zone_id) == before and zones.visible("good.z0.test", "TXT") == ()


def test_the_zones_own_ns_and_soa_stay(zones: HostedZones) -> None:
    zone_id = zones.add("z0.test")

    for record_set in zones.records(zone_id):
        with pytest.raises(Route53Error, match="A HostedZone must contain"):
            zones.change(zone_id, [Change("DELETE", record_set)])


def test_the_throttle_lets_a_burst_pass_and_then_the_rate(zones: HostedZones, clock: Clock) -> None:
    zones.admit()
    zones.requests_per_second, zones.burst = 5.0, 3.0
    clock.seconds += 10

    for _ in range(3):
        zones.admit()

    with pytest.raises(Route53Error, match="Throttling: Rate exceeded"):
        zones.admit()
    clock.seconds += 0.21
    zones.admit()
    with pytest.raises(Route53Error, match="Throttling"):
        zones.admit()


def test_a_zone_still_busy_answers_prior_request_not_complete(zones: HostedZones, clock: Clock) -> None:
    zone_id, other_id = zones.add("z0.test"), zones.add("z1.test")
    zones.prior_request_seconds = 2.0
    zones.change(zone_id, [create("a.z0.test", "a")])

    with pytest.raises(Route53Error, match="PriorRequestNotComplete"):
        zones.change(zone_id, [create("b.z0.test", "b")])

    zones.change(other_id, [create("a.z1.test", "a")])
    clock.seconds += 2
    zones.change(zone_id, [create("b.z0.test", "b")])


def test_a_protected_name_refuses_changes_until_it_is_not_protected(zones: HostedZones) -> None:
    zone_id = zones.add("z0.test")
    zones.protect(CHALLENGE)

    with pytest.raises(Route53Error, match="protected"):
        zones.change(zone_id, [create(CHALLENGE, "a")])

    zones.change(zone_id, [create("other.z0.test", "a")])
    zones.unprotect(CHALLENGE)
    zones.change(zone_id, [create(CHALLENGE, "a")])


def test_private_and_undelegated_zones_are_not_served(zones: HostedZones) -> None:
    private, public, forgotten = zones.add("z0.test", private=True), zones.add("z0.test"), zones.add("z0.test")
    zones.put(private, "a.z0.test", "A", "192.0.2.1")
    zones.put(forgotten, "a.z0.test", "A", "192.0.2.3")

    assert zones.visible("a.z0.test", "A") == ()

    zones.put(public, "a.z0.test", "A", "192.0.2.2")
    assert zones.visible("a.z0.test", "A") == ("192.0.2.2",)


def test_the_most_specific_zone_serves_a_name(zones: HostedZones) -> None:
    zones.put(zones.add("z0.test"), "a.sub.z0.test", "A", "192.0.2.1")
    zones.put(zones.add("sub.z0.test"), "a.sub.z0.test", "A", "192.0.2.2")

    assert zones.visible("a.sub.z0.test", "A") == ("192.0.2.2",)


# The wire


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


LIVE_CLOCK = Clock()


@pytest.fixture(scope="module")
def live() -> HostedZones:
    return HostedZones(now=LIVE_CLOCK)


@pytest.fixture(scope="module")
def aws(desk: Desk, live: HostedZones) -> Iterator[AwsServer]:
    with AwsServer(desk, live) as server:
        yield server


@pytest.fixture(scope="module")
def route53(aws: AwsServer) -> Iterator[Route53Client]:
    client = boto3.client(
        "route53",
        endpoint_url=aws.url,
        region_name="us-east-1",
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def record_set(name: str, *values: str, ttl: int = 60) -> Any:
    return {"Name": name, "Type": "TXT", "TTL": ttl, "ResourceRecords": [{"Value": f'"{value}"'} for value in values]}


def change(client: Route53Client, zone_id: str, *changes: tuple[str, Any]) -> str:
    batch: Any = {"Changes": [{"Action": action, "ResourceRecordSet": wanted} for action, wanted in changes]}
    return client.change_resource_record_sets(HostedZoneId=zone_id, ChangeBatch=batch)["ChangeInfo"]["Id"]


def held(client: Route53Client, zone_id: str, name: str) -> Any:
    listed = client.list_resource_record_sets(
        HostedZoneId=zone_id, StartRecordName=name, StartRecordType="TXT", MaxItems="1"
    )["ResourceRecordSets"]
    found = [record_set for record_set in listed if (record_set["Name"], record_set["Type"]) == (name + ".", "TXT")]
    return found[0] if found else None


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, str, int]:
    answer = error.value.response
    return answer["Error"]["Code"], answer["Error"]["Message"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_boto3_creates_a_zone_and_reads_it_back(route53: Route53Client) -> None:
    created = route53.create_hosted_zone(Name="made.test", CallerReference="one", HostedZoneConfig={"Comment": "<&>"})

    zone_id = created["HostedZone"]["Id"]
    read = route53.get_hosted_zone(Id=zone_id)
    assert zone_id.startswith("/hostedzone/Z")
    assert read["HostedZone"]["Name"] == "made.test."
    assert read["HostedZone"].get("Config") == {"Comment": "<&>", "PrivateZone": False}
    assert read["HostedZone"].get("ResourceRecordSetCount") == 2
    assert len(set(read["DelegationSet"]["NameServers"])) == 4
    assert route53.get_change(Id=created["ChangeInfo"]["Id"])["ChangeInfo"]["Status"] == "INSYNC"
    with pytest.raises(ClientError) as error:
        route53.create_hosted_zone(Name="made.test", CallerReference="one")
    assert refused(error)[0] == "HostedZoneAlreadyExists"


def test_a_private_zone_is_marked_and_has_no_delegation_set(route53: Route53Client, live: HostedZones) -> None:
    read: Any = route53.get_hosted_zone(Id=live.add("inside.test", private=True))

    assert read["HostedZone"]["Config"]["PrivateZone"] is True
    assert "DelegationSet" not in read and read["VPCs"]


def test_a_zone_with_records_of_its_own_cannot_be_deleted(route53: Route53Client, live: HostedZones) -> None:
    zone_id = live.add("deleted.test")
    change(route53, zone_id, ("CREATE", record_set("a.deleted.test", "x")))

    with pytest.raises(ClientError) as error:
        route53.delete_hosted_zone(Id=zone_id)

    assert refused(error)[0] == "HostedZoneNotEmpty"
    change(route53, zone_id, ("DELETE", record_set("a.deleted.test", "x")))
    route53.delete_hosted_zone(Id=zone_id)
    with pytest.raises(ClientError) as error:
        route53.get_hosted_zone(Id=zone_id)
    assert refused(error)[::2] == ("NoSuchHostedZone", 404)


def test_an_invalid_batch_reaches_boto3_with_all_its_messages(route53: Route53Client, live: HostedZones) -> None:
    zone_id = live.add("invalid.test")
    change(route53, zone_id, ("CREATE", record_set("a.invalid.test", "x")))

    with pytest.raises(ClientError) as error:
        change(
            route53,
            zone_id,
            ("CREATE", record_set("a.invalid.test", "y")),
            ("CREATE", record_set("*.invalid.test", "fine")),
            ("DELETE", record_set("b.invalid.test", "z")),
        )

    assert refused(error) == (
        "InvalidChangeBatch",
        "[Tried to create resource record set [name='a.invalid.test.', type='TXT'] but it already exists, "
        "Tried to delete resource record set [name='b.invalid.test.', type='TXT'] but it was not found]",
        400,
    )
    assert held(route53, zone_id, r"\052.invalid.test") is None


def test_a_wildcard_is_shown_escaped_and_values_survive_xml(route53: Route53Client, live: HostedZones) -> None:
    zone_id = live.add("escaped.test")

    change(route53, zone_id, ("CREATE", record_set("*.Escaped.test", "a<b>&c")))

    assert held(route53, zone_id, r"\052.escaped.test")["ResourceRecords"] == [{"Value": '"a<b>&c"'}]


def test_two_writers_by_compare_and_swap_lose_no_value(route53: Route53Client, live: HostedZones) -> None:
    zone_id, name = live.add("swap.test"), "_acme-challenge.swap.test"
    start = threading.Barrier(8)

    def add(value: str) -> None:
        start.wait()
        while True:
            current = held(route53, zone_id, name)
            values = [record["Value"].strip('"') for record in current["ResourceRecords"]] if current else []
            wanted = ("CREATE", record_set(name, *values, value))
            try:
                change(route53, zone_id, *([("DELETE", current)] if current else []), wanted)
                return
            except route53.exceptions.InvalidChangeBatch:
                continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, "abcdefgh"))

    assert sorted(live.visible(name, "TXT")) == [f'"{value}"' for value in "abcdefgh"]


def test_get_change_is_pending_first_and_unknown_for_others(route53: Route53Client, live: HostedZones) -> None:
    zone_id = live.add("pending.test")
    live.propagation = 5.0
    try:
        change_id = change(route53, zone_id, ("CREATE", record_set("a.pending.test", "x")))
    finally:
        live.propagation = 0.0
    first = route53.get_change(Id=change_id)["ChangeInfo"]
    LIVE_CLOCK.seconds += 5
    second = route53.get_change(Id=change_id)["ChangeInfo"]

    assert (first["Status"], second["Status"]) == ("PENDING", "INSYNC")
    assert first["SubmittedAt"].timestamp() == second["SubmittedAt"].timestamp() == LIVE_CLOCK.seconds - 5
    with pytest.raises(ClientError) as error:
        route53.get_change(Id="C404")
    assert refused(error)[::2] == ("NoSuchChange", 404)


def test_many_zones_come_in_pages_of_a_hundred(route53: Route53Client, live: HostedZones) -> None:
    ids = {live.add(f"page{number}.test") for number in range(205)}

    pages = list(route53.get_paginator("list_hosted_zones").paginate())

    found = [zone["Id"].removeprefix("/hostedzone/") for page in pages for zone in page["HostedZones"]]
    assert max(len(page["HostedZones"]) for page in pages) == 100 and len(pages) >= 3
    assert len(route53.list_hosted_zones(MaxItems="500")["HostedZones"]) == 100
    assert ids <= set(found) and len(found) == len(set(found))
    names = [zone["Name"] for page in pages for zone in page["HostedZones"]]
    assert names != sorted(names)


def test_listing_by_name_starts_at_the_name_and_goes_on_in_reversed_label_order(
    route53: Route53Client, live: HostedZones
) -> None:
    first, second = sorted([live.add("b.named.test"), live.add("b.named.test", private=True)])
    live.add("a.b.named.test")
    live.add("c.named.test")

    page = route53.list_hosted_zones_by_name(DNSName="B.named.test", MaxItems="2")
    following = route53.list_hosted_zones_by_name(
        DNSName=page["NextDNSName"], HostedZoneId=page["NextHostedZoneId"], MaxItems="2"
    )

    assert [zone["Id"].rsplit("/")[-1] for zone in page["HostedZones"]] == [first, second]
    assert page["IsTruncated"] and page["NextDNSName"] == "a.b.named.test."
    assert [zone["Name"] for zone in following["HostedZones"]] == ["a.b.named.test.", "c.named.test."]
    absent = route53.list_hosted_zones_by_name(DNSName="b.b.named.test", MaxItems="1")
    assert absent["HostedZones"][0]["Name"] == "c.named.test."


def test_many_record_sets_come_in_pages_of_300_in_reversed_label_order(
    route53: Route53Client, live: HostedZones
) -> None:
    zone_id = live.add("large.test")
    change(route53, zone_id, *(("CREATE", record_set(f"a{number:03}.large.test", "x")) for number in range(400)))

    first = route53.list_resource_record_sets(HostedZoneId=zone_id)
    pages = list(route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone_id))

    assert len(first["ResourceRecordSets"]) == 300 and first["IsTruncated"]
    assert (first["NextRecordName"], first["NextRecordType"]) == ("a298.large.test.", "TXT")
    names = [found["Name"] for page in pages for found in page["ResourceRecordSets"]]
    assert names[:3] == ["large.test.", "large.test.", "a000.large.test."] and len(names) == 402


def test_a_type_without_a_name_is_invalid_input(route53: Route53Client, live: HostedZones) -> None:
    with pytest.raises(ClientError) as error:
        route53.list_resource_record_sets(HostedZoneId=live.add("typed.test"), StartRecordType="TXT")

    assert refused(error)[::2] == ("InvalidInput", 400)


def test_a_change_without_ttl_is_invalid_input(route53: Route53Client, live: HostedZones) -> None:
    wanted = record_set("a.ttl.test", "x")
    del wanted["TTL"]

    with pytest.raises(ClientError) as error:
        change(route53, live.add("ttl.test"), ("CREATE", wanted))

    assert refused(error)[0] == "InvalidInput" and "Missing field 'TTL'" in refused(error)[1]


def test_record_sets_of_other_kinds_are_shown_as_they_were_written(route53: Route53Client, live: HostedZones) -> None:
    zone_id = live.add("kinds.test")
    weighted = record_set("w.kinds.test", "x") | {"SetIdentifier": "blue", "Weight": 10}
    alias = {
        "Name": "kinds.test",
        "Type": "A",
        "AliasTarget": {
            "HostedZoneId": "Z2FDTNDATAQYW2",
            "DNSName": "d1.cloudfront.net.",
            "EvaluateTargetHealth": False,
        },
    }

    change(route53, zone_id, ("CREATE", weighted), ("CREATE", alias))

    listed: list[Any] = list(route53.list_resource_record_sets(HostedZoneId=zone_id)["ResourceRecordSets"])
    assert listed[0] == alias | {"Name": "kinds.test."}
    assert listed[-1] == weighted | {"Name": "w.kinds.test."}
    change(route53, zone_id, ("DELETE", listed[-1]), ("DELETE", listed[0]))


def test_throttled_calls_are_counted_with_their_code(route53: Route53Client, live: HostedZones, desk: Desk) -> None:
    zone_id, before = live.add("throttled.test"), desk.mark()
    live.requests_per_second = 0.01
    try:
        route53.get_hosted_zone(Id=zone_id)
        with pytest.raises(ClientError) as error:
            route53.get_hosted_zone(Id=zone_id)
    finally:
        live.requests_per_second = None

    assert refused(error) == ("Throttling", "Rate exceeded", 400)
    assert [call.fault for call in desk.calls("route53", since=before)] == ["", "Throttling"]


def test_a_denied_change_is_refused_by_record_name(
    aws: AwsServer, route53: Route53Client, live: HostedZones, desk: Desk
) -> None:
    zone_id, before = live.add("denied.test"), desk.mark()

    with (
        aws.deny("route53", "ChangeResourceRecordSets", "_acme-challenge.www"),
        pytest.raises(ClientError) as error,
    ):
        change(route53, zone_id, ("CREATE", record_set("_acme-challenge.www.denied.test", "x")))

    assert refused(error)[::2] == ("AccessDenied", 403)
    (call,) = desk.calls(since=before)
    assert (call.operation, call.resource, call.principal) == ("ChangeResourceRecordSets", zone_id, "AKIATEST")
    assert call.context == (("name", "_acme-challenge.www.denied.test"), ("type", "TXT"), ("action", "CREATE"))


def test_a_lost_answer_has_still_changed_the_zone(route53: Route53Client, live: HostedZones, desk: Desk) -> None:
    zone_id = live.add("lost.test")

    with desk.fault(Fault("lose", "route53", times=1)), pytest.raises(Exception, match="Connection was closed"):
        change(route53, zone_id, ("CREATE", record_set("a.lost.test", "x")))

    assert live.visible("a.lost.test", "TXT") == ('"x"',)
