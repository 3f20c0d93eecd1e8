"""Route 53 as it behaves, without the wire: hosted zones, record sets, and change batches that take their time.

moto's accepts what the real one refuses (`CREATE` over a record, half a batch) and is never PENDING.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from certkeeper.sandbox.record_sets import (
    Change,
    Records,
    RecordSet,
    Route53Error,
    apply,
    batch_faults,
    canonical,
    sort_order,
    within,
)


@dataclass(frozen=True)
class ServedZone:
    """What DNS serves of a zone at one moment."""

    name: str
    records: Records

    @cached_property
    def by_name(self) -> dict[str, dict[str, list[RecordSet]]]:
        names: dict[str, dict[str, list[RecordSet]]] = {}
        for record_set in self.records.values():
            names.setdefault(record_set.name, {}).setdefault(record_set.type, []).append(record_set)
        return names

    @cached_property
    def existing(self) -> frozenset[str]:
        """Every name with records at it or below it (RFC 8020: those are not NXDOMAIN)."""
        names = {self.name}
        for name in self.by_name:
            while name not in names:
                names.add(name)
                name = name.split(".", 1)[1]
        return frozenset(names)


@dataclass
class HostedZone:
    """`delegated` says whether the world asks this zone's name servers: of two zones of one name, one is real.

    `account` is empty for the sandbox's own.
    """

    zone_id: str
    name: str
    caller_reference: str
    comment: str
    name_servers: tuple[str, ...]
    private: bool = False
    delegated: bool = True
    account: str = ""
    records: Records = field(default_factory=dict)
    pending: deque[tuple[float, tuple[Change, ...]]] = field(default_factory=deque)
    served: ServedZone = field(init=False)
    last_due: float = 0.0
    last_change: float = float("-inf")

    def __post_init__(self) -> None:
        self.served = ServedZone(self.name, {})


@dataclass(frozen=True)
class ChangeInfo:
    change_id: str
    submitted_at: float
    due: float
    comment: str = ""


@dataclass(frozen=True)
class Page:
    """One page of record sets, and the first of the next page."""

    record_sets: tuple[RecordSet, ...]
    following: RecordSet | None


class HostedZones:
    """The hosted zones of one account, safe to use from many threads.

    `propagation` is the seconds from a change to INSYNC, `requests_per_second` (None: no limit) and `burst` the
    account's throttle, `prior_request_seconds` how long after a change its zone answers PriorRequestNotComplete.
    All may be changed at any time. Names come and go in any spelling and are kept as Route 53 shows them: lower
    case, final dot, `*` as `\\052`.
    """

    def __init__(self, now: Callable[[], float] = time.time, propagation: float = 0.0) -> None:
        self.propagation = propagation
        self.requests_per_second: float | None = None
        self.burst: float = 1.0
        self.prior_request_seconds = 0.0
        self._now = now
        self._lock = threading.RLock()
        self._zones: dict[str, HostedZone] = {}
        self._changes: dict[str, ChangeInfo] = {}
        self._protected: set[str] = set()
        self._allowance = self.burst
        self._allowance_at = now()

    # Setting the scene

    def add(self, name: str, private: bool = False, delegated: bool | None = None, account: str = "") -> str:
        """Add a zone that is there at once, and answer its id. `delegated`: by default, if no other of its name is."""
        zone, _ = self.create(name, private=private, delegated=delegated, at_once=True)
        zone.account = account
        return zone.zone_id

    def put(self, zone_id: str, name: str, record_type: str, *values: str, ttl: int = 300) -> None:
        """Write a record set past the API: no delay, no throttle. TXT values are given without quotes or with."""
        if record_type == "TXT":
            values = tuple(value if value.startswith('"') else f'"{value}"' for value in values)
        change = Change("UPSERT", RecordSet(canonical(name), record_type, ttl, values))
        with self._lock:
            zone = self._settled(zone_id)
            apply(zone.records, [change])
            zone.served = ServedZone(zone.name, apply(dict(zone.served.records), [change]))

    def protect(self, name: str) -> None:
        """Have every change to this name's record sets refused, as record set protection does."""
        with self._lock:
            self._protected.add(canonical(name))

    def unprotect(self, name: str) -> None:
        with self._lock:
            self._protected.discard(canonical(name))

    def forget(self, zone_id: str) -> None:
        """Have a zone gone at once, with all that is in it."""
        with self._lock:
            del self._zones[zone_id]

    # What there is

    def records(self, zone_id: str) -> tuple[RecordSet, ...]:
        """What the API shows, in its order."""
        with self._lock:
            return tuple(sorted(self._zone(zone_id).records.values(), key=record_order))

    def visible(self, name: str, record_type: str) -> tuple[str, ...]:
        """The values DNS serves for exactly this name and type now (TXT in quotes)."""
        zone = self.serving(name)
        found = zone.by_name.get(canonical(name), {}).get(record_type, []) if zone else []
        return tuple(value for record_set in found for value in record_set.values)

    def serving(self, name: str) -> ServedZone | None:
        """The public, delegated zone DNS would answer this name from, as it is now."""
        with self._lock:
            wanted = canonical(name)
            zones = [zone for zone in self._zones.values() if zone.delegated and within(wanted, zone.name)]
            for zone in sorted(zones, key=lambda zone: len(zone.name), reverse=True):
                served = self._settled(zone.zone_id).served
                if served.records:
                    return served
        return None

    # The API's operations

    def admit(self) -> None:
        """Take one request from the account's allowance."""
        with self._lock:
            now, rate = self._now(), self.requests_per_second
            if rate is None:
                self._allowance, self._allowance_at = self.burst, now
                return
            self._allowance = min(max(self.burst, 1.0), self._allowance + (now - self._allowance_at) * rate)
            self._allowance_at = now
            if self._allowance < 1:
                raise Route53Error("Throttling", "Rate exceeded")
            self._allowance -= 1

    def create(
        self,
        name: str,
        *,
        caller_reference: str = "",
        comment: str = "",
        private: bool = False,
        delegated: bool | None = None,
        at_once: bool = False,
    ) -> tuple[HostedZone, ChangeInfo]:
        with self._lock:
            zone_name = canonical(name)
            if caller_reference and any(zone.caller_reference == caller_reference for zone in self._zones.values()):
                message = (
                    f"A hosted zone has already been created with the specified caller reference: {caller_reference}"
                )
                raise Route53Error("HostedZoneAlreadyExists", message, 409)
            zone = invented(zone_name, len(self._changes), caller_reference, comment)
            zone.private = private
            if delegated is None:
                delegated = not any(other.delegated and other.name == zone_name for other in self._zones.values())
            zone.delegated = delegated and not private
            self._zones[zone.zone_id] = zone
            changes = tuple(Change("CREATE", record_set) for record_set in first_records(zone))
            info = self._accept(zone, changes, 0.0 if at_once else self.propagation, comment)
            zone.last_change = float("-inf")
            return zone, info

    def delete(self, zone_id: str) -> ChangeInfo:
        with self._lock:
            zone = self._zone(zone_id)
            if any(
                record_set.type not in ("NS", "SOA") or record_set.name != zone.name
                for record_set in zone.records.values()
            ):
                message = (
                    "The specified hosted zone contains non-required resource record sets and so cannot be deleted."
                )
                raise Route53Error("HostedZoneNotEmpty", message)
            del self._zones[zone.zone_id]
            return self._note(self._now() + self.propagation)

    def zones(self, account: str = "") -> list[HostedZone]:
        """An account's zones in the order of their ids, which is no order a reader could make use of."""
        with self._lock:
            ours = [zone for zone in self._zones.values() if zone.account == account]
            return sorted(ours, key=lambda zone: zone.zone_id)

    def zones_by_name(self, start_name: str = "", start_id: str = "", account: str = "") -> list[HostedZone]:
        start = (sort_order(canonical(start_name)) if start_name else "", start_id)
        return [zone for zone in sorted(self.zones(account), key=zone_order) if zone_order(zone) >= start]

    def zone(self, zone_id: str) -> HostedZone:
        with self._lock:
            return self._zone(zone_id)

    def page(self, zone_id: str, start: tuple[str, str, str] = ("", "", ""), limit: int = 300) -> Page:
        """The record sets at or after a name, a type and a set identifier."""
        name, record_type, set_identifier = start
        with self._lock:
            first = (sort_order(canonical(name)) if name else "", record_type, set_identifier)
            found = [record_set for record_set in self.records(zone_id) if record_order(record_set) >= first]
        return Page(tuple(found[:limit]), found[limit] if len(found) > limit else None)

    def change(self, zone_id: str, changes: Iterable[Change], comment: str = "") -> ChangeInfo:
        """Accept a whole change batch, or refuse it with every fault there is in it."""
        batch = tuple(changes)
        with self._lock:
            zone = self._zone(zone_id)
            if self._now() < zone.last_change + self.prior_request_seconds:
                message = "The request was rejected because Route 53 was still processing a prior request."
                raise Route53Error("PriorRequestNotComplete", message)
            faults = batch_faults(zone.name, zone.records, batch, frozenset(self._protected))
            if faults:
                raise Route53Error("InvalidChangeBatch", "[" + ", ".join(faults) + "]")
            return self._accept(zone, batch, self.propagation, comment)

    def change_info(self, change_id: str) -> ChangeInfo:
        with self._lock:
            try:
                return self._changes[change_id]
            except KeyError:
                message = f"Could not find resource with ID: {change_id}"
                raise Route53Error("NoSuchChange", message, 404) from None

    def in_sync(self, info: ChangeInfo) -> bool:
        return self._now() >= info.due

    # Behind it

    def _zone(self, zone_id: str) -> HostedZone:
        try:
            return self._zones[zone_id.rsplit("/", 1)[-1]]
        except KeyError:
            raise Route53Error("NoSuchHostedZone", f"No hosted zone found with ID: {zone_id}", 404) from None

    def _accept(self, zone: HostedZone, changes: tuple[Change, ...], propagation: float, comment: str) -> ChangeInfo:
        apply(zone.records, changes)
        zone.last_change = self._now()
        # Name servers take a zone's changes in order: a later, faster one waits for an earlier one.
        zone.last_due = max(zone.last_due, self._now() + propagation)
        zone.pending.append((zone.last_due, changes))
        return self._note(zone.last_due, comment)

    def _note(self, due: float, comment: str = "") -> ChangeInfo:
        info = ChangeInfo(f"C{len(self._changes) + 1:013d}", self._now(), due, comment)
        self._changes[info.change_id] = info
        return info

    def _settled(self, zone_id: str) -> HostedZone:
        """The zone, with everything that has become INSYNC served."""
        zone = self._zone(zone_id)
        while zone.pending and zone.pending[0][0] <= self._now():
            _, changes = zone.pending.popleft()
            zone.served = ServedZone(zone.name, apply(dict(zone.served.records), changes))
        return zone


def record_order(record_set: RecordSet) -> tuple[str, str, str]:
    return sort_order(record_set.name), record_set.type, record_set.set_identifier


def zone_order(zone: HostedZone) -> tuple[str, str]:
    return sort_order(zone.name), zone.zone_id


def invented(name: str, number: int, caller_reference: str, comment: str) -> HostedZone:
    """A zone with an id and four name servers that look like Route 53's and are the same in every run."""
    digest = hashlib.sha256(f"{number} {name}".encode()).hexdigest().upper()
    suffixes = ("com", "net", "org", "co.uk")
    servers = tuple(
        f"ns-{512 * place + int(digest[2 * place : 2 * place + 2], 16)}.awsdns-{number % 64:02d}.{suffix}"
        for place, suffix in enumerate(suffixes)
    )
    return HostedZone("Z" + digest[:20], name, caller_reference or f"sandbox-{number}", comment, servers)


def first_records(zone: HostedZone) -> list[RecordSet]:
    servers = tuple(f"{server}." for server in zone.name_servers)
    authority = f"{servers[0]} awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
    return [RecordSet(zone.name, "NS", 172800, servers), RecordSet(zone.name, "SOA", 900, (authority,))]
