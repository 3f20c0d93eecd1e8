"""Record sets, changes to them, and everything Route 53 finds wrong with a change, in its own words."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

TYPES = frozenset(  # the API's RRType
    ("SOA", "A", "TXT", "NS", "CNAME", "MX", "NAPTR", "PTR", "SRV", "SPF", "AAAA", "CAA", "DS", "TLSA", "SSHFP", "SVCB")
) | {"HTTPS"}
RECORDS_LIMIT = 1000
CHARACTERS_LIMIT = 32_000
RECORDS_PER_SET_LIMIT = 400
TXT_LIMIT = 4000
STRING_OCTETS_LIMIT = 255
UNESCAPED = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
OCTAL = re.compile(r"\\([0-3][0-7]{2})")
QUOTED = re.compile(r'\s*"((?:[^"\\]|\\[0-3][0-7]{2}|\\[^0-9])*)"')


class Route53Error(Exception):
    """What the API answers instead: its code, its text, and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


@dataclass(frozen=True)
class RecordSet:
    """A resource record set. `routing` and `alias` hold the members we keep but do not understand, in wire order."""

    name: str
    type: str
    ttl: int | None
    values: tuple[str, ...] = ()
    set_identifier: str = ""
    routing: tuple[tuple[str, str], ...] = ()
    alias: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        return self.name, self.type, self.set_identifier

    def same(self, other: RecordSet) -> bool:
        """The same records; the order of values does not count."""
        return (self.key, self.ttl, sorted(self.values), self.routing, self.alias) == (
            other.key,
            other.ttl,
            sorted(other.values),
            other.routing,
            other.alias,
        )


@dataclass(frozen=True)
class Change:
    action: str
    record_set: RecordSet


Records = dict[tuple[str, str, str], RecordSet]


def apply(records: Records, changes: Iterable[Change]) -> Records:
    """The records after the changes, in place."""
    for change in changes:
        if change.action == "DELETE":
            records.pop(change.record_set.key, None)
        else:
            records[change.record_set.key] = change.record_set
    return records


def canonical(name: str) -> str:
    """The name as Route 53 keeps it: lower case, a final dot, unusual characters as `\\ooo`."""
    # A dot that is escaped is no separator, so it must not be unescaped before the labels are split.
    labels = [escaped_label(label) for label in name.removesuffix(".").split(".")]
    for label in labels:
        if not label:
            raise illegal("DomainLabelEmpty", "Domain label is empty", name)
        if len(OCTAL.sub("x", label)) > 63:
            raise illegal("DomainLabelTooLong", "Domain label is too long", name)
    if sum(len(OCTAL.sub("x", label)) + 1 for label in labels) > 255:
        raise illegal("DomainNameTooLong", "Domain name is too long", name)
    return ".".join(labels) + "."


def illegal(problem: str, meaning: str, value: str) -> Route53Error:
    return Route53Error("InvalidChangeBatch", f"[FATAL problem: {problem} ({meaning}) encountered with '{value}']")


def escaped_label(label: str) -> str:
    plain = OCTAL.sub(lambda match: chr(int(match[1], 8)), label).lower()
    if not plain.isascii():
        raise illegal("UnsupportedCharacter", "Value contains unsupported characters", label)
    return "".join(character if character in UNESCAPED else f"\\{ord(character):03o}" for character in plain)


def sort_order(name: str) -> str:
    """Names sort by their labels reversed; the final dot takes part, so `a-b.test.` comes before `a.test.`'s."""
    return ".".join(reversed(name.removesuffix(".").split("."))) + "."


def within(name: str, zone: str) -> bool:
    """Whether canonical `name` lies in `zone`, by labels: evilz0.test is not in z0.test."""
    return name == zone or name.endswith("." + zone)


def txt_strings(value: str) -> list[bytes]:
    """The character strings of a TXT value: quoted, spaces between them or none. ValueError if it is not that."""
    strings, position = [], 0
    while position < len(value.rstrip()):
        match = QUOTED.match(value, position)
        if match is None:
            raise ValueError(value)
        strings.append(unescaped(match[1]))
        position = match.end()
    if not strings:
        raise ValueError(value)
    return strings


def unescaped(text: str) -> bytes:
    return re.sub(
        rb"\\([0-3][0-7]{2})|\\(.)",
        lambda match: bytes([int(match[1], 8)]) if match[1] else match[2],
        text.encode(),
    )


def batch_faults(
    zone: str,
    records: Records,
    changes: Sequence[Change],
    protected: AbstractSet[str] = frozenset(),
) -> list[str]:
    """Everything wrong with a batch, in the order of its changes. The changes are taken one after another."""
    too_many = size_faults(changes)
    if too_many:
        return too_many
    faults = repetition_faults(changes)
    # Only what shares a name with a change matters, and a zone may be large.
    here: dict[str, Records] = {change.record_set.name: {} for change in changes}
    for key, record_set in records.items():
        if record_set.name in here:
            here[record_set.name][key] = record_set
    for change in changes:
        wanted = change.record_set
        found = value_faults(wanted)
        if not within(wanted.name, zone):
            found.append(f"RRSet with DNS name {wanted.name} is not permitted in zone {zone}")
        if wanted.name in protected:
            found.append(f"RRSet with DNS name {wanted.name}, type {wanted.type} is protected from changes")
        found = found or state_faults(zone, here[wanted.name], change)
        if not found:
            apply(here[wanted.name], [change])
        faults += found
    return faults


def size_faults(changes: Iterable[Change]) -> list[str]:
    # An UPSERT counts twice, in records and in characters.
    weighed = [(2 if change.action == "UPSERT" else 1, change.record_set.values) for change in changes]
    faults = []
    if sum(weight * max(len(values), 1) for weight, values in weighed) > RECORDS_LIMIT:
        faults.append(f"Number of records limit of {RECORDS_LIMIT} exceeded.")
    if sum(weight * sum(map(len, values)) for weight, values in weighed) > CHARACTERS_LIMIT:
        faults.append(f"RDATA character limit of {CHARACTERS_LIMIT} exceeded.")
    return faults


def repetition_faults(changes: Iterable[Change]) -> list[str]:
    """A record set may be in a batch once, or twice to be deleted and then made anew."""
    actions: dict[tuple[str, str, str], list[str]] = {}
    for change in changes:
        actions.setdefault(change.record_set.key, []).append(change.action)
    return [
        f"The request contains an invalid set of changes for a resource record set '{kind} {name}'"
        for (name, kind, _), taken in actions.items()
        if len(taken) > 1 and taken != ["DELETE", "CREATE"]
    ]


def state_faults(zone: str, here: Records, change: Change) -> list[str]:
    """What is wrong with a change given the record sets of its name."""
    wanted = change.record_set
    present = here.get(wanted.key)
    named = f"resource record set [name='{wanted.name}', type='{wanted.type}'"
    named += f", set identifier='{wanted.set_identifier}']" if wanted.set_identifier else "]"
    if change.action == "CREATE" and present is not None:
        return [f"Tried to create {named} but it already exists"]
    if change.action != "DELETE":
        return neighbour_faults(zone, here, wanted)
    if present is None:
        return [f"Tried to delete {named} but it was not found"]
    if not present.same(wanted):
        return [f"Tried to delete {named} but the values provided do not match the current values"]
    if wanted.name == zone and wanted.type == "SOA":
        return ["A HostedZone must contain exactly one SOA record."]
    if wanted.name == zone and wanted.type == "NS":
        return ["A HostedZone must contain at least one NS record for the zone itself."]
    return []


def neighbour_faults(zone: str, here: Records, wanted: RecordSet) -> list[str]:
    types = {record_set.type for record_set in here.values()}
    about = f"RRSet of type {wanted.type} with DNS name {wanted.name} is not permitted"
    if wanted.type == "CNAME" and wanted.name == zone:
        return [f"{about} at apex in zone {zone}"]
    if wanted.type == "CNAME" and types - {"CNAME"}:
        return [f"{about} as it conflicts with other records with the same DNS name in zone {zone}"]
    if wanted.type != "CNAME" and "CNAME" in types:
        return [
            f"{about} because a conflicting RRSet of type CNAME with the same DNS name already exists in zone {zone}"
        ]
    siblings = [record_set for record_set in here.values() if record_set.type == wanted.type]
    if any(bool(sibling.set_identifier) != bool(wanted.set_identifier) for sibling in siblings):
        return [
            f"RRSet with DNS name {wanted.name}, type {wanted.type}, SetIdentifier {wanted.set_identifier or 'null'} "
            "cannot be created as other RRSets exist with the same name and type but another routing policy"
        ]
    return []


def value_faults(record_set: RecordSet) -> list[str]:
    """What is wrong with the values by themselves."""
    faults = []
    values = record_set.values
    if len(values) > RECORDS_PER_SET_LIMIT:
        faults.append(f"Cannot have more than {RECORDS_PER_SET_LIMIT} records in a RRSet.")
    repeated = {value for value in values if values.count(value) > 1}
    faults += [f"Duplicate Resource Record: '{value}'" for value in sorted(repeated)]
    if record_set.type == "CNAME" and len(values) > 1:
        faults.append(f"RRSet of type CNAME with DNS name {record_set.name} may have only one record")
    problem_of = PROBLEMS.get(record_set.type)
    for value in values if problem_of else ():
        problem = problem_of(value) if problem_of else ""
        if problem:
            faults.append(f"Invalid Resource Record: FATAL problem: {problem} encountered with '{value}'")
    return faults


def txt_problem(value: str) -> str:
    try:
        strings = txt_strings(value)
    except ValueError:
        return "InvalidCharacterString (Value should be enclosed in quotation marks)"
    if len(value) > TXT_LIMIT or any(len(string) > STRING_OCTETS_LIMIT for string in strings):
        return "CharacterStringTooLong (Value is too long)"
    return ""


def ipv4_problem(value: str) -> str:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return "ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address)"
    return ""


def ipv6_problem(value: str) -> str:
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return "AAAARRDATAIllegalIPv6Address (Value is not a valid IPv6 address)"
    return ""


def name_problem(value: str) -> str:
    try:
        canonical(value)
    except Route53Error:
        return "DomainNameInvalid (Value is not a valid domain name)"
    return ""


PROBLEMS: Mapping[str, Callable[[str], str]] = {
    "TXT": txt_problem,
    "SPF": txt_problem,
    "A": ipv4_problem,
    "AAAA": ipv6_problem,
    "CNAME": name_problem,
    "NS": name_problem,
    "PTR": name_problem,
}
