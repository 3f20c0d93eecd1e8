from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest

from certkeeper.sandbox.calls import Call, Desk, Dropped, Fault

PUT = Call("s3", "PutObject", "bucket/certificates/www", (("name", "_acme-challenge.www"),))


class Effects:
    """Counts how often the call took effect."""

    count = 0

    def __call__(self) -> int:
        self.count += 1
        return 200


def attend(desk: Desk, call: Call = PUT, serve: Callable[[], int] = lambda: 200) -> int:
    return desk.attend(call, serve, lambda fault: fault.status, lambda status: status)


def test_calls_are_recorded_with_their_status_and_found_by_service_and_mark() -> None:
    desk = Desk()
    attend(desk)
    mark = desk.mark()
    attend(desk, Call("kms", "Encrypt"), serve=lambda: 400)

    assert [(call.operation, call.status) for call in desk.calls()] == [("PutObject", 200), ("Encrypt", 400)]
    assert [call.operation for call in desk.calls(since=mark)] == ["Encrypt"]
    assert [call.operation for call in desk.calls("s3", "PutObject")] == ["PutObject"]


@pytest.mark.parametrize(
    ("fault", "hit"),
    [
        (Fault("refuse"), True),
        (Fault("refuse", "s3", "PutObject", "certificates/"), True),
        (Fault("refuse", contains="_acme-challenge."), True),
        (Fault("refuse", "kms"), False),
        (Fault("refuse", "s3", "GetObject"), False),
        (Fault("refuse", contains="journal/"), False),
        (Fault("refuse", times=0), False),
    ],
)
def test_a_fault_hits_the_calls_it_matches_and_no_others(fault: Fault, *, hit: bool) -> None:
    desk = Desk()

    with desk.fault(fault):
        assert attend(desk) == (500 if hit else 200)
    assert attend(desk) == 200


def test_a_fault_strikes_as_often_as_it_says_and_does_nothing_in_the_callers_stead() -> None:
    desk, served = Desk(), Effects()

    with desk.fault(Fault("refuse", times=2, status=503)):
        statuses = [attend(desk, serve=served) for _ in range(3)]

    assert (statuses, served.count) == ([503, 503, 200], 1)
    assert [call.fault for call in desk.calls()] == ["refuse", "refuse", ""]


@pytest.mark.parametrize(("kind", "effects", "phases"), [("drop", 0, ["before"]), ("lose", 1, ["before", "after"])])
def test_a_dropped_call_has_no_effect_and_a_lost_one_has(
    kind: Literal["drop", "lose"], effects: int, phases: list[str]
) -> None:
    desk, served, seen = Desk(), Effects(), list[str]()

    with (
        desk.watching(lambda phase, _: seen.append(phase)),
        desk.fault(Fault(kind)),
        pytest.raises(Dropped),
    ):
        attend(desk, serve=served)

    assert (served.count, seen) == (effects, phases)
    assert [(call.status, call.fault) for call in desk.calls()] == [(None, kind)]


@pytest.mark.parametrize("end", ["lifted", "stopped"])
def test_what_hangs_ends_when_the_fault_is_lifted_or_the_sandbox_stops(end: str) -> None:
    desk = Desk()
    with ThreadPoolExecutor(1) as pool, desk.fault(Fault("refuse", "nobody", times=1)):
        with desk.fault(Fault("hang", seconds=60, times=1)) as fault:
            hanging = pool.submit(attend, desk)
            while fault.times:
                time.sleep(0.001)
            assert attend(desk) == 200
            if end == "stopped":
                desk.stop()
                with pytest.raises(Dropped):
                    hanging.result(5)
        with pytest.raises(Dropped):
            hanging.result(5)


def test_a_delay_is_waited_for_and_then_the_call_is_served() -> None:
    desk, began = Desk(), time.monotonic()

    with desk.fault(Fault("delay", seconds=0.05)):
        assert attend(desk) == 200

    assert time.monotonic() - began >= 0.05


def test_two_equal_faults_are_lifted_one_by_one() -> None:
    desk = Desk()

    with desk.fault(Fault("refuse", status=500)):
        with desk.fault(Fault("refuse", status=500)):
            pass
        assert attend(desk) == 500
    assert attend(desk) == 200


def test_a_watcher_that_drops_a_call_ends_it_before_its_effect() -> None:
    desk, served = Desk(), Effects()

    def watch(phase: str, _: Call) -> None:
        raise Dropped

    with desk.watching(watch), pytest.raises(Dropped):
        attend(desk, serve=served)

    assert served.count == 0
