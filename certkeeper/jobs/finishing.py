"""Finish: finalize behind the fence, download, prove the chain, write the certificate."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

from certkeeper.core.budget import by_certificate
from certkeeper.core.certificates import preferred, prove, successor
from certkeeper.core.decision import Keep, renewal_time
from certkeeper.core.errors import AuthorityError, ChainError, StoreError
from certkeeper.core.model import Chain
from certkeeper.core.order import Abandon, Download, Finalize, Order, Wait, next_step
from certkeeper.jobs.case import LOST, Case, blamed, told
from certkeeper.jobs.run import LONGEST_LOOK, LOOK_AGAIN, Run

LONGEST_WORK = timedelta(minutes=5)
"""For how long a CA that is at work on an order is waited for; the next run looks again."""


def finish_case(run: Run, case: Case) -> None:
    """Raises Conflict where another keeper was faster; AuthorityError, ChainError, StoreError, OutOfTime."""
    keeper, account, pending = run.keeper, case.account, case.entry.pending
    assert account is not None and pending is not None and case.order is not None  # noqa: S101 - it was opened
    authority = keeper.authorities[case.spec.ca]
    look = partial(run.patiently, partial(authority.fetch_order, account, pending.url))
    order = look() if case.order.status == "pending" else case.order
    pause, handed_in, left = LOOK_AGAIN, False, keeper.clock.remaining() - LONGEST_WORK
    while not isinstance(step := next_step(order), Download):
        if isinstance(step, Abandon):
            case.entry = replace(case.entry, pending=None)
            raise blamed(step.problem)
        if isinstance(step, Finalize) and not handed_in:
            order, handed_in = _finalized(run, case, order), True
            continue
        asked = (step.seconds if isinstance(step, Wait) else None) or 0
        run.let_it_work(asked, pause, left, "has not done its work on the order")
        pause = min(pause * 1.5, LONGEST_LOOK)
        order = look()
    _note_certificate_url(run, case, order)
    chain = keeper.chains.read(_downloaded(run, case, order))
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


def _downloaded(run: Run, case: Case, order: Order) -> str:
    account = case.account
    assert account is not None  # noqa: S101 - finish_case() has just seen it
    try:
        return run.patiently(partial(run.keeper.authorities[case.spec.ca].download, account, order))
    except AuthorityError as error:
        if error.status != 404 or not error.kind:
            raise
        what = f"the CA does not find the certificate: {error.message}"
        hint = f"the next run looks again; if it is lost: certkeeper renew {case.spec.name} --force"
        if case.has_lost(run.keeper.clock.now()):
            case.entry = replace(case.entry, pending=None)
            hint = "the next run orders anew"
        raise AuthorityError(what, hint, kind=LOST) from None


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
    assert account is not None  # noqa: S101 - finish_case() has just seen it
    try:
        pems = run.patiently(partial(keeper.authorities[case.spec.ca].alternates, account, order))
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
    assert account is not None and pending is not None  # noqa: S101 - finish_case() has just seen them
    # The fence: a keeper that was overtaken stops here.
    spent = by_certificate(pending.ca, pending.identifiers, pending.charged_domains, pending.url, keeper.clock.now())
    run.write(case, replace(run.having_spent(case, spent), pending=replace(pending, finalized=True)))
    keeper.tell(case.spec.name, "finalizing")
    authority = keeper.authorities[case.spec.ca]
    try:
        return authority.finalize(account, order, pending.request.csr_pem)
    except AuthorityError as error:
        # The answer may be lost, or another keeper finalized the same order: the order itself knows.
        now = run.patiently(partial(authority.fetch_order, account, pending.url))
        if now.status in ("processing", "valid"):
            return now
        if isinstance(next_step(now), Abandon):
            case.entry = replace(case.entry, pending=None)
        raise error from None


def _note_certificate_url(run: Run, case: Case, order: Order) -> None:
    pending = case.entry.pending
    if pending is not None and pending.certificate_url != order.certificate_url:
        run.write(case, replace(case.entry, pending=replace(pending, certificate_url=order.certificate_url)))
