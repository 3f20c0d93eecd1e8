"""One name on its way through a tick, and what can be said of it at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from certkeeper.core import failures, zones
from certkeeper.core.budget import Hold, Ledger, by_certificate, by_order
from certkeeper.core.certificates import held
from certkeeper.core.decision import Ask, Decision, Held, Keep, Pause, Renew, binds, decide, is_charged
from certkeeper.core.errors import AuthorityError, CertkeeperError, Conflict, DnsError, OutOfTime, StoreError
from certkeeper.core.failures import Failure
from certkeeper.core.index import Facts, put
from certkeeper.core.journal import STORE, Entry, PendingOrder, Read, turned_to
from certkeeper.core.model import Account, Certificate, CertificateSpec, HostedZone, Outcome, TxtRecord
from certkeeper.core.order import Authorization, Order
from certkeeper.jobs.account import AccountDesk
from certkeeper.jobs.keeper import Keeper

Item = TypeVar("Item")
TRIES = 3
SETTLING = timedelta(minutes=10)
SILENCES = 3
"""So many newOrders without any answer in a row, and no more are tried in this run: each may take half a minute."""
Result = TypeVar("Result")
SHARE = 5


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
    def going(self) -> bool:
        return self.working and not self.busy and self.error is None and self.outcome is None


class HeldOff(Exception):  # noqa: N818 - not a failure: another name has been told to wait, for all
    """A CA has asked everybody to wait."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(hold.why)
        self.hold = hold


class Run:
    """What the cases of one tick share: the accounts and the hosted zones, each asked for once, and the CAs' limits.

    `closed` are the facts of names that ended well, as they were written down.
    """

    def __init__(self, keeper: Keeper, ledger: Ledger) -> None:
        self.keeper = keeper
        self.accounts = AccountDesk(keeper)
        self._ledger = ledger
        self._counting = Lock()
        self.closed: dict[str, Facts] = {}
        self.began = keeper.clock.now()
        self._half_time = self.began + keeper.clock.remaining() / 2
        self._silences: dict[str, list[AuthorityError]] = {}
        self._lock = Lock()
        self._turns: dict[str, Lock] = {}
        self._taking: set[str] = set()
        self._told: dict[str, Case] = {}
        self._answers: dict[object, Any] = {}

    def decided(self, case: Case, bound: str | None) -> Decision:
        """Decide by what has just been read, and count on what that will spend: the next name shall know of it.

        `bound` as for `decide`.
        """
        now = self.keeper.clock.now()
        with self._counting:
            self._note(case)
            decision = decide(case.wanted, case.public, case.entry.failure, now, case.ask, self._ledger, bound)
            case.aim(decision)
            spec = case.spec
            case.charged = is_charged(spec, case.public, now, self._ledger)
            if isinstance(decision, Renew) and case.entry.pending is None:
                self._ledger.add(spec.name, by_certificate(spec.ca, spec.identifiers, case.charged_domains, None, now))
                self._ledger.add(spec.name, by_order(spec.ca, None, now) if case.charged else ())
            return decision

    def decided_again(self, case: Case, bound: str | None) -> Decision:
        """What is to be done next with a case that has failed, whoever asked for it this time."""
        with self._counting:
            self._note(case)
            now = self.keeper.clock.now()
            return decide(case.wanted, case.public, case.entry.failure, now, ledger=self._ledger, bound=bound)

    def binds(self, case: Case, pending: PendingOrder) -> bool:
        """Whether an order that may be paid for keeps every other CA from being asked."""
        with self._counting:
            now = self.keeper.clock.now()
            return binds(pending.ca, pending.placed, case.public, case.entry.failure, now, self._ledger)

    def note(self, case: Case) -> None:
        """Have the other names know what this one has spent."""
        with self._counting:
            self._note(case)

    def _note(self, case: Case) -> None:
        issued = case.held.issued if case.held else ()
        entry = case.entry
        put(self._ledger, case.spec.name, entry.spent, held(case.held), issued, entry.asked_to_wait)

    def hold_off(self, case: Case, error: CertkeeperError) -> Hold | None:
        """If a CA wants to be left alone altogether, have the other names know. What it said, if it was another one
        that was told so first.
        """
        if not isinstance(error, AuthorityError) or not failures.concerns_all(error):
            return None
        now = self.keeper.clock.now()
        until = now + timedelta(seconds=error.retry_after or 0)
        hold = Hold(until, failures.held_off(failures.sentence(error)), now, now, error.kind == "rateLimited")
        with self._counting:
            self._ledger.hold(case.spec.ca, hold)
            return hold if self._told.setdefault(case.spec.ca, case) is not case else None

    @contextmanager
    def turn(self, case: Case) -> Iterator[None]:
        """Orders at a CA go alone until it has taken one: should it refuse everybody, it is asked once. Raises HeldOff
        for whoever comes after that; AuthorityError for whoever comes after some that it has not answered; OutOfTime.
        """
        ca = case.spec.ca
        with self._counting:
            lock = self._turns.setdefault(ca, Lock())
            silences = self._silences.setdefault(ca, [])
        with nullcontext() if ca in self._taking else lock:
            self.go_on(case)
            hold = self.held_off(case)
            if hold is not None:
                raise HeldOff(hold)
            if len(silences) >= SILENCES:
                raise silences[-1]
            try:
                yield
            except CertkeeperError as error:
                self.hold_off(case, error)
                if isinstance(error, AuthorityError) and error.status is None and not error.kind:
                    silences.append(error)
                raise
            silences.clear()
            self._taking.add(ca)

    def go_on(self, case: Case) -> None:
        """Raise OutOfTime past the deadline. Wait out what a CA that is overloaded for a moment has asked for in this
        run: of the many requests of many names there is always one that meets such a moment, and the others must not
        lose an hour by it. No longer than half of the run, and not where a limit is reached.
        """
        clock = self.keeper.clock
        while (hold := self.held_off(case)) is not None and self._is_of_a_moment(hold):
            clock.wait((hold.until - clock.now()).total_seconds())
        if clock.remaining() <= timedelta(0):
            raise OutOfTime("out of time")

    def _is_of_a_moment(self, hold: Hold) -> bool:
        of_this_run = hold.last is not None and hold.last >= self.began
        return of_this_run and not hold.refusing and hold.until <= self._half_time

    def held_off(self, case: Case) -> Hold | None:
        """Until when the case's CA is to be left alone."""
        with self._counting:
            return self._ledger.held_off(case.spec.ca, self.keeper.clock.now(), case.spec.name)

    def ailing_since(self, case: Case) -> datetime | None:
        """Since when the case's CA has been asking everybody to wait, whoever it has told so."""
        with self._counting:
            hold = self._ledger.ailing(case.spec.ca, self.keeper.clock.now())
            return hold.since if hold else None

    def zone_of(self, name: str, explicit: str | None) -> HostedZone:
        """The hosted zone that a record of this name belongs in. Raises DnsError."""
        found = self.zones_of(name, explicit)
        return found[0] if len(found) == 1 else self._once(found, lambda: self._delegated(found))

    def zones_of(self, name: str, explicit: str | None) -> tuple[HostedZone, ...]:
        """The one that it belongs in, or the several of one name that have to be told apart. Raises DnsError."""
        place = zones.place_of(name, self.keeper.zone_places)
        if explicit is None and place.hosted_zone_id is not None:
            return (HostedZone(place.hosted_zone_id, place.domain, role_arn=place.role_arn),)
        listed = self._once(place.role_arn, lambda: self.keeper.zones.hosted_zones(place.role_arn))
        return zones.choose(name, listed, explicit)

    def _delegated(self, twins: tuple[HostedZone, ...]) -> HostedZone:
        servers = {zone: self.keeper.zones.name_servers(zone) for zone in twins}
        try:
            live = self.keeper.lookup.delegation(twins[0].name)
        except DnsError as error:
            what = f"{len(twins)} public hosted zones are called {twins[0].name}, and {error.message}"
            raise DnsError(what, "say which with hosted_zone_id") from None
        return zones.delegated(servers, live)

    def each(self, ask: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Ask for every item, many at once; each connection serves a few. The first error, in order, is raised."""
        shares = [items[start : start + SHARE] for start in range(0, len(items), SHARE)]
        done = self.keeper.side_by_side([partial(_asked, ask, share) for share in shares])
        for _, error in done:
            if error is not None:
                raise error
        return [result for results, _ in done for result in results]

    def _once(self, what: object, ask: Callable[[], Result]) -> Result:
        """The answer to a question that all cases have; a failure too, so that the next one need not wait for it."""
        with self._lock:
            if what not in self._answers:
                try:
                    self._answers[what] = ask()
                except CertkeeperError as error:
                    self._answers[what] = error
            answer = self._answers[what]
        if isinstance(answer, CertkeeperError):
            raise answer
        found: Result = answer
        return found


def _asked(ask: Callable[[Item], Result], items: Sequence[Item]) -> tuple[list[Result], CertkeeperError | None]:
    try:
        return [ask(item) for item in items], None
    except CertkeeperError as error:
        return [], error


def guarded(step: Callable[[Run, Case], None], run: Run, case: Case) -> None:
    """Take one step with one case; whatever goes wrong stays with that case. Past the deadline nothing is begun, nor
    at a CA that has asked everybody to wait.
    """
    try:
        run.go_on(case)
        hold = run.held_off(case) if case.working else None
        if hold is not None:
            raise HeldOff(hold)
        step(run, case)
    except Conflict:
        case.busy = True
    except HeldOff as error:
        _hold_back(case, error.hold)
    except CertkeeperError as error:
        hold = run.hold_off(case, error)
        if hold is not None:
            _hold_back(case, hold)
        else:
            case.error = error
    except Exception as error:  # noqa: BLE001 - the one broad one: a defect met by one name stays with that name
        case.error = surprise(error)


def _hold_back(case: Case, hold: Hold) -> None:
    case.outcome = still(case.spec, case.public, case.entry.failure, Pause(case.reason, hold.until, hold.why))


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
