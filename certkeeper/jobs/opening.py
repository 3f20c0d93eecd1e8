"""Open: claim the name, place or find the order, write it down, and find out what is to be proven."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

from certkeeper.core import caa, zones
from certkeeper.core.budget import by_order
from certkeeper.core.decision import Keep, Pause, Renew
from certkeeper.core.errors import AuthorityError, DnsError
from certkeeper.core.journal import Claim, Entry, PendingOrder, Read, settled, worth_finishing
from certkeeper.core.model import Account, Certificate, CertificateSpec, HostedZone, TxtRecord
from certkeeper.core.order import Abandon, Authorization, Order, Prove, next_step
from certkeeper.jobs.account import unusable
from certkeeper.jobs.case import MISSED, SETTLING, Case, believe, blamed, kept_elsewhere, still, told
from certkeeper.jobs.proving import fail_to_prove
from certkeeper.jobs.run import Run

FORGOTTEN = "it was forgotten a moment ago; settings that still name it are obtained anew by the next run"


def open_case(run: Run, case: Case) -> None:
    """Decide by what is read now, and begin. Raises what the store, the CA and DNS raise; HeldOff."""
    keeper, spec = run.keeper, case.wanted
    read = keeper.journal.read(spec.name)
    case.held, case.held_version = keeper.certificates.read(spec.name)
    if not (case.ask.force and kept_elsewhere(keeper, spec.name, case.held, read.entry)):
        believe(keeper, spec.name, case.held, read)
    case.entry = settled(read.entry, case.held.order_url if case.held else None, keeper.clock.now())
    elsewhere = case.entry.claim is not None and read.held_by_another(keeper.holder)
    decision = run.decided(case)
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
    return entry == as_read and entry.claim is None and not entry.records and at_rest and not case.is_replaced


def _claim(run: Run, case: Case, read: Read) -> None:
    case.version = read.version
    run.write(case, replace(case.entry, claim=Claim(run.keeper.holder, run.keeper.term), forgotten=False))


def _resumed(run: Run, case: Case) -> Order | None:
    pending, account = case.entry.pending, case.account
    assert account is not None  # noqa: S101 - open_case() has just set it
    if pending is None or not worth_finishing(pending, case.spec, account) or case.is_hopeless:
        return None
    if _has_served_another(run, case, pending):
        return None
    run.keeper.tell(case.spec.name, "resuming the order of an earlier run")
    if pending.certificate_url is not None:
        # The order itself may be forgotten by now; its certificate is not.
        return Order(pending.url, "valid", pending.identifiers, (), "", pending.certificate_url)
    try:
        order = run.keeper.authorities[case.spec.ca].fetch_order(account, pending.url)
    except AuthorityError as error:
        # step-ca answers 400 to what it does not know. That may mean our request as well: nothing is given up for it
        # that may be paid for.
        unknown = error.status == 400 and error.kind == "malformed" and not pending.finalized
        if unknown or (error.status == 404 and _may_be_given_up(run, case, pending, error)):
            return None
        raise
    if pending.missed_since is not None:
        case.entry = replace(case.entry, pending=replace(pending, missed_since=None))
    return None if isinstance(next_step(order), Abandon) else order


def _has_served_another(run: Run, case: Case, pending: PendingOrder) -> bool:
    """Whether the CA has handed the order out again, as Boulder does, for another name with the same identifiers, and
    that one now holds its certificate: none will come of it for this one.
    """
    others = (facts.held for name, facts in run.facts.items() if name != case.spec.name)
    return any(one is not None and one.order_url == pending.url for one in others)


def _may_be_given_up(run: Run, case: Case, pending: PendingOrder, error: AuthorityError) -> bool:
    """Whether an order that the CA does not find is really gone. For one that may be paid for the CA must say so
    itself, since a proxy can answer 404 too, and for long enough.
    """
    if not pending.finalized:
        return True
    if not error.kind:
        return False
    if case.has_lost(run.keeper.clock.now()):
        return True
    what = f"the CA does not find the order: {error.message}"
    hint = f"the next run looks again; if it is lost: certkeeper renew {case.spec.name} --force"
    raise AuthorityError(what, hint, kind=MISSED)


def _placed(run: Run, case: Case, decision: Renew) -> Order:
    keeper, spec, account = run.keeper, case.spec, case.account
    assert account is not None and account.url is not None  # noqa: S101 - open_case() has just set it
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
    run.write(case, replace(run.having_spent(case, spent), pending=pending))
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


def _ordered(run: Run, case: Case, account: Account) -> Order:
    authority, spec = run.keeper.authorities[case.spec.ca], case.spec
    replaces = _predecessor(case, account)
    if replaces is not None:
        try:
            with run.turn(case):
                return authority.new_order(account, spec.identifiers, spec.profile, replaces)
        except AuthorityError as error:
            if not _is_about_the_predecessor(case, error):
                raise
    try:
        with run.turn(case):
            return authority.new_order(account, spec.identifiers, spec.profile)
    except AuthorityError as error:
        raise unusable(error, spec.ca) from None


def _is_about_the_predecessor(case: Case, error: AuthorityError) -> bool:
    """Whether to order once more without naming one. The CA counts the certificate against its limits then, but hands
    out the same order again if there is one.
    """
    # RFC 9773 section 5: replaced already, or by an order that nobody here remembers.
    if error.kind in ("alreadyReplaced", "malformed", "unauthorized") or error.status in (404, 409):
        return True
    # Pebble says this of a predecessor that it does not find, and would say it for ever.
    before = case.entry.failure.trouble_at(case.spec.ca) if case.entry.failure else None
    return error.kind == "serverInternal" and before is not None and before.kind == "serverInternal"


def _predecessor(case: Case, account: Account) -> str | None:
    before = case.held
    if before is None or before.ca != account.ca or before.account_url != account.url:
        return None
    shared = set(before.chain.identifiers) & set(case.spec.identifiers)
    return before.chain.certificate_id if shared else None


def _differs(certificate: Certificate, spec: CertificateSpec) -> bool:
    kept = certificate.key_type, certificate.request.private_key.sealing
    return set(certificate.chain.identifiers) != set(spec.identifiers) or kept != (spec.key_type, spec.sealing)


def _note_what_to_prove(run: Run, case: Case) -> None:
    keeper, order, account = run.keeper, case.order, case.account
    assert order is not None and account is not None  # noqa: S101 - open_case() has just set them
    if order.status != "pending":
        return
    authority = keeper.authorities[case.spec.ca]
    authorizations = run.each(partial(authority.authorization, account), order.authorization_urls)
    step = next_step(order, tuple(authorizations))
    if isinstance(step, Abandon):
        fail_to_prove(run, case, [one.identifier for one in authorizations if one.status == "invalid"])
        raise blamed(step.problem)
    if not isinstance(step, Prove):
        return
    placed = run.each(partial(_record, run, case.spec), step.authorizations)
    case.unproven = tuple(zip(step.authorizations, placed, strict=True))
    records = {record for _, record in case.unproven}
    case.leftovers = tuple(one for one in case.entry.records if one not in records)
    run.write(case, replace(case.entry, records=(*case.leftovers, *sorted(records))))


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
