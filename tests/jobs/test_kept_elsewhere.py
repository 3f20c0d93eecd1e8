"""Certificates are kept in one place, and the settings come to name another: nothing is obtained needlessly."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certkeeper.core.decision import Ask
from certkeeper.core.errors import StoreError
from certkeeper.jobs.history import rollback
from certkeeper.jobs.keeper import Keeper
from certkeeper.jobs.revoke import wish
from certkeeper.jobs.status import plan, status
from certkeeper.jobs.tick import tick
from tests.fakes import API, WWW, Fate, InMemoryRecords, Killed, World, every_moment, killed

SECRETS = "secretsmanager:prod"
FORCED = Ask(by_name=True, force=True)
KEPT_ELSEWHERE = "its certificate is kept in the store, and the settings look for it in secretsmanager:prod"
PUT_BACK = "put certificates_in back as it was, or obtain it anew: certkeeper renew www --force"


class Moved:
    """A world with a certificate in the store, and settings that name Secrets Manager, an hour later."""

    def __init__(self) -> None:
        self.world = World()
        tick(self.world.keeper(), [WWW])
        self.world.clock.later(timedelta(hours=1))
        self.secrets = InMemoryRecords(self.world.clock)

    def keeper(self, fate: Fate | None = None) -> Keeper:
        secrets: Any = fate.over(self.secrets) if fate else self.secrets
        return replace(self.world.keeper(fate), certificate_records=secrets, kept_in=SECRETS)


def test_what_is_kept_elsewhere_fails_with_what_to_do_and_nothing_is_ordered() -> None:
    moved = Moved()
    before = dict(moved.world.records.objects)

    (planned,) = plan(moved.keeper(), [WWW])
    kept, new = tick(moved.keeper(), [WWW, API]).outcomes
    (named,) = tick(moved.keeper(), [WWW], Ask(by_name=True)).outcomes
    (seen,) = status(moved.world.records, [WWW], moved.world.clock.now(), ["www"]).statuses

    assert (planned.action, planned.reason) == ("look", f"it would fail: {KEPT_ELSEWHERE}; {PUT_BACK}")
    assert (kept.outcome, kept.error, kept.hint) == ("failed", KEPT_ELSEWHERE, PUT_BACK)
    assert (named.outcome, named.error) == ("failed", KEPT_ELSEWHERE)
    assert (seen.state, seen.last_error) == ("unreadable", f"{KEPT_ELSEWHERE}; {PUT_BACK}")
    assert new.outcome == "renewed"  # what is nowhere is obtained where the settings say
    assert (len(moved.world.authority.issued), moved.world.authority.new_orders) == (2, 2)
    after = moved.world.records.objects
    assert [path for path in before if after[path] != before[path]] == ["index"]


def test_settings_that_are_put_back_find_all_as_it_was() -> None:
    moved = Moved()
    tick(moved.keeper(), [WWW])

    (outcome,) = tick(moved.world.keeper(), [WWW]).outcomes

    assert (outcome.outcome, len(moved.world.authority.issued)) == ("kept", 1)
    assert status(moved.world.records, [WWW], moved.world.clock.now()).statuses[0].state == "ok"


def test_by_force_it_is_obtained_anew_in_the_other_place_and_the_way_back_is_not_taken_unasked() -> None:
    moved = Moved()

    (forced,) = tick(moved.keeper(), [WWW], FORCED).outcomes
    (kept,) = tick(moved.keeper(), [WWW]).outcomes
    (back,) = tick(moved.world.keeper(), [WWW]).outcomes

    assert (forced.outcome, kept.outcome, kept.serial_number) == ("renewed", "kept", "0002")
    assert (back.outcome, len(moved.world.authority.issued)) == ("failed", 2)
    assert "is kept in secretsmanager:prod, and the settings look for it in the store" in (back.error or "")


@pytest.mark.parametrize(
    "act", [lambda keeper: rollback(keeper, "www"), lambda keeper: wish(keeper, "www", "superseded")],
    ids=["rollback", "revoke"],
)  # fmt: skip
def test_nothing_else_is_done_with_what_is_not_there(act: Callable[[Keeper], object]) -> None:
    moved = Moved()
    tick(moved.world.keeper(), [WWW], FORCED)
    moved.world.clock.later(timedelta(hours=1))

    with pytest.raises(StoreError, match="is kept in the store"):
        act(moved.keeper())


@every_moment
def test_killed_anywhere_in_a_forced_move_the_next_one_finishes_it_with_one_certificate(
    moment: int, after: bool
) -> None:
    moved = Moved()
    with suppress(Killed):
        tick(moved.keeper(Fate(moment, after, killed)), [WWW], FORCED)
    moved.world.clock.later(timedelta(hours=1))

    (scheduled,) = tick(moved.keeper(), [WWW]).outcomes
    if scheduled.outcome == "failed":
        tick(moved.keeper(), [WWW], FORCED)

    certificate, _ = moved.keeper().certificates.read("www")
    assert certificate is not None and certificate.chain.serial_number == "0002"
    assert len(moved.world.authority.issued) == 2
    assert moved.keeper().journal.read("www").entry.tidy
    assert moved.world.dns.records == set()
