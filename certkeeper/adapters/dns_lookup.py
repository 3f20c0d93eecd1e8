"""DnsLookup by dnspython: the system's resolver for what the world sees, the zones' own name servers for TXT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.CAA
import dns.rdtypes.ANY.NS
import dns.rdtypes.ANY.TXT
import dns.resolver

from certkeeper.core.caa import CaaRecord
from certkeeper.core.errors import DnsError

PORT = 53
TIMEOUT = 4.0


class Dns:
    """With `nameservers` ("ADDRESS:PORT"), these are asked instead of the resolver and the zones' own servers."""

    def __init__(self, nameservers: Sequence[str] = ()) -> None:
        self._fixed = tuple(_split(one) for one in nameservers)
        self._lock = Lock()
        self._servers: dict[str, tuple[tuple[str, int], ...]] = {}
        self._silent: set[str] = set()
        self._resolver: dns.resolver.Resolver | None = None

    def cname(self, name: str) -> str | None:
        answer = self._resolve(name, "CNAME")
        return str(next(iter(answer)).target).rstrip(".").lower() if answer else None

    def caa(self, name: str) -> Sequence[CaaRecord]:
        answer = self._resolve(name, "CAA") or ()
        return tuple(
            CaaRecord(one.flags, one.tag.decode("ascii", "replace").lower(), one.value.decode("ascii", "replace"))
            for one in answer
            if isinstance(one, dns.rdtypes.ANY.CAA.CAA)
        )

    def txt(self, name: str) -> Mapping[str, frozenset[str]]:
        told = {}
        for address, port in self._fixed or self._name_servers(name):
            if address in self._silent:
                continue  # port 53 may be closed from here; thousands of records shall not wait for it
            values = _txt_at(address, port, name)
            if values is None and not self._fixed:
                self._silent.add(address)
            if values is not None:
                told[f"{address}:{port}" if self._fixed else address] = values
        return told

    def delegation(self, zone: str) -> frozenset[str]:
        # The parent's word counts: what a zone says of itself was perhaps copied from its twin.
        for address, port in self._fixed or self._parents_of(zone):
            answer = _answer(address, port, zone, dns.rdatatype.NS)
            rrsets = [*answer.answer, *answer.authority] if answer is not None else []
            told = _hosts(one for rrset in rrsets if rrset.name == dns.name.from_text(zone) for one in rrset)
            if told:
                return told
        return _hosts(self._resolve(zone, "NS") or ())

    def _resolve(self, name: str, kind: str) -> dns.resolver.Answer | None:
        try:
            return self._configured().resolve(name, kind, lifetime=TIMEOUT * 2)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return None
        except (dns.exception.DNSException, OSError) as error:
            raise DnsError(
                f"the {kind} record of {name} could not be looked up: {type(error).__name__}",
                "check the resolver of this machine, or set nameservers under [dns]",
            ) from None

    def _configured(self) -> dns.resolver.Resolver:
        with self._lock:
            if self._resolver is None:
                try:
                    self._resolver = dns.resolver.Resolver(configure=not self._fixed)
                except dns.resolver.NoResolverConfiguration:
                    raise DnsError("this machine has no resolver", "set nameservers under [dns]") from None
                if self._fixed:
                    self._resolver.nameservers = [dns.nameserver.Do53Nameserver(*one) for one in self._fixed]
            return self._resolver

    def _parents_of(self, zone: str) -> tuple[tuple[str, int], ...]:
        try:
            return self._name_servers(zone.partition(".")[2], labels=1)
        except DnsError:
            return ()

    def _name_servers(self, name: str, labels: int = 2) -> tuple[tuple[str, int], ...]:
        """The addresses of the name servers of the zone that a name lies in, as the world sees them delegated; of a
        zone with so many labels at least.
        """
        parts = name.split(".")
        for cut in range(len(parts) - labels + 1):
            zone = ".".join(parts[cut:])
            with self._lock:
                known = self._servers.get(zone)
            if known is None:
                known = self._looked_up(zone)
                with self._lock:
                    self._servers[zone] = known
            if known:
                return known
        return ()

    def _looked_up(self, zone: str) -> tuple[tuple[str, int], ...]:
        answer = self._resolve(zone, "NS")
        if answer is None or answer.canonical_name != dns.name.from_text(zone):
            return ()
        hosts = sorted(str(one.target) for one in answer)
        found, errors = [], []
        for host in hosts:
            try:
                found.append(self._resolve(host, "A"))
            except DnsError as error:
                errors.append(error)
        if errors and not any(found):
            raise errors[0]
        return tuple((str(one.address), PORT) for addresses in found if addresses for one in addresses)


def _txt_at(address: str, port: int, name: str) -> frozenset[str] | None:
    """The TXT values one server tells; None if it does not answer."""
    answer = _answer(address, port, name, dns.rdatatype.TXT)
    if answer is None:
        return None
    return frozenset(
        b"".join(one.strings).decode("ascii", "replace")
        for rrset in answer.answer
        for one in rrset
        if isinstance(one, dns.rdtypes.ANY.TXT.TXT)
    )


def _answer(address: str, port: int, name: str, kind: dns.rdatatype.RdataType) -> dns.message.Message | None:
    """What one server answers, over TCP if it does not fit in UDP; None if it does not answer."""
    query = dns.message.make_query(name, kind, use_edns=True, payload=1232)
    try:
        return dns.query.udp_with_fallback(query, address, timeout=TIMEOUT, port=port)[0]
    except (dns.exception.DNSException, OSError, EOFError, ValueError):
        return None


def _hosts(records: Iterable[dns.rdata.Rdata]) -> frozenset[str]:
    return frozenset(
        one.target.to_text(omit_final_dot=True).lower() for one in records if isinstance(one, dns.rdtypes.ANY.NS.NS)
    )


def _split(server: str) -> tuple[str, int]:
    """ "192.0.2.1", "192.0.2.1:5353", "2001:db8::1" or "[2001:db8::1]:5353"; the settings have checked the form."""
    if server.count(":") > 1:
        address, _, port = server.strip("[").partition("]")
        return address, int(port.lstrip(":") or 53)
    address, _, port = server.partition(":")
    return address, int(port or 53)
