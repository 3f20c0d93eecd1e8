"""The tick: obtain or renew whatever is due. Read it from top to bottom, that is the order in which it happens.

Every pass takes all its cases through the same steps together, so that any number of due names share one DNS wait:
open, present, prove, finish, conclude. What each does with one case stands in `opening`, `proving`, `finishing` and
`concluding`; what the cases share in `run`. The laws it keeps:

- the journal is read first, then the certificate; they are written in the reverse order;
- an order's URL and its sealed private key are journaled before anything else can fail;
- nothing is finalized that was not just written down at the version that was read;
- the broad `except` stands around one case, so one name's failure is nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from certkeeper.core.decision import Ask
from certkeeper.core.errors import OutOfTime, StoreError
from certkeeper.core.index import Index, is_idle, ledger_of, nothing_to_do
from certkeeper.core.model import CertificateSpec, Outcome, TxtRecord
from certkeeper.jobs import survey
from certkeeper.jobs.case import Case, still, surprise, told
from certkeeper.jobs.concluding import conclude_case, is_to_revoke, revoke_replaced
from certkeeper.jobs.finishing import finish_case
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.opening import open_case
from certkeeper.jobs.proving import prove_case
from certkeeper.jobs.retired import tidy
from certkeeper.jobs.run import Run, guarded

BUSY_WAIT = 2.0
FEW = 5
"""So many names of a CA that sheds load go through a pass together: of more, none would get to the end of it."""


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
        if not waited_for and trouble is None and facts is not None and is_idle(spec, facts, now, ask):
            idle += 1
            continue
        decision = nothing_to_do(spec, facts, now, ask, ledger)
        if facts is None or decision is None:
            todo.append(Case(spec, ask, ask.by_name, facts.held if facts else None))
        else:
            outcomes[spec.name] = still(spec, facts.held, facts.failure, decision)

    # Whoever has least time left comes first, should there not be time or budget for all.
    todo.sort(key=_time_left)
    run = Run(keeper, ledger, index.facts)
    outcomes |= _worked(run, todo)
    retired = [] if ask.by_name else _retired(index, specs)
    tidy(keeper, retired)

    if trouble is None:
        index, trouble = survey.note(keeper, index, [*(case.spec.name for case in todo), *retired], run.closed)
    told_of = tuple(outcomes[spec.name] for spec in specs if spec.name in outcomes)
    return Report(told_of, keeper.clock.now(), trouble, index, {"kept": idle} if idle else {})


def _refreshed(keeper: Keeper, specs: Sequence[CertificateSpec]) -> tuple[Index, StoreError | None]:
    # The index is a cache: without it every name is looked at itself, and fails or not on its own.
    names = [spec.name for spec in specs]
    try:
        return survey.informed(keeper, survey.refreshed(keeper), names), None
    except StoreError as error:
        return survey.without_index(keeper, names), error


def _retired(index: Index, specs: Sequence[CertificateSpec]) -> list[str]:
    """Names that have left the settings while something was under way for them."""
    wanted = {spec.name for spec in specs}
    return [name for name, facts in index.facts.items() if facts.open and name not in wanted]


def _time_left(case: Case) -> float:
    return case.suggested.validity.not_after.timestamp() if case.suggested else 0.0


def _worked(run: Run, todo: list[Case]) -> dict[str, Outcome]:
    keeper, outcomes = run.keeper, dict[str, Outcome]()
    while todo:
        cases, later = _of_one_pass(run, todo)
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


def _of_one_pass(run: Run, todo: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    # The CA may answer two orders for one identifier set with the same order, so they go one after another.
    first: dict[frozenset[str], Case] = {}
    in_time = run.keeper.clock.remaining() > timedelta(0)
    room = {ca: FEW for ca in {case.spec.ca for case in todo} if in_time and run.is_shedding(ca)}
    for case in todo:
        identifiers, ca = frozenset(case.spec.identifiers), case.spec.ca
        if identifiers not in first and room.get(ca, 1) > 0:
            first[identifiers] = case
            if ca in room:
                room[ca] -= 1
    taken = {id(case) for case in first.values()}
    return list(first.values()), [case for case in todo if id(case) not in taken]


def _passed(run: Run, cases: list[Case]) -> None:
    side_by_side = run.keeper.side_by_side
    side_by_side([partial(guarded, open_case, run, case) for case in cases])
    records = [record for case in cases if case.going for _, record in case.unproven]
    leftovers = [record for case in cases if not case.busy for record in case.leftovers]
    if records or leftovers:
        if records:
            run.keeper.tell("", f"presenting {len(records)} challenge record{'s' if len(records) > 1 else ''}")
        _proved(run, cases, records, leftovers)
    side_by_side([partial(guarded, finish_case, run, case) for case in cases if case.going])
    side_by_side([partial(revoke_replaced, run, case) for case in cases if is_to_revoke(run, case)])
    side_by_side([partial(conclude_case, run, case) for case in cases])


def _proved(run: Run, cases: list[Case], records: list[TxtRecord], leftovers: list[TxtRecord]) -> None:
    try:
        with run.keeper.challenge_records.presenting(records, leftovers) as presented:
            run.keeper.side_by_side(
                [partial(guarded, partial(prove_case, presented), run, case) for case in cases if case.going]
            )
    except Exception as error:  # noqa: BLE001 - names that are through already must still be written down
        for case in cases:
            if case.going:
                case.error = surprise(error)
        return
    for case in cases:
        case.entry = replace(case.entry, records=tuple(one for one in case.entry.records if one in presented.left))
