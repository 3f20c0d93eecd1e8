"""Prove: the records stand; answer the challenges and wait for the CA's verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from certkeeper.core.budget import by_failures
from certkeeper.core.errors import AuthorityError
from certkeeper.core.order import Authorization, Problem
from certkeeper.core.ports import Presented
from certkeeper.jobs.case import Case, blamed
from certkeeper.jobs.run import LONGEST_LOOK, LOOK_AGAIN, Run

FIRST_LOOK = 0.5
ANSWERS = 6
"""How often a CA that leaves a challenge open is told to look, within some 13 seconds."""


def prove_case(presented: Presented, run: Run, case: Case) -> None:
    """Raises DnsError for records that could not be presented, AuthorityError, OutOfTime."""
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
        run.let_it_work(asked, pause, left, f"has not decided on {open_ones[0].identifier}")
        pause = min(pause * 1.5, LONGEST_LOOK)
        if unmet:
            run.each(answered, unmet)
            answers += 1


def _still_open(run: Run, case: Case, authorizations: Sequence[Authorization]) -> list[Authorization]:
    """Those that the CA has not made up its mind about."""
    authority, account = run.keeper.authorities[case.spec.ca], case.account
    assert account is not None  # noqa: S101 - prove_case() has just seen it

    def look(one: Authorization) -> Authorization:
        return run.patiently(partial(authority.authorization, account, one.url))

    open_ones = [one for one in run.each(look, authorizations) if one.status != "valid"]
    for one in open_ones:
        if one.status != "pending":
            # Those that are pending may fail as well, when nobody looks any more.
            fail_to_prove(run, case, [each.identifier for each in open_ones])
            problem = one.problem or Problem("", f"its authorization is {one.status}")
            raise blamed(replace(problem, identifier=one.identifier))
    return open_ones


def _unproven(one: Authorization) -> AuthorityError:
    """The order goes on with the next run: a CA that leaves the challenge open has not said its last word, even if
    it calls it so."""
    problem = one.unmet or Problem("", "it does not say why")
    kind = problem.kind if problem.kind in ("connection", "dns") else "incorrectResponse"
    return AuthorityError(f"{one.identifier}: the CA does not take the TXT record yet: {problem.detail}", kind=kind)


def fail_to_prove(run: Run, case: Case, identifiers: list[str]) -> None:
    """The order is lost, and the CA counts the failed authorizations, whichever name's they are."""
    pending, now = case.entry.pending, run.keeper.clock.now()
    spent = by_failures(case.spec.ca, identifiers, pending.url, now) if pending is not None else ()
    case.entry = replace(run.having_spent(case, spent), pending=None)
    run.note(case)


def _answered(run: Run, case: Case, one: Authorization) -> None:
    authority, account = run.keeper.authorities[case.spec.ca], case.account
    assert account is not None and one.challenge is not None  # noqa: S101 - prove_case() has just seen them
    try:
        authority.answer(account, one.challenge)
    except AuthorityError as error:
        if error.status == 409 or error.kind == "conflict":
            return  # the CA is at work on an earlier answer
        # Another keeper of the same order may have answered meanwhile: the authorization itself knows.
        now = authority.authorization(account, one.url)
        if now.status == "pending" and (now.challenge is None or now.challenge.status == "pending"):
            raise
