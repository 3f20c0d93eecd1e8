"""What an operator sees: the state of every name, and what a tick would do. Decided by the same rules as the tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from certkeeper.core import index as indexes
from certkeeper.core.budget import Budget, Ledger, Limits
from certkeeper.core.decision import Keep, Pause, decide, due_time, pinned, state
from certkeeper.core.document import written
from certkeeper.core.errors import DocumentError
from certkeeper.core.index import Facts, Index, ledger_of
from certkeeper.core.model import CertificateSpec
from certkeeper.core.ports import Records
from certkeeper.core.report import budget_json
from certkeeper.jobs import survey
from certkeeper.jobs.keeper import Keeper

BAD = ("missing", "overdue", "expired", "failing", "unreadable")


@dataclass(frozen=True)
class Served:
    """What a server serves for one identifier; `same` is whether that is the stored certificate."""

    identifier: str
    serial_number: str | None
    same: bool
    error: str | None = None


@dataclass(frozen=True)
class Status:
    """One name as the operator sees it. `state` is ok, due, overdue, expired, missing, failing, retired, unreadable."""

    name: str
    identifiers: tuple[str, ...]
    state: str
    serial_number: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    renewal_time: datetime | None = None
    issuer: str | None = None
    profile: str | None = None
    last_error: str | None = None
    hint: str | None = None
    failures: int = 0
    next_attempt: datetime | None = None
    waiting: str | None = None
    """Why it is not renewed now though it is due and nothing has failed: a limit is spent, or the CA wants to wait."""
    budget: tuple[Budget, ...] = ()
    pinned_since: datetime | None = None
    served: tuple[Served, ...] | None = None

    @property
    def bad(self) -> bool:
        return self.state in BAD or any(not one.same for one in self.served or ())


@dataclass(frozen=True)
class Survey:
    """All names, as of the last run that noted the index; None if none did. `versions` as in the index."""

    statuses: tuple[Status, ...]
    as_of: datetime | None
    versions: Mapping[str, str] = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> Survey:
        """Of these names only; of all if there are none."""
        return replace(self, statuses=tuple(one for one in self.statuses if not names or one.name in names))


@dataclass(frozen=True)
class Planned:
    """What a tick would do now; `action` is renew, keep, wait, resume or look."""

    name: str
    action: str
    reason: str
    until: datetime | None = None
    last_error: str | None = None
    hint: str | None = None
    budget: tuple[Budget, ...] = ()


def status(
    records: Records,
    specs: Sequence[CertificateSpec],
    now: datetime,
    names: Sequence[str] = (),
    limits: Mapping[str, Limits] | None = None,
) -> Survey:
    """From the index alone, which needs no right but to read it. Raises StoreError, DocumentError.

    `limits` are the CAs' limits where the settings name some, by directory.
    """
    index, version = indexes.read(records)
    if version is not None and index.as_of is None:
        raise DocumentError(
            "the index cannot be read, so nothing is known", "the next run makes it anew: certkeeper renew"
        )
    return overview(index, specs, now, limits).of(names)


def overview(
    index: Index, specs: Sequence[CertificateSpec], now: datetime, limits: Mapping[str, Limits] | None = None
) -> Survey:
    """What an index says of every name that is wanted or held; `limits` as for `status`."""
    wanted = {spec.name: spec for spec in specs}
    chosen = [*wanted, *sorted(set(index.facts) - set(wanted))]
    ledger = ledger_of(index, limits or {})
    statuses = (_status(name, wanted.get(name), index.facts.get(name, Facts()), ledger, now) for name in chosen)
    return Survey(tuple(one for one in statuses if one is not None), index.as_of, index.versions)


def _status(name: str, spec: CertificateSpec | None, facts: Facts, ledger: Ledger, now: datetime) -> Status | None:
    held, failure = facts.held, facts.failure
    if spec is None and held is None:
        return None  # a journal that was closed without a certificate, of a name that has left the settings
    decision = decide(spec, held, failure, now, ledger=ledger) if spec else None
    pause = decision if isinstance(decision, Pause) and decision.why and not facts.unreadable else None
    return Status(
        name=name,
        identifiers=held.identifiers if held else spec.identifiers if spec else (),
        state="unreadable" if facts.unreadable else state(spec, held, failure, now),
        serial_number=held.serial_number if held else None,
        not_before=held.validity.not_before if held else None,
        not_after=held.validity.not_after if held else None,
        renewal_time=due_time(held) if held else None,
        issuer=held.issuer if held else None,
        profile=held.profile if held else None,
        last_error=facts.unreadable or (failure.error if failure else None),
        hint=pause.hint if pause else failure.hint if failure else None,
        failures=failure.count if failure else 0,
        next_attempt=pause.until if pause else failure.next_attempt if failure else None,
        waiting=pause.why if pause else None,
        budget=ledger.budgets(spec, now) if spec else (),
        pinned_since=held.pinned_since if held and pinned(held, now) else None,
    )


def plan(keeper: Keeper, specs: Sequence[CertificateSpec]) -> tuple[Planned, ...]:
    """What a tick would do with these names now, read afresh from the store and, for its suggestions, from the CA.

    Raises StoreError; changes nothing.
    """
    index = survey.informed(keeper, survey.refreshed(keeper), [spec.name for spec in specs])
    now = keeper.clock.now()
    ledger = ledger_of(index, keeper.limits)
    return tuple(_planned(spec, index.facts.get(spec.name, Facts()), ledger, now) for spec in specs)


def planned_json(planned: Sequence[Planned], as_of: datetime) -> dict[str, Any]:
    """The object that `plan --json` prints and the function answers."""
    return {
        "as_of": written(as_of),
        "plan": [
            {
                "name": one.name,
                "action": one.action,
                "reason": one.reason,
                "until": written(one.until) if one.until else None,
                "last_error": one.last_error,
                "hint": one.hint,
                "budget": budget_json(one.budget),
            }
            for one in planned
        ],
    }


def _planned(spec: CertificateSpec, facts: Facts, ledger: Ledger, now: datetime) -> Planned:
    budget = ledger.budgets(spec, now)
    if facts.unreadable is not None:
        return Planned(spec.name, "look", f"it would fail: {facts.unreadable}", last_error=facts.unreadable)
    last_error = facts.failure.error if facts.failure else None
    decision = decide(spec, facts.held, facts.failure, now, ledger=ledger)
    if isinstance(decision, Keep):
        return Planned(spec.name, "keep", decision.reason, decision.until, last_error, budget=budget)
    if isinstance(decision, Pause):
        reason = f"{decision.reason}; {decision.why}" if decision.why else decision.reason
        hint = decision.hint if decision.why else facts.failure.hint if facts.failure else None
        return Planned(spec.name, "wait", reason, decision.until, last_error, hint, budget)
    return Planned(spec.name, "resume" if facts.open else "renew", decision.reason, None, last_error, budget=budget)
