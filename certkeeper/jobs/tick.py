"""The tick: obtain or renew whatever is due. Read it from top to bottom, that is the order in which it happens.

Every pass takes all its cases through the same steps together (open, present, prove, finish), so that any number
of due names share one DNS wait. The laws it keeps:

- the journal is read first, then the certificate; they are written in the reverse order;
- an order's URL and its sealed private key are journaled before anything else can fail;
- nothing is finalized that was not just written down at the version that was read;
- the broad `except` stands around one case, so one name's failure is nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from certkeeper.core import caa, failures, zones
from certkeeper.core.budget import Spent, by_certificate, by_failures, by_order, noted
from certkeeper.core.certificates import preferred, prove, successor
from certkeeper.core.decision import Ask, Held, Keep, Pause, Renew, exempt, renewal_time, under_the_floor
from certkeeper.core.errors import (
    AuthorityError,
    CertkeeperError,
    ChainError,
    Conflict,
    DnsError,
    OutOfTime,
    StoreError,
)
from certkeeper.core.index import Index, is_idle, ledger_of, nothing_to_do
from certkeeper.core.journal import Claim, Entry, PendingOrder, Read, at_rest, is_wanted, settled, worth_finishing
from certkeeper.core.model import (
    Account,
    Certificate,
    CertificateSpec,
    Chain,
    HostedZone,
    Outcome,
    Revocation,
    TxtRecord,
)
from certkeeper.core.order import Abandon, Authorization, Download, Finalize, Order, Problem, Prove, Wait, next_step
from certkeeper.core.ports import Presented
from certkeeper.jobs import survey
from certkeeper.jobs.account import unusable
from certkeeper.jobs.case import SETTLING, Case, Run, believe, guarded, kept_elsewhere, still, surprise, told
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.retired import tidy
from certkeeper.jobs.revoke import carry_out

Result = TypeVar("Result")

FIRST_LOOK, LOOK_AGAIN = 0.5, 1.0
LONGEST_LOOK = 10.0
ANSWERS = 6
"""How often a CA that leaves a challenge open is told to look, within some 13 seconds."""
BUSY_WAIT = 2.0
GONE_BEFORE, CHAIN = "orderGone", "chain"
KEY_REFUSED = ("malformed", "unauthorized", "accountDoesNotExist")
"""What CAs answer to a signature by a key that is not the account's: RFC 8555 names no type for it."""
RETRY_PAUSES = (2.0, 5.0)
LONGEST_WORK = timedelta(minutes=5)
"""For how long a CA that is at work on an order is waited for; the next run looks again."""
FORGOTTEN = "it was forgotten a moment ago; settings that still name it are obtained anew by the next run"


@dataclass(frozen=True)
class Report:
    """What a tick did, in the order of the settings. `trouble` is what kept the index from being read or noted.

    `left_out` says how many outcomes of each sort are not among them: of a tick that was told by the function, those
    that its answer had no room for; of one that nobody waits for, those of names for which there was nothing to do.
    """

    outcomes: tuple[Outcome, ...]
    as_of: datetime
    trouble: StoreError | None = None
    index: Index = field(default_factory=Index)
    left_out: Mapping[str, int] = field(default_factory=dict)


def tick(
    keeper: Keeper, specs: Sequence[CertificateSpec], ask: Ask | None = None, *, waited_for: bool = True
) -> Report:
    """Bring every name of `specs` into the state that is wanted of it. Raises nothing but programming errors.

    Unless it asks by name, `specs` are all that the settings want: what else is under way is tidied up. If it is not
    waited for, names for which there is nothing to do are only counted.
    """
    ask = ask or Ask()
    index, trouble = _refreshed(keeper, specs)
    now = keeper.clock.now()
    outcomes, todo, idle = {}, [], 0
    ledger = ledger_of(index, keeper.limits)
    for spec in specs:
        facts = index.facts.get(spec.name)
        if not waited_for and facts is not None and is_idle(spec, facts, now, ask):
            idle += 1
            continue
        decision = nothing_to_do(spec, facts, now, ask, ledger)
        if facts is None or decision is None:
            todo.append(Case(spec, ask, ask.by_name, facts.held if facts else None))
        else:
            outcomes[spec.name] = still(spec, facts.held, facts.failure, decision)

    # Whoever has least time left comes first, should there not be time or budget for all.
    todo.sort(key=_time_left)
    run = Run(keeper, ledger)
    outcomes |= _worked(run, todo)
    retired = [] if ask.by_name else _retired(index, specs)
    tidy(keeper, retired)

    if trouble is None:
        index, trouble = survey.note(keeper, index, [*(case.spec.name for case in todo), *retired], run.closed)
    told_of = tuple(outcomes[spec.name] for spec in specs if spec.name in outcomes)
    return Report(told_of, keeper.clock.now(), trouble, index, {"kept": idle} if idle else {})


def _refreshed(keeper: Keeper, specs: Sequence[CertificateSpec]) -> tuple[Index, StoreError | None]:
    # The index is a cache: without it every name is looked at itself, and fails or not on its own.
    try:
        return survey.informed(keeper, survey.refreshed(keeper), [spec.name for spec in specs]), None
    except StoreError as error:
        return Index(), error


def _retired(index: Index, specs: Sequence[CertificateSpec]) -> list[str]:
    """Names that have left the settings while something was under way for them."""
    wanted = {spec.name for spec in specs}
    return [name for name, facts in index.facts.items() if facts.open and name not in wanted]


def _time_left(case: Case) -> float:
    return case.suggested.validity.not_after.timestamp() if case.suggested else 0.0


def _worked(run: Run, todo: list[Case]) -> dict[str, Outcome]:
    keeper, outcomes = run.keeper, dict[str, Outcome]()
    while todo:
        cases, later = _first_of_each_set(todo)
        _passed(run, cases)
        outcomes |= {case.spec.name: case.outcome for case in cases if case.outcome is not None}
        # Somebody else was at work on these: look again, politely, and force nothing that they have just done.
        busy = [
            Case(case.wanted, replace(case.ask, force=case.ask.force and case.rekeyed), suggested=case.suggested)
            for case in cases
            if case.busy
        ]
        if busy and not later:
            try:
                keeper.clock.wait(min(BUSY_WAIT, keeper.clock.remaining().total_seconds()))
                if keeper.clock.remaining() <= timedelta(0):
                    raise OutOfTime("out of time")
            except OutOfTime:
                elsewhere = "another run is at work on it"
                return outcomes | {
                    case.spec.name: told(case.spec, case.public, "waiting", elsewhere) for case in cases if case.busy
                }
        todo = later + busy
    return outcomes


def _first_of_each_set(todo: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    # The CA may answer two orders for one identifier set with the same order, so they go one after another.
    first: dict[frozenset[str], Case] = {}
    for case in todo:
        first.setdefault(frozenset(case.spec.identifiers), case)
    taken = {id(case) for case in first.values()}
    return list(first.values()), [case for case in todo if id(case) not in taken]


def _passed(run: Run, cases: list[Case]) -> None:
    side_by_side = run.keeper.side_by_side
    side_by_side([partial(guarded, _open, run, case) for case in cases])
    records = [record for case in cases if case.going for _, record in case.unproven]
    leftovers = [record for case in cases if not case.busy for record in case.leftovers]
    if records or leftovers:
        if records:
            run.keeper.tell("", f"presenting {len(records)} challenge record{'s' if len(records) > 1 else ''}")
        _proved(run, cases, records, leftovers)
    side_by_side([partial(guarded, _finish, run, case) for case in cases if case.going])
    side_by_side([partial(_revoked, run, case) for case in cases if _is_to_revoke(run, case)])
    side_by_side([partial(_concluded, run, case) for case in cases])


def _proved(run: Run, cases: list[Case], records: list[TxtRecord], leftovers: list[TxtRecord]) -> None:
    try:
        with run.keeper.challenge_records.presenting(records, leftovers) as presented:
            run.keeper.side_by_side(
                [partial(guarded, partial(_prove, presented), run, case) for case in cases if case.going]
            )
    except Exception as error:  # noqa: BLE001 - names that are through already must still be written down
        for case in cases:
            if case.going:
                case.error = surprise(error)
        return
    for case in cases:
        case.entry = replace(case.entry, records=tuple(one for one in case.entry.records if one in presented.left))


# Open: claim the name, place or find the order, write it down.


def _open(run: Run, case: Case) -> None:
    keeper, spec = run.keeper, case.wanted
    read = keeper.journal.read(spec.name)
    case.held, case.held_version = keeper.certificates.read(spec.name)
    if not (case.ask.force and kept_elsewhere(keeper, spec.name, case.held, read.entry)):
        believe(keeper, spec.name, case.held, read)
    case.entry = settled(read.entry, case.held.order_url if case.held else None, keeper.clock.now())
    elsewhere = case.entry.claim is not None and read.held_by_another(keeper.holder)
    decision = run.decided(case, _bound_to(run, case))
    case.pinned = isinstance(decision, Keep) and decision.pinned
    if isinstance(decision, Renew) and _forgotten_since(run, case, read):
        case.outcome = told(spec, case.public, "waiting", FORGOTTEN)
        keeper.history.clear(spec.name)  # it may have been written to meanwhile, by us
        return
    if not isinstance(decision, Renew):
        case.outcome = still(spec, case.public, case.entry.failure, decision)
        if elsewhere or _is_tidy(run, case, read.entry, decision):
            return
    elif elsewhere and not case.take_over:
        case.busy = True
        return
    _claim(run, case, read)
    case.leftovers = case.entry.records
    # A pin holds up what was begun, too; it is not given up.
    begun = case.entry.pending is not None and not case.pinned
    if not isinstance(decision, Renew) and (not begun or _is_to_wait(run, case, decision)):
        return
    # What was begun is finished, due or not, affordable or not: it may be paid for already.
    case.reason = decision.reason if isinstance(decision, Renew) else "an earlier run began it"
    case.account = run.accounts.of(case.spec.ca)
    case.order = _resumed(run, case) or (_placed(run, case, decision) if isinstance(decision, Renew) else None)
    if case.order is not None:
        case.outcome, case.working = None, True
        _note_what_to_prove(run, case)


def _bound_to(run: Run, case: Case) -> str | None:
    """The CA of an order that may be paid for. No other one is asked meanwhile, unless it fails for long: law 2."""
    pending = case.entry.pending
    if pending is None or not pending.finalized or not is_wanted(pending, case.wanted) or _is_hopeless(case):
        return None
    return pending.ca if run.binds(case, pending) else None


def _is_to_wait(run: Run, case: Case, decision: Keep | Pause) -> bool:
    """Whether even what was begun has to wait: for the next attempt, or for a CA that wants to be left alone."""
    return isinstance(decision, Pause) and (decision.why is None or run.held_off(case) is not None)


def _forgotten_since(run: Run, case: Case, read: Read) -> bool:
    """Whether the name was forgotten after the settings of this run were read, or so shortly before that the schedule
    may still have the old ones. Who names it knows."""
    margin = timedelta(0) if case.ask.by_name else SETTLING
    return read.entry.forgotten and read.age < run.keeper.clock.now() - run.began + margin


def _is_tidy(run: Run, case: Case, as_read: Entry, decision: Keep | Pause) -> bool:
    """Whether there is nothing to put in order, and nothing to go on with."""
    entry = case.entry
    if isinstance(decision, Keep):
        return entry == as_read and (replace(entry, pending=None, aside=()) if decision.pinned else entry).tidy
    at_rest = entry.pending is None or _is_to_wait(run, case, decision)
    return entry == as_read and entry.claim is None and not entry.records and at_rest and not _is_replaced(case)


def _claim(run: Run, case: Case, read: Read) -> None:
    case.version = read.version
    _write(run, case, replace(case.entry, claim=Claim(run.keeper.holder, run.keeper.term), forgotten=False))


def _resumed(run: Run, case: Case) -> Order | None:
    pending, account = case.entry.pending, case.account
    assert account is not None  # noqa: S101 - _open has just set it
    if pending is None or not worth_finishing(pending, case.spec, account) or _is_hopeless(case):
        return None
    run.keeper.tell(case.spec.name, "resuming the order of an earlier run")
    if pending.certificate_url is not None:
        # The order itself may be forgotten by now; its certificate is not.
        return Order(pending.url, "valid", pending.identifiers, (), "", pending.certificate_url)
    try:
        order = run.keeper.authorities[case.spec.ca].fetch_order(account, pending.url)
    except AuthorityError as error:
        if error.status == 404 and _may_be_given_up(case, pending, error):
            return None
        raise
    return None if isinstance(next_step(order), Abandon) else order


def _is_hopeless(case: Case) -> bool:
    """Whether a person has seen that the CA's chain for this order is not acceptable, and forces another one."""
    return case.ask.force and case.entry.failure is not None and case.entry.failure.kind == CHAIN


def _may_be_given_up(case: Case, pending: PendingOrder, error: AuthorityError) -> bool:
    """Whether an order that the CA does not find is really gone. One that may be paid for must be missed twice, and
    the CA must say so itself: a proxy can answer 404 too."""
    if not pending.finalized:
        return True
    if not error.kind:
        return False
    seen_before = case.entry.failure is not None and case.entry.failure.kind == GONE_BEFORE
    if not seen_before:
        raise AuthorityError(
            f"the CA does not find the order: {error.message}", "the next run looks again", kind=GONE_BEFORE
        )
    return True


def _placed(run: Run, case: Case, decision: Renew) -> Order:
    keeper, spec, account = run.keeper, case.spec, case.account
    assert account is not None and account.url is not None  # noqa: S101 - _open has just set it
    if spec.ca != case.wanted.ca:
        _require_permission(run, spec, account)
    keeper.tell(spec.name, f"ordering: {decision.reason}")
    before = case.held
    spoilt = before is not None and case.entry.revocation is not None and case.entry.revocation.spoils(before.request)
    if spec.reuse_private_key and before and not spoilt and not _differs(before, spec):
        request = before.request
    else:
        request = keeper.keys.new_request(spec)
    order = _ordered(run, case, account)
    if order.profile is not None and spec.profile is not None and order.profile != spec.profile:
        raise AuthorityError(
            f"the CA's order is for the profile {order.profile}, and {spec.profile} was asked for",
            kind="invalidProfile",
        )
    pending = PendingOrder(
        request=request,
        identifiers=spec.identifiers,
        ca=spec.ca,
        account_url=account.url,
        key_type=spec.key_type,
        profile=spec.profile,
        placed=keeper.clock.now(),
        url=order.url,
        charged_domains=case.charged_domains,
    )
    spent = by_order(spec.ca, order.url, pending.placed) if case.charged else ()
    _write(run, case, replace(_having_spent(run, case, spent), pending=pending))
    return order


def _require_permission(run: Run, spec: CertificateSpec, account: Account) -> None:
    """A fallback CA is seldom asked, so its CAA records are looked at first: the CA would only say no after all."""
    issuers = run.keeper.authorities[spec.ca].issuer_domains()
    for identifier in spec.identifiers:
        try:
            caa.require(identifier, run.keeper.lookup.caa, issuers, account.url)
        except DnsError as error:
            # No CA issues where it cannot look either, and it is this CA that is not to be asked.
            raise AuthorityError(error.message, error.hint, kind="caa") from None


def _having_spent(run: Run, case: Case, spent: tuple[Spent, ...]) -> Entry:
    return replace(case.entry, spent=noted(case.entry.spent, spent, run.keeper.clock.now()))


def _ordered(run: Run, case: Case, account: Account) -> Order:
    authority, spec = run.keeper.authorities[case.spec.ca], case.spec
    replaces = _predecessor(case, account)
    if replaces is not None:
        try:
            with run.turn(case):
                return authority.new_order(account, spec.identifiers, spec.profile, replaces)
        except AuthorityError as error:
            # RFC 9773 section 5: replaced already, or by an order that nobody here remembers. The CA counts the
            # certificate against its limits then, but hands out the same order again if there is one.
            if error.kind not in ("alreadyReplaced", "malformed", "unauthorized") and error.status not in (404, 409):
                raise
    try:
        with run.turn(case):
            return authority.new_order(account, spec.identifiers, spec.profile)
    except AuthorityError as error:
        raise unusable(error, spec.ca) from None


def _predecessor(case: Case, account: Account) -> str | None:
    before = case.held
    if before is None or before.ca != account.ca or before.account_url != account.url:
        return None
    shared = set(before.chain.identifiers) & set(case.spec.identifiers)
    return before.chain.certificate_id if shared else None


def _differs(certificate: Certificate, spec: CertificateSpec) -> bool:
    kept = certificate.key_type, certificate.request.private_key.sealing
    return set(certificate.chain.identifiers) != set(spec.identifiers) or kept != (spec.key_type, spec.sealing)


def _write(run: Run, case: Case, entry: Entry) -> None:
    case.version = run.keeper.journal.write(case.spec.name, entry, case.version)
    case.entry = entry


def _note_what_to_prove(run: Run, case: Case) -> None:
    keeper, order, account = run.keeper, case.order, case.account
    assert order is not None and account is not None  # noqa: S101 - _open has just set them
    if order.status != "pending":
        return
    authority = keeper.authorities[case.spec.ca]
    authorizations = run.each(partial(authority.authorization, account), order.authorization_urls)
    step = next_step(order, tuple(authorizations))
    if isinstance(step, Abandon):
        _fail_to_prove(run, case, [one.identifier for one in authorizations if one.status == "invalid"])
        raise _blamed(step.problem)
    if not isinstance(step, Prove):
        return
    placed = run.each(partial(_record, run, case.spec), step.authorizations)
    case.unproven = tuple(zip(step.authorizations, placed, strict=True))
    records = {record for _, record in case.unproven}
    case.leftovers = tuple(one for one in case.entry.records if one not in records)
    _write(run, case, replace(case.entry, records=(*case.leftovers, *sorted(records))))


def _record(run: Run, spec: CertificateSpec, authorization: Authorization) -> TxtRecord:
    assert authorization.challenge is not None  # noqa: S101 - next_step() abandons orders without dns-01
    name = zones.challenge_name(authorization.identifier)
    asked = [name]

    def cname_of(one: str) -> str | None:
        asked.append(one)
        return run.keeper.lookup.cname(one)

    try:
        end = zones.follow(name, cname_of)
    except DnsError:
        # A domain that cannot be looked up is often one that nobody has: then the missing zone says more.
        _zone_at_the_end(run, spec, name, asked[-1])
        raise
    zone = _zone_at_the_end(run, spec, name, end)
    return TxtRecord(zone.zone, end, authorization.challenge.value, zone.role_arn)


def _zone_at_the_end(run: Run, spec: CertificateSpec, name: str, end: str) -> HostedZone:
    try:
        return run.zone_of(end, spec.hosted_zone_id)
    except DnsError as error:
        if end == name:
            raise
        raise DnsError(f"the CNAME of {name} leads to {end}: {error.message}", error.hint) from None


# Prove: the records stand; answer the challenges and wait for the CA's verdict.


def _prove(presented: Presented, run: Run, case: Case) -> None:
    for _, record in case.unproven:
        if record in presented.refused:
            raise presented.refused[record]
    if not case.unproven:
        return
    keeper = run.keeper
    keeper.tell(case.spec.name, "proving")
    open_ones = [one for one, _ in case.unproven]
    unanswered = [one for one in open_ones if one.challenge is not None and one.challenge.status == "pending"]
    answered = partial(_answered, run, case)
    run.each(answered, unanswered)
    if unanswered:
        # No CA is through with it at once, and whoever asks too soon is asked to wait longer.
        keeper.clock.wait(FIRST_LOOK)
    # The others are finalized when all have been looked at, and need time for that.
    pause, answers, left = LOOK_AGAIN, 1, keeper.clock.remaining() / 2
    while open_ones := _still_open(run, case, open_ones):
        unmet = [one for one in open_ones if one.unmet is not None]
        if unmet and answers == ANSWERS:
            raise _unproven(unmet[0])
        asked = max(one.retry_after or 0 for one in open_ones)
        _let_it_work(run, asked, pause, left, f"has not decided on {open_ones[0].identifier}")
        pause = min(pause * 1.5, LONGEST_LOOK)
        if unmet:
            run.each(answered, unmet)
            answers += 1


def _still_open(run: Run, case: Case, authorizations: Sequence[Authorization]) -> list[Authorization]:
    """Those that the CA has not made up its mind about."""
    authority, account = run.keeper.authorities[case.spec.ca], case.account
    assert account is not None  # noqa: S101 - _prove has just seen it

    def look(one: Authorization) -> Authorization:
        return _patiently(run, partial(authority.authorization, account, one.url))

    open_ones = [one for one in run.each(look, authorizations) if one.status != "valid"]
    for one in open_ones:
        if one.status != "pending":
            # Those that are pending may fail as well, when nobody looks any more.
            _fail_to_prove(run, case, [each.identifier for each in open_ones])
            problem = one.problem or Problem("", f"its authorization is {one.status}")
            raise _blamed(replace(problem, identifier=one.identifier))
    return open_ones


def _unproven(one: Authorization) -> AuthorityError:
    """The order goes on with the next run: a CA that leaves the challenge open has not said its last word, even if
    it calls it so."""
    problem = one.unmet or Problem("", "it does not say why")
    kind = problem.kind if problem.kind in ("connection", "dns") else "incorrectResponse"
    return AuthorityError(f"{one.identifier}: the CA does not take the TXT record yet: {problem.detail}", kind=kind)


def _let_it_work(run: Run, asked: float, pause: float, left: timedelta, what: str) -> None:
    """Wait before the CA is looked at again. Raises AuthorityError once no more than `left` of the run would be left:
    a CA that never ends its work must neither hold up other names nor go unnoticed.
    """
    seconds = max(asked, pause)
    if timedelta(0) < run.keeper.clock.remaining() < left + timedelta(seconds=seconds):
        raise AuthorityError(f"the CA {what} yet", "the next run looks again", retry_after=asked or None)
    run.keeper.clock.wait(seconds)


def _fail_to_prove(run: Run, case: Case, identifiers: list[str]) -> None:
    """The order is lost, and the CA counts the failed authorizations, whichever name's they are."""
    pending, now = case.entry.pending, run.keeper.clock.now()
    spent = by_failures(case.spec.ca, identifiers, pending.url, now) if pending is not None else ()
    case.entry = replace(_having_spent(run, case, spent), pending=None)
    run.note(case)


def _answered(run: Run, case: Case, one: Authorization) -> None:
    authority, account = run.keeper.authorities[case.spec.ca], case.account
    assert account is not None and one.challenge is not None  # noqa: S101 - _prove has just seen them
    try:
        authority.answer(account, one.challenge)
    except AuthorityError as error:
        if error.status == 409 or error.kind == "conflict":
            return  # the CA is at work on an earlier answer
        # Another keeper of the same order may have answered meanwhile: the authorization itself knows.
        now = authority.authorization(account, one.url)
        if now.status == "pending" and (now.challenge is None or now.challenge.status == "pending"):
            raise


def _blamed(problem: Problem) -> AuthorityError:
    about = f"{problem.identifier}: " if problem.identifier else ""
    return AuthorityError(f"{about}{problem.detail}", kind=problem.kind, subproblems=problem.subproblems)


# Finish: finalize behind the fence, download, prove the chain, write the certificate.


def _finish(run: Run, case: Case) -> None:
    keeper, account, pending = run.keeper, case.account, case.entry.pending
    assert account is not None and pending is not None and case.order is not None  # noqa: S101 - it was opened
    authority = keeper.authorities[case.spec.ca]
    look = partial(_patiently, run, partial(authority.fetch_order, account, pending.url))
    order = look() if case.order.status == "pending" else case.order
    pause, handed_in, left = LOOK_AGAIN, False, keeper.clock.remaining() - LONGEST_WORK
    while not isinstance(step := next_step(order), Download):
        if isinstance(step, Abandon):
            case.entry = replace(case.entry, pending=None)
            raise _blamed(step.problem)
        if isinstance(step, Finalize) and not handed_in:
            order, handed_in = _finalized(run, case, order), True
            continue
        asked = (step.seconds if isinstance(step, Wait) else None) or 0
        _let_it_work(run, asked, pause, left, "has not done its work on the order")
        pause = min(pause * 1.5, LONGEST_LOOK)
        order = look()
    _note_certificate_url(run, case, order)
    chain = keeper.chains.read(_patiently(run, partial(authority.download, account, order)))
    chain, doubt = _preferred(run, case, order, chain)
    now = keeper.clock.now()
    if chain.validity.not_after <= now:
        # Finished too late to be of use, and nothing of it will ever change.
        case.entry = replace(case.entry, pending=None)
        raise ChainError("the certificate of this order has expired meanwhile", "the next run orders anew")
    prove(chain, pending.request, case.spec, now)
    new = successor(case.held, case.spec, chain, pending.request, pending.account_url, pending.url, now)
    _keep_earlier(run, case)
    case.held_version = keeper.certificates.write(new, case.held_version)
    case.entry = replace(case.entry, revision=new.revision)
    keeper.tell(case.spec.name, "stored")
    case.has_history = case.held is not None
    case.held = new
    until = Keep(renewal_time(chain.validity))
    case.outcome = replace(told(case.spec, case.public, "renewed", case.reason, until=until), hint=doubt)


def _keep_earlier(run: Run, case: Case) -> None:
    revocation = case.entry.revocation
    # Another one with the same compromised private key is kept until it is revoked with it.
    if case.held is not None and (revocation is None or revocation.serial_number != case.held.chain.serial_number):
        try:
            run.keeper.history.keep(case.held)
        except StoreError as error:
            # What is paid for is stored all the same.
            case.reason = f"{case.reason}; the one before could not be kept: {error.message}"


def _preferred(run: Run, case: Case, order: Order, usual: Chain) -> tuple[Chain, str | None]:
    """The chain that is preferred, or the usual one and what to say about it: never a reason to keep none."""
    wanted, account = case.spec.preferred_chain, case.account
    if wanted is None or usual.top_issuer == wanted:
        return usual, None
    keeper = run.keeper
    assert account is not None  # noqa: S101 - _finish has just seen it
    try:
        pems = _patiently(run, partial(keeper.authorities[case.spec.ca].alternates, account, order))
        alternates = [keeper.chains.read(pem) for pem in pems]
    except (AuthorityError, ChainError) as error:
        return usual, f"the usual chain is kept, since the other ones could not be had: {error.message}"
    chain = preferred(usual, alternates, wanted)
    if chain is not None:
        return chain, None
    offered = ", ".join(dict.fromkeys(one.top_issuer for one in (usual, *alternates)))
    return usual, f"the usual chain is kept: the CA offers no chain of {wanted}, only of {offered}; see preferred_chain"


def _finalized(run: Run, case: Case, order: Order) -> Order:
    keeper, account, pending = run.keeper, case.account, case.entry.pending
    assert account is not None and pending is not None  # noqa: S101 - _finish has just seen them
    # The fence: a keeper that was overtaken stops here.
    spent = by_certificate(pending.ca, pending.identifiers, pending.charged_domains, pending.url, keeper.clock.now())
    _write(run, case, replace(_having_spent(run, case, spent), pending=replace(pending, finalized=True)))
    keeper.tell(case.spec.name, "finalizing")
    authority = keeper.authorities[case.spec.ca]
    try:
        return authority.finalize(account, order, pending.request.csr_pem)
    except AuthorityError as error:
        # The answer may be lost, or another keeper finalized the same order: the order itself knows.
        now = _patiently(run, partial(authority.fetch_order, account, pending.url))
        if now.status in ("processing", "valid"):
            return now
        if isinstance(next_step(now), Abandon):
            case.entry = replace(case.entry, pending=None)
        raise error from None


def _note_certificate_url(run: Run, case: Case, order: Order) -> None:
    pending = case.entry.pending
    if pending is not None and pending.certificate_url != order.certificate_url:
        _write(run, case, replace(case.entry, pending=replace(pending, certificate_url=order.certificate_url)))


def _patiently(run: Run, look: Callable[[], Result]) -> Result:
    """Look again a little later if the CA stumbles; only for what may be asked any number of times."""
    for pause in RETRY_PAUSES:
        try:
            return look()
        except AuthorityError as error:
            if error.status is not None and error.status < 500:
                raise
            if error.retry_after and timedelta(seconds=error.retry_after) > run.keeper.clock.remaining() / 2:
                raise  # what the CA said is to be kept, for all names
            run.keeper.clock.wait(max(pause, error.retry_after or 0))
    return look()


# Revoke: what a person wants revoked, once it is replaced.


def _is_to_revoke(run: Run, case: Case) -> bool:
    claim = case.entry.claim
    ours = claim is not None and claim.holder == run.keeper.holder
    return ours and not case.busy and _is_replaced(case)


def _is_replaced(case: Case) -> bool:
    """Whether something is to be revoked that is not held any more."""
    revocation = case.entry.revocation
    return case.held is not None and revocation is not None and not revocation.concerns(case.held)


def _revoked(run: Run, case: Case) -> None:
    """Neither does a renewal that failed keep it from being revoked, nor is a renewal told otherwise because there is
    no time for it: the entry stays open, and the next run goes on.
    """
    error, outcome = case.error, case.outcome
    case.error = None
    guarded(_revoke, run, case)
    case.busy = False  # whoever has overtaken this run is met again by _conclude(), and what is renewed is renewed
    case.unrevoked = error is None and case.error is not None
    if case.entry.revocation is not None:
        case.outcome = outcome
    if error is not None or isinstance(case.error, OutOfTime):
        case.error = error


def _revoke(run: Run, case: Case) -> None:
    revocation = case.entry.revocation
    assert revocation is not None  # noqa: S101 - _is_to_revoke has just seen it

    def note(as_it_stands: Revocation) -> None:
        _write(run, case, replace(case.entry, revocation=as_it_stands))

    carry_out(run.keeper, run.accounts, case.spec.name, revocation, note)
    case.entry = replace(case.entry, revocation=None)
    if case.outcome is not None:
        reason = f"{case.outcome.reason}; {revocation.serial_number} is revoked"
        case.outcome = replace(case.outcome, reason=reason)


# Conclude: write down how it ended.


def _concluded(run: Run, case: Case) -> None:
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
        _write(run, case, entry)
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
        urgent=_is_paid_for(case)
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
    again = run.decided_again(case, _bound_to(run, case))
    if isinstance(again, Pause):  # where one CA asked to wait, another one may be asked sooner
        failure = replace(failure, next_attempt=again.until)
        case.entry = replace(case.entry, failure=failure)
    return told(case.spec, now_held, "failed", case.reason or "it could not be begun", failure)


def _is_paid_for(case: Case) -> bool:
    """Whether another try costs the CA's limits nothing: it only looks at what may be there by now."""
    return case.entry.pending is not None and case.entry.pending.finalized


def _is_urgent(spec: CertificateSpec, held: Held, now: datetime) -> bool:
    return held.revoking is not None or under_the_floor(held, now) or exempt(spec, held, now)


def _forget_account(run: Run, case: Case) -> None:
    try:
        run.accounts.forget_url(case.spec.ca)
    except CertkeeperError:
        return  # the failure that led here is the one that is told
