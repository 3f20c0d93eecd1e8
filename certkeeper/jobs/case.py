"""One name on its way through a tick, and what can be said of it at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from certkeeper.core.certificates import held
from certkeeper.core.decision import Ask, Decision, Held, Keep, Pause, Renew, is_gone
from certkeeper.core.errors import AuthorityError, CertkeeperError, Conflict, StoreError
from certkeeper.core.failures import Failure
from certkeeper.core.journal import STORE, Entry, Read, turned_to
from certkeeper.core.model import Account, Certificate, CertificateSpec, Outcome, TxtRecord
from certkeeper.core.order import Authorization, Order, Problem
from certkeeper.jobs.keeper import Keeper

TRIES = 3
CHAIN = "chain"
"""The kind of failure of a chain that is not acceptable."""
LOST = "certificateGone"
"""That of a certificate that the CA has issued, and does not find any more."""
MISSED = "orderGone"
"""That of an order that may be paid for, and that the CA does not find."""
SETTLING = timedelta(minutes=10)
Result = TypeVar("Result")


def told_of(certificate: Certificate | None, entry: Entry) -> Held | None:
    """The facts that decide, with what the journal says about the certificate."""
    facts, revocation = held(certificate), entry.revocation
    if facts is None:
        return None
    wished = revocation is not None and revocation.concerns(certificate)
    return replace(
        facts,
        revoking=revocation.reason if revocation is not None and wished else None,
        rolled_back=facts.pinned_since is not None or facts.serial_number == entry.rolled_back_to,
    )


@dataclass(eq=False)
class Case:
    """One name on its way through a pass. `spec` is what is wanted of it at the CA that is asked; `rekeyed`
    that the account's key was changed meanwhile, so that it is to be tried again; `unrevoked` that what failed is not
    the renewal, but to revoke an earlier certificate; `has_history` that something was held before."""

    wanted: CertificateSpec
    ask: Ask
    take_over: bool = False
    suggested: Held | None = None
    spec: CertificateSpec = field(init=False)
    entry: Entry = field(default_factory=Entry)
    version: str | None = None
    held: Certificate | None = None
    held_version: str | None = None
    reason: str = ""
    account: Account | None = None
    order: Order | None = None
    unproven: tuple[tuple[Authorization, TxtRecord], ...] = ()
    leftovers: tuple[TxtRecord, ...] = ()
    charged: bool = False
    working: bool = False
    pinned: bool = False
    busy: bool = False
    rekeyed: bool = False
    unrevoked: bool = False
    has_history: bool = False
    error: CertkeeperError | None = None
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        self.spec = self.wanted.at(self.wanted.ca)

    def aim(self, decision: Decision) -> None:
        """At the CA to ask: the one that was decided on, or the one where something is under way."""
        pending = self.entry.pending
        chosen = decision.ca if isinstance(decision, Renew) else pending.ca if pending else None
        self.spec = self.wanted.at(chosen or self.wanted.ca)
        if isinstance(decision, Renew):
            self.entry = turned_to(self.entry, self.wanted, self.spec.ca)

    @property
    def public(self) -> Held | None:
        """The facts of what is held, with what the CA suggests for exactly this certificate."""
        now_held = told_of(self.held, self.entry)
        suggested = self.suggested
        if now_held is None or suggested is None or suggested.certificate_id != now_held.certificate_id:
            return now_held
        return replace(now_held, information=suggested.information)

    @property
    def charged_domains(self) -> tuple[str, ...]:
        """The registered domains against whose limit a certificate would count."""
        return self.spec.registered_domains if self.charged else ()

    @property
    def is_hopeless(self) -> bool:
        """Whether a person has seen that the CA's chain for this order is not acceptable, or lost, and forces another
        one.
        """
        return self.ask.force and self.entry.failure is not None and self.entry.failure.kind in (CHAIN, LOST, MISSED)

    def has_lost(self, now: datetime) -> bool:
        """Whether the order under way, which the CA has just said that it does not find, or its certificate, is gone.
        If not, it is noted since when it says so.
        """
        pending = self.entry.pending
        assert pending is not None  # noqa: S101 - whoever has asked for it has one
        since = pending.missed_since or now
        if is_gone(since, self.public, now, named=pending.certificate_url is not None):
            return True
        self.entry = replace(self.entry, pending=replace(pending, missed_since=since))
        return False

    @property
    def is_replaced(self) -> bool:
        """Whether something is to be revoked that is not held any more."""
        revocation = self.entry.revocation
        return self.held is not None and revocation is not None and not revocation.concerns(self.held)

    @property
    def going(self) -> bool:
        return self.working and not self.busy and self.error is None and self.outcome is None


def persistently(name: str, attempt: Callable[[], Result]) -> Result:
    """What a person wants done though another run may be at work: that one is overtaken. Raises StoreError if others
    keep coming first, and whatever else `attempt` raises."""
    for _ in range(TRIES):
        try:
            return attempt()
        except Conflict:
            continue
    raise StoreError(f"others keep writing {name}", "try again when they have ended")


def kept_elsewhere(keeper: Keeper, name: str, certificate: Certificate | None, entry: Entry) -> StoreError | None:
    """What to say of a certificate that is kept in another place than the settings say; None if it is not.

    `certificate` is what was found where they say. To obtain it anew for that alone would be needless.
    """
    there = entry.kept_in
    if there in (None, keeper.kept_in) or (certificate is not None and certificate.revision >= (entry.revision or 0)):
        return None
    places = ["the store" if place == STORE else place for place in (there, keeper.kept_in)]
    return StoreError(
        "its certificate is kept in {}, and the settings look for it in {}".format(*places),
        f"put certificates_in back as it was, or obtain it anew: certkeeper renew {name} --force",
    )


def believe(keeper: Keeper, name: str, certificate: Certificate | None, read: Read) -> None:
    """Raise StoreError if what was read is older than what was written: some stores are only consistent eventually, and
    a certificate may be kept elsewhere.
    """
    moved = kept_elsewhere(keeper, name, certificate, read.entry)
    if moved is not None:
        raise moved
    written = read.entry.revision
    stale = written is not None and (certificate is None or certificate.revision < written)
    # After that it is the truth: somebody has restored an earlier one, or removed it.
    if stale and read.age < SETTLING:
        raise StoreError("the store still shows an older certificate than was written", "the next run looks again")


def surprise(error: Exception) -> CertkeeperError:
    """A defect as an error. The text of a foreign exception may quote anything, so only its type and place are told."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace else "an unknown place"
    return CertkeeperError(f"unexpected {type(error).__name__} at {where}", "this is a defect; please report it")


def still(spec: CertificateSpec, now_held: Held | None, failure: Failure | None, decision: Decision) -> Outcome:
    """The outcome for a name for which there is nothing to do now."""
    if isinstance(decision, Pause) and decision.why is not None:
        refused = told(spec, now_held, "waiting", decision.reason)
        return replace(refused, error=decision.why, hint=decision.hint, next_attempt=decision.until)
    if isinstance(decision, Pause) and failure is not None:
        return told(spec, now_held, "waiting", decision.reason, failure)
    reason = decision.reason if isinstance(decision, Keep) else "not due yet"
    return told(spec, now_held, "kept", reason, until=decision)


def told(
    spec: CertificateSpec,
    now_held: Held | None,
    outcome: str,
    reason: str,
    failure: Failure | None = None,
    until: Decision | None = None,
) -> Outcome:
    """An outcome with the public facts of what is held."""
    return Outcome(
        name=spec.name,
        outcome=outcome,
        reason=reason,
        serial_number=now_held.serial_number if now_held else None,
        not_after=now_held.validity.not_after if now_held else None,
        error=failure.error if failure else None,
        hint=failure.hint if failure else None,
        next_attempt=failure.next_attempt if failure else until.until if isinstance(until, Keep) else None,
    )


def blamed(problem: Problem) -> AuthorityError:
    """What a CA found wrong, as an error that names the identifier."""
    about = f"{problem.identifier}: " if problem.identifier else ""
    return AuthorityError(f"{about}{problem.detail}", kind=problem.kind, subproblems=problem.subproblems)
