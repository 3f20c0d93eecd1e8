"""Fifty keepers at once on an empty store: the fence lets one of them pay, whoever it is."""

from __future__ import annotations

from threading import Event

import pytest

from certkeeper.sandbox.calls import Call, Fault, Phase
from tests.live.keepers import IMPATIENT, Said
from tests.live.operators import Operator, awaited

pytestmark = pytest.mark.live

WAITING = 6


def all_at_once(operator: Operator, count: int, *arguments: str) -> list[Said]:
    # Fifty at once keep a small machine busy for longer than a keeper waits for AWS.
    patience = {IMPATIENT: "60"}
    keepers = [operator.start("renew", "--json", *arguments, **patience) for _ in range(count)]
    return [keeper.end(200) for keeper in keepers]


@pytest.mark.parametrize(
    ("sandbox", "how", "count"),
    [("Pebble", "as ticks", 50), ("Pebble", "by name", 20), ("Caddy", "as ticks", 20)],
    indirect=["sandbox"],
    scope="module",
)
def test_keepers_all_at_once_get_one_certificate_with_one_account(operator: Operator, how: str, count: int) -> None:
    said = all_at_once(operator, count, *([operator.name] if how == "by name" else []))

    assert [(one.status, one.talk) for one in said] == [(0, "")] * count
    assert {one.outcomes[operator.name]["serial_number"] for one in said} == set(operator.issued())
    assert [call.status for call in operator.calls("acme", "newAccount")].count(201) == 1
    assert len([path for path in operator.objects() if path.startswith("accounts/")]) == 1
    operator.assert_one_good_certificate()


def looks(operator: Operator) -> int:
    """How often a journal entry was read: a keeper that waits reads it again and again."""
    return len([call for call in operator.calls("s3", "GetObject") if "/journal/" in call.resource])


@pytest.mark.parametrize("operation", ["newOrder", "finalize"])
def test_when_the_holder_is_killed_and_its_claim_has_run_out_one_of_those_who_wait_takes_over(
    operator: Operator, operation: str
) -> None:
    reached = Event()

    def watcher(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("before", operation):
            reached.set()

    with operator.watching(watcher), operator.acme.fault(Fault("hang", "acme", operation, times=1, seconds=120)):
        holder = operator.start("renew")
        assert reached.wait(60)
        others = [operator.start("renew", "--json") for _ in range(WAITING)]
        assert awaited(lambda: looks(operator) > 2 * WAITING, 60)
        holder.kill()
        killed = holder.end()
    operator.age(operator.name, 400)
    said = [one.end(200) for one in others]

    assert killed.status == -9
    assert [(one.status, one.talk) for one in said] == [(0, "")] * WAITING
    assert {one.outcomes[operator.name]["serial_number"] for one in said} == set(operator.issued())
    operator.assert_one_good_certificate()
