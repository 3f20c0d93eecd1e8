"""IAM's SimulatePrincipalPolicy, which moto has not: answered by the gate's own evaluator."""

from __future__ import annotations

from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from certkeeper.sandbox.aws import ACCOUNT, AwsServer
from certkeeper.sandbox.aws_calls import AwsRequest, refusal
from certkeeper.sandbox.iam import Question, decide
from certkeeper.sandbox.loopback import Response

ANSWER = """<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{}</EvaluationResults>
</SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>sandbox</RequestId></ResponseMetadata>
</SimulatePrincipalPolicyResponse>"""
ONE = (
    "<member><EvalActionName>{}</EvalActionName><EvalResourceName>{}</EvalResourceName>"
    "<EvalDecision>{}</EvalDecision></member>"
)


def simulate(aws: AwsServer) -> None:
    """Have `aws` answer SimulatePrincipalPolicy for the roles that its rights know; all else of IAM is moto's."""
    aws.serve("iam", lambda seen: _answered(aws, seen))


def _answered(aws: AwsServer, seen: AwsRequest) -> Response | None:
    if seen.operation != "SimulatePrincipalPolicy":
        return None
    said = {name: values[0] for name, values in parse_qs(seen.request.body.decode()).items()}
    role = said["PolicySourceArn"]
    if role not in aws.rights.roles:
        return refusal(seen, 404, "NoSuchEntity", f"The role {role} cannot be found.")
    context: dict[str, tuple[str, ...]] = {}
    for name, value in said.items():
        if name.startswith("ContextEntries.member.") and name.endswith(".ContextKeyName"):
            prefix = name.removesuffix("ContextKeyName") + "ContextKeyValues.member."
            context[value] = tuple(one for key, one in said.items() if key.startswith(prefix))
    decided = [
        ONE.format(
            escape(action),
            escape(resource),
            "allowed"
            if decide(Question(role, action, resource, ACCOUNT, context), aws.rights.roles[role]).allowed
            else "implicitDeny",
        )
        for action in _listed(said, "ActionNames")
        for resource in _listed(said, "ResourceArns")
    ]
    return Response(200, [("Content-Type", "text/xml")], ANSWER.format("".join(decided)).encode())


def _listed(said: dict[str, str], name: str) -> list[str]:
    return [value for key, value in said.items() if key.startswith(f"{name}.member.")]
