"""What a failure means, what to do about it, and when it is tried again. One table, pure.

Problem types are those of RFC 8555 section 6.7, RFC 9773 section 7.4 and the ACME profiles draft.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from certkeeper.core.budget import Hold, is_recent
from certkeeper.core.document import instant, written
from certkeeper.core.errors import (
    AuthorityError,
    CertkeeperError,
    ChainError,
    Conflict,
    DnsError,
    DocumentError,
    OutOfTime,
    SealingError,
    StoreError,
)
from certkeeper.core.model import CertificateSpec

LONGEST_RETRY_AFTER = 7 * 86400.0
LONGEST_OUTAGE = 86400.0
"""In seconds, for the Retry-After of a server error (5xx): a guess at when an outage ends, not a limit, and perhaps not
the CA's own but a proxy's. Nobody can ask before, and some certificates live six days."""

RETRY, WAIT, OPERATOR, PAUSED, FATAL = "retry", "wait", "operator", "paused", "fatal"

# Problem type: class, hint.
TABLE: dict[str, tuple[str, str]] = {
    "accountDoesNotExist": (RETRY, "the CA has forgotten the account; the next run registers its key again"),
    "alreadyReplaced": (RETRY, "the next run orders without naming a predecessor"),
    "alreadyRevoked": (RETRY, "the next run goes on"),
    "badCSR": (OPERATOR, "the CA does not take this key type or these names; change key_type or identifiers"),
    "badNonce": (RETRY, "the CA kept refusing fresh nonces; the next run tries again"),
    "badPublicKey": (OPERATOR, "the CA does not take this kind of private key; change key_type"),
    "badRevocationReason": (
        OPERATOR,
        "the CA does not take this reason; give another one: certkeeper revoke NAME --reason superseded",
    ),
    "badSignatureAlgorithm": (OPERATOR, "the CA does not take the account key's algorithm"),
    "caa": (OPERATOR, "a CAA record forbids this CA; add one that names it, see RFC 8659"),
    "conflict": (RETRY, "another run works on the same order; the next run looks again"),
    "compound": (RETRY, "see the problems of the single identifiers"),
    "connection": (RETRY, "the CA could not reach the name servers; are they up and reachable from outside?"),
    "dns": (RETRY, "the CA could not look the name up; check its delegation and DNSSEC"),
    "externalAccountRequired": (OPERATOR, "the CA wants eab_kid and eab_hmac_key under [ca]"),
    "incorrectResponse": (
        RETRY,
        "the CA saw another TXT value; does the zone answer for this name in public?",
    ),
    "invalidContact": (OPERATOR, "change contact under [ca]"),
    "invalidProfile": (OPERATOR, "the CA does not offer this profile; change or remove profile"),
    "malformed": (OPERATOR, "the CA does not understand the request; is the directory URL an ACME server's?"),
    "orderNotReady": (RETRY, "the next run looks at the order again"),
    "rateLimited": (WAIT, "the CA's rate limit; it is tried again as soon as the CA said"),
    "rejectedIdentifier": (OPERATOR, "the CA will not issue for this name"),
    "serverInternal": (RETRY, "the CA is in trouble; the next run tries again"),
    "unauthorized": (OPERATOR, "the CA does not accept the account or the proof"),
    "unsupportedContact": (OPERATOR, "change contact under [ca]"),
    "unsupportedIdentifier": (OPERATOR, "this CA cannot certify such an identifier by dns-01"),
    "userActionRequired": (
        OPERATOR,
        "a person must visit that page and agree to the terms; then name the certificate: certkeeper renew NAME",
    ),
}

_UNPAUSE = re.compile(r"https://\S*unpause\S*")
_NEW_ORDERS = re.compile(r"\bnew[- ]orders?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Trouble:
    """What one CA, by its directory URL, has failed with: since when, when last, and until when it asked to wait.

    `for_all_since` is set if it asked so for all orders, and not for this name's alone: since when it does.
    """

    ca: str
    kind: str
    since: datetime
    last: datetime
    not_before: datetime | None = None
    for_all_since: datetime | None = None

    def hold(self, why: str) -> Hold | None:
        """Until when it asked to wait; None if it did not."""
        if self.not_before is None:
            return None
        return Hold(self.not_before, why, self.for_all_since, self.last, self.kind == "rateLimited")


@dataclass(frozen=True)
class Failure:
    """What is remembered of a name's failures. `count` is in a row; `not_before` is the CA's own word.

    `our_pause` is until when we wait of our own accord; None where an earlier version wrote it. `troubles` are those
    of the failures that were a CA's, one for each CA. `next_attempt` is None if only a person can start another one.
    `wanted` tells what could not be had (`wanted_of`): who wants something else need not wait out our own pause.
    """

    count: int
    since: datetime
    error: str
    hint: str | None
    kind: str
    next_attempt: datetime | None
    not_before: datetime | None = None
    our_pause: datetime | None = None
    troubles: tuple[Trouble, ...] = ()
    wanted: str | None = None

    def trouble_at(self, ca: str) -> Trouble | None:
        return next((one for one in self.troubles if one.ca == ca), None)

    def wait_until(self, ca: str, *, by_name: bool) -> datetime | None:
        """Until when a CA is not to be asked, None if for ever; `by_name` counts only what the CA itself has said."""
        trouble = self.trouble_at(ca)
        if trouble is not None and trouble.kind == PAUSED and not by_name:
            return None
        # What an earlier version wrote does not say which CA asked to wait, and there was only one then.
        said = trouble.not_before if trouble else None if self.troubles else self.not_before
        ours = self.since if by_name else self.our_pause or self.next_attempt or self.since
        return max(ours, said) if said else ours

    def holds(self) -> Iterator[tuple[str, Hold]]:
        """The CAs that have asked everybody to wait, and until when."""
        for one in self.troubles:
            said = self.error if one.last == max(each.last for each in self.troubles) else one.kind
            hold = one.hold(held_off(said))
            if hold is not None and one.for_all_since is not None:
                yield one.ca, hold


def still_asked_to_wait(failure: Failure | None, before: Iterable[Trouble], now: datetime) -> tuple[Trouble, ...]:
    """What is to be remembered of a failure that is over, and of those before it: until when CAs have asked to wait,
    unless it has passed. Whatever ends a failure, the CA's word stands (RFC 8555 section 6.6).
    """
    known = {one.ca: one for one in (*before, *(failure.troubles if failure else ()))}
    return tuple(one for one in known.values() if one.not_before is not None and now < one.not_before)


def waits(asked_to_wait: Iterable[Trouble]) -> Iterator[tuple[str, Hold]]:
    """The CAs that are to be left alone though nothing fails, and until when."""
    for one in asked_to_wait:
        hold = one.hold(f"the CA asked to wait ({one.kind})" if one.kind else "the CA asked to wait")
        if hold is not None:
            yield one.ca, hold


def wanted_of(spec: CertificateSpec) -> str:
    """What the settings want of a name, in short: whatever of it can make the difference to an order."""
    said = (sorted(spec.identifiers), spec.key_type, spec.profile, spec.cas, spec.hosted_zone_id)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def classify(error: CertkeeperError) -> str:
    """The class of a failure: retry, wait, operator, paused or fatal."""
    if isinstance(error, AuthorityError):
        if error.kind == "rateLimited" and error.retry_after is None and _UNPAUSE.search(error.message):
            return PAUSED
        if error.retry_after is not None:
            return WAIT
        kind = _kind(error)
        return TABLE[kind][0] if kind in TABLE else RETRY
    if isinstance(error, (StoreError, OutOfTime, Conflict)):
        return RETRY
    if isinstance(error, (DocumentError, SealingError, DnsError)):
        return OPERATOR
    return FATAL if isinstance(error, ChainError) else RETRY


def needs_a_person(failure: Failure) -> bool:
    """Whether no later attempt will mend it by itself."""
    return failure.next_attempt is None or (failure.kind in TABLE and TABLE[failure.kind][0] == OPERATOR)


def _kind(error: AuthorityError) -> str:
    """The problem type, or that of all its subproblems where it is no more than their sum (section 6.7.1)."""
    kinds = {kind for _, kind, _ in error.subproblems}
    return kinds.pop() if error.kind in ("", "compound") and len(kinds) == 1 else error.kind


def concerns_all(error: CertkeeperError) -> bool:
    """Whether a CA has said until when to leave it alone altogether: it is overloaded or down (503), or the limit is
    that of all orders of the account.
    """
    if not isinstance(error, AuthorityError) or error.retry_after is None:
        return False
    return error.status == 503 or (error.kind == "rateLimited" and bool(_NEW_ORDERS.search(error.message)))


def held_off(error: str) -> str:
    """The sentence for whoever waits because of another one's failure."""
    return f"the CA wants all orders to wait: {error}"


def hint_of(error: CertkeeperError) -> str | None:
    """What to do: the error's own hint, else the table's."""
    if error.hint:
        return error.hint
    if isinstance(error, AuthorityError):
        if classify(error) == PAUSED:
            found = _UNPAUSE.search(error.message)
            page = found.group(0) if found else "its page"
            return f"the CA has paused these names; visit {page}, then: certkeeper renew NAME"
        kind = _kind(error)
        return TABLE[kind][1] if kind in TABLE else None
    return None


def sentence(error: CertkeeperError) -> str:
    """What happened, with every identifier that the CA blames (RFC 8555 section 6.7.1)."""
    if not isinstance(error, AuthorityError):
        return error.message
    blamed = "; ".join(f"{identifier}: {detail}" for identifier, _, detail in error.subproblems)
    return f"{error.message} ({blamed})" if blamed else error.message


def failed(
    before: Failure | None,
    error: CertkeeperError,
    now: datetime,
    *,
    tick: timedelta,
    lifetime: timedelta | None,
    urgent: bool,
    ca: str | None = None,
    wanted: str | None = None,
    for_all_since: datetime | None = None,
) -> Failure:
    """The next entry of the record; `ca` is the directory of the CA that was asked, `wanted` what for, `for_all_since`
    since when it has been telling other names that all are to wait.

    Tried again at the next tick, then doubling, never beyond a day or 1/40 of the lifetime; at every tick if it is
    urgent; not at all if the CA has paused the names, which only a person can change. Half a tick is taken off, so
    that a tick that starts early still counts. What the CA said (Retry-After, RFC 8555 section 6.6) always wins.
    What is wanted otherwise now begins anew with the next tick.
    """
    count = before.count + 1 if before and wanted == before.wanted else 1
    longest = min(timedelta(days=1), lifetime / 40) if lifetime else timedelta(days=1)
    pause = tick if urgent else min(tick * 2 ** min(count - 1, 16), max(longest, tick))
    not_before = _still_asked_to_wait(before, ca, now)
    if isinstance(error, AuthorityError) and error.retry_after is not None:
        not_before = now + timedelta(seconds=error.retry_after)
    ours = now + pause - tick / 2
    paused = classify(error) == PAUSED
    return Failure(
        count=count,
        since=before.since if before else now,
        error=sentence(error),
        hint=hint_of(error),
        kind=error.kind if isinstance(error, AuthorityError) else "",
        next_attempt=None if paused else max(ours, not_before) if not_before else ours,
        not_before=not_before,
        our_pause=ours,
        troubles=_troubles(before, error, now, ca, not_before, for_all_since),
        wanted=wanted,
    )


def _still_asked_to_wait(before: Failure | None, ca: str | None, now: datetime) -> datetime | None:
    trouble = before.trouble_at(ca) if before and ca else None
    until = trouble.not_before if trouble else before.not_before if before and not before.troubles else None
    return until if until and now < until else None


def _troubles(
    before: Failure | None,
    error: CertkeeperError,
    now: datetime,
    ca: str | None,
    not_before: datetime | None,
    for_all_since: datetime | None,
) -> tuple[Trouble, ...]:
    known = before.troubles if before else ()
    if ca is None or not isinstance(error, AuthorityError):
        return known
    earlier = before.trouble_at(ca) if before else None
    kind = PAUSED if classify(error) == PAUSED else error.kind
    still = earlier.for_all_since if earlier and is_recent(earlier.last, earlier.not_before, now) else None
    for_all_since = min(one for one in (for_all_since, still, now) if one)
    trouble = Trouble(
        ca, kind, earlier.since if earlier else now, now, not_before, for_all_since if concerns_all(error) else None
    )
    return (*(one for one in known if one.ca != ca), trouble)


def fields(failure: Failure) -> dict[str, object]:
    """As the journal and the index keep it."""
    said: dict[str, object] = {
        "count": failure.count,
        "since": written(failure.since),
        "error": failure.error,
        "hint": failure.hint,
        "kind": failure.kind,
        "next_attempt": failure.next_attempt and written(failure.next_attempt),
        "not_before": failure.not_before and written(failure.not_before),
    }
    if failure.our_pause is not None:
        said["our_pause"] = written(failure.our_pause)
    if failure.wanted is not None:
        said["wanted"] = failure.wanted
    if failure.troubles:
        said["troubles"] = [trouble_fields(one) for one in failure.troubles]
    return said


def trouble_fields(trouble: Trouble) -> dict[str, object]:
    return {
        "ca_directory": trouble.ca,
        "kind": trouble.kind,
        "since": written(trouble.since),
        "last": written(trouble.last),
        "not_before": trouble.not_before and written(trouble.not_before),
        **({"for_all_since": written(trouble.for_all_since)} if trouble.for_all_since else {}),
    }


def from_fields(said: dict[str, Any]) -> Failure:
    """Raises KeyError, TypeError, ValueError, OverflowError or DocumentError for what `fields` did not make."""
    return Failure(
        count=int(said["count"]),
        since=instant(said["since"]),
        error=str(said["error"]),
        hint=said["hint"],
        kind=str(said["kind"]),
        next_attempt=instant(said["next_attempt"]) if said["next_attempt"] else None,
        not_before=instant(said["not_before"]) if said["not_before"] else None,
        our_pause=instant(said["our_pause"]) if said.get("our_pause") else None,
        troubles=tuple(trouble_from_fields(one) for one in said.get("troubles") or ()),
        wanted=said.get("wanted"),
    )


def trouble_from_fields(said: dict[str, Any]) -> Trouble:
    """Raises like `from_fields`."""
    return Trouble(
        ca=str(said["ca_directory"]),
        kind=str(said["kind"]),
        since=instant(said["since"]),
        last=instant(said["last"]),
        not_before=instant(said["not_before"]) if said["not_before"] else None,
        for_all_since=instant(said["for_all_since"]) if said.get("for_all_since") else None,
    )


def retry_after(headers: Mapping[str, str], now: datetime, status: int | None = None) -> float | None:
    """Seconds to wait from now, from both forms of the header (RFC 9110 section 10.2.3); None if it says nothing. Never
    longer than a week, of a server error than a day.

    A date is compared with the answer's own Date, so that this machine's clock does not matter.
    """
    said = headers.get("Retry-After", "").strip()
    longest = LONGEST_OUTAGE if status is not None and status >= 500 else LONGEST_RETRY_AFTER
    if said.isascii() and said.isdecimal():
        return min(float(said), longest)
    try:
        until = parsedate_to_datetime(said)
        served = parsedate_to_datetime(headers["Date"]) if "Date" in headers else now
        return min(max(0.0, (until - served).total_seconds()), longest)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
