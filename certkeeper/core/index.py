"""The index: the public facts of every name in one object, keyed by version. A cache, rebuilt at will.

`status` reads nothing else; it says as of when. A name's facts are stale as soon as a version differs.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from certkeeper.core import ari, failures
from certkeeper.core.budget import Ledger, Limits, Spent, with_issued
from certkeeper.core.decision import Ask, Held, Keep, Pause, Renew, decide, is_surely_kept
from certkeeper.core.document import FORMAT, instant, written
from certkeeper.core.errors import DocumentError
from certkeeper.core.failures import Failure, Trouble
from certkeeper.core.model import CertificateSpec, Validity
from certkeeper.core.ports import Records

PATH = "index"
NAMES = b', "names": '
"""Stands before the facts, which come last, and nowhere before: inside of text the quotes would be escaped."""


@dataclass(frozen=True)
class Facts:
    """What is publicly known of a name. `unreadable` says why its certificate or journal cannot be read."""

    certificate_version: str | None = None
    journal_version: str | None = None
    held: Held | None = None
    failure: Failure | None = None
    open: bool = False
    unreadable: str | None = None
    account_url: str | None = None
    issued: tuple[datetime, ...] = ()
    spent: tuple[Spent, ...] = ()
    asked_to_wait: tuple[Trouble, ...] = ()

    @property
    def versions(self) -> tuple[str | None, str | None]:
        return self.certificate_version, self.journal_version


@dataclass(frozen=True)
class Index:
    """All facts, as of the last run that noted them. `as_of` is None if no run ever did."""

    as_of: datetime | None = None
    facts: Mapping[str, Facts] = field(default_factory=dict)
    version: str | None = None
    """What it was read at; not kept in it."""
    vanished: frozenset[str] = frozenset()
    """Names that it knew and the store does not hold any more; not kept in it."""
    noticed: frozenset[str] = frozenset()
    """The troubles that people have been told of."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the certkeepers that noted it last, by door: "function" and "cli"."""
    as_read: tuple[Mapping[str, Facts], bytes] | None = field(default=None, repr=False, compare=False)
    """The facts that were read, and their bytes: of many names, most are written as they were read."""


def ledger_of(index: Index, limits: Mapping[str, Limits]) -> Ledger:
    """What has been spent of the CAs' limits, and which of them have asked everybody to wait.

    `limits` are those of the settings, by directory.
    """
    ledger = Ledger(limits)
    for name, facts in index.facts.items():
        if facts.spent or facts.issued or facts.asked_to_wait:
            put(ledger, name, facts.spent, facts.held, facts.issued, facts.asked_to_wait)
        for ca, hold in facts.failure.holds() if facts.failure else ():
            ledger.hold(ca, hold)
    return ledger


def put(
    ledger: Ledger,
    name: str,
    spent: tuple[Spent, ...],
    held: Held | None,
    issued: tuple[datetime, ...],
    asked_to_wait: tuple[Trouble, ...],
) -> None:
    """Have the ledger know what a name has spent, by its journal and by its certificate, and what CAs have told it."""
    ledger.put(name, with_issued(spent, held.ca, held.identifiers, issued) if held else spent)
    waits = tuple(failures.waits(asked_to_wait))
    ledger.wait(name, waits)
    for ca, hold in waits:
        if hold.since is not None:
            ledger.hold(ca, hold)


NOTHING = Facts()


def is_idle(spec: CertificateSpec, facts: Facts, now: datetime, ask: Ask) -> bool:
    """Whether `nothing_to_do` would keep what is held as it is not due yet; False where it takes more to tell."""
    if facts.held is None or facts.failure is not None or facts.open or facts.unreadable is not None or ask.force:
        return False
    return is_surely_kept(spec, facts.held, now)


def nothing_to_do(
    spec: CertificateSpec, facts: Facts | None, now: datetime, ask: Ask, ledger: Ledger | None = None
) -> Keep | Pause | None:
    """Why a tick has nothing to do for a name; None if it has, or if in doubt."""
    if facts is None or facts.open or facts.unreadable is not None:
        return None
    decision = decide(spec, facts.held, facts.failure, now, ask, ledger)
    if isinstance(decision, Renew):
        return None
    # A failure of what is not due any more is to be wiped out.
    return None if isinstance(decision, Keep) and facts.failure is not None else decision


def read(records: Records) -> tuple[Index, str | None]:
    """The index and its version; an empty one if there is none or it cannot be decoded. Raises StoreError."""
    stored = records.read(PATH)
    if stored is None:
        return Index(), None
    try:
        return decode(stored.data), stored.version
    except DocumentError:
        return Index(), stored.version


def write(records: Records, index: Index, version: str | None) -> str:
    """Raises Conflict, StoreError."""
    return records.write(PATH, encode(index), version)


def encode(index: Index) -> bytes:
    fields = {
        "format": FORMAT,
        "write_id": secrets.token_hex(16),
        "as_of": index.as_of and written(index.as_of),
        "noticed": sorted(index.noticed),
        "versions": dict(index.versions),
    }
    if index.as_read is not None and index.as_read[0] == index.facts:
        names = index.as_read[1]
    else:
        names = json.dumps({name: _facts_fields(facts) for name, facts in sorted(index.facts.items())}).encode()
    return b"".join((json.dumps(fields)[:-1].encode(), NAMES, names, b"}\n"))


def decode(data: bytes) -> Index:
    """Raises DocumentError."""
    try:
        # Not parse_object: an index of 10,000 names is larger than any single document may be.
        fields = json.loads(data)
        if fields["format"] != FORMAT:
            raise DocumentError("the index is of an unknown format")
        facts = {str(name): _facts(one) for name, one in fields["names"].items()}
        start = data.find(NAMES)
        return Index(
            instant(fields["as_of"]) if fields["as_of"] else None,
            facts,
            noticed=frozenset(str(one) for one in fields.get("noticed", ())),
            versions={str(door): str(version) for door, version in fields.get("versions", {}).items()},
            as_read=(facts, data[start + len(NAMES) : data.rindex(b"}")]) if start > 0 else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise DocumentError("the index cannot be read") from None


def _facts_fields(facts: Facts) -> dict[str, Any]:
    return {
        "certificate_version": facts.certificate_version,
        "journal_version": facts.journal_version,
        "held": facts.held and _held_fields(facts.held),
        "failure": facts.failure and failures.fields(facts.failure),
        "open": facts.open,
        "unreadable": facts.unreadable,
        "account_url": facts.account_url,
        "issued": [written(one) for one in facts.issued],
        **({"spent": [one.as_fields() for one in facts.spent]} if facts.spent else {}),
        **(
            {"asked_to_wait": [failures.trouble_fields(one) for one in facts.asked_to_wait]}
            if facts.asked_to_wait
            else {}
        ),
    }


def _facts(fields: dict[str, Any]) -> Facts:
    return Facts(
        certificate_version=fields["certificate_version"],
        journal_version=fields["journal_version"],
        held=_held(fields["held"]) if fields["held"] else None,
        failure=failures.from_fields(fields["failure"]) if fields["failure"] else None,
        open=bool(fields["open"]),
        unreadable=fields["unreadable"],
        account_url=fields["account_url"],
        issued=tuple(map(_moment, fields["issued"])),
        spent=tuple(map(Spent.from_fields, fields.get("spent", ()))),
        asked_to_wait=tuple(map(failures.trouble_from_fields, fields.get("asked_to_wait", ()))),
    )


def _moment(text: str) -> datetime:
    """What `instant` reads, and other forms too, in a tenth of its time: nobody else writes an index."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _held_fields(held: Held) -> dict[str, Any]:
    return {
        "identifiers": list(held.identifiers),
        "key_type": held.key_type,
        "profile": held.profile,
        "ca_directory": held.ca,
        "not_before": written(held.validity.not_before),
        "not_after": written(held.validity.not_after),
        "serial_number": held.serial_number,
        "issuer": held.issuer,
        "order_url": held.order_url,
        "certificate_id": held.certificate_id,
        "sealing": held.sealing,
        "kms_key_arn": held.kms_key_arn,
        "pinned_since": held.pinned_since and written(held.pinned_since),
        "revoking": held.revoking,
        "rolled_back": held.rolled_back,
        "information": held.information and _information_fields(held.information),
    }


def _held(fields: dict[str, Any]) -> Held:
    return Held(
        identifiers=tuple(map(str, fields["identifiers"])),
        key_type=fields["key_type"],
        profile=fields["profile"],
        ca=str(fields["ca_directory"]),
        validity=Validity(_moment(fields["not_before"]), _moment(fields["not_after"])),
        serial_number=str(fields["serial_number"]),
        issuer=str(fields["issuer"]),
        order_url=fields["order_url"],
        certificate_id=fields.get("certificate_id"),
        sealing=fields.get("sealing"),
        kms_key_arn=fields.get("kms_key_arn"),
        pinned_since=_moment(fields["pinned_since"]) if fields.get("pinned_since") else None,
        revoking=fields.get("revoking"),
        rolled_back=bool(fields.get("rolled_back")),
        information=_information(fields["information"]) if fields.get("information") else None,
    )


def _information_fields(information: ari.Information) -> dict[str, Any]:
    fields: dict[str, Any] = {"ask_again": written(information.ask_again)}
    if isinstance(information, ari.Window):
        fields |= {
            "start": information.start.isoformat(),
            "end": information.end.isoformat(),
            "explanation_url": information.explanation_url,
        }
    return fields


def _information(fields: dict[str, Any]) -> ari.Information:
    ask_again = _moment(fields["ask_again"])
    if "start" not in fields:
        return ari.Silence(ask_again)
    return ari.Window(_moment(fields["start"]), _moment(fields["end"]), ask_again, fields["explanation_url"])
