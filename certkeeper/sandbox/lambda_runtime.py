"""Runs the function's zip as Lambda does: alone, with Lambda's own runtime client, under the Python it is built for.

The function sees what Lambda would let it see: its zip, read-only; what the runtime brings; an environment of its own.
Neither this checkout nor the packages of the Python that runs us.
"""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certkeeper.sandbox.lambda_python import Interpreter, runtime_folder
from certkeeper.sandbox.processes import Program, SandboxError
from certkeeper.sandbox.runtime_api import Call, FunctionError, RuntimeApi

_ACCOUNT = "123456789012"
_SECONDS_TO_START = 60.0
_LOOK_EVERY = 0.01


@dataclass(frozen=True)
class Invocation:
    """One call of the function, at its end: `payload` if there is no error. A cold start is part of `duration`."""

    request_id: str
    payload: Any
    error: FunctionError | None
    log_lines: tuple[str, ...]
    duration: float
    cold: bool


class LambdaFunction:
    """A deployed function: one zip, one environment, one process that stays warm between invocations.

    `environment` is the function's own, and AWS_ENDPOINT_URL, which only the sandbox sets. Nothing of this
    process's environment is passed on. Invocations from several threads run one after another.
    """

    def __init__(
        self,
        zip_path: Path,
        interpreter: Interpreter,
        environment: Mapping[str, str],
        *,
        name: str = "certkeeper",
        handler: str = "handler.handler",
        region: str = "eu-west-1",
        memory: int = 512,
    ) -> None:
        self.name = name
        self.arn = f"arn:aws:lambda:{region}:{_ACCOUNT}:function:{name}"
        self.interpreter = interpreter
        self._one_at_a_time = threading.Lock()
        self._process: _Process | None = None
        runtime = runtime_folder(interpreter.version)
        self._program = Program("lambda")
        self._task_root = self._program.folder / "task"
        try:
            with zipfile.ZipFile(zip_path) as archive:
                archive.extractall(self._task_root)
        except (OSError, zipfile.BadZipFile) as error:
            self._program.close()
            raise SandboxError(f"{zip_path} cannot be unpacked: {error}") from error
        self._make_read_only()
        (self._program.folder / "tmp").mkdir()
        self._environment = {
            **_set_by_lambda(name, region, memory, interpreter.version),
            "LAMBDA_RUNTIME_DIR": str(runtime),
            "LAMBDA_TASK_ROOT": str(self._task_root),
            "PYTHONPATH": str(runtime),
            "TMPDIR": str(self._program.folder / "tmp"),
            "_HANDLER": handler,
            **environment,
        }

    def __enter__(self) -> LambdaFunction:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def invoke(self, event: object = None, timeout: float = 900.0) -> Invocation:
        """Call the function and wait. At the time-out its process is killed, and the next invocation starts cold."""
        with self._one_at_a_time:
            started = time.monotonic()
            cold = self._process is None
            process = self._process or _Process(self._program, self.interpreter, self.arn, self._environment)
            self._process = process
            log_begin = 0 if cold else len(self._program.log())
            init_error = process.wait_for_init() if cold else None
            call = Call({} if event is None else event, timeout)
            if init_error:
                call.error = init_error
            else:
                process.answer(call)
            if not self._program.running:
                process.close()
                self._process = None
            duration = time.monotonic() - started
            log_lines = tuple(self._program.log()[log_begin:].splitlines())
            return Invocation(call.request_id, call.payload, call.error, log_lines, duration, cold)

    def close(self) -> None:
        """End the process and leave nothing behind. Closing twice is no mistake."""
        if self._process:
            self._process.close()
            self._process = None
        if self._task_root.exists():
            for folder in (self._task_root, *self._task_root.rglob("*/")):
                folder.chmod(0o700)
        self._program.close()

    def _make_read_only(self) -> None:
        """As /var/task is. Root could write all the same; byte code, at least, is switched off."""
        for path in (self._task_root, *self._task_root.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)


class _Process:
    """One process of the function, with a Runtime API of its own."""

    def __init__(self, program: Program, interpreter: Interpreter, arn: str, environment: Mapping[str, str]) -> None:
        self._program = program
        self._api = RuntimeApi(arn)
        variables = {**environment, "AWS_LAMBDA_RUNTIME_API": self._api.address}
        # Program passes on our environment, and only its `env` can take it away.
        alone = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        at_home = ["sh", "-c", 'cd "$LAMBDA_TASK_ROOT" && exec "$@"', "sh"]
        # -S and -s leave out the interpreter's own packages.
        runtime = [str(interpreter.path), "-S", "-s", "-m", "awslambdaric", environment["_HANDLER"]]
        program.start([*alone, *at_home, *runtime])

    def wait_for_init(self) -> FunctionError | None:
        """Return once the runtime asks for its first invocation. A failing import is told in Lambda's words."""
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._api.ready.wait(_LOOK_EVERY):
            if time.monotonic() > deadline:
                self._program.stop()
            if not self._program.running:
                return self._api.init_error or FunctionError("Runtime.ExitError", "the runtime ended while starting")
        return None

    def answer(self, call: Call) -> None:
        """Hand the call over and wait for its payload or error, until its deadline at most."""
        self._api.hand_over(call)
        while not call.done.wait(_LOOK_EVERY):
            if time.time() >= call.deadline:
                self._program.stop()
                call.error = _sandbox_error(
                    call, "Sandbox.Timedout", f"Task timed out after {call.timeout:.2f} seconds"
                )
                return
            if not self._program.running and not call.done.is_set():
                call.error = _sandbox_error(call, "Runtime.ExitError", "Runtime exited without providing a reason")
                return
        # Once it asks for the next one, all that it wrote for this one is in the log.
        while self._program.running and time.time() < call.deadline and not self._api.ready.wait(_LOOK_EVERY):
            pass

    def close(self) -> None:
        self._program.stop()
        self._api.close()


def _sandbox_error(call: Call, kind: str, what: str) -> FunctionError:
    return FunctionError(kind, f"RequestId: {call.request_id} Error: {what}")


def _set_by_lambda(name: str, region: str, memory: int, python: str) -> dict[str, str]:
    """What Lambda itself sets; the credentials are none."""
    return {
        "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE000000000",
        "AWS_DEFAULT_REGION": region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{python}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_LAMBDA_LOG_STREAM_NAME": "sandbox",
        "AWS_REGION": region,
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_SESSION_TOKEN": "sandbox",
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TZ": ":UTC",
    }
