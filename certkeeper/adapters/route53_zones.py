"""Zones and ChallengeRecords in Route 53: one change batch per zone, compare-and-swap, wait for INSYNC.

The first try creates without reading, since hardly ever something stands there; a batch that is refused is read
again, and split until the culprit stands alone. Every try that is saved matters: Route 53 allows an account five
requests a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from certkeeper.core.errors import CertkeeperError, DnsError, OutOfTime
from certkeeper.core.model import HostedZone, TxtRecord
from certkeeper.core.ports import Clock, DnsLookup, Presented, SideBySide
from certkeeper.core.zones import Change, RecordSet, batches, merged, swap

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client

POLL = 1.7
# What is refused for the sake of one change, so that the others of its batch may do without it.
ONES_FAULT = ("InvalidChangeBatch", "InvalidInput", "AccessDenied")
# What is refused before anything is done, whatever became of earlier tries.
UNDONE = ("AccessDenied", "NoSuchHostedZone")
TRIES = 3
HINTS = {
    "AccessDenied": "the role lacks route53:ChangeResourceRecordSets for TXT at this name in this zone",
    "NoSuchHostedZone": "the hosted zone is gone; correct hosted_zone_id or create it again",
    "InvalidChangeBatch": "look at the record set in Route 53: a protection or another type of record may stand there",
    "Throttling": "Route 53 is throttling this account; the next run tries again",
}
PROBES = 4

ClientOf = Callable[[str], "Route53Client"]
"""A client of the account that a role leads to, of our own for ""; raises DnsError."""


class Route53Zones:
    """Zones."""

    def __init__(self, client_of: ClientOf) -> None:
        self._client_of = client_of

    def hosted_zones(self, role_arn: str = "") -> tuple[HostedZone, ...]:
        route53 = self._client_of(role_arn)
        try:
            pages = route53.get_paginator("list_hosted_zones").paginate()
            return tuple(_hosted_zone(zone, role_arn) for page in pages for zone in page["HostedZones"])
        except (ClientError, BotoCoreError) as error:
            raise DnsError(
                f"the hosted zones could not be listed: {_code(error)}",
                f"the role {role_arn or 'in use'} needs route53:ListHostedZones",
            ) from None

    def name_servers(self, zone: HostedZone) -> frozenset[str]:
        route53 = self._client_of(zone.role_arn)
        try:
            servers = route53.get_hosted_zone(Id=zone.zone).get("DelegationSet", {}).get("NameServers", [])
        except (ClientError, BotoCoreError) as error:
            raise DnsError(
                f"the name servers of hosted zone {zone.zone}, one of several called {zone.name}, could not be read: "
                f"{_code(error)}",
                "say with hosted_zone_id which zone it is, or give the role route53:GetHostedZone",
            ) from None
        return frozenset(server.rstrip(".").lower() for server in servers)


@dataclass
class _Edit:
    """What is to change at one name: raw values to add and to remove, and the set that stands there if known."""

    add: set[str] = field(default_factory=set)
    remove: set[str] = field(default_factory=set)
    known: RecordSet | None = None
    unread: bool = False


@dataclass
class _Work:
    """The edits of one zone, the changes they became, and what was refused; `denied` of that for want of a right,
    so that it certainly was not done."""

    zone: str
    role_arn: str
    edits: dict[str, _Edit]
    changes: list[str] = field(default_factory=list)
    gone: bool = False
    refused: dict[str, CertkeeperError] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    probed: bool = False
    unreadable: CertkeeperError | None = None

    def deny(self, names: Iterable[str], error: CertkeeperError) -> None:
        self.denied.update(names)
        self.refused.update(dict.fromkeys(names, error))


class Route53ChallengeRecords:
    """ChallengeRecords. `timeout`, in seconds, is for INSYNC, and again for visibility."""

    def __init__(
        self,
        client_of: ClientOf,
        lookup: DnsLookup,
        clock: Clock,
        side_by_side: SideBySide,
        timeout: float,
    ) -> None:
        self._client_of = client_of
        self._lookup = lookup
        self._clock = clock
        self._side_by_side = side_by_side
        self._timeout = timeout

    @contextmanager
    def presenting(self, records: Sequence[TxtRecord], leftovers: Sequence[TxtRecord]) -> Iterator[Presented]:
        works = _works(records, leftovers)
        presented = Presented({}, {*records, *leftovers})
        try:
            self._side_by_side([partial(self._submit, work) for work in works.values()])
            self._await_insync(works)
            for record in records:
                refused = works[record.zone].refused.get(record.name)
                if refused is not None:
                    presented.refused[record] = refused
            standing = [record for record in records if record not in presented.refused]
            presented.refused.update(self._unseen(standing))
            yield presented
        finally:
            presented.left = self._taken_away(works, records, leftovers)

    # Changing.

    def _submit(self, work: _Work) -> None:
        try:
            self._client_of(work.role_arn)
        except CertkeeperError as error:
            work.deny(list(work.edits), error)
            return
        known = [name for name, edit in work.edits.items() if not edit.unread]
        unread = [name for name, edit in work.edits.items() if edit.unread]
        if known:
            self._attempt(work, known, reread=False)
        if unread:
            self._attempt(work, unread, reread=True)

    def _attempt(self, work: _Work, names: Sequence[str], *, reread: bool, tries: int = TRIES) -> None:
        if reread:
            names = [name for name in names if self._read(work, name)]
        wanted = {
            name: merged(edit.known, name, edit.add, edit.remove)
            for name, edit in ((name, work.edits[name]) for name in names)
        }
        swaps = {name: self._swap(work.edits[name], wanted[name]) for name in names}
        for batch in batches([one for one in swaps.values() if one]):
            within = [one[0].record_set.name for one in batch]
            try:
                work.changes.append(self._change(work, [change for one in batch for change in one]))
            except (ClientError, BotoCoreError) as error:
                self._refused(work, within, error, reread=reread, tries=tries)
            else:
                for name in within:
                    work.edits[name].known = wanted[name]

    @staticmethod
    def _swap(edit: _Edit, wanted: RecordSet | None) -> tuple[Change, ...]:
        if edit.add and edit.known is not None and edit.known == wanted:
            # It stands there already, from a change of ours whose answer was lost, and may not be INSYNC yet: the same
            # once more gives a change to wait for.
            return Change("DELETE", edit.known), Change("CREATE", edit.known)
        return swap(edit.known, wanted)

    def _refused(
        self, work: _Work, names: Sequence[str], error: ClientError | BotoCoreError, *, reread: bool, tries: int
    ) -> None:
        code = _code(error)
        work.gone = work.gone or code == "NoSuchHostedZone"
        # The message names the culprits; the others need not be read again.
        blamed = [name for name in names if _named(name, error)] if code == "InvalidChangeBatch" else []
        innocent = [name for name in names if name not in blamed]
        if blamed and innocent:
            self._attempt(work, innocent, reread=False)
            self._attempt(work, blamed, reread=True, tries=tries)
        elif code == "InvalidChangeBatch" and not reread:
            self._attempt(work, names, reread=True, tries=tries)  # something does stand there
        elif code == "AccessDenied" and len(names) > 1 and not work.probed:
            self._probed(work, names, error)
        elif code in ONES_FAULT and len(names) > 1:
            half, again = len(names) // 2, reread and code == "InvalidChangeBatch"
            self._attempt(work, names[:half], reread=again, tries=tries)
            self._attempt(work, names[half:], reread=again, tries=tries)
        elif code == "InvalidChangeBatch" and tries > 1:
            self._attempt(work, names, reread=True, tries=tries - 1)
        else:
            for name in names:
                work.refused[name] = _dns_error(f"the TXT record {name} was refused by Route 53", error)
            if code in UNDONE:
                work.denied.update(names)

    def _probed(self, work: _Work, names: Sequence[str], error: ClientError | BotoCoreError) -> None:
        """Tell a role that may change nothing in a zone from one that lacks the right to some names.

        Route 53 does not say which it is. If a few names, others at every run, are all denied, so are the rest
        unasked: to find that out name by name takes twice as many calls as there are names.
        """
        work.probed = True
        start = int(self._clock.now().timestamp())
        places = {(start + n * len(names) // PROBES) % len(names) for n in range(PROBES)}
        probes = [names[place] for place in sorted(places)]
        for name in probes:
            self._attempt(work, [name], reread=False)
        rest = [name for name in names if name not in probes]
        if rest and work.denied.issuperset(probes):
            work.deny(rest, _dns_error(f"Route 53 lets this role change nothing in hosted zone {work.zone}", error))
        elif rest:
            self._attempt(work, rest, reread=False)

    def _change(self, work: _Work, changes: Sequence[Change]) -> str:
        answer = self._client_of(work.role_arn).change_resource_record_sets(
            HostedZoneId=work.zone,
            ChangeBatch={
                "Comment": "certkeeper",
                "Changes": [
                    {
                        "Action": "CREATE" if change.action == "CREATE" else "DELETE",
                        "ResourceRecordSet": {
                            "Name": change.record_set.name,
                            "Type": "TXT",
                            "TTL": change.record_set.ttl,
                            "ResourceRecords": [{"Value": value} for value in change.record_set.values],
                        },
                    }
                    for change in changes
                ],
            },
        )
        return answer["ChangeInfo"]["Id"]

    def _read(self, work: _Work, name: str) -> bool:
        """Read what stands at a name now; False, and refused, if that cannot be told or is not for us to change."""
        if work.unreadable is not None:
            work.deny([name], work.unreadable)
            return False
        try:
            answer = self._client_of(work.role_arn).list_resource_record_sets(
                HostedZoneId=work.zone, StartRecordName=name, StartRecordType="TXT", MaxItems="1"
            )
        except (ClientError, BotoCoreError) as error:
            work.gone = work.gone or _code(error) == "NoSuchHostedZone"
            work.refused[name] = _dns_error(f"the TXT record {name} could not be read", error)
            if _code(error) in UNDONE:
                work.deny([name], work.refused[name])
                work.unreadable = _dns_error(f"hosted zone {work.zone} could not be read", error)
            return False
        work.edits[name].known = None
        for said in answer["ResourceRecordSets"]:
            if said["Name"].rstrip(".").lower() == name and said["Type"] == "TXT":
                if "SetIdentifier" in said or "AliasTarget" in said:
                    work.refused[name] = DnsError(
                        f"the TXT record {name} has a routing policy", "make it a simple record, or delete it"
                    )
                    return False
                values = tuple(one["Value"] for one in said.get("ResourceRecords", ()))
                work.edits[name].known = RecordSet(name, values, said.get("TTL", 0))
        return True

    # Waiting.

    def _await_insync(self, works: Mapping[str, _Work]) -> None:
        waited = 0.0
        pending = [(work, change) for work in works.values() for change in work.changes]
        while pending:
            pending = [(work, change) for work, change in pending if not self._insync(work, change)]
            if not pending:
                return
            try:
                if waited >= self._timeout:
                    raise OutOfTime(f"Route 53 has not brought the change to its name servers in {self._timeout:.0f} s")
                self._clock.wait(POLL)
            except OutOfTime as error:
                for work, _ in pending:
                    _refuse_all(work, error if waited < self._timeout else DnsError(error.message))
                return
            waited += POLL

    def _insync(self, work: _Work, change: str) -> bool:
        try:
            return self._client_of(work.role_arn).get_change(Id=change)["ChangeInfo"]["Status"] == "INSYNC"
        except (ClientError, BotoCoreError) as error:
            _refuse_all(work, _dns_error("Route 53 does not tell how far the change is", error))
            return True

    def _unseen(self, records: Sequence[TxtRecord]) -> dict[TxtRecord, CertkeeperError]:
        """The records that a name server of their zone still does not serve when the time-out has passed."""
        waited, pause = 0.0, 0.5
        while True:
            errors = self._side_by_side([partial(self._not_seen, record) for record in records])
            unseen = {record: error for record, error in zip(records, errors, strict=True) if error is not None}
            if not unseen or waited >= self._timeout:
                return unseen
            try:
                self._clock.wait(pause)
            except OutOfTime as error:
                return dict.fromkeys(unseen, error)
            waited += pause
            pause = min(pause * 2, 5.0)

    def _not_seen(self, record: TxtRecord) -> CertkeeperError | None:
        try:
            told = self._lookup.txt(record.name)
        except DnsError as error:
            return error
        # No name server could be asked (port 53 may be closed here): INSYNC is Route 53's word, and the CA judges.
        for server, values in told.items():
            if record.value not in values:
                return DnsError(
                    f"the name server {server} does not serve the TXT record {record.name}",
                    "is the hosted zone the one that the domain is delegated to? compare its name servers",
                )
        return None

    # Taking away.

    def _taken_away(
        self, works: Mapping[str, _Work], records: Sequence[TxtRecord], leftovers: Sequence[TxtRecord]
    ) -> set[TxtRecord]:
        undo: dict[str, _Work] = {}
        for zone, work in works.items():
            # What was refused may stand there all the same (an answer can be lost), so it is read again.
            edits = {
                name: _Edit(remove=edit.add | edit.remove, known=edit.known, unread=name in work.refused)
                for name, edit in work.edits.items()
                if edit.known is not None or name in work.refused.keys() - work.denied
            }
            undo[zone] = _Work(zone, work.role_arn, edits)
        self._side_by_side([partial(self._submit, work) for work in undo.values() if work.edits])
        # With its zone, a record is gone too.
        gone = {zone for zone, work in works.items() if work.gone or undo[zone].gone}
        stuck = {one for one in (*records, *leftovers) if one.name in undo[one.zone].refused}
        stuck |= {one for one in leftovers if one.name in works[one.zone].denied}
        return {one for one in stuck if one.zone not in gone}


def _works(records: Sequence[TxtRecord], leftovers: Sequence[TxtRecord]) -> dict[str, _Work]:
    works: dict[str, _Work] = {}
    for record in records:
        work = works.setdefault(record.zone, _Work(record.zone, record.role_arn, {}))
        work.edits.setdefault(record.name, _Edit()).add.add(f'"{record.value}"')
    for record in leftovers:
        work = works.setdefault(record.zone, _Work(record.zone, record.role_arn, {}))
        edit = work.edits.setdefault(record.name, _Edit())
        edit.remove.add(f'"{record.value}"')
        edit.unread = True
    return works


def _named(name: str, error: Exception) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", str(error), re.IGNORECASE) is not None


def _refuse_all(work: _Work, error: CertkeeperError) -> None:
    for name in work.edits:
        work.refused.setdefault(name, error)


def _dns_error(what: str, error: ClientError | BotoCoreError) -> DnsError:
    code = _code(error)
    said = error.response["Error"].get("Message", "") if isinstance(error, ClientError) else ""
    return DnsError(f"{what}: {code}{': ' + said if said else ''}", HINTS.get(code))


def _code(error: ClientError | BotoCoreError) -> str:
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__


def _hosted_zone(said: Any, role_arn: str) -> HostedZone:
    return HostedZone(
        zone=said["Id"].removeprefix("/hostedzone/"),
        name=said["Name"].rstrip(".").lower(),
        private=bool(said.get("Config", {}).get("PrivateZone")),
        role_arn=role_arn,
    )
