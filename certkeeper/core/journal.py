"""The journal: what is under way for each name. Written before anything can be paid for; closed, never deleted.

The fence: an entry is only ever rewritten at the version that was read, and nothing is finalized whose order URL
and sealed key have not just been written so. A claim only saves work; the version saves certificates.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from certkeeper.core import failures
from certkeeper.core.budget import Spent
from certkeeper.core.document import FORMAT, instant, parse_object, written
from certkeeper.core.errors import DocumentError
from certkeeper.core.failures import Failure, Trouble
from certkeeper.core.model import Account, CertificateRequest, CertificateSpec, GivenUp, Revocation, Sealed, TxtRecord
from certkeeper.core.ports import Records

PREFIX = "journal/"
STORE = "store"


@dataclass(frozen=True)
class Claim:
    """Who is at work, and for how long after the last write at most."""

    holder: str
    term: timedelta


@dataclass(frozen=True)
class PendingOrder:
    """All it takes to finish an order after a crash.

    `finalized` is set before the CSR is handed in, so from then on it may be paid for; `certificate_url` as soon as
    the CA has named it, since a CA may forget an order sooner than its certificate. `charged_domains` are the
    registered domains against whose limit its certificate counts. `missed_since` is since when the CA does not find a
    finalized order.
    """

    request: CertificateRequest
    identifiers: tuple[str, ...]
    ca: str
    account_url: str
    key_type: str
    profile: str | None
    placed: datetime
    url: str
    finalized: bool = False
    certificate_url: str | None = None
    charged_domains: tuple[str, ...] = ()
    missed_since: datetime | None = None


@dataclass(frozen=True)
class Entry:
    """One name's journal.

    `records` are the TXT records that may stand in DNS because of us, `revision` is that of the certificate that was
    written last; a store that shows an older one cannot be believed. `spent` is what was spent of the CA's limits
    lately, written down before it is. `forgotten`: a person has taken the name out of settings and store. `revocation`
    is what is to be revoked as soon as it is not held any more. `asked_to_wait` is what CAs have asked for in failures
    that are over, `rolled_back_to` the serial number of what a person has last made current again. `kept_in` is
    where the certificate is: "store" or "secretsmanager:PREFIX". `aside` are orders that may be paid for, at CAs that
    have failed for so long that another one is asked meanwhile: one for each CA.
    """

    claim: Claim | None = None
    pending: PendingOrder | None = None
    records: tuple[TxtRecord, ...] = ()
    failure: Failure | None = None
    revision: int | None = None
    spent: tuple[Spent, ...] = ()
    forgotten: bool = False
    revocation: Revocation | None = None
    asked_to_wait: tuple[Trouble, ...] = ()
    rolled_back_to: str | None = None
    kept_in: str | None = None
    aside: tuple[PendingOrder, ...] = ()

    @property
    def closed(self) -> bool:
        return self.claim is None and self.pending is None and not self.aside and self.revocation is None

    @property
    def tidy(self) -> bool:
        """Whether nothing at all is left to be done."""
        return self.closed and not self.records and self.failure is None


@dataclass(frozen=True)
class Read:
    """An entry as read: its version (None: there is none yet) and how long ago it was written."""

    entry: Entry
    version: str | None
    age: timedelta

    def held_by_another(self, holder: str) -> bool:
        claim = self.entry.claim
        return claim is not None and claim.holder != holder and self.age < claim.term


class Journal:
    """The entries in the store."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def read(self, name: str) -> Read:
        """The entry of a name. Raises StoreError, DocumentError."""
        stored = self._records.read(PREFIX + name)
        if stored is None:
            return Read(Entry(), None, timedelta(0))
        return Read(decode(stored.data, name), stored.version, stored.age)

    def write(self, name: str, entry: Entry, version: str | None) -> str:
        """Write at exactly that version; the new version. Raises Conflict, StoreError."""
        return self._records.write(PREFIX + name, encode(entry, name), version)

    def versions(self) -> dict[str, str]:
        """All names that have an entry. Raises StoreError."""
        return {path.removeprefix(PREFIX): version for path, version in self._records.list(PREFIX).items()}


def worth_finishing(pending: PendingOrder, spec: CertificateSpec, account: Account) -> bool:
    """Whether the order under way would give the certificate that is wanted now, to the account in use."""
    return is_wanted(pending, spec) and pending.ca == spec.ca == account.ca and pending.account_url == account.url


def is_wanted(pending: PendingOrder, spec: CertificateSpec) -> bool:
    """Whether the order under way, at whichever of the spec's CAs, is for the certificate that is wanted now."""
    return (
        pending.ca in spec.cas
        and set(pending.identifiers) == set(spec.identifiers)
        and pending.key_type == spec.key_type
        and pending.profile == spec.at(pending.ca).profile
    )


def at_rest(entry: Entry, now: datetime) -> Entry:
    """The entry once nothing fails any more."""
    still = failures.still_asked_to_wait(entry.failure, entry.asked_to_wait, now)
    return replace(entry, failure=None, asked_to_wait=still)


def settled(entry: Entry, order_url: str | None, now: datetime) -> Entry:
    """The entry, less an order whose certificate is already the stored one, or is for a compromised private key."""
    if entry.pending is not None and entry.pending.url == order_url:
        entry = at_rest(replace(entry, pending=None, claim=None), now)
        return replace(unspoilt(entry), aside=())
    return unspoilt(entry)


def unspoilt(entry: Entry) -> Entry:
    """The entry, less an order for a compromised private key; what may have come of it is to be revoked as well."""
    revocation = entry.revocation
    orders = (*entry.aside, *([entry.pending] if entry.pending else []))
    spoilt = [one for one in orders if revocation is not None and revocation.spoils(one.request)]
    if revocation is None or not spoilt:
        return entry
    given_up = (GivenUp(one.ca, one.url, one.certificate_url) for one in spoilt if one.finalized)
    return replace(
        entry,
        pending=None if entry.pending in spoilt else entry.pending,
        aside=tuple(one for one in entry.aside if one not in spoilt),
        revocation=replace(revocation, given_up=(*revocation.given_up, *given_up)),
    )


def turned_to(entry: Entry, spec: CertificateSpec, ca: str) -> Entry:
    """The entry when that CA is to be asked: with the order there, if one was set aside; one at another CA that may be
    paid for and is still wanted is set aside itself, so that its CA is never asked for a second one.
    """
    pending = entry.pending
    if pending is not None and pending.ca == ca:
        return entry
    leaves = pending is not None and pending.finalized and is_wanted(pending, spec)
    there = next((one for one in entry.aside if one.ca == ca), None)
    if there is None and not leaves:
        return entry
    others = tuple(one for one in entry.aside if one != there)
    return replace(entry, pending=there, aside=(*others, pending) if pending is not None and leaves else others)


def encode(entry: Entry, name: str) -> bytes:
    fields = {
        "format": FORMAT,
        "name": name,
        "write_id": secrets.token_hex(16),
        "claim": entry.claim and {"holder": entry.claim.holder, "term_seconds": entry.claim.term.total_seconds()},
        "pending": entry.pending and _pending_fields(entry.pending),
        "records": [[record.zone, record.name, record.value] for record in entry.records],
        "record_roles": sorted({(record.zone, record.role_arn) for record in entry.records if record.role_arn}) or None,
        "failure": entry.failure and failures.fields(entry.failure),
        "revision": entry.revision,
        "spent": [one.as_fields() for one in entry.spent] or None,
        "forgotten": entry.forgotten or None,
        "revocation": entry.revocation and _revocation_fields(entry.revocation),
        "rolled_back_to": entry.rolled_back_to,
        "kept_in": entry.kept_in,
        "aside": [_pending_fields(one) for one in entry.aside] or None,
        "asked_to_wait": [failures.trouble_fields(one) for one in entry.asked_to_wait] or None,
    }
    return json.dumps(fields, indent=1, sort_keys=True).encode() + b"\n"


def decode(data: bytes, name: str) -> Entry:
    """Raises DocumentError; never quotes the bytes."""
    what = f"the journal entry of {name}"
    restore = f"restore journal/{name} from an earlier version of the object, or remove it if there is none"
    try:
        fields = parse_object(data)
        if fields.get("format") == FORMAT and fields.get("name") == name:
            return _entry(fields)
    except DocumentError as error:
        raise DocumentError(f"{what} cannot be read: {error.message}", restore) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise DocumentError(f"{what} cannot be read", restore) from None
    raise DocumentError(f"{what} is of an unknown format or of another name", "update certkeeper")


def _entry(fields: dict[str, Any]) -> Entry:
    claim, pending, failure = fields["claim"], fields["pending"], fields["failure"]
    roles = dict(fields.get("record_roles") or {})
    return Entry(
        claim=claim and Claim(str(claim["holder"]), timedelta(seconds=float(claim["term_seconds"]))),
        pending=pending and _pending(pending),
        records=tuple(
            TxtRecord(str(zone), str(name), str(value), str(roles.get(zone, "")))
            for zone, name, value in fields["records"]
        ),
        failure=failure and failures.from_fields(failure),
        revision=int(fields["revision"]) if fields.get("revision") is not None else None,
        spent=tuple(Spent.from_fields(one) for one in fields.get("spent") or ()),
        forgotten=bool(fields.get("forgotten")),
        revocation=_revocation(fields["revocation"]) if fields.get("revocation") else None,
        aside=tuple(_pending(one) for one in fields.get("aside") or ()),
        kept_in=str(fields["kept_in"]) if fields.get("kept_in") else None,
        rolled_back_to=str(fields["rolled_back_to"]) if fields.get("rolled_back_to") else None,
        asked_to_wait=tuple(failures.trouble_from_fields(one) for one in fields.get("asked_to_wait") or ()),
    )


def _revocation_fields(revocation: Revocation) -> dict[str, object]:
    given_up = revocation.given_up
    return {
        "serial_number": revocation.serial_number,
        "spki_sha256": revocation.spki_sha256,
        "ca_directory": revocation.ca,
        "reason": revocation.reason,
        "leaf_pem": revocation.leaf_pem,
        **({"asked": True} if revocation.asked else {}),
        **({"given_up": [_given_up_fields(one) for one in given_up]} if given_up else {}),
    }


def _revocation(fields: dict[str, Any]) -> Revocation:
    return Revocation(
        serial_number=str(fields["serial_number"]),
        spki_sha256=str(fields["spki_sha256"]),
        ca=str(fields["ca_directory"]),
        reason=str(fields["reason"]),
        leaf_pem=str(fields["leaf_pem"]),
        asked=bool(fields.get("asked")),
        given_up=tuple(_given_up(*one) for one in fields.get("given_up") or ()),
    )


def _given_up_fields(one: GivenUp) -> list[str | None]:
    return [one.ca, one.url, one.certificate_url, *([written(one.missed_since)] if one.missed_since else [])]


def _given_up(ca: object, url: object, certificate_url: object, missed_since: object = None) -> GivenUp:
    since = instant(missed_since) if missed_since else None
    return GivenUp(str(ca), str(url), str(certificate_url) if certificate_url else None, since)


def _pending_fields(pending: PendingOrder) -> dict[str, object]:
    return {
        "url": pending.url,
        "identifiers": list(pending.identifiers),
        "ca_directory": pending.ca,
        "account_url": pending.account_url,
        "key_type": pending.key_type,
        "profile": pending.profile,
        "placed": written(pending.placed),
        "finalized": pending.finalized,
        "certificate_url": pending.certificate_url,
        **({"charged_domains": list(pending.charged_domains)} if pending.charged_domains else {}),
        **({"missed_since": written(pending.missed_since)} if pending.missed_since else {}),
        "csr_pem": pending.request.csr_pem,
        "spki_sha256": pending.request.spki_sha256,
        "sealing": pending.request.private_key.sealing,
        "kms_key_arn": pending.request.private_key.kms_key_arn,
        "sealed_private_key": base64.b64encode(pending.request.private_key.blob).decode(),
    }


def _pending(fields: dict[str, Any]) -> PendingOrder:
    sealed = Sealed(
        str(fields["sealing"]),
        base64.b64decode(fields["sealed_private_key"], validate=True),
        fields["kms_key_arn"],
    )
    return PendingOrder(
        request=CertificateRequest(str(fields["csr_pem"]), str(fields["spki_sha256"]), sealed),
        identifiers=tuple(str(one) for one in fields["identifiers"]),
        ca=str(fields["ca_directory"]),
        account_url=str(fields["account_url"]),
        key_type=str(fields["key_type"]),
        profile=fields["profile"],
        placed=instant(fields["placed"]),
        url=str(fields["url"]),
        finalized=bool(fields.get("finalized")),
        certificate_url=str(fields["certificate_url"]) if fields.get("certificate_url") else None,
        charged_domains=tuple(str(one) for one in fields.get("charged_domains", ())),
        missed_since=instant(fields["missed_since"]) if fields.get("missed_since") else None,
    )
