"""What every server of the sandbox tells about its calls, and how a test steps in.

A server runs each request through `Desk.attend`. The desk counts it, lets watchers see it before it takes effect
and after (but before it is answered), and applies the first fault that matches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

Phase = Literal["before", "after"]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Call:
    """One request, retries included. `service` is s3, kms, route53, secretsmanager, sts, acme, imds, dns ...

    `operation` is the API's own word ("PutObject", "newOrder"); `resource` what it is about (an object key, a
    hosted zone id, an order URL, "" if nothing); `context` whatever else decides about rights (an encryption
    context, record names); `status` the HTTP status of the answer, None while there is none or if it was dropped.
    """

    service: str
    operation: str
    resource: str = ""
    context: tuple[tuple[str, str], ...] = ()
    principal: str = ""
    at: float = field(default_factory=time.monotonic)
    status: int | None = None
    fault: str = ""


class Dropped(Exception):  # noqa: N818 - an instruction to the server, not an error
    """The server must close the connection without a word."""


@dataclass
class Fault:
    """Something that goes wrong on purpose, for calls that match, `times` times (None: always).

    kind: "refuse" answers `status` with `code` and `headers` and does nothing; "drop" does nothing and closes the
    connection; "lose" does everything and closes the connection; "hang" waits `seconds` (or until the sandbox
    stops) and then closes the connection; "delay" waits `seconds` and goes on.
    `contains` must be part of the call's resource.
    """

    kind: Literal["refuse", "drop", "lose", "hang", "delay"]
    service: str = ""
    operation: str = ""
    contains: str = ""
    times: int | None = None
    status: int = 500
    code: str = "InternalError"
    message: str = "injected"
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0

    def matches(self, call: Call) -> bool:
        return (
            self.times != 0
            and self.service in ("", call.service)
            and self.operation in ("", call.operation)
            and self.contains in call.resource
        )


class Desk:
    """Counts, watchers and faults of one sandbox; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._faults: list[Fault] = []
        self._watchers: list[Callable[[Phase, Call], None]] = []
        self._stopping = threading.Event()

    def attend(self, call: Call, serve: Callable[[], Answer], refuse: Callable[[Fault], Answer],
               status_of: Callable[[Answer], int]) -> Answer:
        """Serve one call, or what a fault makes of it. Raises Dropped where no answer must be sent."""
        self._tell("before", call)
        fault = self._matching(call)
        try:
            answer = self._answered(fault, serve, refuse)
        except Dropped:
            self._record(replace(call, fault=fault.kind if fault else "dropped"))
            raise
        done = replace(call, status=status_of(answer), fault=fault.kind if fault else "")
        self._record(done)
        self._tell("after", done)
        return answer

    def _answered(self, fault: Fault | None, serve: Callable[[], Answer], refuse: Callable[[Fault], Answer]) -> Answer:
        if fault is None:
            return serve()
        if fault.kind == "refuse":
            return refuse(fault)
        if fault.kind in ("hang", "delay"):
            self._stopping.wait(fault.seconds)
        if fault.kind in ("delay", "lose"):
            answer = serve()
            if fault.kind == "delay":
                return answer
        raise Dropped

    def _matching(self, call: Call) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.matches(call):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def _record(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def _tell(self, phase: Phase, call: Call) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher(phase, call)

    def mark(self) -> int:
        """A place in the record, for `calls(since=...)`."""
        with self._lock:
            return len(self._calls)

    def calls(self, service: str = "", operation: str = "", since: int = 0) -> list[Call]:
        with self._lock:
            return [
                call
                for call in self._calls[since:]
                if service in ("", call.service) and operation in ("", call.operation)
            ]

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[Fault]:
        """The fault stands while the block runs."""
        with self._lock:
            self._faults.append(fault)
        try:
            yield fault
        finally:
            with self._lock:
                self._faults.remove(fault)

    @contextmanager
    def watching(self, watcher: Callable[[Phase, Call], None]) -> Iterator[None]:
        """Have `watcher` called before and after each call, in the thread that serves it."""
        with self._lock:
            self._watchers.append(watcher)
        try:
            yield
        finally:
            with self._lock:
                self._watchers.remove(watcher)

    def stop(self) -> None:
        """Wake whatever hangs on purpose."""
        self._stopping.set()
