"""The function runs here as it would on Lambda; these need awslambdaric, which the first of them fetches."""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from certkeeper.sandbox.lambda_python import find_interpreter
from certkeeper.sandbox.lambda_runtime import LambdaFunction
from certkeeper.sandbox.processes import SandboxError

pytestmark = pytest.mark.live

HANDLER = """
import logging, os, sys, time

def handler(event, context):
    what = event.get("what")
    if what == "raise":
        raise ValueError("no such luck")
    if what == "sleep":
        time.sleep(60)
    if what == "exit":
        os._exit(3)
    if what == "log":
        print("printed")
        logging.getLogger("certkeeper").warning("logged")
    if what == "look around":
        import awslambdaric, boto3
        return {
            "environment": dict(os.environ), "path": sys.path, "folder": os.getcwd(), "version": sys.version_info[:2],
            "boto3": boto3.__file__, "modules": sorted(sys.modules),
        }
    return {
        "event": event, "arn": context.invoked_function_arn, "request_id": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(), "process": os.getpid(), "name": context.function_name,
    }
"""


def zipped(folder: Path, **modules: str) -> Path:
    path = folder / "function.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, source in modules.items():
            archive.writestr(f"{name}.py", source)
    return path


def function_of(path: Path, **environment: str) -> LambdaFunction:
    return LambdaFunction(path, find_interpreter(), environment)


@pytest.fixture(name="function")
def _function(tmp_path: Path) -> Iterator[LambdaFunction]:
    with function_of(zipped(tmp_path, handler=HANDLER), SETTING="good") as function:
        yield function


def test_an_event_goes_in_and_a_payload_comes_out(function: LambdaFunction) -> None:
    done = function.invoke({"name": "www"}, timeout=20)

    assert done.error is None
    assert done.payload["event"] == {"name": "www"}
    assert done.payload["arn"] == function.arn
    assert done.payload["request_id"] == done.request_id
    assert done.payload["name"] == "certkeeper"
    assert 15_000 < done.payload["remaining"] <= 20_000


def test_a_second_invocation_finds_the_process_warm(function: LambdaFunction) -> None:
    first = function.invoke({})
    second = function.invoke({})

    assert (first.cold, second.cold) == (True, False)
    assert first.payload["process"] == second.payload["process"]


def test_an_exception_is_told_as_lambda_tells_it(function: LambdaFunction) -> None:
    done = function.invoke({"what": "raise"})

    assert done.error is not None
    assert (done.error.kind, done.error.message) == ("ValueError", "no such luck")
    assert "handler.py" in "".join(done.error.stack_trace)
    assert function.invoke({}).error is None


def test_at_its_time_out_the_function_is_killed_and_the_next_invocation_starts_cold(function: LambdaFunction) -> None:
    before = function.invoke({})

    started = time.monotonic()
    done = function.invoke({"what": "sleep"}, timeout=1)
    after = function.invoke({})

    assert time.monotonic() - started < 10
    assert done.error is not None
    assert done.error.kind == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in done.error.message
    assert after.cold
    with pytest.raises(ProcessLookupError):
        os.kill(before.payload["process"], 0)


def test_a_process_that_ends_is_an_error_and_the_next_invocation_starts_cold(function: LambdaFunction) -> None:
    done = function.invoke({"what": "exit"})

    assert done.error is not None
    assert done.error.kind == "Runtime.ExitError"
    assert function.invoke({}).cold


def test_each_invocation_has_its_own_log_lines(function: LambdaFunction) -> None:
    function.invoke({"what": "log"})
    done = function.invoke({"what": "log"})
    silent = function.invoke({})

    assert done.log_lines[0] == "printed"
    logged = json.loads(done.log_lines[1])
    assert (logged["message"], logged["level"], logged["requestId"]) == ("logged", "WARNING", done.request_id)
    assert silent.log_lines == ()


def test_a_missing_module_is_an_error_of_the_start(tmp_path: Path) -> None:
    with function_of(zipped(tmp_path, handler="import josepy_of_another_name")) as function:
        done = function.invoke({})
        again = function.invoke({})

    assert done.error is not None
    assert done.error.kind == "Runtime.ImportModuleError"
    assert "josepy_of_another_name" in done.error.message
    assert again.error == done.error


def test_the_function_is_alone_with_its_zip_and_its_runtime(
    function: LambdaFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTKEEPER_CONFIG", "/of/the/tester.toml")

    seen = function.invoke({"what": "look around"}).payload

    assert seen["environment"]["SETTING"] == "good"
    assert "CERTKEEPER_CONFIG" not in seen["environment"]
    assert "HOME" not in seen["environment"]
    assert seen["folder"] == seen["environment"]["LAMBDA_TASK_ROOT"]
    assert seen["boto3"].startswith(seen["environment"]["LAMBDA_RUNTIME_DIR"])
    assert not [path for path in seen["path"] if path.endswith("site-packages")]
    assert "pytest" not in seen["modules"]
    assert ".".join(map(str, seen["version"])) == function.interpreter.version


def test_nothing_stays_behind(tmp_path: Path) -> None:
    function = function_of(zipped(tmp_path, handler=HANDLER))
    seen = function.invoke({"what": "look around"}).payload
    function.close()
    function.close()

    assert not Path(seen["folder"]).parent.exists()


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "function.zip"
    path.write_text("not a zip")

    with pytest.raises(SandboxError, match="cannot be unpacked"):
        function_of(path)
