"""The system's clock, with a deadline."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from threading import Event

from certkeeper.core.errors import OutOfTime

MARGIN = timedelta(seconds=20)
"""Kept back from the deadline, so that records are taken away and the journal is written before it."""


class SystemClock:
    """Waits on a monotonic clock, so a step of the wall clock changes nothing."""

    def __init__(self, deadline: timedelta, margin: timedelta = MARGIN) -> None:
        self._end = time.monotonic() + (deadline - min(margin, deadline / 4)).total_seconds()
        self._stopped = Event()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def remaining(self) -> timedelta:
        return timedelta(seconds=max(0.0, self._end - time.monotonic()))

    def wait(self, seconds: float) -> None:
        if self._stopped.is_set():
            raise OutOfTime("stopped")
        if time.monotonic() + seconds > self._end:
            raise OutOfTime("out of time")
        if self._stopped.wait(seconds):
            raise OutOfTime("stopped")

    def stop(self) -> None:
        """Let the deadline come now: whoever waits, or wants to, ends in order. Safe in a signal handler."""
        self._stopped.set()
