"""Lambda's Runtime API, version 2018-06-01: the half that AWS plays, for one process of a function."""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from certkeeper.sandbox.calls import Dropped
from certkeeper.sandbox.loopback import ADDRESS, HttpServer, Request, Response

_API = "/2018-06-01/runtime"


@dataclass(frozen=True)
class FunctionError:
    """What Lambda's caller gets instead of a payload."""

    kind: str
    message: str
    stack_trace: tuple[str, ...] = ()


class Call:
    """An invocation under way. `done` is set once there is a payload or an error."""

    def __init__(self, event: object, timeout: float) -> None:
        self.request_id = str(uuid.uuid4())
        self.event = json.dumps(event).encode()
        self.timeout = timeout
        self.deadline = time.time() + timeout
        self.payload: Any = None
        self.error: FunctionError | None = None
        self.done = threading.Event()


class RuntimeApi:
    """A server on a free port of 127.0.0.1. `ready` is set while the process waits for its next invocation."""

    def __init__(self, function_arn: str) -> None:
        self.ready = threading.Event()
        self.init_error: FunctionError | None = None
        self._function_arn = function_arn
        self._calls: queue.Queue[Call | None] = queue.Queue()
        self._current: Call | None = None
        self._server = HttpServer(self._answer, "runtime-api")

    @property
    def address(self) -> str:
        """For AWS_LAMBDA_RUNTIME_API."""
        return f"{ADDRESS}:{self._server.port}"

    def hand_over(self, call: Call) -> None:
        self._calls.put(call)

    def close(self) -> None:
        # Whoever still waits for an invocation gets none.
        self._calls.put(None)
        self._server.close()

    def _answer(self, request: Request) -> Response:
        if (request.method, request.path) == ("GET", f"{_API}/invocation/next"):
            return self._next()
        if (request.method, request.path) == ("POST", f"{_API}/init/error"):
            self.init_error = _function_error(request.body)
            return Response(202)
        if request.method == "POST" and request.path.startswith(f"{_API}/invocation/"):
            request_id, _, outcome = request.path.removeprefix(f"{_API}/invocation/").partition("/")
            if outcome in {"response", "error"}:
                return self._finish(request_id, outcome, request.body)
        return Response(404)

    def _next(self) -> Response:
        self.ready.set()
        call = self._calls.get()
        self.ready.clear()
        self._current = call
        if call is None:
            raise Dropped
        headers = [
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Aws-Request-Id", call.request_id),
            ("Lambda-Runtime-Deadline-Ms", str(int(call.deadline * 1000))),
            ("Lambda-Runtime-Invoked-Function-Arn", self._function_arn),
            ("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Sampled=0"),
        ]
        return Response(200, headers, call.event)

    def _finish(self, request_id: str, outcome: str, body: bytes) -> Response:
        call = self._current
        if call is None or call.request_id != request_id or call.done.is_set():
            return Response(400)
        if outcome == "error":
            call.error = _function_error(body)
        else:
            call.payload = json.loads(body or b"null")
        call.done.set()
        return Response(202)


def _function_error(body: bytes) -> FunctionError:
    said = json.loads(body)
    stack_trace = tuple(str(line) for line in said.get("stackTrace") or ())
    return FunctionError(str(said.get("errorType", "")), str(said.get("errorMessage", "")), stack_trace)
