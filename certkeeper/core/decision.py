"""Whether to renew. Pure: the caller brings the time. `renew`, `plan` and `status` all ask here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Union

from certkeeper.core import ari, fallback
from certkeeper.core.budget import (
    EXACT_SET,
    FAILED_AUTHORIZATIONS,
    KNOWN_SET,
    ORDERS,
    REGISTERED_DOMAIN,
    WEEK,
    Budget,
    Ledger,
)
from certkeeper.core.failures import Failure, wanted_of
from certkeeper.core.model import CertificateSpec, Validity

STAGING = ("staging", "stg")
PERIOD = timedelta(hours=1)
"""The time between two ticks of the schedule."""
MISSED, MISSED_IN_AN_EMERGENCY, MISSED_SHARE = timedelta(days=1), 3 * PERIOD, 40
"""For how long, or which part of the lifetime, a CA must not find an order that may be paid for until it is gone."""
RUNAWAY, RUNAWAY_SHARE = 5, 8
"""So many certificates for one set of names in this part of their lifetime, or in a week, are no renewals any more."""


@dataclass(frozen=True)
class Held:
    """The facts of a stored certificate that decide; all public, so the index can keep them."""

    identifiers: tuple[str, ...]
    key_type: str | None
    profile: str | None
    ca: str
    validity: Validity
    serial_number: str
    issuer: str
    order_url: str | None
    certificate_id: str | None = None
    information: ari.Information | None = None
    sealing: str | None = None
    kms_key_arn: str | None = None
    pinned_since: datetime | None = None
    revoking: str | None = None
    """The reason for which a person wants it revoked, which is done as soon as it is replaced."""
    rolled_back: bool = False
    """Whether a person has made this earlier one current again: it has had its successor, and its window its time."""

    @cached_property
    def due(self) -> datetime:
        """From when it is due, see `due_time`; asked for many times of every name."""
        return _due(self)


@dataclass(frozen=True)
class Keep:
    """Nothing to do before `until`; with `pinned` because a person said so, whatever the settings want."""

    until: datetime
    reason: str = "not due yet"
    pinned: bool = False


@dataclass(frozen=True)
class Renew:
    """Due, for this reason; to be asked for at the fallback CA `ca`, or at the first one."""

    reason: str
    ca: str | None = None


@dataclass(frozen=True)
class Pause:
    """Due for `reason`, but to wait until `until`: because of an earlier failure, or because of `why`.

    `until` is None if it waits for a person.
    """

    reason: str
    until: datetime | None
    why: str | None = None
    hint: str | None = None


Decision = Union[Keep, Renew, Pause]


@dataclass(frozen=True)
class Ask:
    """How a person or the schedule asks: `by_name` ignores our own pause, `force` renews what is not due,
    `spend_reserve` spends the last token of the CA's limit.
    """

    by_name: bool = False
    force: bool = False
    spend_reserve: bool = False


def renewal_time(validity: Validity) -> datetime:
    """Two thirds through the lifetime, halfway if that is under ten days.

    The fractions that Let's Encrypt's integration guide asks for; never a number of days.
    """
    share = 1 / 2 if validity.lifetime < timedelta(days=10) else 2 / 3
    return validity.not_before + validity.lifetime * share


def due_time(held: Held) -> datetime:
    """From when a certificate is due: the CA's own suggestion if it made one, but never in the last 1/20 of life.

    One that is pinned: from when 1/10 of its life is left, or when the CA wants it back.
    """
    return held.due


def due_at_the_earliest(held: Held) -> datetime:
    """An instant that `due_time` is not before. It costs a tenth of that, and of many names most are not due by far."""
    if held.pinned_since is not None or not isinstance(held.information, ari.Window):
        return due_time(held)
    return min(held.information.start, _floor(held.validity))


def _floor(validity: Validity) -> datetime:
    return validity.not_after - validity.lifetime / 20


def _due(held: Held) -> datetime:
    if held.pinned_since is not None:
        return min(held.validity.not_after - held.validity.lifetime / 10, _wanted_back(held))
    if not isinstance(held.information, ari.Window):
        return renewal_time(held.validity)
    return min(ari.instant(held.information, held.serial_number, PERIOD), _floor(held.validity))


def _wanted_back(held: Held) -> datetime:
    """When the CA wanted an earlier certificate replaced other than for its age; never if it did not.

    The window that every certificate has says nothing here: it lies where renewal time is, is wide, and passes while
    a pin holds. What RFC 9773 section 4.2 puts into the past to have it replaced is neither.
    """
    window, lifetime = held.information, held.validity.lifetime
    if not isinstance(window, ari.Window):
        return held.validity.not_after
    usual = abs(window.end - renewal_time(held.validity)) <= lifetime / 50 and window.end - window.start > lifetime / 99
    return held.validity.not_after if usual else window.end


def _is_wanted_back(held: Held, now: datetime) -> bool:
    """Whether the CA wants it replaced at once. The window of what was rolled back to has passed in its own time."""
    if held.rolled_back:
        return now >= _wanted_back(held)
    return isinstance(held.information, ari.Window) and ari.is_urgent(held.information, now)


def pinned(held: Held, now: datetime) -> bool:
    """Whether a person has made this earlier certificate current, and it still may be."""
    return held.pinned_since is not None and held.revoking is None and now < due_time(held)


def decide(
    spec: CertificateSpec,
    held: Held | None,
    failure: Failure | None,
    now: datetime,
    ask: Ask | None = None,
    ledger: Ledger | None = None,
    bound: str | None = None,
) -> Decision:
    """Compare what is wanted with what is held, with what failed lately, and with the CA's limits.

    `ledger` tells what has been spent of them, under whatever name; without one nothing has.
    `bound` is the CA of an order that may be paid for already: no other one is asked before it is done with.
    """
    ask = ask or Ask()
    ledger = ledger or Ledger()
    halted = held is not None and pinned(held, now)
    reason = None if halted else why_due(spec, held, now)
    if reason is not None and held is not None and not ask.force and rehearsal_over_real(spec, held, now):
        return Keep(held.validity.not_after, "a staging CA does not replace a real certificate without --force")
    others = reason is not None  # what is only forced is asked for where it would be
    if reason is None and ask.force:
        reason = "asked for by --force"
    if reason is None:
        assert held is not None  # noqa: S101 - why_due() has a reason for whatever is not held
        release = f"pinned; release it with: certkeeper rollback {spec.name} --release"
        return Keep(due_time(held), release, pinned=True) if halted else Keep(due_time(held))
    if failure is not None and failure.wanted not in (None, wanted_of(spec)):
        failure = replace(failure, our_pause=failure.since)  # it was for what was wanted then
    runaway = None if held is None or ask.force else _runaway(spec, held, now, reason, ledger)
    if runaway is not None:
        return runaway
    pauses = []
    for one in _to_be_asked(spec, held, failure, now, ask, ledger, bound if bound or others else spec.ca):
        pause = _pause(one, held, failure, now, ask, reason, ledger)
        if pause is None:
            if one.ca == spec.ca:
                return Renew(reason)
            return Renew(f"{reason}; from {host(one.ca)} instead of {host(spec.ca)}", one.ca)
        pauses.append(pause)
    return min(pauses, key=lambda pause: pause.until.timestamp() if pause.until else float("inf"))


def is_surely_kept(spec: CertificateSpec, held: Held, now: datetime) -> bool:
    """Whether `decide` would keep what is held, unless it is forced not to; False where it takes more to tell."""
    at_rest = held.revoking is None and held.pinned_since is None
    return at_rest and now < due_at_the_earliest(held) and _what_changed(spec, held) is None


def _runaway(spec: CertificateSpec, held: Held, now: datetime, reason: str, ledger: Ledger) -> Pause | None:
    """A pause for what is young and was renewed again and again lately: a CA whose suggestion lies in the past for
    whatever it issues, as by a wrong clock, would have it renewed at every tick, and many a CA has no limit of its own.
    """
    lifetime = held.validity.lifetime
    period = min(WEEK, lifetime / RUNAWAY_SHARE)
    wanted = held.revoking is not None or _what_changed(spec, held) is not None or not in_date(held, now)
    lately = ledger.issued_since(held.ca, held.identifiers, now - period)
    if wanted or now >= held.validity.not_before + lifetime / RUNAWAY_SHARE or len(lately) < RUNAWAY:
        return None
    span = f"{len(lately)} certificates for exactly these names in {period / timedelta(hours=1):g} hours"
    hint = f"ask the CA why; if this one was revoked: certkeeper renew {spec.name} --force"
    return Pause(reason, lately[-RUNAWAY] + period, f"{span}, and the CA wants the newest replaced as well", hint)


def _to_be_asked(
    spec: CertificateSpec,
    held: Held | None,
    failure: Failure | None,
    now: datetime,
    ask: Ask,
    ledger: Ledger,
    only: str | None,
) -> list[CertificateSpec]:
    if only is not None or not spec.fallbacks:
        return [spec.at(only or spec.ca)]
    return fallback.to_be_asked(
        spec,
        failure,
        now,
        _patience(held, now),
        is_spent=lambda one: _is_refused(one, held, now, ledger) or bool(_empty(one, held, now, ask, ledger)),
        ailing=lambda ca: ledger.ailing(ca, now),
    )


def _patience(held: Held | None, now: datetime) -> timedelta:
    urgent = held is None or overdue(held, now)
    return fallback.patience(None if held is None or urgent else held.validity.lifetime, PERIOD)


def binds(ca: str, placed: datetime, held: Held | None, failure: Failure | None, now: datetime, ledger: Ledger) -> bool:
    """Whether no other CA is to be asked, because of an order at `ca` that may be paid for."""
    return fallback.binds(placed, ca, failure, ledger.ailing(ca, now), now, _patience(held, now))


def is_gone(missed_since: datetime, held: Held | None, now: datetime, *, named: bool) -> bool:
    """Whether an order that may be paid for is gone: its CA has not found it for so long, run after run. A CA in
    trouble says so for hours of what is there, too. Servers without a good certificate cannot wait that long; but what
    the CA has `named` a certificate of is paid for, and another one would be lost in the same way.
    """
    urgent = not named and (held is None or is_emergency(held, now))
    longest = MISSED_IN_AN_EMERGENCY if urgent else MISSED
    return now - missed_since >= (min(longest, held.validity.lifetime / MISSED_SHARE) if held else longest)


def _is_refused(spec: CertificateSpec, held: Held | None, now: datetime, ledger: Ledger) -> bool:
    """Whether a CA takes no orders, or has asked this name alone to wait for longer than our patience. One that has
    asked all to wait has our patience since then.
    """
    hold = ledger.held_off(spec.ca, now, spec.name)
    return hold is not None and (hold.refusing or (hold.since is None and hold.until - now >= _patience(held, now)))


def _pause(
    spec: CertificateSpec,
    held: Held | None,
    failure: Failure | None,
    now: datetime,
    ask: Ask,
    reason: str,
    ledger: Ledger,
) -> Pause | None:
    if failure is not None:
        until = failure.wait_until(spec.ca, by_name=ask.by_name)
        if until is None or now < until:
            return Pause(reason, until)
    return unaffordable(spec, held, now, ask, reason, ledger)


def host(directory: str) -> str:
    """The host of a directory URL, as people are told of a CA."""
    return directory.split("/")[2] if directory.count("/") > 1 else directory


def unaffordable(
    spec: CertificateSpec, held: Held | None, now: datetime, ask: Ask, reason: str, ledger: Ledger
) -> Pause | None:
    """Why and until when the CA is not to be asked now; None if it is.

    It is our own count, so the CA's word wins: what is overdue asks although everything seems to be spent, and if the
    CA refuses, its Retry-After is kept. Only failed authorizations are never risked: they cost what is proven next.
    """
    hold = ledger.held_off(spec.ca, now, spec.name)
    if hold is not None:
        return Pause(reason, hold.until, hold.why)
    empty = _empty(spec, held, now, ask, ledger)
    if not empty:
        return None
    reserve = _may_spend_reserve(held, ask)
    last = max(empty, key=lambda one: one.possible_from(reserve=reserve))
    hint = None
    if last.limit == EXACT_SET and last.allows(reserve=True):
        hint = f"if it cannot wait: certkeeper renew {spec.name}{' --force' if ask.force else ''} --spend-reserve"
    return Pause(reason, last.possible_from(reserve=reserve), _spent(last), hint)


def _empty(spec: CertificateSpec, held: Held | None, now: datetime, ask: Ask, ledger: Ledger) -> list[Budget]:
    free, reserve = _free_of(spec, held, now, ledger), _may_spend_reserve(held, ask)
    return [one for one in ledger.budgets(spec, now) if one.limit not in free and not one.allows(reserve=reserve)]


def _may_spend_reserve(held: Held | None, ask: Ask) -> bool:
    return ask.spend_reserve or held is None


def _free_of(spec: CertificateSpec, held: Held | None, now: datetime, ledger: Ledger) -> frozenset[str]:
    """The limits that an order now would not meet, or that it must not be held back by."""
    if exempt(spec, held, now) or is_emergency(held, now):
        return frozenset({EXACT_SET, REGISTERED_DOMAIN, ORDERS})
    if not is_charged(spec, held, now, ledger):
        return frozenset({REGISTERED_DOMAIN, ORDERS})
    return frozenset()


def _spent(budget: Budget) -> str:
    of = budget.of
    days, hours = divmod(of.period, timedelta(days=1))
    period = f"{days} days" if days > 1 and not hours else f"{of.period / timedelta(hours=1):g} hours"
    left = f"only {budget.whole} of the CA's {of.count}"
    return {
        EXACT_SET: f"{left} certificates in {period} for exactly these names is left",
        REGISTERED_DOMAIN: f"{left} certificates in {period} for new sets of names below {budget.about} is left",
        ORDERS: f"{left} new orders in {period} is left",
        FAILED_AUTHORIZATIONS: f"the CA could not prove {budget.about} so often that only {budget.whole} of its "
        f"{of.count} failures in {period} is left",
    }[budget.limit]


def is_charged(spec: CertificateSpec, held: Held | None, now: datetime, ledger: Ledger) -> bool:
    """Whether an order now counts against the limits of the account and of the registered domains: those that name
    their predecessor inside its window do not, nor do those for a set that the CA knows.
    """
    if exempt(spec, held, now) or ledger.knows(spec.ca, spec.identifiers, now):
        return False
    same = held is not None and held.ca == spec.ca and set(held.identifiers) == set(spec.identifiers)
    return not (same and held is not None and now < held.validity.not_before + KNOWN_SET)


def exempt(spec: CertificateSpec, held: Held | None, now: datetime) -> bool:
    """Whether an order now, naming its predecessor, is free of the CA's limits: inside the suggested window."""
    if held is None or held.ca != spec.ca or held.certificate_id is None or held.rolled_back:
        return False
    if not set(held.identifiers) & set(spec.identifiers):
        return False
    window = held.information
    return isinstance(window, ari.Window) and window.start <= now < window.end


def is_emergency(held: Held | None, now: datetime) -> bool:
    """Whether servers are about to lose a good certificate, or have: overdue, expired, revoked or to be revoked."""
    if held is None:
        return False
    return held.revoking is not None or overdue(held, now) or _is_wanted_back(held, now)


def overdue(held: Held, now: datetime) -> bool:
    """Whether less than half of the time between renewal time and expiry is left."""
    if now < due_at_the_earliest(held):
        return False
    due = due_time(held)
    return now >= due + (held.validity.not_after - due) / 2


def why_due(spec: CertificateSpec, held: Held | None, now: datetime) -> str | None:
    """The reason to renew, None if there is none."""
    if held is None:
        return "not issued yet"
    if held.revoking is not None:
        return f"to be revoked: {held.revoking}"
    changed = _what_changed(spec, held)
    if changed is not None:
        return changed
    if now >= held.validity.not_after:
        return f"expired since {_minute(held.validity.not_after)}"
    due = due_time(held)
    if now < due:
        return None
    window = held.information
    if isinstance(window, ari.Window) and _is_wanted_back(held, now):
        return f"the CA wants it replaced{f', see {window.explanation_url}' if window.explanation_url else ''}"
    return f"due since {_minute(due)}"


def _what_changed(spec: CertificateSpec, held: Held) -> str | None:
    if held.identifiers != spec.identifiers and set(held.identifiers) != set(spec.identifiers):
        return "identifiers changed"
    if held.key_type is not None and held.key_type != spec.key_type:
        return f"key type changed from {held.key_type} to {spec.key_type}"
    if held.sealing is not None and held.sealing != spec.sealing:
        return f"sealing changed from {held.sealing} to {spec.sealing}"
    if held.ca != spec.ca and held.ca not in spec.cas:
        return "the CA changed"
    wanted = spec.profile if held.ca == spec.ca else spec.at(held.ca).profile
    if held.profile != wanted:
        return f"profile changed from {held.profile or 'none'} to {wanted or 'none'}"
    return None


def is_staging(directory: str) -> bool:
    """Whether a CA is for rehearsals; what it issues never replaces what a real one did."""
    host = directory.split("/")[2].split(":")[0] if directory.count("/") >= 2 else directory
    return any(word in STAGING for word in host.replace(".", "-").split("-"))


def rehearsal_over_real(spec: CertificateSpec, held: Held, now: datetime) -> bool:
    """Whether renewing would replace a certificate that browsers trust with one from a staging CA."""
    return is_staging(spec.ca) and not is_staging(held.ca) and in_date(held, now)


def in_date(held: Held | None, now: datetime) -> bool:
    return held is not None and held.validity.not_before <= now < held.validity.not_after


def under_the_floor(held: Held, now: datetime) -> bool:
    """Whether less than 1/20 of the lifetime is left, expired included: nothing may hold an attempt back."""
    return now >= _floor(held.validity)


def state(spec: CertificateSpec | None, held: Held | None, failure: Failure | None, now: datetime) -> str:
    """The operator's word for a name: ok, due, overdue, expired, missing, failing or retired.

    Overdue: less than half of the time between renewal time and expiry is left. `spec` is None for a name that
    has left the settings.
    """
    if held is None:
        return "failing" if failure else "missing"
    if now >= held.validity.not_after:
        return "expired"
    if spec is None:
        return "retired"
    if overdue(held, now):
        return "overdue"
    if failure is not None:
        return "failing"
    return "ok" if isinstance(decide(spec, held, None, now), Keep) else "due"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"
