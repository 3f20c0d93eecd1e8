"""The authoritative name server for the sandbox's hosted zones, over UDP and TCP on one port."""

from __future__ import annotations

import errno
import socketserver
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from dnslib import AAAA, CNAME, EDNS0, NS, QTYPE, RCODE, RR, SOA, TXT, A, DNSError, DNSLabel, DNSRecord

from certkeeper.sandbox.calls import Call, Desk, Dropped, Fault
from certkeeper.sandbox.loopback import ADDRESS, Serving, TcpServer, UdpServer
from certkeeper.sandbox.record_sets import RecordSet, Route53Error, canonical, txt_strings, unescaped
from certkeeper.sandbox.resolution import Resolution, resolve
from certkeeper.sandbox.route53 import HostedZones

PLAIN_UDP_SIZE = 512
EDNS_UDP_SIZE = 1232
OPT = 41


class DnsServer:
    """Serves what `hosted_zones` has INSYNC, and refuses every other name.

    Names given to `fail` get SERVFAIL until `heal`. Calls are counted as service "dns", with the type as operation,
    the name (lower case, no final dot) as resource and the RCODE as status; a "refuse" fault answers the RCODE its
    `code` names, else SERVFAIL. `host` and `port` are for a second one: another loopback address, the same port.
    """

    def __init__(self, hosted_zones: HostedZones, desk: Desk, host: str = ADDRESS, port: int = 0) -> None:
        self._zones = hosted_zones
        self._desk = desk
        self._failing: frozenset[str] = frozenset()
        tcp, udp = self._listening(host, port)
        self.port = tcp.port
        self.address = f"{host}:{self.port}"
        self._servings = (Serving(tcp, "dns-tcp"), Serving(udp, "dns-udp"))

    def fail(self, name: str) -> None:
        self._failing |= {canonical(name)}

    def heal(self, name: str) -> None:
        self._failing -= {canonical(name)}

    def close(self) -> None:
        for serving in self._servings:
            serving.close()

    def __enter__(self) -> DnsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listening(self, host: str, port: int) -> tuple[TcpServer, UdpServer]:
        """Both transports on one port number; another program may hold the UDP half of a free TCP port."""
        server = self

        class Stream(StreamHandler):
            def answered(self, query: bytes) -> bytes:
                return server.answer(query, "tcp")

        class Datagram(DatagramHandler):
            def answered(self, query: bytes) -> bytes:
                return server.answer(query, "udp")

        while True:
            tcp = TcpServer(Stream, port, host)
            try:
                return tcp, UdpServer(Datagram, tcp.port, host)
            except OSError as error:
                tcp.server_close()
                if error.errno != errno.EADDRINUSE or port:
                    raise

    def answer(self, wire: bytes, transport: str) -> bytes:
        """The packet that answers a packet. Dropped for what is no query."""
        try:
            query = DNSRecord.parse(wire)
            name = asked_name(query)
        except (DNSError, IndexError, Route53Error) as error:
            raise Dropped from error
        record_type = QTYPE.get(query.q.qtype)
        call = Call("dns", record_type, readable(name), (("transport", transport),))
        reply: DNSRecord = self._desk.attend(
            call,
            lambda: rendered(query, self._resolution(name, record_type)),
            lambda fault: rendered(query, refusal(fault)),
            lambda answered: int(answered.header.rcode),
        )
        return packed(query, reply, transport)

    def _resolution(self, name: str, record_type: str) -> Resolution:
        if name in self._failing:
            return Resolution("SERVFAIL", authoritative=False)
        if not name:
            return Resolution("REFUSED", authoritative=False)
        return resolve(self._zones, name, record_type)


class StreamHandler(socketserver.StreamRequestHandler):
    """Any number of queries on one connection, each with its length in front (RFC 7766)."""

    disable_nagle_algorithm = True

    def answered(self, query: bytes) -> bytes:
        raise NotImplementedError

    def handle(self) -> None:
        while True:
            size = self.rfile.read(2)
            if len(size) < 2:
                return
            query = self.rfile.read(struct.unpack("!H", size)[0])
            try:
                answer = self.answered(query)
            except Dropped:
                return
            self.wfile.write(struct.pack("!H", len(answer)) + answer)


class DatagramHandler(socketserver.BaseRequestHandler):
    def answered(self, query: bytes) -> bytes:
        raise NotImplementedError

    def handle(self) -> None:
        query, udp_socket = self.request
        try:
            answer = self.answered(query)
        except Dropped:
            return
        udp_socket.sendto(answer, self.client_address)


def refusal(fault: Fault) -> Resolution:
    known = fault.code in ("FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
    return Resolution(fault.code if known else "SERVFAIL", authoritative=False)


def asked_name(query: DNSRecord) -> str:
    """The question's name, canonical; "" for the root."""
    labels = query.questions[0].qname.label
    escaped = ["".join(f"\\{octet:03o}" for octet in text) for text in labels]
    return canonical(".".join(escaped)) if escaped else ""


def readable(name: str) -> str:
    return name.removesuffix(".").replace(r"\052", "*")


def label(name: str) -> DNSLabel:
    return DNSLabel([unescaped(text) for text in name.removesuffix(".").split(".")])


def rendered(query: DNSRecord, resolution: Resolution) -> DNSRecord:
    reply = query.reply(ra=0, aa=int(resolution.authoritative))
    reply.header.rcode = getattr(RCODE, resolution.rcode)
    reply.header.ad = 0  # dnslib copies the question's flags, and this one would claim DNSSEC
    asked = query.q.qname
    for record_set in resolution.answers:
        # The name asked for is spelt as it was asked: some resolvers check its case (0x20).
        owner = label(record_set.name)
        reply.add_answer(*resource_records(record_set, asked if asked == owner else owner))
    for record_set in resolution.authority:
        reply.add_auth(*resource_records(record_set, label(record_set.name)))
    return reply


def packed(query: DNSRecord, reply: DNSRecord, transport: str) -> bytes:
    offers = [int(record.edns_len) for record in query.ar if record.rtype == OPT]
    limit = max(offers[0], PLAIN_UDP_SIZE) if offers else PLAIN_UDP_SIZE
    if offers:
        reply.add_ar(EDNS0(udp_len=EDNS_UDP_SIZE))
    wire = bytes(reply.pack())
    if transport == "tcp" or len(wire) <= limit:
        return wire
    reply.rr, reply.auth, reply.header.tc = [], [], 1
    return bytes(reply.pack())


def resource_records(record_set: RecordSet, owner: DNSLabel) -> Iterator[RR]:
    kind = getattr(QTYPE, record_set.type)
    for value in record_set.values:
        yield RR(owner, kind, ttl=record_set.ttl or 0, rdata=record_data(record_set.type, value))


def record_data(kind: str, value: str) -> Any:
    if kind in ("TXT", "SPF"):
        return TXT(txt_strings(value))
    if kind in ("CNAME", "NS"):
        return {"CNAME": CNAME, "NS": NS}[kind](label(canonical(value)))
    if kind in ("A", "AAAA"):
        return {"A": A, "AAAA": AAAA}[kind](value)
    if kind == "SOA":
        primary, responsible, *times = value.split()
        return SOA(label(canonical(primary)), label(canonical(responsible)), tuple(map(int, times)))
    return RR.fromZone(f"owner. 1 IN {kind} {value}")[0].rdata
