"""The contract of ChallengeRecords, held by the fake and by Route 53; and what Route 53 alone can do to us."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from certkeeper.adapters import dns_lookup
from certkeeper.adapters.dns_lookup import Dns
from certkeeper.adapters.route53_zones import Route53ChallengeRecords
from certkeeper.adapters.threads import Threads
from certkeeper.core.errors import DnsError, OutOfTime
from certkeeper.core.model import TxtRecord
from certkeeper.core.ports import ChallengeRecords, DnsLookup
from certkeeper.sandbox.calls import Call, Desk, Fault, Phase
from certkeeper.sandbox.dns_server import DnsServer
from certkeeper.sandbox.record_sets import Change, RecordSet
from certkeeper.sandbox.route53 import HostedZones
from tests.contracts.conftest import ClientOf
from tests.fakes import FakeChallengeRecords, FakeClock, FakeDns, Seeded

TIMEOUT = 60.0
numbers = itertools.count(1)


@dataclass
class Bench:
    """Challenge records in one zone, what stands there, and how to make it refuse changes to a name."""

    challenge_records: ChallengeRecords
    zone: str
    apex: str
    standing: Callable[[str], set[str]]
    put: Callable[[str, str], None]
    refuse: Callable[[str], None]

    def record(self, value: str, host: str = "") -> TxtRecord:
        return TxtRecord(self.zone, self.name(host), value)

    def name(self, host: str = "") -> str:
        return f"_acme-challenge.{host}.{self.apex}" if host else f"_acme-challenge.{self.apex}"


@pytest.fixture(scope="module")
def route53(client_of: ClientOf) -> Any:
    return client_of("route53")


@pytest.fixture(scope="module")
def retrying(client_of: ClientOf) -> Any:
    return client_of("route53", attempts=2)


@pytest.fixture
def zones(hosted_zones: HostedZones) -> Iterator[HostedZones]:
    """The hosted zones, their temper restored afterwards."""
    yield hosted_zones
    hosted_zones.propagation = hosted_zones.prior_request_seconds = 0.0


@pytest.fixture
def lookup(name_server: DnsServer) -> DnsLookup:
    return Dns((name_server.address,))


Over = Callable[..., Bench]


@pytest.fixture
def over(zones: HostedZones, clock: FakeClock, lookup: DnsLookup) -> Over:
    """A bench over a client of Route 53, in a zone of its own."""

    def bench(client: Any, asking: DnsLookup = lookup, delegated: bool = True) -> Bench:
        apex = f"z{next(numbers)}.test"
        return bench_of(
            zones, Route53ChallengeRecords(lambda _: client, asking, clock, Seeded(0), TIMEOUT), apex, delegated
        )

    return bench


def bench_of(zones: HostedZones, challenge_records: ChallengeRecords, apex: str, delegated: bool = True) -> Bench:
    zone = zones.add(apex, delegated=delegated)

    def put(name: str, value: str) -> None:
        standing = {one.name: one.values for one in zones.records(zone) if one.type == "TXT"}
        zones.put(zone, name, "TXT", *standing.get(name + ".", ()), value)

    return Bench(
        challenge_records,
        zone,
        apex,
        standing=lambda name: {value.strip('"') for value in zones.visible(name, "TXT")},
        put=put,
        refuse=zones.protect,
    )


def fake_bench() -> Bench:
    dns = FakeDns()

    def refuse(name: str) -> None:
        dns.refuse.add(name)
        dns.stuck = True

    return Bench(
        FakeChallengeRecords(dns),
        "Z1",
        "example.com",
        standing=lambda name: {one.value for one in dns.records if one.name == name},
        put=lambda name, value: dns.records.add(TxtRecord("Z1", name, value)),
        refuse=refuse,
    )


@pytest.fixture(params=["fake", "Route 53"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "fake":
        return fake_bench()
    made: Bench = request.getfixturevalue("over")(request.getfixturevalue("route53"))
    return made


# The contract.


def test_all_records_stand_while_the_block_runs_and_none_after_it(bench: Bench) -> None:
    records = [bench.record("a", "www"), bench.record("b", "api")]

    with bench.challenge_records.presenting(records, ()) as presented:
        meanwhile = [bench.standing(record.name) for record in records]

    assert meanwhile == [{"a"}, {"b"}]
    assert [bench.standing(record.name) for record in records] == [set(), set()]
    assert (presented.refused, presented.left) == ({}, set())


def test_a_name_and_its_wildcard_have_two_values_in_one_place(bench: Bench) -> None:
    with bench.challenge_records.presenting([bench.record("a"), bench.record("b")], ()) as presented:
        meanwhile = bench.standing(bench.name())

    assert meanwhile == {"a", "b"}
    assert bench.standing(bench.name()) == set()
    assert presented.left == set()


def test_the_values_of_others_stay(bench: Bench) -> None:
    bench.put(bench.name(), "theirs")

    with bench.challenge_records.presenting([bench.record("ours")], ()):
        meanwhile = bench.standing(bench.name())

    assert meanwhile == {"ours", "theirs"}
    assert bench.standing(bench.name()) == {"theirs"}


def test_leftovers_go_and_what_stands_beside_them_stays(bench: Bench) -> None:
    for value in ("old", "theirs"):
        bench.put(bench.name(), value)

    with bench.challenge_records.presenting((), [bench.record("old")]) as presented:
        pass

    assert bench.standing(bench.name()) == {"theirs"}
    assert presented.left == set()


def test_a_leftover_makes_room_for_a_new_value_at_its_name(bench: Bench) -> None:
    bench.put(bench.name(), "old")

    with bench.challenge_records.presenting([bench.record("new")], [bench.record("old")]):
        meanwhile = bench.standing(bench.name())

    assert meanwhile == {"new"}
    assert bench.standing(bench.name()) == set()


def test_a_leftover_that_is_gone_already_is_no_trouble(bench: Bench) -> None:
    with bench.challenge_records.presenting((), [bench.record("old")]) as presented:
        pass

    assert (presented.refused, presented.left) == ({}, set())


def test_the_records_go_when_the_block_fails(bench: Bench) -> None:
    with pytest.raises(RuntimeError), bench.challenge_records.presenting([bench.record("a")], ()):
        raise RuntimeError

    assert bench.standing(bench.name()) == set()


def test_a_refused_record_holds_up_no_other(bench: Bench) -> None:
    good, bad = [bench.record(f"v{number}", f"h{number}") for number in range(3)], bench.record("x", "bad")
    bench.refuse(bad.name)

    with bench.challenge_records.presenting([*good, bad], ()) as presented:
        meanwhile = [bench.standing(record.name) for record in good]

    assert meanwhile == [{"v0"}, {"v1"}, {"v2"}]
    assert set(presented.refused) == {bad}


def test_a_record_that_cannot_be_taken_away_is_told(bench: Bench) -> None:
    record = bench.record("a")

    with bench.challenge_records.presenting([record], ()) as presented:
        bench.refuse(record.name)

    assert presented.left == {record}


# Route 53: how many calls, since an account has five a second.


def counted(desk: Desk, mark: int) -> dict[str, int]:
    calls = [call.operation for call in desk.calls("route53", since=mark)]
    return {operation: calls.count(operation) for operation in sorted(set(calls))}


def test_one_name_costs_three_calls(over: Over, route53: Any, desk: Desk) -> None:
    bench, mark = over(route53), desk.mark()

    with bench.challenge_records.presenting([bench.record("a"), bench.record("b")], ()):
        pass

    assert counted(desk, mark) == {"ChangeResourceRecordSets": 2, "GetChange": 1}


def test_twenty_names_of_one_zone_cost_no_more_than_one(over: Over, route53: Any, desk: Desk) -> None:
    bench, mark = over(route53), desk.mark()
    records = [bench.record(f"v{number}", f"h{number}") for number in range(20)]

    with bench.challenge_records.presenting(records, ()):
        meanwhile = [bench.standing(record.name) for record in records]

    assert all(meanwhile)
    assert counted(desk, mark) == {"ChangeResourceRecordSets": 2, "GetChange": 1}


def test_each_zone_has_a_batch_of_its_own(zones: HostedZones, clock: FakeClock, lookup: DnsLookup, route53: Any,
                                          desk: Desk) -> None:  # fmt: skip
    threads = Threads(2)
    challenge_records = Route53ChallengeRecords(lambda _: route53, lookup, clock, threads, TIMEOUT)
    benches = [bench_of(zones, challenge_records, f"z{next(numbers)}.test") for _ in range(3)]
    mark = desk.mark()

    with challenge_records.presenting([bench.record("a") for bench in benches], ()) as presented:
        meanwhile = [bench.standing(bench.name()) for bench in benches]

    threads.close()
    assert (meanwhile, presented.refused, presented.left) == ([{"a"}] * 3, {}, set())
    assert counted(desk, mark) == {"ChangeResourceRecordSets": 6, "GetChange": 3}


def test_nothing_to_take_away_costs_one_look(over: Over, route53: Any, desk: Desk) -> None:
    bench, mark = over(route53), desk.mark()

    with bench.challenge_records.presenting((), [bench.record("old")]):
        pass

    assert counted(desk, mark) == {"ListResourceRecordSets": 1}


# Route 53: compare-and-swap.


def test_a_writer_who_never_rests_keeps_all_its_values(over: Over, route53: Any, desk: Desk) -> None:
    bench, values = over(route53), itertools.count(1)
    bench.put(bench.name(), "theirs 0")

    def write(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("after", "ListResourceRecordSets"):
            bench.put(bench.name(), f"theirs {next(values)}")

    with desk.watching(write), bench.challenge_records.presenting([bench.record("ours")], ()) as presented:
        pass

    assert bench.standing(bench.name()) == {f"theirs {number}" for number in range(next(values))}
    assert list(presented.refused) == [bench.record("ours")]


def test_a_value_written_once_between_reading_and_writing_holds_nothing_up(
    over: Over, route53: Any, desk: Desk
) -> None:
    bench = over(route53)
    bench.put(bench.name(), "first")
    writes = iter(["second"])

    def write(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("after", "ListResourceRecordSets"):
            for value in writes:
                bench.put(bench.name(), value)

    with desk.watching(write), bench.challenge_records.presenting([bench.record("ours")], ()) as presented:
        meanwhile = bench.standing(bench.name())

    assert presented.refused == {}
    assert meanwhile == {"first", "second", "ours"}
    assert bench.standing(bench.name()) == {"first", "second"}


def test_a_value_written_while_the_block_runs_survives(over: Over, route53: Any) -> None:
    bench = over(route53)

    with bench.challenge_records.presenting([bench.record("ours")], ()) as presented:
        bench.put(bench.name(), "theirs")

    assert bench.standing(bench.name()) == {"theirs"}
    assert presented.left == set()


def test_a_value_with_quotes_and_several_strings_is_put_back_as_it_was(
    over: Over, route53: Any, zones: HostedZones
) -> None:
    bench = over(route53)
    theirs = r'"v=spf1 \"x\" \303\244" "second string"'
    zones.put(bench.zone, bench.name(), "TXT", theirs, ttl=7)

    with bench.challenge_records.presenting([bench.record("ours")], ()):
        pass

    (standing,) = (one for one in zones.records(bench.zone) if one.type == "TXT")
    assert (standing.values, standing.ttl) == ((theirs,), 7)


# Route 53: refusals.


def test_one_culprit_among_twenty_is_found_by_name(over: Over, route53: Any, desk: Desk) -> None:
    bench = over(route53)
    records = [bench.record(f"v{number}", f"h{number}") for number in range(20)]
    bench.refuse(records[7].name)
    mark = desk.mark()

    with bench.challenge_records.presenting(records, ()) as presented:
        standing = [record for record in records if bench.standing(record.name)]
        refused = dict(presented.refused)

    (error,) = refused.values()
    assert standing == [record for record in records if record is not records[7]]
    assert list(refused) == [records[7]]
    assert isinstance(error, DnsError)
    assert records[7].name in error.message and "protected" in error.message
    assert error.hint is not None and "protection" in error.hint
    assert presented.left == set()
    assert sum(counted(desk, mark).values()) <= 12


def test_a_name_that_iam_does_not_allow_is_found_by_halving(over: Over, route53: Any, desk: Desk) -> None:
    bench = over(route53)
    records = [bench.record(f"v{number}", f"h{number}") for number in range(8)]
    denied = Fault("refuse", "route53", "ChangeResourceRecordSets", ".h5.", status=403, code="AccessDenied")

    with desk.fault(denied), bench.challenge_records.presenting(records, ()) as presented:
        standing = [record for record in records if bench.standing(record.name)]

    (error,) = presented.refused.values()
    assert [record for record in records if record not in standing] == [records[5]] == list(presented.refused)
    assert error.hint is not None and "route53:ChangeResourceRecordSets" in error.hint
    assert presented.left == set()


def test_names_that_are_allowed_among_many_that_are_not_get_through_in_one_of_the_next_runs(
    over: Over, route53: Any, desk: Desk, clock: FakeClock
) -> None:
    bench = over(route53)
    records = [bench.record(f"v{number}", f"h{number}") for number in range(6)]
    denied = Fault("refuse", "route53", "ChangeResourceRecordSets", times=0, status=403, code="AccessDenied")

    def deny(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("before", "ChangeResourceRecordSets"):
            denied.times = None if {value for key, value in call.context if key == "name"} - {records[2].name} else 0

    through = []
    with desk.watching(deny), desk.fault(denied):
        for _ in range(6):
            clock.later(timedelta(seconds=1))
            with bench.challenge_records.presenting(records, ()) as presented:
                through.append(records[2] not in presented.refused)

    assert through.count(True) >= 4
    assert False in through


def test_a_zone_that_may_not_be_changed_at_all_is_known_for_what_it_is(over: Over, route53: Any, desk: Desk) -> None:
    bench, mark = over(route53), desk.mark()
    records = [bench.record(f"v{number}", f"h{number}") for number in range(50)]
    denied = Fault("refuse", "route53", "ChangeResourceRecordSets", status=403, code="AccessDenied")

    with desk.fault(denied), bench.challenge_records.presenting(records, ()) as presented:
        pass

    assert set(presented.refused) == set(records)
    assert all("AccessDenied" in error.message and error.hint for error in presented.refused.values())
    assert sum(bench.zone in error.message for error in presented.refused.values()) == 46
    assert presented.left == set()
    assert counted(desk, mark) == {"ChangeResourceRecordSets": 5}


def test_leftovers_in_a_zone_that_may_not_be_read_are_left_after_one_call(over: Over, route53: Any, desk: Desk) -> None:
    bench, mark = over(route53), desk.mark()
    leftovers = [bench.record(f"v{number}", f"h{number}") for number in range(20)]

    with (
        desk.fault(Fault("refuse", "route53", "ListResourceRecordSets", status=403, code="AccessDenied")),
        bench.challenge_records.presenting((), leftovers) as presented,
    ):
        pass

    assert presented.left == set(leftovers)
    assert counted(desk, mark) == {"ListResourceRecordSets": 1}


def test_a_zone_that_is_gone_costs_one_call(over: Over, route53: Any, desk: Desk) -> None:
    bench, mark = over(route53), desk.mark()
    records = [replace(bench.record(f"v{number}", f"h{number}"), zone="ZGONE0000000000000000") for number in range(20)]

    with bench.challenge_records.presenting(records, ()) as presented:
        pass

    assert set(presented.refused) == set(records)
    assert presented.left == set()
    assert counted(desk, mark) == {"ChangeResourceRecordSets": 1}


def test_an_account_that_cannot_be_reached_holds_up_no_other(
    zones: HostedZones, clock: FakeClock, lookup: DnsLookup, route53: Any
) -> None:
    def client_of(role_arn: str) -> Any:
        if role_arn:
            raise DnsError(f"the role {role_arn} cannot be assumed")
        return route53

    challenge_records = Route53ChallengeRecords(client_of, lookup, clock, Seeded(0), TIMEOUT)
    ours, theirs = (bench_of(zones, challenge_records, f"z{next(numbers)}.test") for _ in range(2))
    lost = replace(theirs.record("a"), role_arn="arn:aws:iam::210987654321:role/dns")
    leftover = replace(lost, value="old")

    with challenge_records.presenting([ours.record("b"), lost], [leftover]) as presented:
        meanwhile = ours.standing(ours.name())

    assert meanwhile == {"b"}
    assert list(presented.refused) == [lost]
    assert "cannot be assumed" in presented.refused[lost].message
    assert presented.left == {leftover}


def test_a_cname_in_the_way_is_told(over: Over, route53: Any, zones: HostedZones) -> None:
    bench = over(route53)
    zones.put(bench.zone, bench.name(), "CNAME", "elsewhere.test")

    with bench.challenge_records.presenting([bench.record("a"), bench.record("b", "www")], ()) as presented:
        other = bench.standing(bench.name("www"))

    assert other == {"b"}
    assert list(presented.refused) == [bench.record("a")]
    assert "CNAME" in presented.refused[bench.record("a")].message


def test_a_record_set_with_a_routing_policy_is_left_alone(over: Over, route53: Any, zones: HostedZones) -> None:
    bench = over(route53)
    weighted = RecordSet(bench.name() + ".", "TXT", 60, ('"theirs"',), "one", (("Weight", "10"),))
    zones.change(bench.zone, [Change("CREATE", weighted)])

    with bench.challenge_records.presenting([bench.record("a")], ()) as presented:
        pass

    (error,) = presented.refused.values()
    assert error.message == f"the TXT record {bench.name()} has a routing policy"
    assert error.hint == "make it a simple record, or delete it"
    assert weighted in zones.records(bench.zone)


def test_a_zone_that_is_gone_refuses_its_own_records_only(over: Over, route53: Any) -> None:
    bench = over(route53)
    lost = TxtRecord("Z00000000000000000000", "_acme-challenge.gone.test", "a")

    with bench.challenge_records.presenting([lost, bench.record("b")], ()) as presented:
        meanwhile = bench.standing(bench.name())

    assert meanwhile == {"b"}
    assert list(presented.refused) == [lost]
    assert "hosted_zone_id" in (presented.refused[lost].hint or "")


@pytest.mark.parametrize("code", ["Throttling", "PriorRequestNotComplete"])
def test_a_route_53_that_is_busy_three_times_in_a_row_is_tried_again(
    over: Over, client_of: ClientOf, desk: Desk, code: str
) -> None:
    bench, mark = over(client_of("route53", attempts=4)), desk.mark()

    with (
        desk.fault(Fault("refuse", "route53", "ChangeResourceRecordSets", times=3, status=400, code=code)),
        bench.challenge_records.presenting([bench.record("a")], ()) as presented,
    ):
        meanwhile, during = bench.standing(bench.name()), counted(desk, mark)

    assert (meanwhile, presented.refused) == ({"a"}, {})
    assert during["ChangeResourceRecordSets"] == 4


@pytest.mark.parametrize("code", ["Throttling", "PriorRequestNotComplete"])
def test_a_route_53_that_stays_busy_is_not_hammered(over: Over, route53: Any, desk: Desk, code: str) -> None:
    bench, mark = over(route53), desk.mark()
    records = [bench.record(f"v{number}", f"h{number}") for number in range(20)]

    with desk.fault(Fault("refuse", "route53", "ChangeResourceRecordSets", status=400, code=code)):  # noqa: SIM117 - read one by one
        with bench.challenge_records.presenting(records, ()) as presented:
            during = counted(desk, mark)

    assert set(presented.refused) == set(records)
    assert all(code in error.message for error in presented.refused.values())
    assert during == {"ChangeResourceRecordSets": 1}
    assert presented.left == set()


# Route 53: doubt. A change whose answer was lost may stand.


def test_a_change_whose_answer_was_lost_is_taken_away_all_the_same(over: Over, route53: Any, desk: Desk) -> None:
    bench = over(route53)

    with desk.fault(Fault("lose", "route53", "ChangeResourceRecordSets", times=1)):  # noqa: SIM117 - read one by one
        with bench.challenge_records.presenting([bench.record("a")], ()) as presented:
            meanwhile = bench.standing(bench.name())

    assert meanwhile == {"a"}
    assert list(presented.refused) == [bench.record("a")]
    assert bench.standing(bench.name()) == set()
    assert presented.left == set()


def test_a_retry_that_meets_its_own_success_is_no_refusal(over: Over, retrying: Any, desk: Desk) -> None:
    bench = over(retrying)

    with desk.fault(Fault("lose", "route53", "ChangeResourceRecordSets", times=1)):  # noqa: SIM117 - read one by one
        with bench.challenge_records.presenting([bench.record("a"), bench.record("b", "www")], ()) as presented:
            meanwhile = bench.standing(bench.name()) | bench.standing(bench.name("www"))

    assert (meanwhile, presented.refused, presented.left) == ({"a", "b"}, {}, set())
    assert bench.standing(bench.name()) == set()


def test_a_record_that_stands_already_is_waited_for_until_it_is_in_sync(
    over: Over, route53: Any, zones: HostedZones, clock: FakeClock
) -> None:
    bench, begun = over(route53), clock.now()
    bench.put(bench.name(), "a")
    zones.propagation = 9.0

    with bench.challenge_records.presenting([bench.record("a")], ()) as presented:
        waited = clock.now() - begun

    assert presented.refused == {}
    assert waited >= timedelta(seconds=9)


def test_leftovers_of_a_zone_that_is_gone_are_gone(over: Over, route53: Any) -> None:
    bench = over(route53)
    leftover = replace(bench.record("old"), zone="ZGONE0000000000000000")

    with bench.challenge_records.presenting((), [leftover]) as presented:
        pass

    assert presented.left == set()


def test_a_taking_away_whose_answer_was_lost_is_told_as_left(over: Over, route53: Any, desk: Desk) -> None:
    bench = over(route53)
    record = bench.record("a")

    with desk.fault(Fault("lose", "route53", "ChangeResourceRecordSets", "DELETE", times=1)):  # noqa: SIM117 - read one by one
        with bench.challenge_records.presenting([record], ()) as presented:
            pass

    assert presented.left == {record}


# Route 53: waiting.


def test_nobody_is_told_before_the_change_is_in_sync(over: Over, route53: Any, zones: HostedZones, clock: FakeClock,
                                                     desk: Desk) -> None:  # fmt: skip
    bench, begun, mark = over(route53), clock.now(), desk.mark()
    zones.propagation = 9.0

    with bench.challenge_records.presenting([bench.record("a")], ()) as presented:
        meanwhile = bench.standing(bench.name())
        waited = clock.now() - begun

    assert (meanwhile, presented.refused) == ({"a"}, {})
    assert timedelta(seconds=9) <= waited <= timedelta(seconds=12)
    assert desk.calls("dns", "TXT", since=mark)


def test_a_change_that_never_is_in_sync_is_refused_and_taken_away(
    over: Over, route53: Any, zones: HostedZones, clock: FakeClock
) -> None:
    bench, begun = over(route53), clock.now()
    zones.propagation = 86400.0

    with bench.challenge_records.presenting([bench.record("a")], ()) as presented:
        waited = clock.now() - begun

    (error,) = presented.refused.values()
    assert isinstance(error, DnsError) and "60 s" in error.message
    # The fake clock goes on by whole seconds, and so counts two for each poll of 1.7 s.
    assert timedelta(seconds=60) <= waited <= timedelta(seconds=74)
    assert presented.left == set()
    assert [one for one in zones.records(bench.zone) if one.type == "TXT"] == []


def test_a_deadline_that_comes_first_is_out_of_time_and_taken_away(
    over: Over, route53: Any, zones: HostedZones, clock: FakeClock
) -> None:
    bench = over(route53)
    zones.propagation = 86400.0
    clock.deadline = clock.now() + timedelta(seconds=10)

    with bench.challenge_records.presenting([bench.record("a")], ()) as presented:
        pass

    (error,) = presented.refused.values()
    assert isinstance(error, OutOfTime)
    assert [one for one in zones.records(bench.zone) if one.type == "TXT"] == []


def test_a_change_that_route_53_does_not_tell_of_is_refused(over: Over, route53: Any, desk: Desk) -> None:
    bench = over(route53)

    with (
        desk.fault(Fault("refuse", "route53", "GetChange", status=403, code="AccessDenied")),
        bench.challenge_records.presenting([bench.record("a")], ()) as presented,
    ):
        pass

    (error,) = presented.refused.values()
    assert "how far the change is: AccessDenied" in error.message
    assert bench.standing(bench.name()) == set()


def test_a_zone_that_is_not_the_delegated_one_is_noticed_by_its_name_servers(
    over: Over, route53: Any, zones: HostedZones, clock: FakeClock
) -> None:
    bench, begun = over(route53, delegated=False), clock.now()
    zones.add(bench.apex, delegated=True)

    with bench.challenge_records.presenting([bench.record("a")], ()) as presented:
        waited = clock.now() - begun

    (error,) = presented.refused.values()
    assert "does not serve the TXT record" in error.message
    assert error.hint is not None and "delegated" in error.hint
    assert timedelta(seconds=60) <= waited <= timedelta(seconds=70)
    assert presented.left == set()


def test_one_name_that_is_not_served_holds_up_no_other(over: Over, route53: Any, name_server: DnsServer) -> None:
    bench = over(route53)
    name_server.fail(bench.name("bad"))

    with bench.challenge_records.presenting([bench.record("a", "bad"), bench.record("b")], ()) as presented:
        pass

    assert list(presented.refused) == [bench.record("a", "bad")]


def test_where_no_name_server_can_be_asked_in_sync_is_enough(
    over: Over, route53: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_lookup, "TIMEOUT", 0.1)
    bench = over(route53, Dns(("127.0.0.1:9",)))

    with bench.challenge_records.presenting([bench.record("a")], ()) as presented:
        pass

    assert presented.refused == {}
