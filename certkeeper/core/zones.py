"""Which hosted zone a challenge record belongs in, and the change that puts it there. Pure.

Changes are compare-and-swap: {DELETE what was read, CREATE what shall be} in one batch, which Route 53 applies
whole or not at all, so nobody else's value is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from certkeeper.core.errors import DnsError
from certkeeper.core.model import HostedZone, ZonePlace

TTL = 10
MOST_HOPS = 8
# Route 53's limits for one ChangeResourceRecordSets request: records, and characters of all values.
MOST_RECORDS, MOST_CHARACTERS = 1000, 32_000

CnameOf = Callable[[str], "str | None"]


@dataclass(frozen=True)
class RecordSet:
    """The TXT record set at one name: every value that stands there, in the order of the zone."""

    name: str
    values: tuple[str, ...]
    ttl: int = TTL


@dataclass(frozen=True)
class Change:
    """One change of a batch; `action` is CREATE or DELETE."""

    action: str
    record_set: RecordSet


def challenge_name(identifier: str) -> str:
    """RFC 8555 section 8.4: a name and its wildcard share one record set."""
    return "_acme-challenge." + identifier.removeprefix("*.")


def place_of(name: str, places: Iterable[ZonePlace]) -> ZonePlace:
    """Where to look for the zone of a name: the place with the longest domain, by labels; else our own account."""
    fitting = [place for place in places if _within(name, place.domain)]
    return max(fitting, key=lambda place: place.domain.count("."), default=ZonePlace(""))


def choose(name: str, zones: Iterable[HostedZone], explicit: str | None = None) -> tuple[HostedZone, ...]:
    """The public zones whose name is the longest suffix of `name`, by labels: one, or twins. An explicit id wins.

    Raises DnsError.
    """
    zones = tuple(zones)
    if explicit is not None:
        for zone in zones:
            if zone.zone == explicit:
                if not _within(name, zone.name):
                    raise DnsError(f"{name} does not lie in hosted zone {explicit}, which is {zone.name}")
                return (zone,)
        raise DnsError(f"there is no hosted zone {explicit} in this account", "correct hosted_zone_id")
    fitting = [zone for zone in zones if not zone.private and _within(name, zone.name)]
    if not fitting:
        private = any(zone.private and _within(name, zone.name) for zone in zones)
        raise DnsError(
            f"no {'public ' if private else ''}hosted zone for {name}",
            "create a public hosted zone for the domain in Route 53, in this account, and delegate the domain to it; "
            "for a zone in another account set role_arn under [dns.zones]",
        )
    longest = max(zone.name.count(".") for zone in fitting)
    return tuple(zone for zone in fitting if zone.name.count(".") == longest)


def delegated(twins: Mapping[HostedZone, frozenset[str]], live: frozenset[str]) -> HostedZone:
    """Of zones of one name, the one that the world asks: its own name servers are those that are `live`.

    Raises DnsError where that fits none of them, or several.
    """
    asked = [zone for zone, servers in twins.items() if servers & live]
    if len(asked) == 1:
        return asked[0]
    ids = ", ".join(sorted(zone.zone for zone in twins))
    raise DnsError(
        f"{len(twins)} public hosted zones are called {next(iter(twins)).name}: {ids}; "
        f"the domain is delegated to {'several' if asked else 'none'} of them",
        f"say which with hosted_zone_id; the world asks {', '.join(sorted(live)) or 'no name server'}",
    )


def follow(name: str, cname_of: CnameOf) -> str:
    """Where the TXT record really belongs: the end of explicit CNAMEs. Raises DnsError on a loop.

    A wildcard CNAME (`*.example.com`) answers for the challenge name too, and ends as soon as a record stands
    there: it is recognised by asking for a sibling that nobody made, and not followed.
    """
    seen = [name]
    while (target := cname_of(name)) is not None:
        sibling = f"_certkeeper-nobody.{name.split('.', 1)[1]}" if "." in name else name
        if cname_of(sibling) == target:
            return name
        if target in seen or len(seen) > MOST_HOPS:
            raise DnsError(
                f"the CNAMEs of {seen[0]} lead in a circle: {' -> '.join([*seen, target])}", "mend the CNAME"
            )
        seen.append(target)
        name = target
    return name


def merged(current: RecordSet | None, name: str, add: Iterable[str], remove: Iterable[str] = ()) -> RecordSet | None:
    """What shall stand at `name`: what stands there, less `remove`, plus `add`; None for nothing."""
    kept = [value for value in (current.values if current else ()) if value not in set(remove)]
    values = (*kept, *sorted(set(add) - set(kept)))
    return RecordSet(name, values, current.ttl if current else TTL) if values else None


def swap(current: RecordSet | None, wanted: RecordSet | None) -> tuple[Change, ...]:
    """The compare-and-swap from `current` to `wanted`; empty if they are the same."""
    if current == wanted:
        return ()
    before = (Change("DELETE", current),) if current else ()
    after = (Change("CREATE", wanted),) if wanted else ()
    return before + after


def batches(swaps: Sequence[tuple[Change, ...]]) -> list[list[tuple[Change, ...]]]:
    """Group swaps into batches that keep Route 53's limits; one swap is never torn apart."""
    grouped: list[list[tuple[Change, ...]]] = []
    records = characters = 0
    for one in swaps:
        n = sum(len(change.record_set.values) for change in one)
        c = sum(len(value) + 2 for change in one for value in change.record_set.values)
        if not grouped or records + n > MOST_RECORDS or characters + c > MOST_CHARACTERS:
            grouped.append([])
            records = characters = 0
        grouped[-1].append(one)
        records, characters = records + n, characters + c
    return grouped


def _within(name: str, zone: str) -> bool:
    return name == zone or name.endswith("." + zone)
