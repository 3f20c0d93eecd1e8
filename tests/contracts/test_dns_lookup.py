"""The contract of DnsLookup, held by the fake and by dnspython on a real name server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import dns.nameserver
import dns.resolver
import pytest

from certkeeper.adapters import dns_lookup
from certkeeper.adapters.dns_lookup import Dns
from certkeeper.core.caa import CaaRecord
from certkeeper.core.errors import DnsError
from certkeeper.core.ports import DnsLookup
from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.dns_server import DnsServer
from certkeeper.sandbox.route53 import HostedZones
from tests.fakes import FakeLookup

Cnames = Callable[[dict[str, str]], DnsLookup]
Caas = Callable[[dict[str, tuple[CaaRecord, ...]]], DnsLookup]
NOBODY = "127.0.0.1:9"


@pytest.fixture(scope="module")
def zone(hosted_zones: HostedZones) -> str:
    return hosted_zones.add("example.com")


@pytest.fixture
def lookup(name_server: DnsServer, zone: str) -> Dns:
    return Dns((name_server.address,))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_lookup, "TIMEOUT", 0.15)


@pytest.fixture(params=["fake", "dnspython"])
def with_cnames(request: pytest.FixtureRequest) -> Cnames:
    if request.param == "fake":
        return lambda cnames: FakeLookup(cnames)
    zones, zone = request.getfixturevalue("hosted_zones"), request.getfixturevalue("zone")
    asked: DnsLookup = request.getfixturevalue("lookup")

    def filled(cnames: dict[str, str]) -> DnsLookup:
        for name, target in cnames.items():
            zones.put(zone, name, "CNAME", target)
        return asked

    return filled


def test_a_cname_is_told_without_being_followed(with_cnames: Cnames) -> None:
    lookup = with_cnames({"a.example.com": "b.example.com", "b.example.com": "c.example.net"})

    assert lookup.cname("a.example.com") == "b.example.com"


def test_no_cname_is_none(with_cnames: Cnames) -> None:
    assert with_cnames({}).cname("nowhere.example.com") is None


@pytest.fixture(params=["fake", "dnspython"])
def with_caas(request: pytest.FixtureRequest) -> Caas:
    if request.param == "fake":
        return lambda caas: FakeLookup(caas=caas)
    zones, zone = request.getfixturevalue("hosted_zones"), request.getfixturevalue("zone")
    asked: DnsLookup = request.getfixturevalue("lookup")

    def filled(caas: dict[str, tuple[CaaRecord, ...]]) -> DnsLookup:
        for name, records in caas.items():
            zones.put(zone, name, "CAA", *(f'{one.flags} {one.tag} "{one.value}"' for one in records))
        return asked

    return filled


def test_caa_records_are_told_with_flags_tag_and_value(with_caas: Caas) -> None:
    records = (
        CaaRecord(0, "issue", "ca.example.net; accounturi=https://ca.example.net/acme/account/1"),
        CaaRecord(128, "issuewild", ";"),
    )
    lookup = with_caas({"caa.example.com": records})

    assert sorted(lookup.caa("caa.example.com"), key=str) == sorted(records, key=str)


def test_no_caa_records_are_none(with_caas: Caas) -> None:
    assert tuple(with_caas({}).caa("nowhere.example.com")) == ()


def test_a_server_that_fails_is_not_no_caa_record(lookup: Dns, name_server: DnsServer) -> None:
    name_server.fail("caa-failing.example.com")

    with pytest.raises(DnsError, match=r"the CAA record of caa-failing\.example\.com could not be looked up"):
        lookup.caa("caa-failing.example.com")


def test_a_name_with_other_records_has_no_cname(lookup: Dns, hosted_zones: HostedZones, zone: str) -> None:
    hosted_zones.put(zone, "host.example.com", "A", "192.0.2.1")

    assert lookup.cname("host.example.com") is None


def test_the_target_is_in_lower_case_without_the_final_dot(lookup: Dns, hosted_zones: HostedZones, zone: str) -> None:
    hosted_zones.put(zone, "loud.example.com", "CNAME", "ELSEWHERE.Example.NET.")

    assert lookup.cname("loud.example.com") == "elsewhere.example.net"


def test_a_wildcard_answers_for_names_that_nobody_made(lookup: Dns, hosted_zones: HostedZones, zone: str) -> None:
    hosted_zones.put(zone, "*.wild.example.com", "CNAME", "parking.example.net")

    assert lookup.cname("_acme-challenge.wild.example.com") == "parking.example.net"


def test_txt_values_are_told_by_server(
    lookup: Dns, hosted_zones: HostedZones, zone: str, name_server: DnsServer
) -> None:
    hosted_zones.put(zone, "_acme-challenge.example.com", "TXT", "a", "b")

    assert lookup.txt("_acme-challenge.example.com") == {name_server.address: frozenset({"a", "b"})}


def test_strings_of_one_value_are_joined(
    lookup: Dns, hosted_zones: HostedZones, zone: str, name_server: DnsServer
) -> None:
    hosted_zones.put(zone, "long.example.com", "TXT", '"one " "two"')

    assert lookup.txt("long.example.com") == {name_server.address: frozenset({"one two"})}


def test_values_that_do_not_fit_in_a_datagram_are_asked_for_by_tcp(
    lookup: Dns, hosted_zones: HostedZones, zone: str, name_server: DnsServer, desk: Desk
) -> None:
    values = [f"{number:03}{'x' * 200}" for number in range(20)]
    hosted_zones.put(zone, "large.example.com", "TXT", *values)
    mark = desk.mark()

    told = lookup.txt("large.example.com")

    assert told == {name_server.address: frozenset(values)}
    assert [call.context for call in desk.calls("dns", since=mark)] == [
        (("transport", "udp"),),
        (("transport", "tcp"),),
    ]


def test_a_server_that_knows_no_value_tells_none(lookup: Dns, name_server: DnsServer) -> None:
    assert lookup.txt("nothing.example.com") == {name_server.address: frozenset()}


def test_a_server_that_fails_is_not_no_cname(lookup: Dns, name_server: DnsServer) -> None:
    name_server.fail("failing.example.com")

    with pytest.raises(DnsError, match=r"the CNAME record of failing\.example\.com could not be looked up") as caught:
        lookup.cname("failing.example.com")

    assert "nameservers under [dns]" in (caught.value.hint or "")


@pytest.mark.usefixtures("zone")
def test_a_zone_is_delegated_to_the_name_servers_of_the_twin_that_is_served(
    lookup: Dns, hosted_zones: HostedZones
) -> None:
    twin = hosted_zones.zone(hosted_zones.add("example.com"))
    (served,) = (one for one in hosted_zones.zones() if one.name == "example.com." and one.delegated)

    assert lookup.delegation("example.com") == set(served.name_servers)
    assert not set(served.name_servers) & set(twin.name_servers)


def test_a_zone_that_nobody_serves_is_delegated_to_nobody(lookup: Dns) -> None:
    assert lookup.delegation("nothing.example.com") == frozenset()


@pytest.mark.usefixtures("impatient")
def test_a_server_that_does_not_answer_is_not_no_cname() -> None:
    begun = time.monotonic()

    with pytest.raises(DnsError, match="could not be looked up"):
        Dns((NOBODY,)).cname("example.com")

    assert time.monotonic() - begun < 3


@pytest.mark.usefixtures("impatient")
def test_a_server_that_does_not_answer_is_left_out(
    hosted_zones: HostedZones, zone: str, name_server: DnsServer
) -> None:
    hosted_zones.put(zone, "partly.example.com", "TXT", "a")

    told = Dns((NOBODY, name_server.address)).txt("partly.example.com")

    assert told == {name_server.address: frozenset({"a"})}


@pytest.mark.usefixtures("impatient")
def test_a_server_that_hangs_is_left_out(lookup: Dns, desk: Desk) -> None:
    with desk.fault(Fault("hang", "dns", seconds=20)):
        told = lookup.txt("example.com")

    assert told == {}


@pytest.mark.parametrize(
    ("server", "split"),
    [
        pytest.param("192.0.2.1", ("192.0.2.1", 53), id="an address"),
        pytest.param("192.0.2.1:5353", ("192.0.2.1", 5353), id="an address and a port"),
        pytest.param("[2001:db8::1]", ("2001:db8::1", 53), id="an IPv6 address"),
        pytest.param("[2001:db8::1]:5353", ("2001:db8::1", 5353), id="an IPv6 address and a port"),
        pytest.param("2001:db8::1", ("2001:db8::1", 53), id="an IPv6 address without brackets"),
    ],
)
def test_a_server_is_an_address_and_perhaps_a_port(server: str, split: tuple[str, int]) -> None:
    assert dns_lookup._split(server) == split


# Without `nameservers`: the resolver says which name servers a zone has, and each of them is asked.


class AsTheWorldSees(Dns):
    """A lookup whose resolver is the sandbox's name server."""

    def __init__(self, resolver: DnsServer) -> None:
        super().__init__()
        self._asked = resolver

    def _configured(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver("127.0.0.1", self._asked.port)]
        return resolver


@dataclass
class World:
    """Two name servers of one zone, the second with a state of its own; the first is the resolver too."""

    lookup: Dns
    zones: HostedZones
    others: HostedZones
    zone: str
    same: str
    servers: str


@pytest.fixture
def world(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    zones, others = HostedZones(), HostedZones()
    zone, same, servers = zones.add("world.test"), others.add("world.test"), zones.add("servers.test")
    for number in (1, 2):
        zones.put(servers, f"ns{number}.servers.test", "A", f"127.0.0.{number}")
    for owner, zone_id in ((zones, zone), (others, same)):
        owner.put(zone_id, "world.test", "NS", "ns1.servers.test.", "ns2.servers.test.")
    with DnsServer(zones, desk) as first, DnsServer(others, desk, "127.0.0.2", first.port):
        monkeypatch.setattr(dns_lookup, "PORT", first.port)
        yield World(AsTheWorldSees(first), zones, others, zone, same, servers)


def test_every_name_server_of_a_zone_is_asked_and_one_that_lags_is_told_apart(world: World) -> None:
    world.zones.put(world.zone, "_acme-challenge.a.b.world.test", "TXT", "new")
    world.others.put(world.same, "_acme-challenge.a.b.world.test", "TXT", "old")

    assert world.lookup.txt("_acme-challenge.a.b.world.test") == {
        "127.0.0.1": frozenset({"new"}),
        "127.0.0.2": frozenset({"old"}),
    }


def test_a_name_server_that_is_silent_is_not_waited_for_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_lookup, "TIMEOUT", 0.3)
    world.zones.put(world.zone, "a.world.test", "TXT", "one")
    world.zones.put(world.zone, "b.world.test", "TXT", "two")
    world.zones.put(world.servers, "ns2.servers.test", "A", "192.0.2.1")

    first = world.lookup.txt("a.world.test")
    begun = time.monotonic()
    again = world.lookup.txt("b.world.test")

    assert (first, again) == ({"127.0.0.1": frozenset({"one"})}, {"127.0.0.1": frozenset({"two"})})
    assert time.monotonic() - begun < 0.25


def test_what_the_parent_says_of_a_delegation_counts_and_not_what_the_zone_says_of_itself(world: World) -> None:
    # The parent has its own name server, the second one, which does not serve the zone itself.
    world.zones.put(world.zones.add("test"), "test", "NS", "ns2.servers.test.")
    world.others.forget(world.same)
    world.others.put(world.others.add("test"), "world.test", "NS", "ns-1.awsdns-00.com.", "NS-2.awsdns-00.net.")

    assert world.lookup.delegation("world.test") == {"ns-1.awsdns-00.com", "ns-2.awsdns-00.net"}


def test_where_the_parent_cannot_be_asked_the_resolver_is(world: World) -> None:
    assert world.lookup.delegation("world.test") == {"ns1.servers.test", "ns2.servers.test"}
