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
    connection; "lose" does everything and closes the connection; "hang" waits `seconds` (or until the fault
    is lifted or the sandbox stops) and then closes the connection; "delay" waits as long and goes on.
    `contains` must be part of the call's resource or of a value of its context (a record name, an identifier).
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
            and any(self.contains in word for word in (call.resource, *(value for _, value in call.context)))
        )


class Desk:
    """Counts, watchers and faults of one sandbox; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._calls: list[Call] = []
        self._faults: list[Fault] = []
        self._watchers: list[Callable[[Phase, Call], None]] = []
        self._stopping = False

    def attend(
        self,
        call: Call,
        serve: Callable[[], Answer],
        refuse: Callable[[Fault], Answer],
        status_of: Callable[[Answer], int],
        remark_on: Callable[[Answer], str] = lambda _: "",
    ) -> Answer:
        """Serve one call, or what a fault makes of it. Raises Dropped where no answer must be sent.

        `remark_on` is what the server itself finds wrong with the call ("badNonce"); it is recorded as its fault.
        """
        self._tell("before", call)
        fault = self._matching(call)
        kind = fault.kind if fault else ""
        try:
            answer = self._answered(fault, serve, refuse)
        except Dropped:
            self._record(replace(call, fault=kind or "dropped"))
            raise
        # A lost answer was still given: the watchers see the effect, the caller does not.
        done = replace(call, status=None if kind == "lose" else status_of(answer), fault=kind or remark_on(answer))
        self._record(done)
        self._tell("after", done)
        if kind == "lose":
            raise Dropped
        return answer

    def _answered(self, fault: Fault | None, serve: Callable[[], Answer], refuse: Callable[[Fault], Answer]) -> Answer:
        if fault is None:
            return serve()
        if fault.kind in ("hang", "delay"):
            self._wait(fault)
        if fault.kind in ("drop", "hang"):
            raise Dropped
        return refuse(fault) if fault.kind == "refuse" else serve()

    def _wait(self, fault: Fault) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or all(standing is not fault for standing in self._faults), fault.seconds
            )

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
            with self._changed:
                self._faults = [standing for standing in self._faults if standing is not fault]
                self._changed.notify_all()

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
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
