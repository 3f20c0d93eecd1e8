"""The deployed function: asked and waited for, or started and left alone (Lambda, Invoke)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError

from certkeeper.adapters.aws_refusals import Refused, code_of, hint_for
from certkeeper.core.errors import FunctionError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

SAID = "TickError"
"""What its handler calls an error that it has understood, which is told with what to do about it."""
HINTS = {
    "ResourceNotFoundException": "deploy it with: certkeeper deploy; or run here with --here",
    "AccessDeniedException": "this role lacks the right to do that with it (docs/iam.md)",
    "TooManyRequestsException": "it is at work for somebody else; try again in a minute",
    "ReadTimeoutError": "it may still be at work: certkeeper status",
}


class LambdaFunction:
    """One function by its name."""

    def __init__(self, client: LambdaClient, name: str) -> None:
        self._client = client
        self._name = name

    def ask(self, event: Mapping[str, object]) -> dict[str, Any]:
        """Call it and wait; its answer. Raises FunctionError, with the function's own words if it could not run."""
        answer = self._invoked("RequestResponse", event)
        try:
            said = json.loads(answer["Payload"].read())
        except (ValueError, BotoCoreError):
            raise FunctionError(
                f"the function {self._name} gave an answer that is none", "upgrade it: certkeeper deploy"
            ) from None
        if answer.get("FunctionError"):
            told = said if isinstance(said, dict) else {}
            what = told.get("errorMessage") or "it does not say why"
            if told.get("errorType") == SAID:
                raise FunctionError(f"the function {self._name} says: {what}")
            raise FunctionError(
                f"the function {self._name} could not run: {what}",
                "its log says more: aws logs tail /aws/lambda/" + self._name,
            )
        if not isinstance(said, dict):
            raise FunctionError(
                f"the function {self._name} gave an answer that is none", "upgrade it: certkeeper deploy"
            )
        return said

    def start(self, event: Mapping[str, object]) -> None:
        """Have it run, without waiting. Raises FunctionError."""
        self._invoked("Event", event)

    def code_sha256(self) -> str | None:
        """Of the zip that it runs, in hexadecimal, as Lambda itself has computed it; None if there certainly is no such
        function. Raises FunctionError.
        """
        try:
            answer = self._client.get_function_configuration(FunctionName=self._name)
        except self._client.exceptions.ResourceNotFoundException:
            return None
        except Refused as error:
            raise self._refusal("looked at", error) from None
        return base64.b64decode(answer["CodeSha256"]).hex()

    def _invoked(self, kind: Any, event: Mapping[str, object]) -> Any:
        try:
            return self._client.invoke(
                FunctionName=self._name, InvocationType=kind, Payload=json.dumps(dict(event)).encode()
            )
        except Refused as error:
            raise self._refusal("asked", error) from None

    def _refusal(self, what: str, error: Exception) -> FunctionError:
        return FunctionError(
            f"the function {self._name} cannot be {what}: {code_of(error)}",
            hint_for(error, HINTS, "check its name and the region"),
        )
