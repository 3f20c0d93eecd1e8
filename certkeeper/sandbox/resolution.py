"""What an authoritative server answers from the zones, before it becomes a packet (RFC 1034 4.3.2, 4592, 8020)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from certkeeper.sandbox.record_sets import RecordSet, canonical, within
from certkeeper.sandbox.route53 import ServedZone

WILDCARD = r"\052"
CHAIN_LIMIT = 8


class Zones(Protocol):
    def serving(self, name: str) -> ServedZone | None: ...

    def visible(self, name: str, record_type: str) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Resolution:
    """`answers` carry the owner asked for, also where a wildcard gave them."""

    rcode: str
    answers: tuple[RecordSet, ...] = ()
    authority: tuple[RecordSet, ...] = ()
    authoritative: bool = True


def resolve(zones: Zones, name: str, record_type: str) -> Resolution:
    """Answer a canonical name, CNAMEs followed for as long as they stay in our zones."""
    chain: tuple[RecordSet, ...] = ()
    for _ in range(CHAIN_LIMIT):
        zone = zones.serving(name)
        if zone is None:
            return Resolution("NOERROR" if chain else "REFUSED", chain, authoritative=bool(chain))
        referral = delegation(zone, name)
        if referral:
            return Resolution("NOERROR", chain, referral, authoritative=bool(chain))
        found = records_at(zone, name)
        if found is None:
            return Resolution("NXDOMAIN", chain, authority(zone))
        matching = tuple(aimed(zones, record_set) for record_set in of_type(found, record_type))
        if any(record_set.values for record_set in matching):
            return Resolution("NOERROR", chain + matching)
        aliases = found.get("CNAME")
        if not aliases:
            return Resolution("NOERROR", chain, authority(zone))
        chain += (aliases[0],)
        name = canonical(aliases[0].values[0])
    return Resolution("SERVFAIL", authoritative=False)


def delegation(zone: ServedZone, name: str) -> tuple[RecordSet, ...]:
    """The NS records below the apex that hand this name to somebody else's servers."""
    while name != zone.name and within(name, zone.name):
        servers = zone.by_name.get(name, {}).get("NS")
        if servers:
            return tuple(servers)
        name = parent(name)
    return ()


def records_at(zone: ServedZone, name: str) -> dict[str, list[RecordSet]] | None:
    """The record sets of a name by type, a wildcard's where there is no such name; None: no such name at all."""
    if name in zone.existing:
        return zone.by_name.get(name, {})
    encloser = parent(name)
    while encloser not in zone.existing:
        encloser = parent(encloser)
    source = zone.by_name.get(f"{WILDCARD}.{encloser}")
    if source is None:
        return None
    return {kind: [replace(record_set, name=name) for record_set in found] for kind, found in source.items()}


def of_type(found: dict[str, list[RecordSet]], record_type: str) -> list[RecordSet]:
    if record_type == "ANY":
        return [record_set for record_sets in found.values() for record_set in record_sets]
    return found.get(record_type, [])


def aimed(zones: Zones, record_set: RecordSet) -> RecordSet:
    """An alias record set with its target's values; of a target that is not ours we know none."""
    target = dict(record_set.alias).get("DNSName")
    if target is None:
        return record_set
    return replace(record_set, ttl=60, values=zones.visible(target, record_set.type))


def authority(zone: ServedZone) -> tuple[RecordSet, ...]:
    return tuple(zone.by_name.get(zone.name, {}).get("SOA", ()))


def parent(name: str) -> str:
    return name.split(".", 1)[1]
