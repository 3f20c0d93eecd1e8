"""What a role may do, asked of IAM itself (SimulatePrincipalPolicy): its identity policies, with conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from certkeeper.adapters.aws_refusals import Refused, code_of, hint_for
from certkeeper.core.errors import RightsError

ACTION = "route53:ChangeResourceRecordSets"
HINTS = {
    "AccessDenied": "these credentials lack iam:SimulatePrincipalPolicy",
    "NoSuchEntity": "the role is not there; correct readers",
}


class SimulatedRights:
    """Of the roles of one account."""

    def __init__(self, iam: Any, partition: str, account: str) -> None:
        self._iam = iam
        self._partition = partition
        self._account = account

    def may_write_txt(self, role_arn: str, zone: str, names: Sequence[str]) -> bool:
        if role_arn.split(":")[4] != self._account:
            raise RightsError(
                "the role is of another account, whose policies cannot be seen from here", "look at its policies there"
            )
        try:
            return any(self._allowed(role_arn, zone, name) for name in names)
        except Refused as error:
            raise RightsError(
                f"IAM does not say what {role_arn} may do: {code_of(error)}",
                hint_for(error, HINTS, "try again later"),
            ) from None

    def _allowed(self, role_arn: str, zone: str, name: str) -> bool:
        context = {"NormalizedRecordNames": name, "RecordTypes": "TXT", "Actions": "CREATE"}
        answer = self._iam.simulate_principal_policy(
            PolicySourceArn=role_arn,
            ActionNames=[ACTION],
            ResourceArns=[f"arn:{self._partition}:route53:::hostedzone/{zone}"],
            ContextEntries=[
                {"ContextKeyName": f"{ACTION}{key}", "ContextKeyValues": [value], "ContextKeyType": "stringList"}
                for key, value in context.items()
            ],
        )
        return any(one["EvalDecision"] == "allowed" for one in answer["EvaluationResults"])
