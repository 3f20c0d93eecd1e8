"""What the names of one tick share, and the guard around each step of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from types import MappingProxyType
from typing import Any, TypeVar

from certkeeper.core import failures, zones
from certkeeper.core.budget import Hold, Ledger, Spent, by_certificate, by_order, noted
from certkeeper.core.certificates import held
from certkeeper.core.decision import Decision, Pause, Renew, binds, decide, is_charged
from certkeeper.core.errors import AuthorityError, CertkeeperError, Conflict, DnsError, OutOfTime
from certkeeper.core.index import Facts, put
from certkeeper.core.journal import Entry, is_wanted
from certkeeper.core.model import HostedZone
from certkeeper.jobs.account import AccountDesk
from certkeeper.jobs.case import Case, still, surprise
from certkeeper.jobs.keeper import Keeper

Item = TypeVar("Item")
Result = TypeVar("Result")
LOOK_AGAIN, LONGEST_LOOK = 1.0, 10.0
RETRY_PAUSES = (2.0, 5.0)
SHARE = 5
NO_FACTS: Mapping[str, Facts] = MappingProxyType({})
SILENCES = 3
"""So many newOrders without any answer in a row, and no more are tried in this run: each may take half a minute."""


class HeldOff(Exception):  # noqa: N818 - not a failure: another name has been told to wait, for all
    """A CA has asked everybody to wait."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(hold.why)
        self.hold = hold


class Run:
    """What the cases of one tick share: the accounts and the hosted zones, each asked for once, and the CAs' limits.

    `facts` are those of all names as the run began, `closed` those of names that ended well, as they were written down.
    """

    def __init__(self, keeper: Keeper, ledger: Ledger, facts: Mapping[str, Facts] = NO_FACTS) -> None:
        self.keeper = keeper
        self.accounts = AccountDesk(keeper)
        self._ledger = ledger
        self._counting = Lock()
        self.facts = facts
        self.closed: dict[str, Facts] = {}
        self.began = keeper.clock.now()
        self._half_time = self.began + keeper.clock.remaining() / 2
        self._silences: dict[str, list[AuthorityError]] = {}
        self._lock = Lock()
        self._turns: dict[str, Lock] = {}
        self._taking: set[str] = set()
        self._told: dict[str, Case] = {}
        self._answers: dict[object, Any] = {}

    def decided(self, case: Case) -> Decision:
        """Decide by what has just been read, and count on what that will spend: the next name shall know of it."""
        now, bound = self.keeper.clock.now(), self.bound_to(case)
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

    def decided_again(self, case: Case) -> Decision:
        """What is to be done next with a case that has failed, whoever asked for it this time."""
        now, bound = self.keeper.clock.now(), self.bound_to(case)
        with self._counting:
            self._note(case)
            return decide(case.wanted, case.public, case.entry.failure, now, ledger=self._ledger, bound=bound)

    def bound_to(self, case: Case) -> str | None:
        """The CA of an order that may be paid for. No other one is asked meanwhile, unless it fails for long: law 2."""
        pending = case.entry.pending
        if pending is None or not pending.finalized or not is_wanted(pending, case.wanted) or case.is_hopeless:
            return None
        now, failure = self.keeper.clock.now(), case.entry.failure
        with self._counting:
            return pending.ca if binds(pending.ca, pending.placed, case.public, failure, now, self._ledger) else None

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

    def is_shedding(self, ca: str) -> bool:
        """Whether a CA has lately answered that it is overloaded, to whatever name."""
        with self._counting:
            hold = self._ledger.ailing(ca, self.keeper.clock.now())
            return hold is not None and not hold.refusing

    def ailing_since(self, case: Case) -> datetime | None:
        """Since when the case's CA has been asking everybody to wait, whoever it has told so."""
        with self._counting:
            hold = self._ledger.ailing(case.spec.ca, self.keeper.clock.now())
            return hold.since if hold else None

    def write(self, case: Case, entry: Entry) -> None:
        """Write a case's journal entry at the version that is known. Raises Conflict, StoreError."""
        case.version = self.keeper.journal.write(case.spec.name, entry, case.version)
        case.entry = entry

    def having_spent(self, case: Case, spent: tuple[Spent, ...]) -> Entry:
        """The case's entry with what is about to be spent."""
        return replace(case.entry, spent=noted(case.entry.spent, spent, self.keeper.clock.now()))

    def patiently(self, look: Callable[[], Result]) -> Result:
        """Look again a little later if the CA stumbles; only for what may be asked any number of times."""
        for pause in RETRY_PAUSES:
            try:
                return look()
            except AuthorityError as error:
                if error.status is not None and error.status < 500:
                    raise
                if error.retry_after and timedelta(seconds=error.retry_after) > self.keeper.clock.remaining() / 2:
                    raise  # what the CA said is to be kept, for all names
                self.keeper.clock.wait(max(pause, error.retry_after or 0))
        return look()

    def let_it_work(self, asked: float, pause: float, left: timedelta, what: str) -> None:
        """Wait before the CA is looked at again. Raises AuthorityError once no more than `left` of the run would be
        left: a CA that never ends its work must neither hold up other names nor go unnoticed.
        """
        seconds = max(asked, pause)
        if timedelta(0) < self.keeper.clock.remaining() < left + timedelta(seconds=seconds):
            raise AuthorityError(f"the CA {what} yet", "the next run looks again", retry_after=asked or None)
        self.keeper.clock.wait(seconds)

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
