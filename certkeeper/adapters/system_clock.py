"""The system's clock, with a deadline."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from certkeeper.core.errors import OutOfTime

STEP = 0.2
MARGIN = timedelta(seconds=20)
"""Kept back from the deadline, so that records are taken away and the journal is written before it."""


class SystemClock:
    """Waits on a monotonic clock, so a step of the wall clock changes nothing."""

    def __init__(self, deadline: timedelta, margin: timedelta = MARGIN) -> None:
        self._end = time.monotonic() + (deadline - min(margin, deadline / 4)).total_seconds()
        self._stopped = False

    def now(self) -> datetime:
        return datetime.now(UTC)

    def remaining(self) -> timedelta:
        return timedelta(0) if self._stopped else timedelta(seconds=max(0.0, self._end - time.monotonic()))

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        if not self._stopped and until > self._end:
            raise OutOfTime("out of time")
        while not self._stopped and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, STEP))
        if self._stopped:
            raise OutOfTime("stopped")

    def stop(self) -> None:
        """Let the deadline come now: whoever waits, or wants to, ends in order. Takes no lock, so it is safe in a
        signal handler.
        """
        self._stopped = True
