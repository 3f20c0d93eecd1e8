"""Which rights a request to AWS needs, and whether its sender has them: the gate's IAM.

Who is named by `Rights.act_as` may do what its role's policies and the resource's say; all others may do everything.
What was judged is kept, to be judged again under other policies.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from certkeeper.sandbox.aws_calls import AwsRequest
from certkeeper.sandbox.iam import Decision, Policy, Question, account_of, decide, known

S3_ACTIONS = {"ListObjects": "ListBucket", "ListObjectsV2": "ListBucket", "HeadBucket": "ListBucket",
              "HeadObject": "GetObject"}  # fmt: skip
KMS_OF_SECRETS = {
    "CreateSecret": ("kms:GenerateDataKey", "kms:Decrypt"),
    "PutSecretValue": ("kms:GenerateDataKey",),
    "GetSecretValue": ("kms:Decrypt",),
}
EVERYBODY_MAY = frozenset(("sts:GetCallerIdentity",))


@dataclass(frozen=True)
class Wanted:
    """One right that a request needs: an action on a resource under a context."""

    action: str
    resource: str
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """One right that was asked for, and the answer."""

    question: Question
    decision: Decision


class Rights:
    """Roles, who acts as which, and the policies of resources by ARN. May be changed at any time.

    Resources with policies are buckets, KMS keys, secrets and roles (their trust policy). A KMS key without one has
    AWS's default: the account's own policies decide. Policies the evaluator does not know raise PolicyError at once.
    """

    def __init__(self, account: str) -> None:
        self.account = account
        self.roles: dict[str, tuple[Policy, ...]] = {}
        self._resource_policies: dict[str, Policy] = {}
        self._acting: dict[str, str] = {}
        self._judged: list[Judged] = []
        self._lock = threading.Lock()

    def act_as(self, access_key_id: str, role_arn: str, *policies: Policy) -> None:
        """From now on these credentials are those of this role, which has these policies."""
        known(policies)
        with self._lock:
            self.roles[role_arn] = policies
            self._acting[access_key_id] = role_arn

    def protect(self, resource: str, policy: Policy) -> None:
        """Give a bucket, a KMS key, a secret or a role its resource policy; `resource` is its ARN."""
        known([policy])
        with self._lock:
            self._resource_policies[resource] = policy

    def assumed(self, access_key_id: str, role_arn: str) -> None:
        """Credentials that STS gave out; of a role that nobody described they may do everything."""
        with self._lock:
            if role_arn in self.roles:
                self._acting[access_key_id] = role_arn

    def refused(self, access_key_id: str, wanted: Iterable[Wanted]) -> str | None:
        """What AWS says if one of the rights is missing; None if all are there. Raises PolicyError."""
        with self._lock:
            role_arn = self._acting.get(access_key_id)
            if role_arn is None:
                return None
            for one in wanted:
                owner = self._owner(one.resource, role_arn)
                question = Question(role_arn, one.action, one.resource, owner, one.context)
                decision = self.decision(question)
                self._judged.append(Judged(question, decision))
                if not decision.allowed:
                    return (
                        f"User: {role_arn} is not authorized to perform: {one.action} on resource: {one.resource}; "
                        f"{decision.why}"
                    )
        return None

    def decision(self, question: Question, roles: Mapping[str, Sequence[Policy]] | None = None) -> Decision:
        """The answer under the policies as they are, or with these for the roles."""
        policies = (self.roles if roles is None else roles).get(question.principal, ())
        return decide(question, policies, self.resource_policy(question.resource))

    def resource_policy(self, resource: str) -> Policy | None:
        """The policy that speaks of a resource; an object's is its bucket's."""
        if ":kms:" in resource:
            return self._resource_policies.get(resource, default_key_policy(self.account))
        return self._resource_policies.get(resource.partition("/")[0] if ":s3:" in resource else resource)

    def judged(self, since: int = 0) -> list[Judged]:
        """What was asked of those who act as a role, in order."""
        with self._lock:
            return self._judged[since:]

    def _owner(self, resource: str, principal: str) -> str:
        """Whose a resource is: an ARN without an account is a bucket, ours, or the caller's own."""
        if ":s3:" in resource:
            return self.account
        return account_of(resource) if resource.count(":") > 4 and account_of(resource) else account_of(principal)


def default_key_policy(account: str) -> Policy:
    root = {"AWS": f"arn:aws:iam::{account}:root"}
    statement = {"Sid": "Default", "Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


@dataclass(frozen=True)
class Scene:
    """What the gate knows besides the request: the ARN of the KMS key that is meant, of the secret and of its key."""

    region: str
    account: str
    kms_key_arn: str = ""
    secret_arn: str = ""
    secret_kms_key_arn: str = ""

    def arn(self, service: str, resource: str) -> str:
        return resource if resource.startswith("arn:") else f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


def wanted(seen: AwsRequest, scene: Scene) -> list[Wanted]:
    """The rights that a request needs, Route 53's apart. What is not known here needs the right of its own name."""
    action = f"{seen.service}:{seen.operation}"
    if action in EVERYBODY_MAY:
        return []
    if seen.service == "s3":
        return s3_rights(seen)
    if seen.service == "kms":
        return [Wanted(action, scene.kms_key_arn or "*", encryption_context(dict(seen.context)))]
    if seen.service == "secretsmanager":
        return secrets_rights(seen, scene)
    if action == "lambda:Invoke":
        return [Wanted("lambda:InvokeFunction", scene.arn("lambda", _unless_arn("function:", seen.resource)))]
    if seen.service == "logs":
        return [Wanted(action, scene.arn("logs", f"log-group:{seen.resource}:log-stream:"))]
    return [Wanted(action, seen.resource or "*")]


def s3_rights(seen: AwsRequest) -> list[Wanted]:
    # Loopback stands for TLS here: there is no other way in.
    context = {"aws:SecureTransport": ("true",)}
    operation = S3_ACTIONS.get(seen.operation, seen.operation)
    rights = [Wanted(f"s3:{operation}", f"arn:aws:s3:::{seen.resource}", context)]
    if seen.operation == "PutObject" and seen.request.headers.get("If-Match") is not None:
        rights.append(Wanted("s3:GetObject", f"arn:aws:s3:::{seen.resource}", context))
    return rights


def list_right(seen: AwsRequest) -> Wanted:
    """Without it S3 does not tell that an object is not there."""
    bucket = seen.resource.partition("/")[0]
    return Wanted("s3:ListBucket", f"arn:aws:s3:::{bucket}", {"aws:SecureTransport": ("true",)})


def secrets_rights(seen: AwsRequest, scene: Scene) -> list[Wanted]:
    if seen.operation == "ListSecrets":
        return [Wanted("secretsmanager:ListSecrets", "*")]
    # Of a secret that is not there yet the request's name is all there is; a new one gets its six characters first.
    secret_arn = scene.secret_arn or scene.arn("secretsmanager", _unless_arn("secret:", seen.resource))
    if seen.operation == "CreateSecret" and not scene.secret_arn:
        secret_arn += "-a1B2c3"
    rights = [Wanted(f"secretsmanager:{seen.operation}", secret_arn)]
    if seen.operation == "CreateSecret" and seen.document.get("Tags"):
        rights.append(Wanted("secretsmanager:TagResource", secret_arn))
    if scene.secret_kms_key_arn:
        context = encryption_context({"SecretARN": secret_arn, "SecretVersionId": "current"})
        context |= {"kms:ViaService": (f"secretsmanager.{scene.region}.amazonaws.com",)}
        rights += [Wanted(one, scene.secret_kms_key_arn, context) for one in KMS_OF_SECRETS.get(seen.operation, ())]
    return rights


def route53_rights(operation: str, resource: str, context: Sequence[tuple[str, str]]) -> list[Wanted]:
    """`context` as Route53Api.described tells it."""
    if operation == "GetChange":
        return [Wanted("route53:GetChange", f"arn:aws:route53:::change/{resource}")]
    arn = f"arn:aws:route53:::hostedzone/{resource}" if resource else "*"
    keys = {"name": "NormalizedRecordNames", "type": "RecordTypes", "action": "Actions"}
    values: dict[str, list[str]] = {}
    for kind, value in context:
        values.setdefault(f"route53:ChangeResourceRecordSets{keys[kind]}", []).append(value)
    return [Wanted(f"route53:{operation}", arn, {key: tuple(dict.fromkeys(one)) for key, one in values.items()})]


def encryption_context(said: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    named: dict[str, tuple[str, ...]] = {f"kms:EncryptionContext:{key}": (value,) for key, value in said.items()}
    return named | ({"kms:EncryptionContextKeys": tuple(sorted(said))} if said else {})


def _unless_arn(kind: str, name: str) -> str:
    return name if name.startswith("arn:") else kind + name
