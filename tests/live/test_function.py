"""The function as it is deployed: the zip alone, under Lambda's own runtime client, with a real tick inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from certkeeper.deployment import package
from certkeeper.sandbox.calls import Fault
from certkeeper.sandbox.lambda_python import architecture, find_interpreter
from certkeeper.sandbox.lambda_runtime import LambdaFunction
from certkeeper.sandbox.stack import BUCKET, Sandbox
from tests.live.canaries import seen
from tests.live.operators import NEEDS_THE_RUNTIME, Operator

pytestmark = [pytest.mark.live, NEEDS_THE_RUNTIME]


@pytest.fixture(scope="module", name="operator")
def _operator(sandbox: Sandbox) -> Iterator[Operator]:
    with Operator(sandbox, wildcard=True) as operator:
        sandbox.aws.put_object(BUCKET, f"{operator.prefix}/settings.toml", operator.settings().encode())
        yield operator


@pytest.fixture(scope="module", name="function")
def _function(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambdaFunction]:
    interpreter = find_interpreter()
    path: Path = tmp_path_factory.mktemp("function") / "function.zip"
    package.build(package.Target(interpreter.version, architecture()), path)
    environment = {
        "CERTKEEPER_STORE": operator.store,
        "AWS_ENDPOINT_URL": operator.sandbox.aws.url,
        "AWS_ACCESS_KEY_ID": operator.access_key_id,
    }
    with LambdaFunction(path, interpreter, environment) as function:
        yield function


def test_the_function_gets_one_certificate_and_keeps_it_and_logs_no_private_key(
    operator: Operator, function: LambdaFunction
) -> None:
    first = function.invoke({"names": []}, timeout=120)
    second = function.invoke({"names": []}, timeout=120)

    assert first.error is None
    assert second.error is None
    (renewed,), (kept,) = first.payload["outcomes"], second.payload["outcomes"]
    assert (renewed["outcome"], kept["outcome"]) == ("renewed", "kept")
    assert renewed["serial_number"] == kept["serial_number"] == operator.issued()[0]
    operator.assert_one_good_certificate()
    certificate = operator.certificate()
    assert certificate is not None
    clear = operator.opened(certificate.request.private_key, {"certkeeper-name": operator.name})
    log = "\n".join([*first.log_lines, *second.log_lines])
    assert '"outcome": "renewed"' in log
    assert "finalizing" in log
    assert seen([clear, operator.opened_account_key()], log.encode()) == []


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket")])
@pytest.mark.parametrize(
    "troubled",
    [{"GetObject": "/settings.toml"}, {"ListObjectsV2": "", "GetObject": "/journal/"}],
    ids=["the settings", "all else"],
)
def test_a_store_in_trouble_fails_the_invocation_with_a_message_and_no_secret(
    operator: Operator, function: LambdaFunction, status: int, code: str, troubled: dict[str, str]
) -> None:
    issued = len(operator.issued())
    with ExitStack() as trouble:
        for operation, contains in troubled.items():
            fault = Fault("refuse", "s3", operation, contains, status=status, code=code)
            trouble.enter_context(operator.sandbox.desk.fault(fault))
        failed = function.invoke({"names": [operator.name], "force": True}, timeout=120)

    assert failed.error is not None
    text = f"{failed.error} {' '.join(failed.log_lines)}"
    assert code in text
    assert f"s3://{BUCKET}/{operator.prefix}/" in text
    for secret in (operator.access_key_id, "Authorization", "Signature", "PRIVATE KEY"):
        assert secret not in text
    assert len(operator.issued()) == issued
