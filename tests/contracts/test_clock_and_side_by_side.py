"""The contracts of Clock and SideBySide, held by the fakes and by the system."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from certkeeper.adapters.system_clock import SystemClock
from certkeeper.adapters.threads import Threads
from certkeeper.core.errors import OutOfTime
from certkeeper.core.ports import Clock, SideBySide
from tests.fakes import FakeClock, Seeded

CLOCKS: dict[str, Callable[[float], Clock]] = {
    "fake": lambda seconds: FakeClock(patience=timedelta(seconds=seconds)),
    "system": lambda seconds: SystemClock(timedelta(seconds=seconds), margin=timedelta(0)),
}


@pytest.fixture(params=list(CLOCKS))
def clock_with(request: pytest.FixtureRequest) -> Callable[[float], Clock]:
    return CLOCKS[request.param]


def test_now_is_aware_and_utc(clock_with: Callable[[float], Clock]) -> None:
    assert clock_with(10).now().utcoffset() == timedelta(0)


def test_waiting_lets_time_pass(clock_with: Callable[[float], Clock]) -> None:
    clock = clock_with(10)
    begun, remaining = clock.now(), clock.remaining()

    clock.wait(0.05)

    assert clock.now() - begun >= timedelta(seconds=0.049)
    assert remaining - clock.remaining() >= timedelta(seconds=0.049)


def test_a_wait_beyond_the_deadline_is_out_of_time_at_once(clock_with: Callable[[float], Clock]) -> None:
    clock, begun = clock_with(5), time.monotonic()

    with pytest.raises(OutOfTime):
        clock.wait(6)

    assert time.monotonic() - begun < 1


def test_the_system_clock_tells_the_time_of_day() -> None:
    assert abs(SystemClock(timedelta(seconds=10)).now() - datetime.now(UTC)) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("deadline", "remaining"),
    [
        pytest.param(300, 280, id="twenty seconds are kept back"),
        pytest.param(40, 30, id="of a short deadline a quarter"),
    ],
)
def test_time_is_kept_back_for_tidying_up(deadline: float, remaining: float) -> None:
    clock = SystemClock(timedelta(seconds=deadline))

    assert clock.remaining().total_seconds() == pytest.approx(remaining, abs=1)


def test_a_deadline_that_has_passed_leaves_nothing() -> None:
    assert SystemClock(timedelta(seconds=-5)).remaining() == timedelta(0)


def test_stopping_ends_who_waits_and_who_wants_to() -> None:
    clock = SystemClock(timedelta(seconds=100))
    timer = threading.Timer(0.05, clock.stop)
    timer.start()
    begun = time.monotonic()

    with pytest.raises(OutOfTime, match="stopped"):
        clock.wait(30)
    with pytest.raises(OutOfTime, match="stopped"):
        clock.wait(0)

    timer.join()
    assert time.monotonic() - begun < 3


# Side by side.


@pytest.fixture(params=["seeded", "threads"])
def side_by_side(request: pytest.FixtureRequest) -> Iterator[SideBySide]:
    if request.param == "seeded":
        yield Seeded(7)
        return
    threads = Threads(3)
    yield threads
    threads.close()


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_results_come_in_the_order_of_the_tasks(side_by_side: SideBySide, count: int) -> None:
    results = side_by_side([partial(str, number) for number in range(count)])

    assert results == [str(number) for number in range(count)]


def test_threads_run_several_tasks_at_once_and_never_more_than_the_bound() -> None:
    threads, together, lock = Threads(3), threading.Barrier(3), threading.Lock()
    inside, most = 0, 0

    def task() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait(5)
        with lock:
            inside -= 1

    threads([task] * 9)

    threads.close()
    assert most == 3


@pytest.mark.parametrize("bound", [1, 2, 3])
def test_tasks_may_run_tasks_of_their_own_though_all_threads_are_busy(bound: int) -> None:
    threads = Threads(bound)
    threads_busy = threading.Barrier(bound)

    def task(number: int) -> list[str]:
        threads_busy.wait(5)
        return threads([partial(str, 10 * number + one) for one in range(4)])

    results = threads([partial(task, number) for number in range(bound)])

    threads.close()
    assert results == [[str(10 * number + one) for one in range(4)] for number in range(bound)]


def test_threads_stay_from_step_to_step() -> None:
    threads, seen = Threads(2), set()

    for _ in range(5):
        threads([lambda: seen.add(threading.get_ident())] * 4)

    threads.close()
    assert len(seen) <= 2
