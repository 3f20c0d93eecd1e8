"""Ctrl-C in the middle of a renew: it ends in order, and what was begun is finished by the next run."""

from __future__ import annotations

import signal
from threading import Event

import pytest

from certkeeper.sandbox.calls import Call, Fault, Phase
from certkeeper.sandbox.stack import Sandbox
from tests.live.operators import BOTH_CAS, Operator, awaited

pytestmark = [pytest.mark.live, BOTH_CAS]


@pytest.mark.parametrize("operation", ["newOrder", "challenge", "finalize"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_gives_its_claim_back_and_the_next_run_finishes_with_one_certificate(
    operator: Operator, operation: str, number: signal.Signals
) -> None:
    held = Event()

    def watcher(phase: Phase, call: Call) -> None:
        if (phase, call.operation) == ("before", operation):
            held.set()

    with operator.watching(watcher), operator.acme.fault(Fault("delay", "acme", operation, times=1, seconds=60)):
        keeper = operator.start("renew", "--json")
        assert held.wait(60)
        keeper.signal(number)
    said = keeper.end(30)
    entry, txt_records = operator.journal(), operator.txt_records()

    again = operator.renew()

    assert said.status == 130
    assert "interrupted" in said.talk
    assert "Traceback" not in said.talk
    assert said.outcomes[operator.name]["outcome"] in ("waiting", "renewed")
    assert entry.claim is None
    assert entry.records == ()
    assert txt_records == []
    assert again.status == 0
    assert again.outcomes[operator.name]["outcome"] in ("renewed", "kept")
    operator.assert_one_good_certificate()


@pytest.mark.parametrize("count", [1, 2])
def test_a_second_ctrl_c_ends_it_at_once_and_the_next_run_finishes_with_one_certificate(
    sandbox: Sandbox, count: int
) -> None:
    with Operator(sandbox, count=count) as operator:
        held = Event()

        def watcher(phase: Phase, call: Call) -> None:
            if (phase, call.operation) == ("before", "finalize"):
                held.set()

        with operator.watching(watcher), operator.acme.fault(Fault("delay", "acme", "finalize", seconds=60)):
            keeper = operator.start("renew", "--json")
            assert held.wait(60)
            keeper.signal(signal.SIGINT)
            assert awaited(lambda: "once more ends it at once" in keeper.talk)
            keeper.signal(signal.SIGINT)
            said = keeper.end(10)

        again = operator.renew(*operator.names)

        assert said.status == 130
        assert "interrupted" in said.talk
        assert again.status == 0
        for name in operator.names:
            operator.assert_one_good_certificate(name)
