"""Who may do what: the IAM policies of the roles, the bucket and the KMS key, as values. Pure.

A policy is a plain dict, ready for JSON. What only CloudFormation knows may stand in it as one of its intrinsic
functions, like {"Ref": "KmsKey"}. Action, resource and condition names are those of AWS's Service Authorization
Reference.

Readers and the renewer are named in the bucket's and the key's policy by `aws:PrincipalArn` under their account, not as
principals: AWS refuses a principal that does not exist yet, and forgets one that was made anew under the same name.
Naming an account this way leaves the decision to its own IAM policies, so every role needs its identity policy too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certkeeper.core.errors import SettingsError
from certkeeper.core.model import CertificateSpec

Arn = str | Mapping[str, Any]
Policy = dict[str, Any]
Statement = dict[str, Any]

# Most characters of a policy. IAM counts no white space, and all inline policies of a role together.
ROLE_INLINE, MANAGED, BUCKET_POLICY, KEY_POLICY, SECRET_POLICY = 10_240, 6_144, 20_480, 32_768, 20_480
MOST_ZONES = 90  # more than that are not listed by their ARNs
INTRINSIC = 120  # characters that an ARN may have that only CloudFormation knows

ADMINISTRATION = (
    "kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey",
    "kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus",
    "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:ReplicateKey",
    "kms:RevokeGrant", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias",
    "kms:UpdateKeyDescription", "kms:UpdatePrimaryRegion",
)  # fmt: skip
WRITING_SECRETS = (
    "secretsmanager:CreateSecret", "secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue", "secretsmanager:TagResource", "secretsmanager:UpdateSecretVersionStage",
)  # fmt: skip


@dataclass(frozen=True)
class ChallengeName:
    """Where a TXT record will stand: `name` is the end of all CNAMEs, `zone` the hosted zone's id.

    `role_arn` is the role of another account that the renewer assumes to write there, "" for its own account. `twins`
    are the ids of all public hosted zones of the zone's name, where there are several to tell apart.
    """

    zone: str
    name: str
    role_arn: str = ""
    twins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """What the policies are about. `renewer_role` is the ARN of the renewer's role, which need not exist yet.

    `kms_key` is None with sealing = "store"; `secrets_prefix` is set if certificates are kept in Secrets Manager;
    `function` is the function's name, "" where none is deployed.
    """

    account: str
    region: str
    bucket: str
    prefix: str
    renewer_role: str
    specs: tuple[CertificateSpec, ...] = ()
    challenges: tuple[ChallengeName, ...] = ()
    partition: str = "aws"
    kms_key: Arn | None = None
    secrets_prefix: str | None = None
    function: str = ""
    notices_topic: Arn | None = None
    failures_queue: Arn | None = None

    def __post_init__(self) -> None:
        if "*" in self.prefix:
            raise SettingsError(
                f"the prefix {self.prefix!r} has a *, which a policy takes for any text", "choose a prefix without *"
            )

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}"

    @property
    def function_arn(self) -> str:
        return self._arn("lambda", f"function:{self.function}")

    @property
    def log_group(self) -> str:
        return f"/aws/lambda/{self.function}"

    @property
    def secrets_service(self) -> str:
        """What kms:ViaService says of Secrets Manager."""
        suffix = {"aws-cn": "amazonaws.com.cn", "aws-eusc": "amazonaws.eu"}.get(self.partition, "amazonaws.com")
        return f"secretsmanager.{self.region}.{suffix}"

    @property
    def sealed_secrets(self) -> bool:
        """Whether secrets are encrypted with our KMS key: the account's default key opens nothing to other accounts."""
        foreign = any(account_of(reader) != self.account for spec in self.specs for reader in spec.readers)
        return self.secrets_prefix is not None and self.kms_key is not None and foreign

    def object_arn(self, path: str) -> str:
        return f"{self.bucket_arn}/{self.prefix}/{path}" if self.prefix else f"{self.bucket_arn}/{path}"

    def secret_arn(self, name: str) -> str:
        """`name` may end in wildcards. A secret's ARN ends in a hyphen and six characters that nobody chose."""
        return self._arn("secretsmanager", f"secret:{self.secrets_prefix}/{name}")

    def log_arn(self) -> str:
        return self._arn("logs", f"log-group:{self.log_group}:*")

    def _arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


# Identity policies.


def renewer(deployment: Deployment) -> Policy:
    """What the function's role may do, and no more; see `widened` for what cannot be named exactly.

    Raises SettingsError if it is larger than IAM takes.
    """
    for zones, names in _LADDER:
        policy = _renewer(deployment, exact_zones=zones, exact_names=names)
        listed = len(_zones(deployment)) if zones else 0
        if listed <= MOST_ZONES and size(policy) <= ROLE_INLINE:
            return policy
    return checked("the renewer's policy", policy, ROLE_INLINE, "split the certificates over several deployments")


def widened(deployment: Deployment) -> tuple[str, ...]:
    """What the policies say more broadly than the settings, in sentences, since they would be too large."""
    text = json.dumps(renewer(deployment))
    zones, names = _zones(deployment), _own_names(deployment)
    said = []
    if zones and f"hostedzone/{zones[0]}" not in text:
        said.append(f"the renewer's policy names any hosted zone of the account: {len(zones)} are too many to list")
    if names and ANY_CHALLENGE in text and ANY_CHALLENGE not in names:
        said.append(f"the renewer's policy names {ANY_CHALLENGE}: {len(names)} challenge names are too many to list")
    if deployment.kms_key is not None and {OPENED: ANY_NAME} in [
        one.get("Condition", {}).get("StringLike") for one in key_policy(deployment)["Statement"]
    ]:
        said.append(f"the KMS key's policy lets readers open any name: {len(deployment.specs)} are too many to list")
    return tuple(said)


# Zones exact, challenge names exact. A challenge name lies in one zone, so without the zones little is lost.
_LADDER = ((True, True), (False, True), (True, False), (False, False))
SHARING = "ReadCertificate"
ANY_NAME, OPENED = "*", "kms:EncryptionContext:certkeeper-name"
CHALLENGE, ANY_CHALLENGE = "_acme-challenge.", "_acme-challenge.*"


def _renewer(deployment: Deployment, *, exact_zones: bool, exact_names: bool) -> Policy:
    return _policy(
        [
            *_store_statements(deployment),
            *_certificate_statements(deployment),
            *_sealing_statements(deployment, deployment.kms_key),
            *_zone_statements(deployment, exact_zones=exact_zones, exact_names=exact_names),
            *_function_statements(deployment),
        ]
    )


def _store_statements(deployment: Deployment) -> list[Statement]:
    certificates = [] if deployment.secrets_prefix is not None else ["certificates/*"]
    paths = [*certificates, "journal/*", "accounts/*", "index"]
    history = deployment.object_arn("history/*")
    return [
        # Without a prefix: S3 answers 403, not 404, for an object that is not there to who may not list.
        _allow("ListTheStore", "s3:ListBucket", deployment.bucket_arn),
        _allow("ReadTheSettings", "s3:GetObject", deployment.object_arn("settings.toml")),
        # A conditional write wants s3:GetObject as well.
        _allow("ReadAndWriteTheStore", ["s3:GetObject", "s3:PutObject"], map(deployment.object_arn, paths)),
        _allow("KeepTheHistory", ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], history),
    ]


def _certificate_statements(deployment: Deployment) -> list[Statement]:
    if deployment.secrets_prefix is None:
        return []
    secrets = deployment.secret_arn("*")
    statements = [
        _allow("ReadAndWriteCertificates", WRITING_SECRETS, secrets),
        _allow("ListCertificates", "secretsmanager:ListSecrets", "*"),
    ]
    if deployment.sealed_secrets and deployment.kms_key is not None:
        statements.append(_encrypts_secrets(deployment, deployment.kms_key, secrets))
    return statements


def _sealing_statements(deployment: Deployment, resource: Arn | None) -> list[Statement]:
    if resource is None:
        return []
    return [
        _allow("SealPrivateKeys", "kms:Encrypt", resource, **_only_context("certkeeper-name")),
        _allow(
            "SealAndOpenAccountKeys", ["kms:Encrypt", "kms:Decrypt"], resource, **_only_context("certkeeper-account")
        ),
    ]


def _only_context(kind: str) -> dict[str, Any]:
    return {
        "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": kind},
        "Null": {f"kms:EncryptionContext:{kind}": "false"},
    }


def _encrypts_secrets(deployment: Deployment, resource: Arn, secrets: str) -> Statement:
    return _allow(
        "EncryptSecrets",
        ["kms:GenerateDataKey", "kms:Decrypt"],
        resource,
        StringEquals={"kms:ViaService": deployment.secrets_service},
        # Of a new secret it first asks whether the key may be used, and has no ARN to name.
        StringLike={"kms:EncryptionContext:SecretARN": [secrets, "RequestToValidateKeyAccess"]},
    )


def _zone_statements(deployment: Deployment, *, exact_zones: bool, exact_names: bool) -> list[Statement]:
    zones, names = _zones(deployment), _own_names(deployment)
    roles = sorted({one.role_arn for one in deployment.challenges if one.role_arn})
    statements = [_allow("FindHostedZones", "route53:ListHostedZones", "*")]
    if zones:
        listed = [f"arn:{deployment.partition}:route53:::hostedzone/{zone}" for zone in (zones if exact_zones else "*")]
        if not exact_names:
            names = sorted({ANY_CHALLENGE if name.startswith(CHALLENGE) else name for name in names})
        statements += [
            _allow("ReadRecordSets", "route53:ListResourceRecordSets", listed),
            _presents(listed, names),
            _allow("FollowChanges", "route53:GetChange", f"arn:{deployment.partition}:route53:::change/*"),
        ]
    twins = sorted({twin for one in deployment.challenges for twin in one.twins if not one.role_arn})
    if twins:
        apart = [f"arn:{deployment.partition}:route53:::hostedzone/{zone}" for zone in twins]
        statements.append(_allow("TellTwinsApart", "route53:GetHostedZone", apart))
    if roles:
        statements.append(_allow("WriteInOtherAccountsZones", "sts:AssumeRole", roles))
    return statements


def _presents(zones: Sequence[str], names: Sequence[str]) -> Statement:
    keys = {
        "route53:ChangeResourceRecordSetsRecordTypes": ["TXT"],
        "route53:ChangeResourceRecordSetsActions": ["CREATE", "DELETE"],
    }
    named = {"route53:ChangeResourceRecordSetsNormalizedRecordNames": names}
    conditions: dict[str, Any] = {}
    if any("*" in name for name in names):
        conditions["ForAllValues:StringLike"] = named
    else:
        keys |= {key: list(values) for key, values in named.items()}
    # ForAllValues is true of no values at all, hence the Null.
    guards = dict.fromkeys({**keys, **named}, "false")
    conditions = {"ForAllValues:StringEquals": keys, **conditions, "Null": guards}
    return _allow("PresentChallengeRecords", "route53:ChangeResourceRecordSets", zones, **conditions)


def presented(policy: Policy) -> tuple[ChallengeName, ...]:
    """What a renewer's policy lets it write, as broadly as it says, to be kept where nobody can tell what it needs.
    Which name lies in which zone no policy tells.
    """
    said = {one["Sid"]: one for one in policy["Statement"]}
    found: list[ChallengeName] = []
    if "PresentChallengeRecords" in said:
        statement = said["PresentChallengeRecords"]
        key = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
        blocks = [block for operator, block in statement["Condition"].items() if operator != "Null"]
        names = [_unescaped(name) for block in blocks for name in block.get(key, ())]
        zones = _zone_ids(statement)
        twins = _zone_ids(said["TellTwinsApart"]) if "TellTwinsApart" in said else ()
        found += [ChallengeName(zone, names[0], twins=twins) for zone in zones]
        found += [ChallengeName(zones[0], name) for name in names[1:]]
    if "WriteInOtherAccountsZones" in said:
        found += [ChallengeName("", "", role) for role in _listed(said["WriteInOtherAccountsZones"]["Resource"])]
    return tuple(found)


def _zone_ids(statement: Statement) -> tuple[str, ...]:
    return tuple(arn.rpartition("/")[2] for arn in _listed(statement["Resource"]))


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _function_statements(deployment: Deployment) -> list[Statement]:
    statements = []
    if deployment.function:
        statements += [
            _allow("WriteTheLog", ["logs:CreateLogStream", "logs:PutLogEvents"], deployment.log_arn()),
            _allow("StartItselfOnceMore", "lambda:InvokeFunction", deployment.function_arn),
        ]
    if deployment.notices_topic is not None:
        statements.append(_allow("SendNotices", "sns:Publish", deployment.notices_topic))
    if deployment.failures_queue is not None:
        statements.append(_allow("TellOfFailedRuns", "sqs:SendMessage", deployment.failures_queue))
    return statements


def reader(deployment: Deployment, names: Sequence[str]) -> Policy:
    """What an instance's role needs to read and open certificates, of our account or another. Raises SettingsError."""
    if deployment.secrets_prefix is None:
        objects = [deployment.object_arn(f"certificates/{name}") for name in names]
        statements = [_allow("ReadOwnCertificates", "s3:GetObject", objects)]
    else:
        secrets = [_secret_of(deployment, name) for name in names]
        statements = [_allow("ReadOwnCertificates", "secretsmanager:GetSecretValue", secrets)]
    if deployment.kms_key is not None:
        statements += _opening_statements(deployment, deployment.kms_key, names)
    return checked("the reader's policy", _policy(statements), ROLE_INLINE, "name fewer certificates at once")


def _secret_of(deployment: Deployment, name: str) -> str:
    """Six question marks and no star: NAME-* would open NAME-internal too."""
    return deployment.secret_arn(f"{name}-??????")


def _opening_statements(
    deployment: Deployment, resource: Arn, names: Sequence[str], **conditions: Any
) -> list[Statement]:
    operator = "StringLike" if ANY_NAME in names else "StringEquals"
    named = {operator: {OPENED: _one_or_all(names)}}
    statements = [_allow("OpenOwnPrivateKeys", "kms:Decrypt", resource, **named, **conditions)]
    if deployment.sealed_secrets:
        secrets = [_secret_of(deployment, name) for name in names]
        statements.append(
            _allow(
                "DecryptOwnSecrets",
                "kms:Decrypt",
                resource,
                StringEquals={"kms:ViaService": deployment.secrets_service},
                StringLike={"kms:EncryptionContext:SecretARN": _one_or_all(secrets)},
                **conditions,
            )
        )
    return statements


def operator(deployment: Deployment) -> Policy:
    """What a person needs who looks, and asks the function to renew. It opens and reads no certificate."""
    settings_and_index = map(deployment.object_arn, ("settings.toml", "index"))
    statements = [
        _allow("ListTheStore", "s3:ListBucket", deployment.bucket_arn),
        _allow("ReadSettingsAndIndex", "s3:GetObject", settings_and_index),
    ]
    if deployment.function:
        statements += [
            _allow("AskTheFunction", "lambda:InvokeFunction", deployment.function_arn),
            _allow("FollowTheFunction", "logs:FilterLogEvents", deployment.log_arn()),
        ]
    return _policy(statements)


# Resource policies.


def bucket_policy(deployment: Deployment) -> Policy:
    """TLS only; and readers of other accounts may read their names. Raises SettingsError if S3 would not take it."""
    hint = "let readers of other accounts share names, or keep their certificates in a deployment of their own"
    policies = (_bucket_policy(deployment, exact=exact) for exact in (True, False))
    return _fitting("the bucket's policy", policies, BUCKET_POLICY, hint)


def _bucket_policy(deployment: Deployment, *, exact: bool) -> Policy:
    bucket = [deployment.bucket_arn, f"{deployment.bucket_arn}/*"]
    only_tls = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": bucket,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    statements = [only_tls]
    if deployment.secrets_prefix is None:
        for number, (readers, names) in enumerate(_shared(deployment, foreign_only=True, exact=exact), 1):
            objects = [deployment.object_arn(f"certificates/{name}") for name in names]
            statements.append(_granted("s3:GetObject", objects, readers, sid=f"ReadCertificates{number}"))
    return _policy(statements)


def key_policy(deployment: Deployment) -> Policy:
    """The account administers the key and cannot use it; its uses are the renewer's and each reader's, for its names.

    Raises SettingsError if KMS would not take it.
    """
    hint = "let names share their readers (defaults.readers), or split the certificates over several deployments"
    policies = (_key_policy(deployment, exact=exact) for exact in (True, False))
    return _fitting("the KMS key's policy", policies, KEY_POLICY, hint)


def _key_policy(deployment: Deployment, *, exact: bool) -> Policy:
    root = f"arn:{deployment.partition}:iam::{deployment.account}:root"
    administer = {**_allow("Administer", ADMINISTRATION, "*"), "Principal": {"AWS": root}}
    uses = _sealing_statements(deployment, "*")
    if deployment.sealed_secrets:
        uses.append(_encrypts_secrets(deployment, "*", deployment.secret_arn("*")))
    statements = [administer, *(_to(one, [deployment.renewer_role]) for one in uses)]
    for number, (readers, names) in enumerate(_shared(deployment, exact=exact), 1):
        opening = _opening_statements(deployment, "*", names)
        statements += [_to({**one, "Sid": f"{one['Sid']}{number}"}, readers) for one in opening]
    return _policy(statements)


def _fitting(what: str, policies: Iterable[Policy], limit: int, hint: str) -> Policy:
    """The first that is small enough: with every name in it, or with a * for readers that read every name anyway."""
    for policy in policies:
        if size(policy) <= limit:
            return policy
    return checked(what, policy, limit, hint)


def secret_policy(deployment: Deployment, name: str) -> Policy | None:
    """The resource policy that the secret of NAME needs for readers of other accounts; None if it has none.

    Raises SettingsError if such readers could not open the secret whatever its policy says.
    """
    readers = [
        reader for spec in deployment.specs if spec.name == name for reader in spec.readers
        if account_of(reader) != deployment.account
    ]  # fmt: skip
    if deployment.secrets_prefix is None or not readers:
        return None
    if deployment.kms_key is None:
        raise SettingsError(
            f"{readers[0]} cannot read secrets of account {deployment.account}: the account's own key encrypts them",
            'set sealing = "kms", or remove certificates_in',
        )
    statement = _granted("secretsmanager:GetSecretValue", "*", sorted(readers), sid=SHARING)
    return checked("the secret's policy", _policy([statement]), SECRET_POLICY, "name fewer readers")


def beside(policy: Policy | None, there: Policy) -> Policy:
    """A secret's policy as it is, with ours in place of ours of before; what others wrote stays."""
    others = [one for one in _statements(there) if one.get("Sid") != SHARING]
    return _policy([*others, *(policy["Statement"] if policy else [])])


def lacking(wanted: Policy, there: Policy | None) -> list[str]:
    """The Sids of the statements that are wanted and not there, under whatever Sid."""
    said = [_meaning(one) for one in _statements(there or {})]
    return [one["Sid"] for one in wanted["Statement"] if _meaning(one) not in said]


def alike(one: Policy, other: Policy) -> bool:
    """Whether two policies have the same statements, however AWS writes them."""
    return [_meaning(each) for each in _statements(one)] == [_meaning(each) for each in _statements(other)]


def _statements(policy: Policy) -> list[Statement]:
    said = policy.get("Statement", [])
    return [said] if isinstance(said, dict) else said  # what others wrote may be a single one


def _meaning(statement: Statement) -> Any:
    return _plain({key: value for key, value in statement.items() if key != "Sid"})


def _plain(value: Any) -> Any:
    """The order of a list says nothing, a list of one is that one, and a condition's true and 5 are "true" and "5"."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return _plain(value[0]) if len(value) == 1 else sorted(_plain(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value)


def _shared(
    deployment: Deployment, *, foreign_only: bool = False, exact: bool = True
) -> list[tuple[list[str], list[str]]]:
    """Readers with their names: names of the same readers stand together; not `exact`, a * stands for all there are."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for spec in deployment.specs:
        readers = {one for one in spec.readers if not foreign_only or account_of(one) != deployment.account}
        if readers:
            groups.setdefault(tuple(sorted(readers)), []).append(spec.name)
    every = len(deployment.specs)
    return [
        (list(readers), [ANY_NAME] if not exact and len(names) == every else sorted(names))
        for readers, names in sorted(groups.items())
    ]


def _granted(action: str, resources: Arn | Iterable[str], principals: Sequence[str], *, sid: str) -> Statement:
    return _to(_allow(sid, action, resources), principals)


def _to(statement: Statement, principals: Sequence[str]) -> Statement:
    """The statement for these roles, users or (ARNs that end in :root) whole accounts."""
    accounts = sorted({":".join([*one.split(":")[:5], "root"]) for one in principals})
    whole = {one for one in principals if one.endswith(":root")}
    named = [one for one in principals if one not in whole]
    # One statement has one condition, so a whole account beside roles is written as any principal of it.
    patterns = sorted([*named, *(one.removesuffix("root") + "*" for one in whole)])
    conditions = dict(statement.get("Condition", {}))
    if named:
        conditions["ArnLike" if whole else "ArnEquals"] = {"aws:PrincipalArn": _one_or_all(patterns)}
    placed = {"Sid": statement["Sid"], "Effect": "Allow", "Principal": {"AWS": _one_or_all(accounts)}}
    placed |= {key: value for key, value in statement.items() if key in ("Action", "Resource")}
    return {**placed, "Condition": conditions} if conditions else placed


# Limits.


def checked(what: str, policy: Policy, limit: int, hint: str) -> Policy:
    """The policy itself, if it has no more characters than AWS takes. Raises SettingsError."""
    characters = size(policy)
    if characters > limit:
        raise SettingsError(f"{what} would have {characters:,} characters, and AWS takes {limit:,}", hint)
    return policy


def size(policy: Policy) -> int:
    """Characters as AWS counts them, with room for what only CloudFormation knows."""

    def spread(value: Any) -> Any:
        if isinstance(value, dict):
            if len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::")):
                return "x" * INTRINSIC
            return {key: spread(one) for key, one in value.items()}
        return [spread(one) for one in value] if isinstance(value, list) else value

    return len(json.dumps(spread(policy), separators=(",", ":")))


# Words.


def normalised(name: str) -> str:
    """A record's name as Route 53's condition keys have it: lower case, no final dot, the unusual as octal escapes."""
    usual = "abcdefghijklmnopqrstuvwxyz0123456789-_."
    return "".join(
        letter if letter in usual else "".join(f"\\{byte:03o}" for byte in letter.encode())
        for letter in name.lower().removesuffix(".")
    )


def _unescaped(name: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def account_of(arn: str) -> str:
    return arn.split(":")[4]


def _zones(deployment: Deployment) -> list[str]:
    return sorted({one.zone for one in deployment.challenges if not one.role_arn})


def _own_names(deployment: Deployment) -> list[str]:
    names = {one.name for one in deployment.challenges if not one.role_arn}
    return sorted(name if name == ANY_CHALLENGE else normalised(name) for name in names)


def _policy(statements: list[Statement]) -> Policy:
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(sid: str, actions: str | Sequence[str], resources: Arn | Iterable[str], **conditions: Any) -> Statement:
    several = resources if isinstance(resources, (str, Mapping)) else _one_or_all(list(resources))
    statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": actions if isinstance(actions, str) else list(actions),
        "Resource": several,
    }
    return {**statement, "Condition": conditions} if conditions else statement


def _one_or_all(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)
