"""Conclude: revoke what a person wants revoked and is replaced, and write down how it ended."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from certkeeper.core import failures
from certkeeper.core.decision import Held, Pause, exempt, under_the_floor
from certkeeper.core.errors import AuthorityError, CertkeeperError, ChainError, Conflict, OutOfTime, StoreError
from certkeeper.core.journal import at_rest
from certkeeper.core.model import CertificateSpec, Outcome, Revocation
from certkeeper.jobs import survey
from certkeeper.jobs.case import CHAIN, LOST, Case, surprise, told
from certkeeper.jobs.revoke import carry_out
from certkeeper.jobs.run import Run, guarded

KEY_REFUSED = ("malformed", "unauthorized", "accountDoesNotExist")
"""What CAs answer to a signature by a key that is not the account's: RFC 8555 names no type for it."""


def is_to_revoke(run: Run, case: Case) -> bool:
    """Whether something is to be revoked, by this run."""
    claim = case.entry.claim
    ours = claim is not None and claim.holder == run.keeper.holder
    return ours and not case.busy and case.is_replaced


def revoke_replaced(run: Run, case: Case) -> None:
    """Neither does a renewal that failed keep it from being revoked, nor is a renewal told otherwise because there is
    no time for it: the entry stays open, and the next run goes on.
    """
    error, outcome = case.error, case.outcome
    case.error = None
    guarded(_revoke, run, case)
    case.busy = False  # whoever has overtaken this run is met again by conclude_case(), and what is renewed is renewed
    case.unrevoked = error is None and case.error is not None
    if case.entry.revocation is not None:
        case.outcome = outcome
    if error is not None or isinstance(case.error, OutOfTime):
        case.error = error


def _revoke(run: Run, case: Case) -> None:
    revocation = case.entry.revocation
    assert revocation is not None  # noqa: S101 - is_to_revoke() has just seen it

    def note(as_it_stands: Revocation) -> None:
        run.write(case, replace(case.entry, revocation=as_it_stands))

    carry_out(run.keeper, run.accounts, case.spec.name, revocation, note)
    case.entry = replace(case.entry, revocation=None)
    if case.outcome is not None:
        reason = f"{case.outcome.reason}; {revocation.serial_number} is revoked"
        case.outcome = replace(case.outcome, reason=reason)


def conclude_case(run: Run, case: Case) -> None:
    """Raises nothing."""
    try:
        if _is_rekeyed(run, case):
            case.busy = case.rekeyed = True
            case.error = case.outcome = None
        _conclude(run, case)
        if case.has_history:
            with suppress(StoreError):  # the next renewal removes what is too old
                run.keeper.history.prune(case.spec.name)
    except Exception as error:  # noqa: BLE001 - as in guarded(): it stays with that name
        case.outcome = replace(
            told(case.spec, case.public, "failed", case.reason or "it could not be written down"),
            error=surprise(error).message,
        )


def _conclude(run: Run, case: Case) -> None:
    if case.busy and case.error is None:
        return
    if case.error is not None:
        case.outcome = _ended_badly(run, case, case.error)
    claimed = case.entry.claim is not None and case.entry.claim.holder == run.keeper.holder
    if not claimed:
        return
    entry = replace(case.entry, claim=None, kept_in=run.keeper.kept_in if case.held else case.entry.kept_in)
    if case.error is None:
        paused = case.outcome is not None and case.outcome.outcome == "waiting"
        pending = entry.pending if paused or case.pinned else None
        aside = entry.aside if paused or case.pinned else ()
        entry = replace(entry if paused else at_rest(entry, run.keeper.clock.now()), pending=pending, aside=aside)
    try:
        run.write(case, entry)
        if case.error is None:
            journal, kept = (case.entry, case.version), (case.held, case.held_version)
            run.closed[case.spec.name] = survey.facts_of(run.keeper, case.spec.name, journal, kept)
    except Conflict:
        # Somebody else has taken it over, and writes down the rest. What went wrong here may be their doing.
        if case.error is not None:
            case.busy, case.outcome = True, None
    except CertkeeperError as error:
        if case.outcome is not None and case.outcome.error is None:
            reason = f"{case.outcome.reason}; its journal could not be closed yet: {error.message}"
            case.outcome = replace(case.outcome, reason=reason)


def _is_rekeyed(run: Run, case: Case) -> bool:
    """Whether the CA refused a signature because the account has another key since this run has read it."""
    if not isinstance(case.error, AuthorityError) or case.error.kind not in KEY_REFUSED or case.account is None:
        return False
    if case.unrevoked:
        return False  # what is renewed is not renewed, or forced, once more; the next run revokes
    try:
        return run.accounts.rekeyed(case.account)
    except CertkeeperError:
        return False  # the failure that led here is the one that is told


def _ended_badly(run: Run, case: Case, error: CertkeeperError) -> Outcome:
    keeper, now_held = run.keeper, case.public
    if isinstance(error, OutOfTime):
        waiting = told(case.spec, now_held, "waiting", f"{error.message}; the next run goes on")
        return replace(waiting, unfinished=True)
    if isinstance(error, AuthorityError) and error.kind == "accountDoesNotExist":
        _forget_account(run, case)
    now = keeper.clock.now()
    failure = failures.failed(
        case.entry.failure,
        error,
        now,
        tick=keeper.period,
        lifetime=now_held.validity.lifetime if now_held else None,
        # Inside the suggested window a try is free of the CA's limits, and the window may be short.
        urgent=_is_paid_for(case, error)
        or (now_held is not None and (case.unrevoked or _is_urgent(case.spec, now_held, now))),
        # A CA that does not revoke may issue all the same: no reason to ask another one.
        ca=None if case.unrevoked else case.spec.ca,
        wanted=failures.wanted_of(case.wanted),
        for_all_since=run.ailing_since(case),
    )
    if isinstance(error, ChainError):
        # Paid for all the same: it is downloaded again, and only a person may order another one.
        failure = replace(failure, kind=CHAIN)
    case.entry = replace(case.entry, failure=failure)
    again = run.decided_again(case)
    if isinstance(again, Pause):  # where one CA asked to wait, another one may be asked sooner
        failure = replace(failure, next_attempt=again.until)
        case.entry = replace(case.entry, failure=failure)
    return told(case.spec, now_held, "failed", case.reason or "it could not be begun", failure)


def _is_paid_for(case: Case, error: CertkeeperError) -> bool:
    """Whether another try costs the CA's limits nothing, as it only looks at what may be there by now; or has been
    waited for long enough, as what was looked for is given up as lost.
    """
    lost = isinstance(error, AuthorityError) and error.kind == LOST
    return lost or (case.entry.pending is not None and case.entry.pending.finalized)


def _is_urgent(spec: CertificateSpec, held: Held, now: datetime) -> bool:
    return held.revoking is not None or under_the_floor(held, now) or exempt(spec, held, now)


def _forget_account(run: Run, case: Case) -> None:
    try:
        run.accounts.forget_url(case.spec.ca)
    except CertkeeperError:
        return  # the failure that led here is the one that is told
