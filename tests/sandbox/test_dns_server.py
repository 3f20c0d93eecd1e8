from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from certkeeper.sandbox.calls import Desk, Fault
from certkeeper.sandbox.dns_server import DnsServer
from certkeeper.sandbox.record_sets import Change, RecordSet
from certkeeper.sandbox.route53 import HostedZones

CHALLENGE = "_acme-challenge.z0.test"


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def zones() -> HostedZones:
    hosted_zones = HostedZones()
    zone_id = hosted_zones.add("z0.test")
    hosted_zones.put(zone_id, CHALLENGE, "TXT", "a", "b")
    hosted_zones.put(zone_id, "www.z0.test", "A", "192.0.2.1")
    hosted_zones.put(zone_id, "www.z0.test", "AAAA", "2001:db8::1")
    hosted_zones.put(zone_id, "deep.below.z0.test", "A", "192.0.2.2")
    hosted_zones.put(zone_id, "alias.z0.test", "CNAME", "www.z0.test.")
    hosted_zones.put(zone_id, "*.wild.z0.test", "TXT", "any")
    hosted_zones.put(zone_id, "there.wild.z0.test", "A", "192.0.2.3")
    hosted_zones.put(zone_id, "away.z0.test", "NS", "ns.elsewhere.example.")
    return hosted_zones


@pytest.fixture
def server(zones: HostedZones, desk: Desk) -> Iterator[DnsServer]:
    with DnsServer(zones, desk) as running:
        yield running


def ask(
    server: DnsServer, name: str, kind: str = "TXT", *, transport: str = "tcp", edns: bool = False
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=4096 if edns else 0)
    query.flags |= dns.flags.AD
    send = dns.query.tcp if transport == "tcp" else dns.query.udp
    return send(query, "127.0.0.1", port=server.port, timeout=5)


def answers(message: dns.message.Message) -> list[str]:
    return [line for rrset in message.answer for line in sorted(rrset.to_text().splitlines())]


def outcome(message: dns.message.Message) -> tuple[str, list[str], list[str]]:
    authority = [dns.rdatatype.to_text(rrset.rdtype) for rrset in message.authority]
    return dns.rcode.to_text(message.rcode()), answers(message), authority


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_txt_records_are_served_on_both_transports_of_one_port(server: DnsServer, transport: str) -> None:
    message = ask(server, CHALLENGE, transport=transport)

    assert answers(message) == [f'{CHALLENGE}. 300 IN TXT "a"', f'{CHALLENGE}. 300 IN TXT "b"']
    assert dns.flags.to_text(message.flags) == "QR AA RD"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("www.z0.test", "A", ("NOERROR", ["www.z0.test. 300 IN A 192.0.2.1"], [])),
        ("www.z0.test", "AAAA", ("NOERROR", ["www.z0.test. 300 IN AAAA 2001:db8::1"], [])),
        ("www.z0.test", "TXT", ("NOERROR", [], ["SOA"])),
        ("www.z0.test", "CAA", ("NOERROR", [], ["SOA"])),
        ("nothing.z0.test", "TXT", ("NXDOMAIN", [], ["SOA"])),
        ("below.z0.test", "TXT", ("NOERROR", [], ["SOA"])),
        ("x.wild.z0.test", "TXT", ("NOERROR", ['x.wild.z0.test. 300 IN TXT "any"'], [])),
        ("y.x.wild.z0.test", "TXT", ("NOERROR", ['y.x.wild.z0.test. 300 IN TXT "any"'], [])),
        ("there.wild.z0.test", "TXT", ("NOERROR", [], ["SOA"])),
        ("x.there.wild.z0.test", "TXT", ("NXDOMAIN", [], ["SOA"])),
        ("x.wild.z0.test", "A", ("NOERROR", [], ["SOA"])),
        ("z1.test", "A", ("REFUSED", [], [])),
        ("evilz0.test", "A", ("REFUSED", [], [])),
        ("test", "CAA", ("REFUSED", [], [])),
        (".", "NS", ("REFUSED", [], [])),
        ("host.away.z0.test", "A", ("NOERROR", [], ["NS"])),
        (
            "alias.z0.test",
            "A",
            ("NOERROR", ["alias.z0.test. 300 IN CNAME www.z0.test.", "www.z0.test. 300 IN A 192.0.2.1"], []),
        ),
        ("alias.z0.test", "TXT", ("NOERROR", ["alias.z0.test. 300 IN CNAME www.z0.test."], ["SOA"])),
        ("alias.z0.test", "CNAME", ("NOERROR", ["alias.z0.test. 300 IN CNAME www.z0.test."], [])),
    ],
)
def test_each_question_gets_its_proper_answer(
    server: DnsServer, name: str, kind: str, expected: tuple[str, list[str], list[str]]
) -> None:
    assert outcome(ask(server, name, kind)) == expected


def test_the_apex_has_the_delegation_sets_name_servers_and_a_soa(server: DnsServer) -> None:
    servers = ask(server, "z0.test", "NS").answer[0]
    authority = ask(server, "z0.test", "SOA").answer[0]

    assert len(servers) == 4 and all(".awsdns-" in str(name) for name in servers)
    assert "awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400" in str(authority[0])


def test_a_referral_is_not_authoritative(server: DnsServer) -> None:
    assert not ask(server, "host.away.z0.test", "A").flags & dns.flags.AA


def test_a_cname_into_another_of_our_zones_is_followed_and_one_to_elsewhere_is_not(
    server: DnsServer, zones: HostedZones
) -> None:
    other = zones.add("validation.test")
    zones.put(other, "z0.validation.test", "TXT", "delegated")
    first = zones.add("z1.test")
    zones.put(first, "_acme-challenge.z1.test", "CNAME", "z0.validation.test")
    zones.put(first, "out.z1.test", "CNAME", "example.com")
    zones.put(first, "dangling.z1.test", "CNAME", "no.validation.test")

    assert answers(ask(server, "_acme-challenge.z1.test"))[-1] == 'z0.validation.test. 300 IN TXT "delegated"'
    assert outcome(ask(server, "out.z1.test")) == ("NOERROR", ["out.z1.test. 300 IN CNAME example.com."], [])
    assert outcome(ask(server, "dangling.z1.test"))[0] == "NXDOMAIN"


def test_a_cname_loop_is_servfail(server: DnsServer, zones: HostedZones) -> None:
    zone_id = zones.add("loop.test")
    zones.put(zone_id, "a.loop.test", "CNAME", "b.loop.test")
    zones.put(zone_id, "b.loop.test", "CNAME", "a.loop.test")

    assert outcome(ask(server, "a.loop.test"))[0] == "SERVFAIL"


def test_the_answer_is_spelt_as_the_question_was(server: DnsServer) -> None:
    message = ask(server, "_AcMe-cHaLLenge.Z0.tEsT")

    assert str(message.answer[0].name) == str(message.question[0].name) == "_AcMe-cHaLLenge.Z0.tEsT."


def test_a_long_answer_is_truncated_over_udp_and_whole_over_tcp(server: DnsServer, zones: HostedZones) -> None:
    zones.put(zones.add("long.test"), "long.test", "TXT", *(f"{number:02}{'x' * 60}" for number in range(20)))

    short = ask(server, "long.test", transport="udp")

    assert short.flags & dns.flags.TC and not short.answer
    assert len(ask(server, "long.test").answer[0]) == 20
    assert len(ask(server, "long.test", transport="udp", edns=True).answer[0]) == 20


def test_edns_is_answered_with_edns_only(server: DnsServer) -> None:
    assert ask(server, CHALLENGE, edns=True).edns == 0
    assert ask(server, CHALLENGE).edns == -1


def test_only_what_is_in_sync_is_served(server: DnsServer, zones: HostedZones) -> None:
    now = 1000.0
    zones = HostedZones(now=lambda: now, propagation=5)
    with DnsServer(zones, Desk()) as slow:
        zone_id = zones.add("z0.test")
        zones.change(zone_id, [Change("CREATE", RecordSet("a.z0.test.", "TXT", 60, ('"x"',)))])
        before = outcome(ask(slow, "a.z0.test"))
        now += 5
        after = outcome(ask(slow, "a.z0.test"))

    assert before[0] == "NXDOMAIN"
    assert after == ("NOERROR", ['a.z0.test. 60 IN TXT "x"'], [])


def test_strings_are_served_as_octets_and_in_their_number(server: DnsServer, zones: HostedZones) -> None:
    zones.put(zones.add("octets.test"), "octets.test", "TXT", r'"a\"b" "\303\244"')

    (data,) = ask(server, "octets.test").answer[0]

    assert data.strings == (b'a"b', b"\xc3\xa4")


def test_caa_records_are_served_where_there_are_some(server: DnsServer, zones: HostedZones) -> None:
    zones.put(zones.add("caa.test"), "caa.test", "CAA", '0 issue "letsencrypt.org"')

    assert answers(ask(server, "caa.test", "CAA")) == ['caa.test. 300 IN CAA 0 issue "letsencrypt.org"']


def test_a_failing_name_is_servfail_until_it_is_healed(server: DnsServer) -> None:
    server.fail(CHALLENGE.upper())
    failing = outcome(ask(server, CHALLENGE))[0], outcome(ask(server, "www.z0.test", "A"))[0]
    server.heal(CHALLENGE)

    assert failing == ("SERVFAIL", "NOERROR")
    assert outcome(ask(server, CHALLENGE))[0] == "NOERROR"


def test_queries_are_counted_with_type_name_and_transport(server: DnsServer, desk: Desk) -> None:
    ask(server, CHALLENGE.upper())
    ask(server, "*.nothing.z0.test", "CAA", transport="udp")

    assert [(call.service, call.operation, call.resource, call.context, call.status) for call in desk.calls()] == [
        ("dns", "TXT", CHALLENGE, (("transport", "tcp"),), dns.rcode.NOERROR),
        ("dns", "CAA", "*.nothing.z0.test", (("transport", "udp"),), dns.rcode.NXDOMAIN),
    ]


def test_faults_refuse_with_their_rcode_or_send_nothing(server: DnsServer, desk: Desk) -> None:
    with desk.fault(Fault("refuse", "dns", code="REFUSED")):
        assert outcome(ask(server, CHALLENGE)) == ("REFUSED", [], [])
    with desk.fault(Fault("refuse", "dns")):
        assert outcome(ask(server, CHALLENGE)) == ("SERVFAIL", [], [])
    with desk.fault(Fault("drop", "dns")):
        with pytest.raises(EOFError):
            ask(server, CHALLENGE)
        query = dns.message.make_query(CHALLENGE, "TXT")
        with pytest.raises(dns.exception.Timeout):
            dns.query.udp(query, "127.0.0.1", port=server.port, timeout=0.1)


def test_one_hanging_query_holds_up_no_other(server: DnsServer, desk: Desk) -> None:
    with ThreadPoolExecutor(1) as pool:
        with desk.fault(Fault("hang", "dns", contains="www", times=1, seconds=30)) as fault:
            hanging = pool.submit(ask, server, "www.z0.test", "A")
            while fault.times:
                time.sleep(0.01)
            assert outcome(ask(server, CHALLENGE, transport="udp"))[0] == "NOERROR"
            assert not hanging.done()
        with pytest.raises(EOFError):
            hanging.result(5)


def test_three_at_once_and_many_on_one_connection(server: DnsServer) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert {outcome(message)[0] for message in pool.map(lambda _: ask(server, CHALLENGE), range(12))} == {"NOERROR"}
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for _ in range(3):
            query = dns.message.make_query(CHALLENGE, "TXT")
            dns.query.send_tcp(connection, query)
            assert query.is_response(dns.query.receive_tcp(connection)[0])


def test_what_is_no_query_gets_no_answer_and_harms_nobody(server: DnsServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(struct.pack("!H", 5) + b"stuff")
        assert connection.recv(1) == b""

    assert outcome(ask(server, CHALLENGE))[0] == "NOERROR"


def test_closing_ends_open_connections_and_threads_and_frees_the_port(zones: HostedZones) -> None:
    threads = set(threading.enumerate())
    server = DnsServer(zones, Desk())
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        ask(server, CHALLENGE)

        server.close()
        server.close()

        assert idle.recv(1) == b""
    assert set(threading.enumerate()) <= threads
    with pytest.raises(ConnectionRefusedError):
        ask(server, CHALLENGE)
