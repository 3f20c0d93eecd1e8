"""The two stacks as CloudFormation templates: pure functions to plain values, and their text.

`NAME-store` holds what must outlive everything: the bucket and the KMS key. `NAME` holds what can be made again: the
function, its schedule, its alarms. What the roles may do is said in core/permissions; here stands only what AWS's own
services may do to each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certkeeper.core import permissions
from certkeeper.core.errors import SettingsError
from certkeeper.core.model import CertificateSpec
from certkeeper.deployment.package import Target

Template = dict[str, Any]

MEGABYTES = 512  # docs/decisions/0012
SECONDS = 900
HOUR = 3600
LOG_DAYS = 400
OLD_VERSION_DAYS = 30
NAMESPACE, DIMENSION = "certkeeper", "Deployment"
LONGEST_NAME = 40  # a role's name takes 64 letters, and holds the Region besides

OURS = "certkeeper: "
"""What the description of each of our stacks begins with, and those of no others."""

LARGEST_TEMPLATE = 1_000_000  # by S3; 51,200 bytes inline
LARGEST_INLINE = 51_200
MOST_RESOURCES = 500


@dataclass(frozen=True)
class Place:
    """Where a deployment is, and what its settings say that the stacks must know.

    `kms_alias` is the key's alias, "" where the settings name the key itself, None with sealing = "store".
    """

    name: str
    partition: str
    region: str
    account: str
    bucket: str
    prefix: str
    kms_alias: str | None = None
    email: str | None = None
    urgent: str | None = None
    specs: tuple[CertificateSpec, ...] = ()
    challenges: tuple[permissions.ChallengeName, ...] = ()
    secrets_prefix: str | None = None
    target: Target = Target()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if len(self.name) > LONGEST_NAME:
            raise SettingsError(
                f"a deployment's name has {LONGEST_NAME} letters at most, and {self.name!r} has {len(self.name)}",
                "choose a shorter one",
            )

    @property
    def store(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    @property
    def store_stack(self) -> str:
        return f"{self.name}-store"

    @property
    def renewer_role(self) -> str:
        """The name of the function's role; roles are global to an account, so the Region is part of it."""
        return f"{self.name}-{self.region}-renewer"

    @property
    def rights(self) -> permissions.Deployment:
        """What core/permissions must know; what only CloudFormation knows is named in its words."""
        return permissions.Deployment(
            account=self.account,
            region=self.region,
            bucket=self.bucket,
            prefix=self.prefix,
            renewer_role=f"arn:{self.partition}:iam::{self.account}:role/{self.renewer_role}",
            specs=self.specs,
            challenges=self.challenges,
            partition=self.partition,
            kms_key=_ref("KmsKeyArn") if self.kms_alias is not None else None,
            secrets_prefix=self.secrets_prefix,
            function=self.name,
            notices_topic=_ref("Notices"),
            failures_queue=_arn_of("Undelivered"),
        )

    @property
    def topic_arn(self) -> str:
        return f"arn:{self.partition}:sns:{self.region}:{self.account}:{self.name}-notices"

    @property
    def log_group(self) -> str:
        return f"/aws/lambda/{self.name}"

    @property
    def minute(self) -> int:
        """Of the hour in which the schedule's window opens: the same for ever, and another one for everybody."""
        return 2 * (int(hashlib.sha256(f"{self.account}/{self.name}".encode()).hexdigest(), 16) % 24) + 1


def text(template: Template) -> str:
    """As it is sent and printed: JSON, one fact a line, in the order in which it was written."""
    return json.dumps(template, indent=2, ensure_ascii=False) + "\n"


# What must outlive everything.


def store_template(place: Place) -> Template:
    """The stack `NAME-store`. What is there already is adopted: named by a parameter, and left as it is.

    Raises SettingsError if AWS would not take it, as `function_template` does.
    """
    resources: dict[str, Template] = {
        # A stack must hold something, also where bucket and key are adopted. It does nothing and costs nothing.
        "Anchor": {"Type": "AWS::CloudFormation::WaitConditionHandle", "Properties": {}},
        "Bucket": _bucket(place),
        "BucketPolicy": _bucket_policy(place),
    }
    parameters: dict[str, Any] = {
        "AdoptBucket": {
            **_parameter("yes: the bucket is there already, and its settings and its policy are left alone.", "no"),
            "AllowedValues": ["yes", "no"],
        },
    }
    conditions: dict[str, Any] = {"MakeBucket": {"Fn::Equals": [_ref("AdoptBucket"), "no"]}}
    outputs: dict[str, Any] = {"Store": _store(place)}
    if place.kms_alias is not None:
        parameters["AdoptKeyArn"] = _parameter(
            "The ARN of a KMS key that is there already and is left alone; empty: one is made.", ""
        )
        conditions["MakeKey"] = {"Fn::Equals": [_ref("AdoptKeyArn"), ""]}
        resources["Key"] = _key(place)
        if place.kms_alias:
            resources["KeyAlias"] = _key_alias(place.kms_alias)
        made_or_adopted = {"Fn::If": ["MakeKey", _arn_of("Key"), _ref("AdoptKeyArn")]}
        outputs["KmsKeyArn"] = {"Description": "The key that seals private keys.", "Value": made_or_adopted}
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{OURS}what outlives {place.name}. Certificates are lost with it: do not delete.",
        "Parameters": parameters,
        "Conditions": conditions,
        "Resources": resources,
        "Outputs": outputs,
    }
    _check(place.store_stack, template)
    return template


# Kept when the stack goes or a change replaces it; removed only if making the stack itself failed.
_KEPT = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}


def _bucket(place: Place) -> Template:
    return {
        "Type": "AWS::S3::Bucket",
        "Condition": "MakeBucket",
        **_KEPT,
        "Metadata": _explained(
            CKV_AWS_18="Access logs would need a second bucket; CloudTrail's data events say who read what.",
        ),
        "Properties": {
            "BucketName": place.bucket,
            "VersioningConfiguration": {"Status": "Enabled"},
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "LifecycleConfiguration": {
                "Rules": [
                    {
                        "Id": "OldVersionsExpire",
                        "Status": "Enabled",
                        "NoncurrentVersionExpiration": {"NoncurrentDays": OLD_VERSION_DAYS},
                        # Of what was deleted and has no version left any more, S3 would list the mark for ever.
                        "ExpiredObjectDeleteMarker": True,
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                    }
                ]
            },
        },
    }


def _bucket_policy(place: Place) -> Template:
    return {
        "Type": "AWS::S3::BucketPolicy",
        "Condition": "MakeBucket",
        **_KEPT,
        "Properties": {"Bucket": _ref("Bucket"), "PolicyDocument": permissions.bucket_policy(place.rights)},
    }


def _key(place: Place) -> Template:
    return {
        "Type": "AWS::KMS::Key",
        "Condition": "MakeKey",
        **_KEPT,
        "Metadata": _explained(
            CKV_AWS_7="Each rotation adds a dollar a month, and what is sealed is replaced with every renewal anyway."
        ),
        "Properties": {
            "Description": f"certkeeper {place.name}: seals private keys, each under its certificate's name",
            "MultiRegion": True,
            "KeyPolicy": permissions.key_policy(place.rights),
            "PendingWindowInDays": 30,
        },
    }


def _key_alias(alias: str) -> Template:
    return {
        "Type": "AWS::KMS::Alias",
        "Condition": "MakeKey",
        **_KEPT,
        "Properties": {"AliasName": alias, "TargetKeyId": _ref("Key")},
    }


# What can be made again.


def function_template(place: Place) -> Template:
    """The stack `NAME`: the function and all that stands around it."""
    resources = {
        "Renewer": _renewer(place),
        "Log": _log(place),
        "Function": _function(place),
        "FailedRuns": _failed_runs(),
        "Undelivered": _undelivered(place),
        "UndeliveredPolicy": _undelivered_policy(),
        "ScheduleRole": _schedule_role(),
        "Hourly": _hourly(place),
        "Notices": _notices(place),
        "NoticesPolicy": _notices_policy(),
        **_subscriptions(place),
        **_alarms(place),
        "Dashboard": _dashboard(place),
    }
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{OURS}renews what is stored in {place.store}. It can be deleted and made again.",
        "Parameters": {
            "CodeKey": _parameter("Where in the bucket the function's zip lies."),
            **({"KmsKeyArn": _parameter("The key that seals private keys.")} if place.kms_alias is not None else {}),
        },
        "Resources": resources,
        "Outputs": {
            "Store": _store(place),
            "Function": {"Description": "The function.", "Value": _ref("Function")},
            "Notices": {"Description": "The topic of all notices.", "Value": _ref("Notices")},
            "Undelivered": {"Description": "Runs that could not be started or failed.", "Value": _ref("Undelivered")},
        },
    }
    _check(place.name, template)
    return template


def _renewer(place: Place) -> Template:
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            # Named, since the key's policy names it, and is there before it.
            "RoleName": place.renewer_role,
            "Description": f"certkeeper {place.name}: the function's role",
            "AssumeRolePolicyDocument": _trust("lambda.amazonaws.com"),
            "Policies": [{"PolicyName": "renewer", "PolicyDocument": permissions.renewer(place.rights)}],
        },
    }


def _log(place: Place) -> Template:
    return {
        "Type": "AWS::Logs::LogGroup",
        "DeletionPolicy": "Delete",
        "UpdateReplacePolicy": "Delete",
        "Metadata": _explained(CKV_AWS_158="CloudWatch encrypts logs anyway, and no private key is ever logged."),
        "Properties": {"LogGroupName": place.log_group, "RetentionInDays": LOG_DAYS},
    }


def _function(place: Place) -> Template:
    return {
        "Type": "AWS::Lambda::Function",
        "Metadata": _explained(
            CKV_AWS_115="A reserved share would come out of the account's; two runs at once do no harm.",
            CKV_AWS_116="Failed runs go to the queue through the event invoke configuration.",
            CKV_AWS_117="It needs AWS and the CA, and nothing in a VPC.",
            CKV_AWS_173="The environment holds names only.",
        ),
        "Properties": {
            "FunctionName": place.name,
            "Description": f"certkeeper: renews what is stored in {place.store}",
            "Runtime": place.target.runtime,
            "Architectures": [place.target.architecture],
            "Handler": "handler.handler",
            "Code": {"S3Bucket": place.bucket, "S3Key": _ref("CodeKey")},
            "Role": _arn_of("Renewer"),
            "MemorySize": MEGABYTES,
            "Timeout": SECONDS,
            "LoggingConfig": {"LogFormat": "JSON", "LogGroup": _ref("Log")},
            "Environment": {
                "Variables": {
                    "CERTKEEPER_STORE": place.store,
                    "CERTKEEPER_DEPLOYMENT": place.name,
                    "CERTKEEPER_TOPIC": _ref("Notices"),
                }
            },
        },
    }


def _failed_runs() -> Template:
    """A run that failed is not tried again: the next hour's is, and the journal knows where it was."""
    return {
        "Type": "AWS::Lambda::EventInvokeConfig",
        "Properties": {
            "FunctionName": _ref("Function"),
            "Qualifier": "$LATEST",
            "MaximumRetryAttempts": 0,
            # Where the account's functions are throttled Lambda keeps a run, for six hours if nobody says otherwise.
            "MaximumEventAgeInSeconds": HOUR,
            "DestinationConfig": {"OnFailure": {"Destination": _arn_of("Undelivered")}},
        },
    }


def _undelivered(place: Place) -> Template:
    return {
        "Type": "AWS::SQS::Queue",
        "DeletionPolicy": "Delete",
        "UpdateReplacePolicy": "Delete",
        "Metadata": _explained(CKV_AWS_27="SQS encrypts it with a key of its own, which costs nothing."),
        "Properties": {
            "QueueName": f"{place.name}-undelivered",
            "MessageRetentionPeriod": 14 * 86400,
            "SqsManagedSseEnabled": True,
        },
    }


def _undelivered_policy() -> Template:
    encrypted_only = {
        "Sid": "OverTlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": _arn_of("Undelivered"),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {
        "Type": "AWS::SQS::QueuePolicy",
        "Properties": {"Queues": [_ref("Undelivered")], "PolicyDocument": _policy(encrypted_only)},
    }


def _schedule_role() -> Template:
    start = {
        "Sid": "StartTheTick",
        "Effect": "Allow",
        "Action": "lambda:InvokeFunction",
        "Resource": _arn_of("Function"),
    }
    tell = {
        "Sid": "TellOfLostTicks",
        "Effect": "Allow",
        "Action": "sqs:SendMessage",
        "Resource": _arn_of("Undelivered"),
    }
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": _trust("scheduler.amazonaws.com"),
            "Policies": [{"PolicyName": "schedule", "PolicyDocument": _policy(start, tell)}],
        },
    }


def _hourly(place: Place) -> Template:
    return {
        "Type": "AWS::Scheduler::Schedule",
        "Properties": {
            "Name": place.name,
            "Description": f"Starts {place.name} once an hour",
            "ScheduleExpression": f"cron({place.minute} * * * ? *)",
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10},
            "State": "ENABLED",
            "Target": {
                "Arn": _arn_of("Function"),
                "RoleArn": _arn_of("ScheduleRole"),
                "Input": "{}",
                # After that the next tick is there.
                "RetryPolicy": {"MaximumEventAgeInSeconds": HOUR, "MaximumRetryAttempts": 10},
                "DeadLetterConfig": {"Arn": _arn_of("Undelivered")},
            },
        },
    }


def _notices(place: Place) -> Template:
    return {
        "Type": "AWS::SNS::Topic",
        "Metadata": _explained(
            CKV_AWS_26="CloudWatch cannot publish to a topic that the account's default key encrypts, and a key for "
            "this alone costs a dollar a month; notices tell names and dates."
        ),
        "Properties": {"TopicName": f"{place.name}-notices", "DisplayName": "certkeeper"},
    }


def _notices_policy() -> Template:
    alarms = {
        "Sid": "LetAlarmsPublish",
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": _ref("Notices"),
        "Condition": {"StringEquals": {"aws:SourceAccount": _ref("AWS::AccountId")}},
    }
    encrypted_only = {
        "Sid": "OverTlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sns:Publish",
        "Resource": _ref("Notices"),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {
        "Type": "AWS::SNS::TopicPolicy",
        "Properties": {"Topics": [_ref("Notices")], "PolicyDocument": _policy(alarms, encrypted_only)},
    }


def _subscriptions(place: Place) -> dict[str, Template]:
    """`email` gets everything; `urgent` gets the alarms that cannot wait until morning, which say so in their name."""
    found: dict[str, Template] = {}
    if place.email:
        found["Email"] = _subscription(place.email, {})
    if place.urgent:
        urgent = {"AlarmName": [{"prefix": f"{place.name}-urgent-"}]}
        found["Urgent"] = _subscription(place.urgent, {"FilterPolicyScope": "MessageBody", "FilterPolicy": urgent})
    return found


def _subscription(address: str, filtered: Mapping[str, Any]) -> Template:
    return {
        "Type": "AWS::SNS::Subscription",
        "Properties": {"TopicArn": _ref("Notices"), "Protocol": "email", "Endpoint": address, **filtered},
    }


def _alarms(place: Place) -> dict[str, Template]:
    look = f"To look: certkeeper --from {place.store} status"
    return {
        "UrgentAlarm": _alarm(
            place,
            "urgent-certificates",
            "CertificatesUrgent",
            f"A certificate is not renewed though it is due, and half of the time left for it is gone. {look}",
            {"Statistic": "Maximum", "EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanThreshold",
             "Threshold": 0, "TreatMissingData": "ignore"},
        ),
        "NoTickAlarm": _alarm(
            place,
            "urgent-no-tick",
            "TickCompleted",
            f"No run has ended well for three hours: nothing is renewed. The log {place.log_group} and the queue "
            f"{place.name}-undelivered say why; what is stored stays good until it expires. {look}",
            {"Statistic": "Sum", "EvaluationPeriods": 3, "ComparisonOperator": "LessThanThreshold",
             "Threshold": 1, "TreatMissingData": "breaching"},
        ),
        "FailingAlarm": _alarm(
            place,
            "certificates-failing",
            "CertificatesFailing",
            f"Some certificate could not be renewed for a day, and is tried again. {look}",
            # A flexible window can leave an hour without a tick, so not every one of the 24 needs to speak.
            {"Statistic": "Minimum", "EvaluationPeriods": 24, "DatapointsToAlarm": 20,
             "ComparisonOperator": "GreaterThanThreshold", "Threshold": 0, "TreatMissingData": "ignore"},
        ),
    }  # fmt: skip


def _alarm(place: Place, name: str, metric: str, what: str, when: Mapping[str, Any]) -> Template:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmName": f"{place.name}-{name}",
            "AlarmDescription": what,
            "Namespace": NAMESPACE,
            "MetricName": metric,
            "Dimensions": [{"Name": DIMENSION, "Value": place.name}],
            "Period": HOUR,
            **when,
            "AlarmActions": [_ref("Notices")],
            "OKActions": [_ref("Notices")],
        },
    }


def _dashboard(place: Place) -> Template:
    alarm_arn = f"arn:{place.partition}:cloudwatch:{place.region}:{place.account}:alarm:{place.name}"
    alarms = [f"{alarm_arn}-{one}" for one in ("urgent-certificates", "urgent-no-tick", "certificates-failing")]
    query = f"SOURCE '{place.log_group}' | filter ispresent(outcome) | sort @timestamp desc | limit 100 | "
    widgets = [
        _widget(0, 0, 24, 2, "alarm", {"title": "Alarms", "alarms": alarms}),
        _graph(place, 2, 0, "Certificates in trouble", "Maximum", "CertificatesFailing", "CertificatesUrgent"),
        _graph(place, 2, 8, "Runs that ended well", "Sum", "TickCompleted"),
        _graph(place, 2, 16, "What the CA's limits leave", "Minimum", "BudgetLeft"),
        _widget(8, 0, 24, 8, "log", {
            "title": "Outcomes", "region": place.region, "view": "table",
            "query": query + "fields @timestamp, name, outcome, reason, error, next_attempt",
        }),
    ]  # fmt: skip
    return {
        "Type": "AWS::CloudWatch::Dashboard",
        "Properties": {
            "DashboardName": f"{place.name}-{place.region}",
            "DashboardBody": json.dumps({"widgets": widgets}),
        },
    }


def _graph(place: Place, y: int, x: int, title: str, statistic: str, *metrics: str) -> Template:
    rows = [[NAMESPACE, metric, DIMENSION, place.name] for metric in metrics]
    how = {"title": title, "region": place.region, "stat": statistic, "period": HOUR, "metrics": rows}
    return _widget(y, x, 8, 6, "metric", {**how, "view": "timeSeries", "yAxis": {"left": {"min": 0}}})


def _widget(y: int, x: int, width: int, height: int, kind: str, properties: Mapping[str, Any]) -> Template:
    return {"type": kind, "x": x, "y": y, "width": width, "height": height, "properties": properties}


# Small parts.


def _check(name: str, template: Template) -> None:
    """CloudFormation's own limits."""
    size, count = len(text(template).encode()), len(template["Resources"])
    hint = "split the certificates over two deployments"
    if count > MOST_RESOURCES:
        raise SettingsError(f"the stack {name} would have {count} resources, and a stack has {MOST_RESOURCES}", hint)
    if size > LARGEST_TEMPLATE:
        what = f"the template of {name} would have {size:,} bytes, and CloudFormation takes {LARGEST_TEMPLATE:,}"
        raise SettingsError(what, hint)


def _store(place: Place) -> Template:
    return {"Description": "Where certificates are kept.", "Value": place.store}


def _parameter(what: str, default: str | None = None) -> Template:
    return {"Type": "String", "Description": what, **({} if default is None else {"Default": default})}


def _ref(name: str) -> Template:
    return {"Ref": name}


def _arn_of(name: str) -> Template:
    return {"Fn::GetAtt": [name, "Arn"]}


def _policy(*statements: Template) -> Template:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _trust(service: str) -> Template:
    """Who may assume the role: the service, and the scheduler only for this account, so that it is nobody's deputy."""
    statement: Template = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if service.startswith("scheduler."):
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": _ref("AWS::AccountId")}}
    return _policy(statement)


def _explained(**findings: str) -> Template:
    """Why a security scanner's finding is as it should be, in the form that the scanner reads."""
    return {"checkov": {"skip": [{"id": finding, "comment": why} for finding, why in findings.items()]}}
