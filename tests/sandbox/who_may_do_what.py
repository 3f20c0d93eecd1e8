"""Who may do what, row by row, in two deployments: one that keeps certificates in S3, one in Secrets Manager."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from certkeeper.core import permissions
from certkeeper.core.model import CertificateSpec
from certkeeper.core.permissions import ChallengeName, Deployment
from certkeeper.sandbox.iam import Policy, Question
from certkeeper.sandbox.rights import encryption_context
from tests.policies_in_docs import zone_role_trust

HOME, AWAY, REGION = "123456789012", "210987654321", "eu-west-1"
BUCKET = "arn:aws:s3:::certkeeper-123456789012-eu-west-1"
STORE = f"{BUCKET}/prod"
KMS_KEY = f"arn:aws:kms:{REGION}:{HOME}:key/11111111-2222-3333-4444-555555555555"
OTHER_KMS_KEY = f"arn:aws:kms:{REGION}:{HOME}:key/99999999-2222-3333-4444-555555555555"
ZONE, OTHER_ZONE = "arn:aws:route53:::hostedzone/Z0123456789ABCDEFGHIJ", "arn:aws:route53:::hostedzone/Z9"
FUNCTION = f"arn:aws:lambda:{REGION}:{HOME}:function:certkeeper"
LOG = f"arn:aws:logs:{REGION}:{HOME}:log-group:/aws/lambda/certkeeper:log-stream:1"
TOPIC, QUEUE = f"arn:aws:sns:{REGION}:{HOME}:certkeeper-notices", f"arn:aws:sqs:{REGION}:{HOME}:certkeeper-undelivered"
SECRET = f"arn:aws:secretsmanager:{REGION}:{HOME}:secret:prod"
ZONE_ROLE = f"arn:aws:iam::{AWAY}:role/certkeeper-dns"


def role(name: str, account: str = HOME) -> str:
    return f"arn:aws:iam::{account}:role/{name}"


# web reads example.com, shop (another account's) too, api reads api.example.com, looks is an operator. admin and thief
# have every right that their own account can give them.
RENEWER, WEB, API, LOOKS, ADMIN = (role(name) for name in ("renewer", "web", "api", "looks", "admin"))
SHOP, THIEF = role("shop", AWAY), role("thief", AWAY)
CA = "https://ca.test/directory"
S3 = Deployment(
    account=HOME,
    region=REGION,
    bucket="certkeeper-123456789012-eu-west-1",
    prefix="prod",
    renewer_role=RENEWER,
    specs=(
        CertificateSpec("example.com", ("example.com", "*.example.com"), CA, readers=(WEB, SHOP)),
        CertificateSpec("api.example.com", ("api.example.com",), CA, readers=(API,)),
    ),
    challenges=(
        ChallengeName("Z0123456789ABCDEFGHIJ", "_acme-challenge.example.com"),
        ChallengeName("Z0123456789ABCDEFGHIJ", "_acme-challenge.api.example.com"),
        ChallengeName("Z7", "_acme-challenge.example.org", ZONE_ROLE),
    ),
    kms_key=KMS_KEY,
    function="certkeeper",
    notices_topic=TOPIC,
    failures_queue=QUEUE,
)
SECRETS = replace(S3, secrets_prefix="prod")
TWINS = replace(
    S3,
    challenges=(
        ChallengeName("Z0123456789ABCDEFGHIJ", "_acme-challenge.example.com", twins=("Z0123456789ABCDEFGHIJ", "Z9")),
    ),
)
EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Sid": "Everything", "Effect": "Allow", "Action": "*", "Resource": "*"}],
}


def identity(deployment: Deployment, who: str) -> Policy:
    if who == RENEWER:
        return permissions.renewer(deployment)
    if who in (WEB, SHOP, API):
        return permissions.reader(deployment, ["api.example.com" if who == API else "example.com"])
    return permissions.operator(deployment) if who == LOOKS else EVERYTHING


def resource_policy(deployment: Deployment, resource: str) -> Policy | None:
    if resource.startswith(BUCKET):
        return permissions.bucket_policy(deployment)
    if resource == KMS_KEY:
        return permissions.key_policy(deployment)
    if resource == ZONE_ROLE:
        return zone_role_trust(deployment.renewer_role)
    named = [spec.name for spec in deployment.specs if resource == f"{SECRET}/{spec.name}-a1B2c3"]
    return permissions.secret_policy(deployment, named[0]) if named else None


@dataclass(frozen=True)
class Row:
    who: str
    action: str
    resource: str
    allowed: bool
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    deployment: Deployment = S3

    @property
    def question(self) -> Question:
        owner = AWAY if self.resource == ZONE_ROLE else HOME
        tls = {"aws:SecureTransport": ("true",)} if self.action.startswith("s3:") else {}
        return Question(self.who, self.action, self.resource, owner, {**tls, **self.context})

    def __str__(self) -> str:
        context = " ".join(",".join(values) for values in self.context.values())
        words = [self.who.rpartition("/")[2], self.action, self.resource.split(":", 5)[-1], context]
        return "-".join(word for word in words if word)


def named(name: str) -> dict[str, tuple[str, ...]]:
    return encryption_context({"certkeeper-name": name})


ACCOUNT = encryption_context({"certkeeper-account": CA})
TWO_KEYS = encryption_context({"certkeeper-name": "example.com", "certkeeper-account": CA})
PLAIN = {"aws:SecureTransport": ("false",)}


def change(*names: str, types: tuple[str, ...] = ("TXT",), actions: tuple[str, ...] = ("CREATE",)) -> dict[str, Any]:
    keys = "route53:ChangeResourceRecordSets"
    return {f"{keys}NormalizedRecordNames": names, f"{keys}RecordTypes": types, f"{keys}Actions": actions}


CHALLENGE, API_CHALLENGE = "_acme-challenge.example.com", "_acme-challenge.api.example.com"
CHANGE = "route53:ChangeResourceRecordSets"


def through(secret: str, region: str = REGION) -> dict[str, tuple[str, ...]]:
    """The context in which Secrets Manager uses a KMS key in somebody's name."""
    context = encryption_context({"SecretARN": secret, "SecretVersionId": "1"})
    return context | {"kms:ViaService": (f"secretsmanager.{region}.amazonaws.com",)}


def yes(who: str, action: str, resource: str, context: Any = None, deployment: Deployment = S3) -> Row:
    return Row(who, action, resource, True, context or {}, deployment)


def no(who: str, action: str, resource: str, context: Any = None, deployment: Deployment = S3) -> Row:
    return Row(who, action, resource, False, context or {}, deployment)


EXAMPLE, API_EXAMPLE = f"{STORE}/certificates/example.com", f"{STORE}/certificates/api.example.com"
SECRET_OF_EXAMPLE, SECRET_OF_API = f"{SECRET}/example.com-a1B2c3", f"{SECRET}/api.example.com-a1B2c3"
READ_SECRET = "secretsmanager:GetSecretValue"

ROWS = [
    # The renewer: the store, and nothing beside it.
    yes(RENEWER, "s3:ListBucket", BUCKET),
    yes(RENEWER, "s3:GetObject", f"{STORE}/settings.toml"),
    yes(RENEWER, "s3:PutObject", EXAMPLE),
    yes(RENEWER, "s3:PutObject", f"{STORE}/journal/example.com"),
    yes(RENEWER, "s3:PutObject", f"{STORE}/accounts/ca.test"),
    yes(RENEWER, "s3:PutObject", f"{STORE}/index"),
    yes(RENEWER, "s3:DeleteObject", f"{STORE}/history/example.com/1"),
    no(RENEWER, "s3:PutObject", f"{STORE}/settings.toml"),
    no(RENEWER, "s3:DeleteObject", EXAMPLE),
    no(RENEWER, "s3:DeleteObject", f"{STORE}/journal/example.com"),
    no(RENEWER, "s3:GetObject", f"{BUCKET}/other/certificates/example.com"),
    no(RENEWER, "s3:PutObject", f"{BUCKET}/code/function.zip"),
    no(RENEWER, "s3:PutObject", f"{STORE}/index.html"),
    no(RENEWER, "s3:PutObject", "arn:aws:s3:::somebody-elses/prod/certificates/example.com"),
    no(RENEWER, "s3:PutObject", EXAMPLE, PLAIN),
    no(RENEWER, "s3:PutBucketPolicy", BUCKET),
    # The renewer: seals what it cannot open.
    yes(RENEWER, "kms:Encrypt", KMS_KEY, named("example.com")),
    yes(RENEWER, "kms:Encrypt", KMS_KEY, ACCOUNT),
    yes(RENEWER, "kms:Decrypt", KMS_KEY, ACCOUNT),
    no(RENEWER, "kms:Decrypt", KMS_KEY, named("example.com")),
    no(RENEWER, "kms:Decrypt", KMS_KEY, TWO_KEYS),
    no(RENEWER, "kms:Encrypt", KMS_KEY, TWO_KEYS),
    no(RENEWER, "kms:Encrypt", KMS_KEY),
    no(RENEWER, "kms:Decrypt", KMS_KEY),
    no(RENEWER, "kms:Encrypt", OTHER_KMS_KEY, named("example.com")),
    no(RENEWER, "kms:CreateGrant", KMS_KEY),
    no(RENEWER, "kms:PutKeyPolicy", KMS_KEY),
    # The renewer: TXT at challenge names in its own zones.
    yes(RENEWER, "route53:ListHostedZones", "*"),
    yes(RENEWER, "route53:ListResourceRecordSets", ZONE),
    yes(RENEWER, "route53:GetChange", "arn:aws:route53:::change/C1"),
    yes(RENEWER, CHANGE, ZONE, change(CHALLENGE)),
    yes(RENEWER, CHANGE, ZONE, change(CHALLENGE, API_CHALLENGE, actions=("CREATE", "DELETE"))),
    no(RENEWER, CHANGE, ZONE, change(CHALLENGE, types=("A",))),
    no(RENEWER, CHANGE, ZONE, change(CHALLENGE, types=("TXT", "A"))),
    no(RENEWER, CHANGE, ZONE, change(CHALLENGE, actions=("UPSERT",))),
    no(RENEWER, CHANGE, ZONE, change("example.com")),
    no(RENEWER, CHANGE, ZONE, change("_acme-challenge.www.example.com")),
    no(RENEWER, CHANGE, ZONE, change(CHALLENGE, "www.example.com")),
    no(RENEWER, CHANGE, ZONE),
    no(RENEWER, CHANGE, OTHER_ZONE, change(CHALLENGE)),
    no(RENEWER, "route53:ListResourceRecordSets", OTHER_ZONE),
    no(RENEWER, "route53:DeleteHostedZone", ZONE),
    no(RENEWER, "route53:GetHostedZone", ZONE),
    yes(RENEWER, "route53:GetHostedZone", OTHER_ZONE, deployment=TWINS),
    no(RENEWER, CHANGE, OTHER_ZONE, change(CHALLENGE), TWINS),
    yes(RENEWER, "sts:AssumeRole", ZONE_ROLE),
    no(RENEWER, "sts:AssumeRole", ADMIN),
    # The renewer: its own log, topic, queue, and itself.
    yes(RENEWER, "logs:PutLogEvents", LOG),
    yes(RENEWER, "lambda:InvokeFunction", FUNCTION),
    yes(RENEWER, "sns:Publish", TOPIC),
    yes(RENEWER, "sqs:SendMessage", QUEUE),
    no(RENEWER, "logs:PutLogEvents", LOG.replace("certkeeper", "certkeeper-2")),
    no(RENEWER, "lambda:InvokeFunction", FUNCTION + "-2"),
    no(RENEWER, "lambda:UpdateFunctionCode", FUNCTION),
    no(RENEWER, "sns:Publish", TOPIC + "-2"),
    no(RENEWER, "sqs:ReceiveMessage", QUEUE),
    # An instance: its own name, and it can cause nothing.
    yes(WEB, "s3:GetObject", EXAMPLE),
    yes(WEB, "kms:Decrypt", KMS_KEY, named("example.com")),
    no(WEB, "s3:GetObject", API_EXAMPLE),
    no(WEB, "s3:GetObject", EXAMPLE + ".evil"),
    no(WEB, "s3:GetObject", EXAMPLE, PLAIN),
    no(WEB, "s3:PutObject", EXAMPLE),
    no(WEB, "s3:ListBucket", BUCKET),
    no(WEB, "s3:GetObject", f"{STORE}/settings.toml"),
    no(WEB, "s3:GetObject", f"{STORE}/accounts/ca.test"),
    no(WEB, "s3:GetObject", f"{STORE}/journal/example.com"),
    no(WEB, "s3:GetObject", f"{STORE}/history/example.com/1"),
    no(WEB, "kms:Decrypt", KMS_KEY, named("api.example.com")),
    no(WEB, "kms:Decrypt", KMS_KEY, ACCOUNT),
    no(WEB, "kms:Decrypt", KMS_KEY),
    no(WEB, "kms:Encrypt", KMS_KEY, named("example.com")),
    no(WEB, CHANGE, ZONE, change(CHALLENGE)),
    no(WEB, "lambda:InvokeFunction", FUNCTION),
    no(WEB, "sts:AssumeRole", ZONE_ROLE),
    yes(API, "s3:GetObject", API_EXAMPLE),
    yes(API, "kms:Decrypt", KMS_KEY, named("api.example.com")),
    no(API, "s3:GetObject", EXAMPLE),
    no(API, "kms:Decrypt", KMS_KEY, named("example.com")),
    # Another account's instance, and one there that nobody named, with every right its own account can give.
    yes(SHOP, "s3:GetObject", EXAMPLE),
    yes(SHOP, "kms:Decrypt", KMS_KEY, named("example.com")),
    no(SHOP, "s3:GetObject", API_EXAMPLE),
    no(SHOP, "kms:Decrypt", KMS_KEY, named("api.example.com")),
    no(THIEF, "s3:GetObject", EXAMPLE),
    no(THIEF, "s3:ListBucket", BUCKET),
    no(THIEF, "kms:Decrypt", KMS_KEY, named("example.com")),
    no(THIEF, "kms:DescribeKey", KMS_KEY),
    no(THIEF, "sts:AssumeRole", ZONE_ROLE),
    # An operator: looks and asks.
    yes(LOOKS, "s3:ListBucket", BUCKET),
    yes(LOOKS, "s3:GetObject", f"{STORE}/index"),
    yes(LOOKS, "s3:GetObject", f"{STORE}/settings.toml"),
    yes(LOOKS, "lambda:InvokeFunction", FUNCTION),
    yes(LOOKS, "logs:FilterLogEvents", LOG),
    no(LOOKS, "s3:GetObject", EXAMPLE),
    no(LOOKS, "s3:GetObject", f"{STORE}/accounts/ca.test"),
    no(LOOKS, "s3:GetObject", f"{STORE}/history/example.com/1"),
    no(LOOKS, "s3:PutObject", f"{STORE}/settings.toml"),
    no(LOOKS, "s3:PutObject", f"{STORE}/index"),
    no(LOOKS, "kms:Decrypt", KMS_KEY, named("example.com")),
    no(LOOKS, "kms:Encrypt", KMS_KEY, named("example.com")),
    no(LOOKS, CHANGE, ZONE, change(CHALLENGE)),
    # An administrator of the account: administers the key and cannot use it.
    yes(ADMIN, "kms:PutKeyPolicy", KMS_KEY),
    yes(ADMIN, "kms:ScheduleKeyDeletion", KMS_KEY),
    yes(ADMIN, "s3:GetObject", EXAMPLE),
    no(ADMIN, "s3:GetObject", EXAMPLE, PLAIN),
    no(ADMIN, "kms:Decrypt", KMS_KEY, named("example.com")),
    no(ADMIN, "kms:Decrypt", KMS_KEY, ACCOUNT),
    no(ADMIN, "kms:Encrypt", KMS_KEY, named("example.com")),
    no(ADMIN, "kms:CreateGrant", KMS_KEY),
    no(ADMIN, "kms:ReEncryptFrom", KMS_KEY),
    no(ADMIN, "kms:GenerateDataKey", KMS_KEY),
    no(ADMIN, "sts:AssumeRole", ZONE_ROLE),
    # Certificates in Secrets Manager: one that is not there yet has no six characters.
    *(
        yes(RENEWER, f"secretsmanager:{action}", arn, deployment=SECRETS)
        for action in ("GetSecretValue", "DescribeSecret")
        for arn in (SECRET_OF_EXAMPLE, f"{SECRET}/example.com")
    ),
    yes(RENEWER, "secretsmanager:CreateSecret", SECRET_OF_EXAMPLE, deployment=SECRETS),
    yes(RENEWER, "secretsmanager:ListSecrets", "*", deployment=SECRETS),
    yes(RENEWER, "kms:GenerateDataKey", KMS_KEY, through(SECRET_OF_EXAMPLE), SECRETS),
    yes(RENEWER, "kms:Decrypt", KMS_KEY, through(SECRET_OF_EXAMPLE), SECRETS),
    yes(RENEWER, "kms:Decrypt", KMS_KEY, through("RequestToValidateKeyAccess"), SECRETS),
    no(RENEWER, "s3:PutObject", EXAMPLE, deployment=SECRETS),
    no(RENEWER, "secretsmanager:DeleteSecret", SECRET_OF_EXAMPLE, deployment=SECRETS),
    no(RENEWER, "secretsmanager:PutResourcePolicy", SECRET_OF_EXAMPLE, deployment=SECRETS),
    no(RENEWER, READ_SECRET, f"{SECRET}uction/example.com-a1B2c3", deployment=SECRETS),
    no(RENEWER, "kms:Decrypt", KMS_KEY, through(f"{SECRET}uction/database-a1B2c3"), SECRETS),
    no(RENEWER, "kms:Decrypt", KMS_KEY, through(SECRET_OF_EXAMPLE, "us-east-1"), SECRETS),
    no(RENEWER, "kms:Decrypt", KMS_KEY, named("example.com"), SECRETS),
    yes(WEB, READ_SECRET, SECRET_OF_EXAMPLE, deployment=SECRETS),
    yes(WEB, "kms:Decrypt", KMS_KEY, through(SECRET_OF_EXAMPLE), SECRETS),
    yes(SHOP, READ_SECRET, SECRET_OF_EXAMPLE, deployment=SECRETS),
    yes(SHOP, "kms:Decrypt", KMS_KEY, through(SECRET_OF_EXAMPLE), SECRETS),
    no(WEB, READ_SECRET, SECRET_OF_API, deployment=SECRETS),
    no(WEB, READ_SECRET, f"{SECRET}/example.com-internal-a1B2c3", deployment=SECRETS),
    no(WEB, "secretsmanager:ListSecrets", "*", deployment=SECRETS),
    no(WEB, "secretsmanager:PutSecretValue", SECRET_OF_EXAMPLE, deployment=SECRETS),
    no(WEB, "kms:Decrypt", KMS_KEY, through(SECRET_OF_API), SECRETS),
    no(SHOP, READ_SECRET, SECRET_OF_API, deployment=SECRETS),
    no(THIEF, READ_SECRET, SECRET_OF_EXAMPLE, deployment=SECRETS),
    no(THIEF, "kms:Decrypt", KMS_KEY, through(SECRET_OF_EXAMPLE), SECRETS),
    no(LOOKS, READ_SECRET, SECRET_OF_EXAMPLE, deployment=SECRETS),
    no(ADMIN, "kms:Decrypt", KMS_KEY, through(SECRET_OF_EXAMPLE), SECRETS),
]
