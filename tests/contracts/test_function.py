"""The deployed function, asked: its answer, and whose words are told where it has none."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from handler import TickError

from certkeeper.adapters.lambda_function import SAID, LambdaFunction
from certkeeper.core.errors import FunctionError

SAYS_MORE = "its log says more: aws logs tail /aws/lambda/prod"


class Answering:
    """A client of Lambda whose function gives this answer."""

    def __init__(self, said: object, failed: bool = False) -> None:
        self._answer = {"Payload": BytesIO(json.dumps(said).encode()), **({"FunctionError": "x"} if failed else {})}

    def invoke(self, **_: Any) -> Any:
        return self._answer


def refusal(said: object) -> FunctionError:
    function: Any = Answering(said, failed=True)
    with pytest.raises(FunctionError) as caught:
        LambdaFunction(function, "prod").ask({})
    return caught.value


def test_the_answer_is_what_it_says() -> None:
    function: Any = Answering({"outcomes": []})

    assert LambdaFunction(function, "prod").ask({}) == {"outcomes": []}


def test_what_its_handler_has_understood_is_told_as_it_is() -> None:
    error = refusal({"errorType": "TickError", "errorMessage": "www is not pinned; look at it"})

    assert (error.message, error.hint) == ("the function prod says: www is not pinned; look at it", None)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"errorType": "KeyError", "errorMessage": "'x'"}, "'x'"),
        ({"errorMessage": "2026-11-23T12:00:00Z Task timed out after 900.00 seconds"}, "2026-11-23T12:00:00Z Task"),
        (None, "it does not say why"),
        ([], "it does not say why"),
    ],
)
def test_of_anything_else_its_log_says_more(said: object, why: str) -> None:
    error = refusal(said)

    assert error.message.startswith(f"the function prod could not run: {why}")
    assert error.hint == SAYS_MORE


def test_the_name_of_its_errors_is_that_of_the_handler() -> None:

    assert TickError.__name__ == SAID
